"""Results: complete, without doubles, and as shown in README and metafiles."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from render.results import insert, metafile, render
from render.tables import by_source, zoo

from pvt_mm.config.loading import load_config
from pvt_mm.errors import UsageError
from pvt_mm.families import FAMILIES
from pvt_mm.reproduction.results import Row, family_results, read_results

ROOT = Path(__file__).parents[2]
HEAD = ','.join(Row._fields) + '\n'
each_family = pytest.mark.parametrize('family', FAMILIES)


@pytest.fixture(scope='module')
def files():
    return render(ROOT)


@each_family
def test_each_result_has_its_config_or_a_reason(family):
    rows = family_results(family)
    assert len(rows) >= 40
    for row in rows:
        there = (ROOT / f'configs/{row.name}.py').is_file()
        assert there != bool(row.no_config), row
        assert f'_{family}_' in row.name
        assert row.source
        assert row.metrics or row.gflops


def test_no_two_rows_share_weights():
    urls = [
        row.weights
        for family in FAMILIES
        for row in family_results(family)
        if row.weights
    ]
    assert len(urls) > 70
    assert [url for url, n in Counter(urls).items() if n > 1] == []


def test_published_scores_of_one_config_agree_or_say_why():
    """Copies of a number may round it; anything else has a note."""
    for family in FAMILIES:
        best = {}
        for row in family_results(family):
            for key, value in row.metrics.items():
                first = best.setdefault((row.name, key), float(value))
                if abs(first - float(value)) > 0.11:
                    assert row.note, row


def test_rendered_files_are_the_committed_ones(files):
    assert len(files) == 6
    for path, content in files.items():
        assert path.read_text() == content, path


@each_family
def test_metafile_says_what_the_config_says(family):
    content = yaml.safe_load(
        (ROOT / f'results/{family}/metafile.yml').read_text()
    )
    names = {c['Name'] for c in content['Collections']}
    for model in content['Models']:
        cfg = load_config(ROOT / model['Config'])
        said = model['Metadata']
        assert said['Training Techniques'] == [
            cfg.optim_wrapper.optimizer.type
        ]
        steps = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
        assert steps in (said.get('Epochs'), said.get('Iterations'))
        assert said['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        assert model['In Collection'] in names
    configs = [model['Config'] for model in content['Models']]
    assert len(set(configs)) == len(configs)
    weights = [m['Weights'] for m in content['Models'] if 'Weights' in m]
    assert len(set(weights)) == len(weights)


def row(name, kind, metrics, **more):
    blank = dict.fromkeys(Row._fields, '')
    return Row(
        **{**blank, **dict(name=name, kind=kind), **more, 'metrics': metrics}
    )


def test_table_has_a_line_per_config_and_a_column_per_source():
    rows = [
        row('retinanet_pvt_tiny_coco', 'official', {'box_AP': '36.7'}),
        row('retinanet_pvt_tiny_coco', 'mmdet', {'box_AP': '36.6'}),
        row(
            'mask_rcnn_pvt_tiny_coco',
            'ours',
            {'box_AP': '36.70', 'mask_AP': '35.1'},
        ),
        row('x_pvt_tiny_coco', 'paper', {'box_AP': '1.0'}, no_config='none'),
    ]
    assert by_source(rows).splitlines()[2:] == [
        '| [retinanet_pvt_tiny_coco](../configs/retinanet_pvt_tiny_coco.py) '
        '| box AP | 36.7 |  | 36.6 |  |  |',
        '| [mask_rcnn_pvt_tiny_coco](../configs/mask_rcnn_pvt_tiny_coco.py) '
        '| box / mask AP |  |  |  |  | 36.70 / 35.1 |',
    ]


def test_zoo_has_a_line_per_backbone_and_the_best_trusted_numbers():
    rows = [
        row('classifier_pvt_tiny_imagenet', 'paper', {}, params='13.2'),
        row('retinanet_pvt_tiny_coco', 'official', {'box_AP': '36.7'}),
        row('retinanet_pvt_tiny_coco', 'mmdet', {'box_AP': '36.6'}),
        row('mask_rcnn_pvt_tiny_coco', 'ours', {'box_AP': '36.7'}),
    ]
    assert zoo([rows]).splitlines()[2:] == [
        '| `pvt_tiny` | 13.2 M |  '
        '| [36.7](configs/retinanet_pvt_tiny_coco.py) '
        '| [36.7 / -](configs/mask_rcnn_pvt_tiny_coco.py) |  |  |'
    ]


def test_insert_replaces_what_stands_between_the_marks():
    text = 'a\n<!-- t -->\nold\n<!-- /t -->\nb'
    assert insert(text, 't', 'new') == 'a\n<!-- t -->\n\nnew\n\n<!-- /t -->\nb'
    assert insert(insert(text, 't', 'x'), 't', 'new') == insert(
        text, 't', 'new'
    )
    with pytest.raises(UsageError, match='no marks <!-- u -->'):
        insert(text, 'u', 'new')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('name,kind\na,official\n', 'line 2: the columns must be name,kind,m'),
        (f'{HEAD}a,rumour,,,,,,,,,\n', "kind 'rumour' is none of official"),
        (f'{HEAD}a,paper,box_AP=high,,,,,,,,\n', "'box_AP=high' is not like"),
        (f'{HEAD}a,paper\n', 'line 2: the columns must be'),
    ],
)
def test_bad_file_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / 'results.csv').write_text(content)
    with pytest.raises(UsageError, match=message):
        read_results(tmp_path / 'results.csv')
    with pytest.raises(UsageError, match='cannot be read'):
        read_results(tmp_path / 'none.csv')


def test_metafile_takes_the_first_numbers_and_weights():
    rows = [
        row('retinanet_pvt_tiny_coco', 'official', {'box_AP': '36.7'}),
        row(
            'retinanet_pvt_tiny_coco', 'mmdet', {'box_AP': '36.6'}, weights='w'
        ),
    ]
    (model,) = yaml.safe_load(metafile('pvt', rows))['Models']
    assert model['Results'] == [
        {
            'Task': 'Object Detection',
            'Dataset': 'COCO',
            'Metrics': {'box AP': 36.7},
        }
    ]
    assert model['Weights'] == 'w'
    assert model['Metadata'] == {
        'Training Techniques': ['AdamW'],
        'Batch Size': 16,
        'Epochs': 12,
    }

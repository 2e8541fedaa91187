"""Published numbers against weights in other formats, from end to end."""

import csv
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from pvt_mm.checkpoints import convert, read_weights
from pvt_mm.config.loading import load_config
from pvt_mm.datasets.synthetic import draw_ade20k, draw_coco
from pvt_mm.errors import CheckpointError, UsageError
from pvt_mm.reproduction import cli, report
from pvt_mm.reproduction.evaluate import find_weights
from pvt_mm.reproduction.plan import compare, plan, verdict
from pvt_mm.reproduction.results import Row, all_results
from pvt_mm.reproduction.training_log import known_scores, read_scores

DETECTOR = 'retinanet_pvt_v2_b0_shapes'
SEGMENTOR = 'semantic_fpn_pvt_v2_b0_shapes'
COLUMNS = ('key', 'name', 'expected', 'seen', 'verdict', 'source')


def row(name, kind='official', weights='', no_config='', **metrics):
    """A published row; metrics as printed."""
    blank = dict.fromkeys(Row._fields, '')
    known = dict(name=name, kind=kind, weights=weights, no_config=no_config)
    return Row(**{**blank, **known, 'source': 'test', 'metrics': metrics})


def write_rows(path, rows):
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for r in rows:
            metrics = '; '.join(f'{k}={v}' for k, v in r.metrics.items())
            writer.writerow(r._replace(metrics=metrics))


def official_weights(name, target, folder):
    """Random weights of a config's model, in the authors' format."""
    cfg = load_config(f'configs/{name}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(1)
    model = MODELS.build(dict(cfg.model, data_preprocessor=None))
    if name == DETECTOR:  # so that it finds something, if only by chance
        model.bbox_head.retina_cls.bias.data.zero_()
    ours = folder / 'ours.pth'
    torch.save({'state_dict': model.state_dict()}, ours)
    convert(str(ours), str(target), 'official', force=True)
    assert 'backbone.block1.0.attn.q.weight' in read_weights(target)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Drawn data, weights by hand, and an empty cache of downloads."""
    draw_coco(tmp_path / 'shapes/coco', 1, 4, size=96)
    draw_ade20k(tmp_path / 'shapes/ade20k', 1, 4, size=96)
    (tmp_path / 'weights').mkdir()
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(tmp_path / 'weights'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    return tmp_path


def test_each_kind_of_verdict_from_end_to_end(workplace, capsys):
    weights = workplace / 'weights'
    official_weights(DETECTOR, weights / f'{DETECTOR}.pth', workplace)
    official_weights(SEGMENTOR, weights / f'{SEGMENTOR}.pth', workplace)
    (weights / f'{SEGMENTOR}_paper.pth').write_bytes(b'PK\x03\x04 cut short')
    table = workplace / 'published.csv'
    rows = [
        row(DETECTOR, box_AP='0.0'),
        row(DETECTOR, 'mmdet', 'https://drive.google.com/x', box_AP='36.6'),
        row(SEGMENTOR, mIoU='77.7'),
        row(SEGMENTOR, 'paper', 'https://example.invalid/x', mIoU='60.0'),
    ]
    write_rows(table, rows)
    out = workplace / 'out'
    command = [
        *('--results', str(table), '--out', str(out)),
        *('--data-root', f'coco={workplace / "shapes/coco"}'),
        *('--data-root', f'ade20k={workplace / "shapes/ade20k"}'),
    ]
    found = run(command, out)
    assert found[DETECTOR]['verdict'] == 'reproduced'
    assert found[DETECTOR]['seen'].startswith('box_AP 0')
    seen = float(found[SEGMENTOR]['seen'].split()[-1])
    assert 0 < seen < 30
    gap = float(found[SEGMENTOR]['verdict'].split()[2])
    assert found[SEGMENTOR]['verdict'] == f'off by {gap:+.2f} mIoU'
    assert gap == pytest.approx(seen - 77.7, abs=0.01)
    missing = found[f'{DETECTOR}_mmdet']['verdict']
    assert missing.startswith('not checkable: https://drive.google.com/x')
    assert f'{DETECTOR}_mmdet.pth' in missing
    assert found[f'{SEGMENTOR}_paper']['verdict'].startswith('not checkable')
    assert 'cut short' in found[f'{SEGMENTOR}_paper']['verdict']
    log = (out / DETECTOR / 'log.txt').read_text()
    assert 'official PVTv2' in log and 'bbox_mAP' in log
    assert not list(out.glob('*/weights.pth'))
    capsys.readouterr()
    stamps = {path: path.stat().st_mtime for path in out.glob('*/log.txt')}
    assert run(command, out) == found
    text = capsys.readouterr().out
    assert text.count('(earlier)') == 2
    for path in (out / DETECTOR, out / SEGMENTOR):
        assert stamps[path / 'log.txt'] == (path / 'log.txt').stat().st_mtime
    # had this been published, it would be reproduced
    write_rows(table, [row(SEGMENTOR, mIoU=f'{seen:.1f}')])
    again = run([SEGMENTOR, '--again', *command], out)
    assert again[SEGMENTOR]['verdict'] == 'reproduced'
    assert again[DETECTOR] == found[DETECTOR]


def run(command, out):
    """Run the tool; its verdicts by key."""
    cli.main(command)
    with open(out / 'verdicts.csv', newline='') as file:
        found = {line['key']: line for line in csv.DictReader(file)}
    assert all(tuple(line) == COLUMNS for line in found.values())
    text = (out / 'verdicts.md').read_text()
    assert all(line['verdict'] in text for line in found.values())
    return found


def test_dry_run_says_what_is_there_and_what_is_missing(workplace, capsys):
    (workplace / f'weights/{SEGMENTOR}.pth').write_bytes(b'not opened')
    table = workplace / 'published.csv'
    rows = [row(DETECTOR, box_AP='1.0'), row(SEGMENTOR, mIoU='1.0')]
    write_rows(table, rows)
    root = ['--data-root', f'coco={workplace / "shapes/coco"}']
    root += ['--data-root', f'ade20k={workplace / "shapes/ade20k"}']
    out = ['--out', str(workplace / 'out')]
    cli.main(['--dry-run', '--results', str(table), *root, *out])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f'{DETECTOR}: not checkable: no weights were published with it'
    )
    assert lines[1].startswith(f'{SEGMENTOR}: would evaluate')
    none = ['--data-root', f'ade20k={workplace / "none"}']
    cli.main([SEGMENTOR, '--dry-run', '--results', str(table), *none, *out])
    assert '--data-root ade20k=FOLDER' in capsys.readouterr().out
    assert not (workplace / 'out').exists()


def test_all_published_rows_have_a_plan(monkeypatch):
    monkeypatch.delenv('PVT_MM_WEIGHTS', raising=False)
    jobs = plan(all_results())
    assert len({job.key for job in jobs}) == len(jobs) > 80
    named = [job for job in jobs if job.name == 'retinanet_pvt_tiny_coco']
    assert [(job.key, job.expected) for job in named] == [
        ('retinanet_pvt_tiny_coco', {'box_AP': 36.7}),
        ('retinanet_pvt_tiny_coco_mmdet', {'box_AP': 36.6}),
    ]
    direct = named[1]._replace(key='no-such-file-anywhere')
    assert find_weights(direct, fetch=False).startswith('https://')
    nowhere = direct._replace(weights='')
    with pytest.raises(CheckpointError, match='no weights were published'):
        find_weights(nowhere, fetch=False)


def test_plan_leaves_out_repeats_and_knows_near_names():
    rows = [
        row('a_640', box_AP='40.44', weights='w'),
        row('a_640', 'paper', box_AP='40.4'),
        row('a_640', 'others', box_AP='39.0'),
        row('a_640', 'others', box_AP='38.0'),
        row('b', no_config='never released', box_AP='1.0'),
    ]
    keys = [job.key for job in plan(rows)]
    assert keys == ['a_640', 'a_640_others', 'a_640_others-2']
    with pytest.raises(UsageError, match='a config a_64; nearest: a_640'):
        plan(rows, ['a_64'])


@pytest.mark.parametrize(
    ('expected', 'seen', 'text'),
    [
        ({'box_AP': 37.2}, {'box_AP': 37.1}, 'reproduced'),
        ({'box_AP': 37.2}, {'box_AP': 37.0}, 'off by -0.20 box_AP'),
        ({'mIoU': 45.2}, {'mIoU': 45.4}, 'reproduced'),
        ({'mIoU': 45.2}, {'mIoU': 45.41}, 'off by +0.21 mIoU'),
        (
            {'box_AP': 40.0, 'mask_AP': 37.0},
            {'box_AP': 40.0, 'mask_AP': 36.0},
            'off by -1.00 mask_AP',
        ),
        ({'top1': 70.5}, {}, 'not checkable: the evaluation gave no top1'),
    ],
)
def test_verdict(expected, seen, text):
    assert verdict(expected, seen) == text


def test_scores_are_in_percent():
    found = {'coco/bbox_mAP': 0.372, 'coco/segm_mAP': 0.361, 'mIoU': 37.2}
    assert known_scores(found) == pytest.approx(
        {'box_AP': 37.2, 'mask_AP': 36.1, 'mIoU': 37.2}
    )
    assert known_scores({'mIoU': 0.6, 'step': 1}) == {'mIoU': 0.6}
    old = {'mode': 'val', 'mIoU': 0.372}  # of mmseg 0
    assert known_scores(old) == pytest.approx({'mIoU': 37.2})


def write_lines(path, records):
    path.write_text('\n'.join(map(json.dumps, records)))
    return path


def test_logs_of_other_code_bases_are_compared_step_by_step(tmp_path):
    old = [
        {'env_info': 'x'},
        {'mode': 'train', 'epoch': 1, 'loss': 1.0},
        {'mode': 'val', 'epoch': 1, 'iter': 625, 'bbox_mAP': 0.151},
        {'mode': 'val', 'epoch': 2, 'iter': 625, 'bbox_mAP': 0.250},
    ]
    theirs = read_scores(write_lines(tmp_path / 'old.log.json', old))
    new = [
        {'loss': 1.0, 'step': 50},
        {'coco/bbox_mAP': 0.150, 'step': 1},
        {'coco/bbox_mAP': 0.247, 'step': 2},
    ]
    ours = read_scores(write_lines(tmp_path / 'scalars.json', new))
    lines, good = compare(theirs, ours)
    assert lines == [
        'step 1: box_AP expected 15.10, seen 15.00, -0.10',
        'step 2: box_AP expected 25.00, seen 24.70, -0.30',
    ]
    assert not good
    assert compare(theirs, theirs)[1]
    d2 = [{'iteration': 89999, 'bbox/AP': 41.8, 'segm/AP': 39.0}]
    curve = read_scores(write_lines(tmp_path / 'metrics.json', d2))
    assert curve == {89999: {'box_AP': 41.8, 'mask_AP': 39.0}}
    with pytest.raises(UsageError, match='no step in common'):
        compare(curve, ours)


def test_a_log_alone_is_held_to_the_published_number(tmp_path, capsys):
    log = write_lines(tmp_path / 'l.json', [{'bbox_mAP': 0.366, 'epoch': 12}])
    cli.main(['retinanet_pvt_tiny_coco', '--log', str(log)])
    assert capsys.readouterr().out.endswith('verdict: reproduced\n')
    (tmp_path / 'run/1/vis_data').mkdir(parents=True)  # a work dir
    log.rename(tmp_path / 'run/1/vis_data/scalars.json')
    log = tmp_path / 'run'
    cli.main(['retinanet_pvt_tiny_coco', '--log', str(log)])
    assert capsys.readouterr().out.endswith('verdict: reproduced\n')
    with pytest.raises(UsageError, match='name of one config'):
        cli.main(['--log', str(log)])
    (tmp_path / 'text').write_text('no log')
    with pytest.raises(UsageError, match='is no training log'):
        cli.main(['retinanet_pvt_tiny_coco', '--log', str(tmp_path / 'text')])


def test_logs_agree_only_where_they_have_the_same_score():
    expected = {1: {'box_AP': 40.0}, 2: {'mask_AP': 37.0}}
    seen = {1: {'box_AP': 39.0}, 2: {'box_AP': 40.0}}
    lines, good = compare(expected, seen)
    assert lines == ['step 1: box_AP expected 40.00, seen 39.00, -1.00']
    assert not good
    with pytest.raises(UsageError, match='no step in common with the same'):
        compare({2: {'mask_AP': 37.0}}, seen)


def test_a_bug_leaves_its_traceback_and_the_other_jobs_go_on(
    tmp_path, monkeypatch, capsys
):
    def evaluate(job, folder, options):
        return {'box_AP': job.expected['box_AP']} if job.key == 'b' else {}[1]

    monkeypatch.setattr(cli, 'evaluate', evaluate)
    monkeypatch.setattr(cli, 'find_data', lambda job, roots: [])
    jobs = plan([row('a', box_AP='40.4'), row('b', box_AP='40.4')])
    cli.check_all(jobs, tmp_path, {}, False)
    file = tmp_path / 'a/traceback.txt'
    found = {k: o.verdict for k, o in report.read(tmp_path).items()}
    assert found == {
        'a': f'not checkable: KeyError: 1 (traceback: {file})',
        'b': 'reproduced',
    }
    lines = file.read_text().splitlines()
    assert lines[0] == 'Traceback (most recent call last):'
    assert 'in evaluate' in file.read_text() and lines[-1] == 'KeyError: 1'


def test_data_sets_are_known_by_their_folder():
    assert cli.data_of(Config(dict(data_root='data/ade/x'))) == 'ade20k'
    for cfg in (Config(dict(data_root='data/kitti/')), Config()):
        with pytest.raises(UsageError, match='is one of coco, ade, ade20k'):
            cli.data_of(cfg)


def test_report_survives_a_stop_between_jobs(tmp_path):
    (job,) = plan([row('a', box_AP='40.4')])
    done = report.outcome(job, 'reproduced', {'box_AP': 40.41, 'mIoU': 1.0})
    report.write(tmp_path, {'a': done})
    assert report.read(tmp_path) == {'a': done}
    assert done.seen == 'box_AP 40.41'
    assert not list(tmp_path.glob('.part-*'))


def test_wrong_data_set_is_refused():
    with pytest.raises(UsageError, match='--data-root kitti=x: write DATA='):
        cli.main(['--dry-run', '--data-root', 'kitti=x'])

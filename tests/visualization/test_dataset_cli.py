"""The command check-dataset."""

import gc
import json
import shutil

import cv2
import pytest
from small_runs import one_error, say

from pvt_mm.visualization.dataset_cli import main


@pytest.mark.parametrize('part', ['det', 'seg'])
def test_picture(capsys, configs, tmp_path, part):
    files = [tmp_path / 'x.json', tmp_path / 'x.png']
    options = ('--out', files[0], '--picture', files[1], '--workers', 0)
    status, out, _ = say(capsys, main, configs[part], *options)
    assert status == 0
    assert 'loading annotations' not in out
    assert not gc.get_freeze_count()
    report = json.loads(files[0].read_text())
    assert list(report) == [
        *('train', 'val', 'ground_truth_as_predictions', 'findings')
    ]
    best = {'det': {'coco/bbox_mAP': 1}, 'seg': {'mIoU': 100}}
    assert report['ground_truth_as_predictions'] == best[part]
    picture = cv2.imread(str(files[1]))
    assert picture.shape == (900, 1500, 3)
    assert len({tuple(p) for p in picture[::9, 600::9].reshape(-1, 3)}) > 99


def test_masks(capsys, configs, tmp_path):
    """They are read with their sample, and scored too."""
    cfg = tmp_path / 'masks.py'
    cfg.write_text(f"""
_base_ = {str(configs['det'])!r}
for _mode in ('train', 'val'):
    for _step in _base_[f'{{_mode}}_dataloader'].dataset.pipeline:
        if _step.type == 'LoadAnnotations':
            _step.with_mask = True
train_dataloader = _base_.train_dataloader
val_dataloader = _base_.val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
""")
    files = [tmp_path / 'x.json', tmp_path / 'x.png']
    options = ('--out', files[0], '--picture', files[1], '--workers', 0)
    status, _, err = say(capsys, main, cfg, *options)
    assert status == 0, err
    assert json.loads(files[0].read_text())['ground_truth_as_predictions'] == {
        'coco/bbox_mAP': 1,
        'coco/segm_mAP': 1,
    }
    assert files[1].is_file()


def test_masks_that_only_the_file_has(capsys, configs, tmp_path):
    """The validation loads boxes only: the boxes are scored."""
    cfg = tmp_path / 'config.py'
    cfg.write_text(
        f'_base_ = {str(configs["det"])!r}\n'
        "val_evaluator = dict(metric=['bbox', 'segm'])\n"
    )
    status, out, err = say(capsys, main, cfg, '--workers', 0)
    assert status == 0, err
    assert 'ground truth as predictions: coco/bbox_mAP 1\n' in out
    assert 'segm' not in out


@pytest.mark.parametrize(
    ('text', 'status', 'words'),
    [
        (  # samples with nothing to score
            'for _step in _base_.val_dataloader.dataset.pipeline:\n'
            "    _step.type == 'LoadAnnotations' and _step.update(\n"
            '        with_bbox=False, with_label=False)\n'
            'val_dataloader = _base_.val_dataloader',
            *(0, '0 errors'),
        ),
        (
            'val_evaluator = dict(ann_file=None)',
            *(1, 'cannot score the ground truth: ground truth is required'),
        ),
    ],
)
def test_nothing_to_score(capsys, configs, tmp_path, text, status, words):
    cfg = tmp_path / 'changed.py'
    cfg.write_text(f'_base_ = {str(configs["det"])!r}\n{text}\n')
    found, out, err = say(capsys, main, cfg, '--workers', 0)
    assert (found, 'ground truth as predictions' in out) == (status, False)
    assert words in out, err


def test_one_file_with_masks_and_without(capsys, configs, tmp_path):
    """Training reads its masks, and the validation only its boxes."""
    cfg = tmp_path / 'masks.py'
    cfg.write_text(f"""
_base_ = {str(configs['det'])!r}
for _step in _base_.train_dataloader.dataset.pipeline:
    if _step.type == 'LoadAnnotations':
        _step.with_mask = True
_data = _base_.train_dataloader.dataset
train_dataloader = _base_.train_dataloader
val_dataloader = dict(dataset=dict(
    ann_file=_data.ann_file, data_prefix=_data.data_prefix))
val_evaluator = dict(ann_file=_data.data_root + '/' + _data.ann_file)
""")
    options = ('--out', tmp_path / 'x.json', '--workers', 0)
    status, _, err = say(capsys, main, cfg, *options)
    assert status == 0, err
    report = json.loads((tmp_path / 'x.json').read_text())
    assert report['train']['classes'] == report['val']['classes']
    assert report['ground_truth_as_predictions'] == {'coco/bbox_mAP': 1}


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ('ids', 'cannot score the ground truth: Results do not correspond'),
        ('images', 'has a coco/bbox_mAP of 0'),
    ],
)
def test_evaluator_of_another_file(
    capsys, configs, drawn, tmp_path, change, words
):
    """Of images with other ids, or of other images with the same ids."""
    content = json.loads(
        (drawn / 'coco/annotations/instances_val2017.json').read_text()
    )
    add = {'ids': 100, 'images': 1}[change]
    for image in content['images']:
        image['id'] += 100 * (change == 'ids')
    ids = [image['id'] for image in content['images']]
    for note in content['annotations']:
        place = (note['image_id'] + add) % len(ids)
        note['image_id'] = ids[place]
    file = tmp_path / 'other.json'
    file.write_text(json.dumps(content))
    options = ('--cfg-options', f'val_evaluator.ann_file={file}')
    status, out, err = say(capsys, main, configs['det'], *options)
    assert status == 1
    assert words in one_error(out)
    assert 'the data has 1 error' in err


def test_ignored_objects_of_a_sound_file(capsys, configs, drawn, tmp_path):
    """As VOC's difficult ones after a conversion: a metric scores them."""
    source = drawn / 'coco/annotations/instances_val2017.json'
    content = json.loads(source.read_text())
    for note in content['annotations'][::2]:
        note['ignore'] = 1
    file = tmp_path / 'ignored.json'
    file.write_text(json.dumps(content))
    options = [f'val_dataloader.dataset.ann_file={file}']
    options += [f'val_evaluator.ann_file={file}']
    status, out, _ = say(
        capsys, main, configs['det'], '--cfg-options', *options
    )
    assert status == 0
    assert 'warning: the ground truth itself, given to val_evaluator' in out
    assert 'whose key ignore is true' in out


def test_more_objects_than_coco_scores(capsys, configs, drawn, tmp_path):
    """No predictions can have a score of 1 then, and the data is right."""
    source = drawn / 'coco/annotations/instances_val2017.json'
    content = json.loads(source.read_text())
    note = content['annotations'][0]
    for place in range(150):
        x, y = place % 15 * 4, place // 15 * 4
        content['annotations'].append(
            {**note, 'id': 1000 + place, 'bbox': [x, y, 3, 3], 'area': 9}
        )
    file = tmp_path / 'many.json'
    file.write_text(json.dumps(content))
    options = [
        f'{key}.ann_file={file}'
        for key in ('val_evaluator', 'val_dataloader.dataset')
    ]
    status, out, _ = say(
        capsys, main, configs['det'], '--cfg-options', *options
    )
    assert status == 0
    assert 'objects, and COCO scores the 100 predictions' in out
    assert '; 0 errors, ' in out


def test_names_of_another_case(capsys, configs, drawn, tmp_path):
    """One sentence for all, and no image is read."""
    root = tmp_path / 'coco'
    shutil.copytree(drawn / 'coco', root)
    for file in (root / 'train2017').iterdir():
        file.rename(file.with_suffix('.PNG'))
    options = ('--cfg-options', f'train_dataloader.dataset.data_root={root}')
    status, out, _ = say(capsys, main, configs['det'], *options)
    assert status == 1
    said = one_error(out)
    assert said.startswith(f'error: 8 of 8 files are not in {root}/train2017')
    assert 'differ in upper and lower case' in said
    assert '\nno image read; 1 error, 0 warnings\n' in out


@pytest.mark.parametrize(
    ('classes', 'words'),
    [
        ("'disc'", "classes is a text, and no file of names: write ('disc',)"),
        ('[1,2]', 'classes has 1, which is no text'),
    ],
)
def test_classes_that_are_no_names(capsys, configs, tmp_path, classes, words):
    file = tmp_path / 'config.py'
    file.write_text(
        f'_base_ = {configs["det"]!r}\n'
        'train_dataloader = dict(dataset=dict(metainfo=dict('
        f'_delete_=True, classes={classes})))\n'
    )
    status, _, err = say(capsys, main, file)
    assert status == 1
    assert f'train_dataloader.dataset.metainfo.{words}' in one_error(err)

"""Data sets of VOC's format: XML files and boxes that are wrong."""

import re

import numpy as np
import pytest
from PIL import Image
from small_runs import RETINANET, load, say, write

from pvt_mm.engine import train as training
from pvt_mm.visualization import dataset_cli as checker

SIZE = 48  # pixels, of the images
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
BOX = (5, 6, 30, 40)  # x1, y1, x2, y2
SPLITS = {'train': ('0', '1', '2'), 'val': ('3', '4')}
LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')
        + ('scale_factor',),
    ),
]


def xml(box=BOX, name='moss'):
    """The text of an annotation with an object of each class."""
    corners = ''.join(
        f'<{key}>{value}</{key}>'
        for key, value in zip(CORNERS, box, strict=True)
    )
    objects = ''.join(
        f'<object><name>{each}</name><bndbox>{corners}</bndbox></object>'
        for each in (name, 'stone')
    )
    size = f'<width>{SIZE}</width><height>{SIZE}</height>'
    return f'<annotation><size>{size}</size>{objects}</annotation>'


@pytest.fixture
def voc(tmp_path):
    """A drawn data set: folders of images, annotations and lists."""
    root = tmp_path / 'VOC2007'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for split, names in SPLITS.items():
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
        for name in names:
            pixels = np.full((SIZE, SIZE, 3), 40 * int(name), np.uint8)
            Image.fromarray(pixels).save(root / f'JPEGImages/{name}.jpg')
            (root / f'Annotations/{name}.xml').write_text(xml())
    return root


def config(root):
    """The path of a config that trains on it for an epoch."""
    cfg = load(RETINANET)
    for split in SPLITS:
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type='VOCDataset',
            data_root=f'{root.parent}/',
            metainfo=dict(classes=('moss', 'stone')),
            ann_file=f'VOC2007/ImageSets/Main/{split}.txt',
            data_prefix=dict(sub_data_root='VOC2007/'),
            test_mode=split == 'val',
            pipeline=LOAD,
        )
    cfg.model.bbox_head.num_classes = 2
    cfg.val_evaluator = cfg.test_evaluator = dict(
        type='VOCMetric', metric='mAP', eval_mode='11points'
    )
    cfg.test_dataloader = cfg.val_dataloader
    return write(cfg, root.parent / 'config.py')


def change(root, text, split='train'):
    for name in SPLITS[split]:
        (root / f'Annotations/{name}.xml').write_text(text)


def check(capsys, root):
    options = ('--workers', 0)
    status, out, err = say(capsys, checker.main, config(root), *options)
    return status, out + err


def test_sound(capsys, voc):
    status, said = check(capsys, voc)
    assert status == 0, said
    assert 'predictions: pascal_voc/mAP 1\n' in said
    assert '5 images read; 0 errors, 0 warnings' in said


@pytest.mark.parametrize(
    'box',
    [
        (30, 40, 5, 6),  # the corners in another order
        (0.1, 0.1, 0.6, 0.8),  # in fractions of the image
        (500, 500, 540, 550),  # of another image
        (5, 6, 5, 40),  # without a width
    ],
)
def test_boxes_without_area(capsys, voc, box):
    """mmdet trains on them, and the loss is NaN or infinite."""
    change(voc, xml(box))
    status, said = check(capsys, voc)
    assert status == 1
    assert re.search(
        r'error: train: 6 of 6 boxes have no area in their image .*'
        rf'\[.*\] in {voc}/JPEGImages/0.jpg',
        said,
    )
    status, out, err = say(
        *(capsys, training.train, config(voc)),
        *('--work-dir', voc / 'w', '--batch', 'as-is'),
    )
    assert status == 1
    assert 'boxes have no area in their image' in out + err


def test_box_without_area_in_validation(capsys, voc):
    change(voc, xml((500, 500, 540, 550)), 'val')
    status, said = check(capsys, voc)
    assert 'warning: val: 4 of 4 boxes have no area' in said


def test_names_that_are_no_class(capsys, voc):
    change(voc, xml(name='Moss'))
    status, said = check(capsys, voc)
    assert status == 0
    assert re.search(
        "warning: objects have names that metainfo.classes lacks, .* 'Moss' "
        rf'\(3\); for example in {voc}/JPEGImages/0.jpg',
        said,
    )


def test_no_name_is_a_class(capsys, voc):
    for split in SPLITS:
        change(voc, xml().replace('moss', 'a').replace('stone', 'b'), split)
    status, said = check(capsys, voc)
    assert status == 1
    assert 'error: train: no object is of a class; compare' in said


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (xml()[:-20], 'unclosed token: .*, in {file}$'),
        (xml(('x', 6, 30, 40)), "convert string to float: 'x', in {file}$"),
        (
            xml().replace('bndbox', 'polygon'),
            "no attribute 'find', in {file} .*bnd_box.find",
        ),
        (
            xml().replace('<name>moss</name>', ''),
            "no attribute 'text', in {file} .*'name'",
        ),
    ],
)
def test_xml_that_cannot_be_read(capsys, voc, text, words):
    change(voc, text)
    status, said = check(capsys, voc)
    assert status == 1
    words = words.format(file=f'{voc}/Annotations/0.xml')
    assert re.search(words, said.strip()), said
    assert 'Traceback' not in said


def test_images_with_another_suffix(capsys, voc):
    for file in list((voc / 'JPEGImages').iterdir()):
        file.rename(file.with_suffix('.png'))
    status, said = check(capsys, voc)
    assert status == 1
    assert (
        f'3 of 3 files are not in {voc}/JPEGImages: their names have another '
        'suffix, for example 0.jpg; the folder has 0.png'
    ) in said


def test_the_list_of_another_format_is_not_printed_as_a_whole(capsys, voc):
    content = '{"images": [' + '1, ' * 9999
    (voc / 'ImageSets/Main/train.txt').write_text(content)
    status, said = check(capsys, voc)
    assert status == 1
    assert len(said) < 2000

"""What is in a data set, and what its numbers tell."""

import json
from contextlib import redirect_stdout

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from pvt_mm.datasets.checks.classes import compare_classes
from pvt_mm.datasets.checks.examine import examine
from pvt_mm.datasets.checks.fault_tolerant_pipeline import make_fault_tolerant

LOAD = dict(type='mmcv.LoadImageFromFile')


def look(cfg, split='train', scope='mmdet', images=None):
    """What is in a data set, and sentences on it."""
    init_default_scope(scope)
    with redirect_stdout(None):
        dataset = DATASETS.build(cfg)
    make_fault_tolerant(dataset, skip=split == 'train')
    contents, found = examine(dataset, split, images)
    said = [f'{"error" if f.error else "warning"}: {f.text}' for f in found]
    return contents, said


def picture(file, values=None, size=(48, 64)):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.zeros(size, 'u1') if values is None else values)


# Objects

BOXES = [[5, 5, 10, 10], [5, 5, 32, 32], [0, 0, 60, 40], [9, 9, 5, 5]]


def coco(root, labels, crowd=(), **options):
    """A data set with an object of a size of BOXES for each label."""
    content = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', height=48, width=64)
            for i in range(3)
        ],
        annotations=[
            dict(
                id=i + 1,
                image_id=i % 2,
                category_id=label,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=int(i in crowd),
            )
            for i, (label, box) in enumerate(zip(labels, BOXES, strict=False))
        ],
        categories=[dict(id=i, name=n) for i, n in enumerate('abc')],
    )
    (root / 'x.json').write_text(json.dumps(content))
    for name in ('0', '1', '2', 'more'):
        picture(root / f'images/{name}.png')
    return dict(
        type='CocoDataset',
        ann_file=str(root / 'x.json'),
        data_prefix=dict(img=str(root / 'images')),
        metainfo=dict(classes=('a', 'b', 'c')),
        pipeline=[LOAD],
        **options,
    )


def test_objects(tmp_path):
    contents, said = look(coco(tmp_path, [0, 0, 1, 2], crowd=[3]))
    assert contents.report() == {
        'images': 3,
        'images_read': 3,
        'classes': [
            {'class': 'a', 'images': 2, 'objects': 2},
            {'class': 'b', 'images': 1, 'objects': 1},
            {'class': 'c', 'images': 0, 'objects': 0},
        ],
        'image_sizes': {'height': [48, 48, 48], 'width': [64, 64, 64]},
        'box_sizes': {'small': 1, 'medium': 2, 'large': 0},
        'images_without_objects': 1,
        'ignored_objects': 1,
        'images_not_in_the_data_set': {
            f'{tmp_path}/images': {'number': 1, 'example': 'more.png'}
        },
    }
    assert said == ['warning: train: no object has the label 2 (c)']
    assert list(contents.table()) == [
        'train: 3 images',
        '  class    images   objects',
        '  a             2         2',
        '  b             1         1',
        '  c             0         0',
        '  image sizes: 64x48 to 64x48, median 64x48',
        '  boxes: 1 small, 2 medium, 0 large',
        '  1 image without objects, 1 object ignored (crowd, difficult)',
        f'  1 image of {tmp_path}/images not in this split, for example '
        'more.png',
    ]
    first, second = contents.brief()
    assert first == 'train: 3 images, 2 of 3 classes: a 2, b 1'
    assert second.startswith('train: image sizes: 64x48 to ')


def test_objects_after_the_filters(tmp_path):
    cfg = coco(tmp_path, [0, 1, 2], filter_cfg=dict(filter_empty_gt=True))
    contents, said = look(cfg)
    assert not said
    assert (contents.images, contents.empty) == (2, 0)
    twice = dict(type='ConcatDataset', datasets=[cfg, cfg])
    contents, _ = look(twice)
    assert (contents.images, contents.counts.total()) == (4, 6)


@pytest.mark.parametrize(
    ('crowd', 'words'),
    [
        ([0, 1, 2], 'warning: train: 75.0% of the objects are ignored'),
        ([0, 1, 2, 3], 'error: train: 100.0% of the objects are ignored, and'),
    ],
)
def test_crowd(tmp_path, crowd, words):
    _, said = look(coco(tmp_path, [0, 1, 2, 2], crowd=crowd))
    assert said[0].startswith(words)


def voc(root, difficult):
    """A data set in the format of Pascal VOC, of one image."""
    picture(root / 'JPEGImages/0.jpg')
    (root / 'Annotations').mkdir()
    (root / 'Annotations/0.xml').write_text(
        '<annotation><size><width>64</width><height>48</height></size>'
        f'<object><name>a</name><difficult>{difficult}</difficult><bndbox>'
        '<xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax>'
        '</bndbox></object></annotation>'
    )
    (root / 'train.txt').write_text('0\n')
    return dict(
        type='XMLDataset',
        data_root=str(root),
        ann_file='train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('a',)),
        pipeline=[LOAD],
    )


@pytest.mark.parametrize(
    ('difficult', 'said'),
    [
        (0, []),
        (
            1,
            [
                'error: train: 100.0% of the objects are ignored, and none is '
                'of a class: nothing is left to learn from'
            ],
        ),
    ],
)
def test_voc(tmp_path, difficult, said):
    contents, found = look(voc(tmp_path, difficult))
    assert found == said
    assert contents.sizes == [(48, 64)]


def test_label_of_no_class(tmp_path):
    instances = [dict(bbox=[1, 2, 9, 9], bbox_label=3, ignore_flag=0)]
    picture(tmp_path / '0.png')
    info = dict(img_path=str(tmp_path / '0.png'), height=48, width=64)
    content = dict(
        metainfo=dict(classes=['a', 'b', 'c']),
        data_list=[dict(info, instances=instances)],
    )
    (tmp_path / 'x.json').write_text(json.dumps(content))
    _, said = look(
        dict(
            type='BaseDetDataset',
            ann_file=str(tmp_path / 'x.json'),
            pipeline=[LOAD],
        )
    )
    assert said[0] == (
        'error: train: the label 3 occurs, but there are 3 classes (0 to 2)'
    )


# Label maps


def maps(root, values, suffix='.jpg', **options):
    """A segmentation data set of two images with the same label map."""
    for i in range(2):
        picture(root / f'images/{i}{suffix}', size=(8, 8))
        picture(root / f'labels/{i}.png', np.array(values, 'u1'))
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=('sand', 'thing'), palette=[[0] * 3] * 2),
        pipeline=[LOAD, dict(type='LoadAnnotations')],
        **options,
    )


def rows(*labels):
    return np.repeat(np.array(labels, 'u1')[:, None], 8, 1)


MAPS = {
    # rows of the label map, reduce_zero_label, what is said
    'sound': ([0, 0, 1, 1, 1, 255, 0, 0], False, None),
    '0 and 255': (
        *([0, 0, 0, 0, 0, 0, 255, 255], False),
        'warning: train: no pixel has the label 1 (thing); 25.0% of the '
        'pixels are ignored',
    ),
    'shifted': (
        *([0, 0, 0, 0, 1, 1, 1, 1], True),
        'warning: train: no pixel has the label 1 (thing) (reduce_zero_label '
        'ignores the label 0 and makes each other one less); 50.0% of the '
        'pixels are ignored',
    ),
    'sound from 1': ([0, 0, 1, 1, 2, 2, 2, 2], True, None),
    'all ignored': (
        *([255] * 8, False),
        'error: train: 100.0% of the pixels are ignored, and none is of a '
        'class: nothing is left to learn from',
    ),
    'all 0, reduced': (
        *([0] * 8, True),
        'error: train: 100.0% of the pixels are ignored, and none is of a '
        'class (reduce_zero_label ignores the label 0 and makes each other '
        'one less): nothing is left to learn from',
    ),
    'inverted': (
        *([1] * 8, False),
        'warning: train: no pixel has the label 0 (sand); 0.0% of the pixels '
        'are ignored',
    ),
}


@pytest.mark.parametrize('name', MAPS)
def test_label_maps(tmp_path, name):
    labels, reduce, wanted = MAPS[name]
    cfg = maps(tmp_path, rows(*labels), reduce_zero_label=reduce)
    _, said = look(cfg, scope='mmseg')
    assert said == ([wanted] if wanted else [])


def test_pixels(tmp_path):
    cfg = maps(tmp_path, rows(*MAPS['sound'][0]))
    contents, _ = look(cfg, scope='mmseg')
    report = contents.report()
    assert report['classes'] == [
        {'class': 'sand', 'images': 2, 'pixels': 0.5},
        {'class': 'thing', 'images': 2, 'pixels': 0.375},
    ]
    assert report['ignored_pixels'] == 0.125
    assert '  sand          2    50.00%' in contents.table()
    assert next(contents.brief()) == (
        'train: 2 images, 2 of 2 classes: sand 50.0%, thing 37.5%'
    )


def test_classes_of_some_label_maps_are_not_judged(tmp_path):
    cfg = maps(tmp_path, rows(*MAPS['0 and 255'][0]))
    contents, said = look(cfg, scope='mmseg', images=1)
    assert (contents.images, contents.read, said) == (2, 1, [])


@pytest.mark.parametrize('other', ['2.JPG', '2.jpeg', '2.tif'])
def test_images_with_another_suffix(tmp_path, other):
    cfg = maps(tmp_path, rows(*MAPS['sound'][0]))
    picture(tmp_path / 'labels/2.png')
    (tmp_path / f'images/{other}').touch()
    (tmp_path / 'images/._2.jpg.txt').touch()
    contents, said = look(cfg, scope='mmseg')
    assert said == [
        f'warning: train: 1 image of {tmp_path}/images not read, for example '
        f'{other}: this data set reads .jpg (img_suffix)'
    ]
    assert contents.unread == {f'{tmp_path}/images': [other]}


def test_missing_label_maps(tmp_path):
    cfg = maps(tmp_path, rows(*MAPS['sound'][0]), seg_map_suffix='.PNG')
    _, said = look(cfg, scope='mmseg', split='val')
    assert said == [
        f'error: 2 of 2 files are not in {tmp_path}/labels: their names '
        'differ in upper and lower case, for example 0.PNG; the folder has '
        '0.png'
    ]


# Folders of images


def folders(root, *names):
    for name in names:
        picture(root / name / '0.jpg')
    return dict(
        type='ImageFolder',
        data_prefix=dict(img_path=str(root)),
        pipeline=[LOAD],
    )


def test_hidden_folders_and_files_are_no_classes(tmp_path):
    cfg = folders(tmp_path, 'b', 'a', '.ipynb_checkpoints', '.a')
    (tmp_path / 'a/._0.jpg').touch()
    contents, said = look(cfg, scope='mmengine')
    assert contents.report()['classes'] == [
        {'class': 'a', 'images': 1},
        {'class': 'b', 'images': 1},
    ]
    assert not said


def test_images_that_a_folder_has_beside(tmp_path):
    cfg = folders(tmp_path, 'a')
    picture(tmp_path / 'a/1.bmp')
    _, said = look(cfg, scope='mmengine')
    assert said[0].startswith(
        f'warning: train: 1 image of {tmp_path}/a not read, for example 1.bmp'
    )


class Named:
    def __init__(self, *classes):
        self.metainfo = dict(classes=classes)


@pytest.mark.parametrize(
    ('train', 'val', 'words'),
    [
        ('ab', 'ab', None),
        ('ab', '', None),
        ('ab', 'abc', '(2 and 3; train lacks c)'),
        ('abc', 'ac', '(3 and 2; val lacks b)'),
        ('ab', 'ba', '(2 and 2; in another order)'),
        ('ab', 'Ab', '(2 and 2; train lacks A; val lacks a)'),
    ],
)
def test_classes_of_two_splits(train, val, words):
    found = list(compare_classes(dict(train=Named(*train), val=Named(*val))))
    assert bool(found) == bool(words)
    for finding in found:
        assert finding.error and words in finding.text

"""Checks of data: errors before a run, skipped samples during it."""

import builtins
import errno
import json
import random
import re
import shutil
import sys
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from pycocotools import mask as rle
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    load,
    run_config,
    same,
    small,
    write,
)

from pvt_mm import cli
from pvt_mm.datasets.checks.classes import check_classes
from pvt_mm.datasets.checks.content_checks import check_shared_images
from pvt_mm.datasets.checks.examine import check_annotation_files, examine
from pvt_mm.datasets.checks.fault_tolerant_pipeline import (
    inner,
    make_fault_tolerant,
    tolerant_parts,
)
from pvt_mm.datasets.checks.report import allowed, error, lines, warning
from pvt_mm.datasets.checks.samples import kept_randomness
from pvt_mm.engine import train as training
from pvt_mm.engine.runner import FaultTolerantRunner
from pvt_mm.errors import SampleError, UsageError
from pvt_mm.visualization import dataset_cli as checker

NAN = float('nan')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture
def coco(tmp_path, drawn):
    """A copy of the detection data that a test may change."""
    shutil.copytree(drawn / 'coco', tmp_path / 'coco')
    return tmp_path / 'coco'


@pytest.fixture
def ade(tmp_path, drawn):
    """A copy of the segmentation data that a test may change."""
    shutil.copytree(drawn / 'ade20k', tmp_path / 'ade20k')
    return tmp_path / 'ade20k'


def annotations(root, split):
    return root / f'annotations/instances_{split}2017.json'


def picture(root, number=1, split='train'):
    return root / f'{split}2017/{number:012d}.png'


def spoil(root, edit, split):
    """Change the content of an annotation file."""
    file = annotations(root, split)
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def set_first(part, **values):
    """Change the first entry of a list; None takes a key away."""

    def edit(content):
        entry = content[part][0]
        entry.update(values)
        for key in [k for k, v in values.items() if v is None]:
            del entry[key]

    return edit


def first(**values):
    return set_first('annotations', **values)


def config(part, root, **options):
    """The config of a run of seconds on some data."""
    name = {'coco': RETINANET, 'ade20k': SEGMENTOR}[part]
    cfg = small(load(name, **options), root.parent, part)
    init_default_scope(cfg.default_scope)
    return cfg


def sentences(findings):
    return [f'{"error" if f.error else "warning"}: {f.text}' for f in findings]


def look(cfg, mode='train'):
    """What is wrong with every sample of a mode."""
    with redirect_stdout(None):
        dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
    training = mode == 'train'
    make_fault_tolerant(dataset, skip=training)
    return sentences(examine(dataset, mode, None)[1])


# Annotation files


def masked(cfg):
    """The config of a model that also learns masks."""
    for mode in ('train', 'val'):
        for step in cfg[f'{mode}_dataloader'].dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.with_mask = True
    cfg.val_evaluator.metric = ['bbox', 'segm']
    return cfg


def compressed(content, crowd):
    """Give the first annotation compressed run lengths."""
    size = [content['images'][0][k] for k in ('height', 'width')]
    code = rle.encode(np.asfortranarray(np.eye(*size, dtype=np.uint8)))
    mask = {'size': size, 'counts': code['counts'].decode()}
    content['annotations'][0].update(segmentation=mask, iscrowd=crowd)


def run_lengths(content, missed=0):
    """Give the first annotation run lengths that miss some pixels."""
    height, width = (content['images'][0][k] for k in ('height', 'width'))
    counts = [9, 9, height * width - 18 - missed]
    mask = {'size': [height, width], 'counts': counts}
    content['annotations'][0]['segmentation'] = mask


ALL = ('train', 'val')


def test_masks_that_pass_are_read(coco):
    cfg = masked(config('coco', coco))
    for edit in (run_lengths, lambda c: compressed(c, 0)):
        spoil(coco, edit, 'train')
        assert not look(cfg)


def test_annotation_file_without_permission(coco, monkeypatch):
    plain, file = builtins.open, str(annotations(coco, 'train'))

    def closed(path, *args, **kwargs):
        if str(path) == file:
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', closed)
    with pytest.raises(UsageError, match=f'{file} cannot be read: Permission'):
        list(check_annotation_files(config('coco', coco), ['train']))


def test_absent_images(coco):
    cfg = config('coco', coco)
    picture(coco, 2).unlink()
    (said,) = sentences(check_annotation_files(cfg, ['train']))
    assert said == (
        f'warning: {picture(coco, 2)} is not there; training skips it'
    )
    picture(coco, 3).unlink()
    found = sentences(check_annotation_files(cfg, ['train']))
    assert [s[:6] for s in found] == ['error:'] * 2  # more than one per cent
    picture(coco, 1, 'val').unlink()
    (said,) = sentences(check_annotation_files(cfg, ['val']))
    assert said.startswith('error: ')


def test_every_recipe_names_its_annotation_files():
    """The check finds classes, masks and files in mmdet's own configs."""
    cfg = load('configs/mask_rcnn_pvt_v2_b2_coco.py')
    init_default_scope('mmdet')
    with pytest.raises(UsageError, match='instances_train2017.json cannot be'):
        list(check_annotation_files(cfg, ['train']))


# Images


def jpeg(file, pixels=None, cut=None, **options):
    """A JPEG file under any name, perhaps cut short."""
    pixels = np.full((48, 64, 3), 99, np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(file, 'JPEG', **options)
    if cut:
        file.write_bytes(file.read_bytes()[:-cut])


def exif(orientation):
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags


def sized(coco, height, width, number=1):
    """Let the annotation file tell the size of an image."""

    def edit(content):
        content['images'][number - 1].update(height=height, width=width)

    spoil(coco, edit, 'train')


def no_file(file):
    file.unlink()


def loop(file):
    file.unlink()
    file.symlink_to(file.name)


def folder(file):
    file.unlink()
    file.mkdir()


IMAGES = [
    ('missing', no_file, 'cannot be read: No such file'),
    ('empty', lambda file: file.write_bytes(b''), 'is empty'),
    ('no image', lambda file: file.write_text('x'), 'is no image'),
    (
        'web page',
        lambda file: file.write_text('<html>'),
        'is a web page or XML: was it downloaded',
    ),
    (
        'Git LFS',
        lambda file: file.write_text('version https://git-lfs.github.com/'),
        'is a pointer of Git LFS: run git lfs pull',
    ),
    ('cut', lambda file: jpeg(file, cut=99), 'is no image, or is cut short'),
    ('loop', loop, 'cannot be read: Too many levels of symbolic links'),
    ('folder', folder, 'cannot be read: Is a directory'),
    (
        'rotated',
        lambda file: jpeg(file, exif=exif(6)),
        'EXIF orientation 6 ro',
    ),
    (
        'wide',
        lambda f: jpeg(f, np.zeros((20, 20000, 3), np.uint8)),
        '20000x20',
    ),
]


@pytest.mark.parametrize(
    ('change', 'words'),
    [case[1:] for case in IMAGES],
    ids=[case[0] for case in IMAGES],
)
@pytest.mark.parametrize('mode', ALL)
def test_unusable_image(coco, change, words, mode):
    file = picture(coco, split=mode)
    change(file)
    cfg = config('coco', coco)
    spoil(coco, set_first('images', height=48, width=64), mode)
    if words == '20000x20':
        spoil(coco, set_first('images', height=20, width=20000), mode)
        spoil(coco, first(bbox=[5, 5, 9, 9]), mode)
    (said,) = look(cfg, mode)
    verdict = 'warning' if mode == 'train' else 'error'
    assert said.startswith(f'{verdict}: {file} ')
    assert words in said
    assert said.endswith('training skips it') == (mode == 'train')
    assert '\n' not in said


FINE = {
    'JPEG named .png': lambda f: jpeg(f),
    'CMYK': lambda f: Image.new('CMYK', (64, 48), (9, 99, 0, 9)).save(
        f, 'JPEG'
    ),
    '16 bit': lambda f: cv2.imwrite(
        str(f), np.full((48, 64, 3), 30000, np.uint16)
    ),
    'grey 16 bit': lambda f: cv2.imwrite(
        str(f), np.full((48, 64), 30000, np.uint16)
    ),
    'grey': lambda f: Image.new('L', (64, 48), 99).save(f),
    'palette': lambda f: Image.new('P', (64, 48), 9).save(f),
    'alpha': lambda f: Image.new('RGBA', (64, 48), 9).save(f),
}


@pytest.mark.parametrize('kind', FINE)
def test_fine_image(coco, kind):
    FINE[kind](picture(coco))
    sized(coco, 48, 64)
    assert not look(config('coco', coco))


def test_image_of_one_pixel(coco):
    Image.new('RGB', (1, 1)).save(picture(coco))
    sized(coco, 1, 1)
    spoil(coco, first(bbox=[0, 0, 1, 1]), 'train')
    assert not look(config('coco', coco))


def test_size_in_the_annotation_file(coco):
    sized(coco, 30, 31)
    (said,) = look(config('coco', coco))
    height, width = cv2.imread(str(picture(coco))).shape[:2]
    assert f'is {width}x{height}, but its annotation says 31x30' in said


def test_exif_as_it_is_read(coco):
    """mmcv rotates the image; nobody could tell of a square one."""
    cfg = config('coco', coco)
    jpeg(picture(coco), exif=exif(6))
    sized(coco, 64, 48)  # as rotated: fine, with a note
    (said,) = look(cfg)
    assert 'is rotated when it is read (EXIF orientation 6)' in said
    sized(coco, 48, 64)
    color = 'color_ignore_orientation'
    cfg.train_dataloader.dataset.pipeline[0].color_type = color
    assert not look(cfg)


def test_no_permission(coco, monkeypatch):
    plain, file = builtins.open, str(picture(coco))

    def closed(path, *args, **kwargs):
        if str(path) == file:
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', closed)
    (said,) = look(config('coco', coco))
    assert f'{file} cannot be read: Permission denied' in said


@pytest.mark.parametrize('name', ['Größe 中文 🙂.png', 'x' * 250 + '.png'])
def test_names_of_files(coco, name):
    picture(coco).rename(coco / 'train2017' / name)
    spoil(coco, set_first('images', file_name=name), 'train')
    cfg = config('coco', coco)
    assert not list(check_annotation_files(cfg, ['train']))
    assert not look(cfg)


def test_too_long_a_name(coco):
    spoil(coco, set_first('images', file_name='x' * 300), 'train')
    cfg = config('coco', coco)
    (said,) = sentences(check_annotation_files(cfg, ['train']))
    assert 'is not there' in said
    (said,) = look(cfg)
    assert 'File name too long' in said


# Label maps


def scene(root, mode):
    """The first image and label map of a mode."""
    split = {'train': 'training', 'val': 'validation'}[mode]
    name = f'{split}/ADE_{mode}_00000001'
    return root / f'images/{name}.jpg', root / f'annotations/{name}.png'


def relabel(change):
    """Change the values of a label map."""

    def edit(file):
        Image.fromarray(change(np.array(Image.open(file)))).save(file)

    return edit


MAPS = [
    ('missing', no_file, 'is not there'),
    ('empty', lambda file: file.write_bytes(b''), 'is empty'),
    ('no image', lambda file: file.write_text('x'), 'is no image'),
    ('folder', folder, 'cannot be read: Is a directory'),
    ('size', relabel(lambda a: a[:20]), 'has labels of size '),
    (
        'beyond',
        relabel(lambda a: a * 0 + 99),
        'has the label 98 after its transforms, but there',
    ),
    (
        'colours',
        relabel(lambda a: np.dstack([a] * 3)),
        'has 3 channels: save the numbers of the classes as a grey',
    ),
    ('deep', relabel(lambda a: a.astype(np.uint16)), 'more than 8 bits'),
]


@pytest.mark.parametrize(
    ('change', 'words'),
    [case[1:] for case in MAPS],
    ids=[case[0] for case in MAPS],
)
@pytest.mark.parametrize('mode', ALL)
def test_unusable_label_map(ade, change, words, mode):
    file = scene(ade, mode)[1]
    change(file)
    said = look(config('ade20k', ade), mode)[0]
    verdict = 'warning' if mode == 'train' else 'error'
    assert said.startswith(f'{verdict}: {file} ')
    assert words in said


def test_fine_label_maps(ade):
    image, labels = scene(ade, 'train')
    pixels = Image.open(labels)
    pixels.putpalette(list(range(256)) * 3)
    pixels.save(labels)  # mmseg reads the indices of a palette
    jpeg(image, np.zeros((*pixels.size[::-1], 3), np.uint8))
    assert not look(config('ade20k', ade))
    # a map of half the size is resized with its image, but cannot be scored
    for mode in ALL:
        relabel(lambda a: a[::2, ::2])(scene(ade, mode)[1])
    assert not look(config('ade20k', ade))
    (said,) = look(config('ade20k', ade), 'val')
    assert 'has labels of size' in said


def test_single_pixel_is_no_label_map(ade):
    for file in scene(ade, 'train'):
        Image.new('L', (1, 1)).save(file)
    (said,) = look(config('ade20k', ade))
    assert f'{scene(ade, "train")[0]} of 1x1 pixels fails' in said


def test_label_maps_beside_their_images(ade):
    """In one folder, x.jpg and x.png: none of them is left out."""
    cfg = config('ade20k', ade)
    for file in (ade / 'annotations/training').iterdir():
        file.rename(ade / 'images/training' / file.name)
    dataset = cfg.train_dataloader.dataset
    dataset.data_prefix.seg_map_path = dataset.data_prefix.img_path
    assert not look(cfg)


def test_transform_of_a_library_that_fails(coco):
    """Mosaic needs a wrapper around the data set."""
    cfg = config('coco', coco)
    mosaic = dict(type='Mosaic', img_scale=(64, 64))
    cfg.train_dataloader.dataset.pipeline.insert(2, mosaic)
    with pytest.raises(SampleError) as caught:
        look(cfg)
    words = 'the pipeline fails in Mosaic (AssertionError: '
    assert str(caught.value).startswith(words)


def test_images_of_training_and_validation(coco):
    splits = {
        mode: SimpleNamespace(paths=set(map(str, files)))
        for mode, files in (
            ('train', [picture(coco, 1), picture(coco, 2)]),
            ('val', [picture(coco, 2), picture(coco, 3)]),
        )
    }
    (said,) = sentences(check_shared_images(splits))
    assert said.startswith('warning: train and val share 1 image, for examp')
    assert str(picture(coco, 2)) in said
    splits['val'].paths.clear()
    assert not list(check_shared_images(splits))


@pytest.mark.parametrize('key', ['', 'data_preprocessor.', 'bbox_head.1.'])
def test_classes_of_a_part(key):
    cfg = Config(dict(model={}))
    cfg.merge_from_dict({f'model.{key}num_classes': 9})
    check_classes(cfg, ['a'] * 9)
    with pytest.raises(UsageError, match=f'has model.{key}num_classes=9: '):
        check_classes(cfg, ['a', 'b'])


# The command line and the start of a run


def status(capsys, monkeypatch, command, *argv):
    """A command's exit status and what it printed."""
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        code = cli.run(command)
    out = capsys.readouterr()
    assert 'Traceback' not in out.err
    return code, out.out, out.err.strip()


def test_tool(capsys, monkeypatch, coco, tmp_path):
    file = write(config('coco', coco), tmp_path / 'config.py')
    run = (capsys, monkeypatch, checker.main, file)
    code, out, said = status(*run, '--out', tmp_path / 'report.json')
    assert (code, said) == (0, '')
    assert out.startswith('train: 7 images\n  class       images   objects\n')
    assert '\nval: 4 images\n' in out
    assert '\nground truth as predictions: coco/bbox_mAP 1\n' in out
    assert out.endswith('\n11 images read; 0 errors, 0 warnings\n')
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['findings'] == []
    assert report['train']['images'] == 7
    assert report['ground_truth_as_predictions'] == {'coco/bbox_mAP': 1}
    picture(coco).write_bytes(b'')
    code, out, _ = status(*run, '--workers', '0')
    assert code == 0
    assert f'warning: {picture(coco)} is empty; training skips it\n' in out
    assert out.endswith('11 images read; 0 errors, 1 warning\n')
    picture(coco, 1, 'val').write_bytes(b'')
    code, out, said = status(*run, '--images', '4')
    assert code == 1
    assert f'error: {picture(coco, 1, "val")} is empty\n' in out
    assert '8 images read; 1 error, ' in out
    assert said == 'error: the data has 1 error: to be fixed before a training'
    spoil(coco, first(bbox=[5, 5, 9]), 'train')
    code, out, said = status(*run)
    assert code == 1
    assert 'no image read; 1 error, ' in out
    spoil(coco, first(bbox=[NAN, 0, 1, 1]), 'train')
    code, out, said = status(*run)
    assert (code, out) == (1, '')
    assert 'JSON has no NaN' in said


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ('0', '0 is not 1 or more'),
        ('-1', '-1 is not 1 or more'),
        ('many', "invalid count value: 'many'"),
    ],
)
def test_number_of_images(capsys, value, words):
    with pytest.raises(SystemExit):
        checker.parser().parse_args(['x.py', '--images', value])
    assert f'argument --images: {words}' in capsys.readouterr().err


def test_many_findings_of_a_kind():
    findings = [warning('holes', f'hole {n}') for n in range(5)]
    findings.append(error('nails', 'nail'))
    assert list(lines(findings, each=2)) == [
        *(
            'error: nail',
            'warning: hole 0',
            'warning: hole 1',
            'warning: 3 more: holes',
        )
    ]
    assert [allowed(n) for n in (1, 8, 100, 101)] == [1, 1, 1, 2]


def test_start_refuses(capsys, monkeypatch, coco, tmp_path):
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    file = write(cfg, tmp_path / 'config.py')
    run = (
        capsys,
        monkeypatch,
        training.train,
        file,
        '--work-dir',
        tmp_path / 'w',
    )
    picture(coco, 1, 'val').write_bytes(b'')
    code, _, said = status(*run)
    assert code == 1
    assert said.startswith(
        f'error: {picture(coco, 1, "val")} is empty (pvt_mm'
    )
    spoil(coco, first(area=None), 'train')
    code, _, said = status(*run)
    assert code == 1
    assert said.startswith(f'error: {annotations(coco, "train")}: annotations')
    assert '\n' not in said


def test_notes_on_samples_are_in_the_log_of_the_run(
    capsys, monkeypatch, coco, tmp_path
):
    picture(coco).write_bytes(b'')
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    file = write(cfg, tmp_path / 'config.py')
    argv = (file, '--work-dir', tmp_path / 'w')
    assert status(capsys, monkeypatch, training.train, *argv)[0] == 0
    (log,) = (tmp_path / 'w').rglob('*.log')
    said = f'Data: warning: {picture(coco)} is empty; training skips it\n'
    assert log.read_text().count(said) == 1


# While a run goes on


def train(cfg, work_dir, *argv, runner=FaultTolerantRunner):
    """Train, and read the log."""
    path = write(cfg, work_dir.parent / 'config.py')
    args = [path, '--work-dir', str(work_dir), *argv]
    cfg = run_config(args)
    cfg.experiment_name = f'{work_dir}{argv}'.replace('/', '_')
    runner.from_cfg(cfg).train()
    return '\n'.join(p.read_text() for p in work_dir.rglob('*.log'))


def test_the_check_reads_an_annotation_file_once(coco, tmp_path, monkeypatch):
    """Beside mmdet, which reads that of validation twice for its metric."""
    read, plain = Counter(), builtins.open

    def count(path, *args, **kwargs):
        read[str(path)] += str(path).endswith('.json')
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', count)
    monkeypatch.setattr(FaultTolerantRunner, 'train', lambda runner: None)
    file = write(config('coco', coco), tmp_path / 'config.py')
    training.train([file, '--work-dir', str(tmp_path / 'w')])
    assert +read == {
        str(annotations(coco, 'train')): 2,
        str(annotations(coco, 'val')): 3,
    }


def test_skipped_and_counted(coco, tmp_path):
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 2})
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    picture(coco, 2).write_bytes(b'')
    log = train(cfg, tmp_path / 'w')
    assert log.count(f'WARNING - Skipped: {picture(coco, 2)} is empty') == 1
    assert log.count('1 samples were skipped in this epoch') == 2
    assert 'so far 1 cannot be used' in log
    # the config in the work dir has the pipelines that the user wrote
    dumped = Config.fromfile(tmp_path / 'w/config.py')
    for mode in ALL:
        pipeline = dumped[f'{mode}_dataloader'].dataset.pipeline
        assert pipeline == cfg[f'{mode}_dataloader'].dataset.pipeline
    # what is skipped does not change what the rest of a resumed run draws
    shutil.copytree(tmp_path / 'w', tmp_path / 'again')
    (tmp_path / 'again/epoch_2.pth').unlink()
    resume = ('--resume', str(tmp_path / 'w/epoch_1.pth'))
    train(cfg, tmp_path / 'again', *resume)
    assert same(tmp_path / 'w/epoch_2.pth', tmp_path / 'again/epoch_2.pth')


def test_skipped_label_map(ade, tmp_path):
    options = {'train_cfg.max_iters': 5, 'train_cfg.val_interval': 9}
    cfg = config('ade20k', ade, **options)
    file = scene(ade, 'train')[1]
    relabel(lambda a: a * 0 + 99)(file)
    log = train(cfg, tmp_path / 'w')
    assert log.count(f'WARNING - Skipped: {file} has the label 98') == 1
    assert 'so far 1 cannot be used' in log


def test_too_many_skipped(coco, tmp_path):
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    for number in (1, 2):
        picture(coco, number).write_bytes(b'')
    with pytest.raises(SampleError, match='2 of 7 images .* more than 1%'):
        train(cfg, tmp_path / 'w')
    cfg.custom_hooks = [dict(type='SkippedSamplesHook', at_most=0.5)]
    log = train(cfg, tmp_path / 'more')
    assert 'so far 2 cannot be used' in log


@pytest.mark.parametrize('workers', [0, 1])
def test_disk_that_is_gone(coco, tmp_path, workers):
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    cfg.train_dataloader.update(num_workers=workers)
    cfg.train_dataloader.persistent_workers = False
    for number in range(1, 9):
        picture(coco, number).unlink()
    with pytest.raises(SampleError) as caught:
        train(cfg, tmp_path / 'w')
    said = str(caught.value)
    assert said.startswith('10 samples in a row could not be used, the last: ')
    assert 'No such file' in said
    assert '\n' not in said


def test_evaluation_names_the_file(capsys, monkeypatch, coco, tmp_path):
    """A label that is wrong late: named, and the checkpoint is there."""
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    cfg.val_dataloader.update(num_workers=1)
    cfg.custom_hooks = []
    picture(coco, 1, 'val').write_bytes(b'')
    file = write(cfg, tmp_path / 'config.py')
    code, _, said = status(
        *(capsys, monkeypatch, training.train, file, '--no-sanity-check'),
        *('--no-data-check', '--work-dir', tmp_path / 'w'),
    )
    assert code == 1
    assert said == (
        f'error: {picture(coco, 1, "val")} is empty: a score without it '
        'would be wrong, so fix it or take it out of the data set'
    )
    assert (tmp_path / 'w/epoch_1.pth').is_file()
    (log,) = (tmp_path / 'w').glob('*/*.log')
    assert 'in attempt' in log.read_text()  # the traceback of the worker


def no_polygon(root, split):
    polygons = [[5, 5, 'x', 5, 20, 20]]
    spoil(root, first(segmentation=polygons), split)


def another_size(root, split):
    spoil(root, set_first('images', height=30, width=31), split)


BAD = [
    # data, what is done to a split, words
    *(
        ('coco', lambda r, s, change=change: change(picture(r, 1, s)), words)
        for name, change, words in IMAGES
        if name in ('missing', 'no image', 'cut', 'folder')
    ),
    ('coco', another_size, 'but its annotation says 31x30'),
    ('coco', no_polygon, 'fails in the pipeline'),
    *(
        ('ade20k', lambda r, s, change=change: change(scene(r, s)[1]), words)
        for name, change, words in MAPS
        if name in ('no image', 'folder', 'size', 'beyond')
    ),
]


@pytest.mark.parametrize(('part', 'change', 'words'), BAD)
def test_bad_data_is_skipped_or_named(coco, ade, part, change, words):
    """In training another sample comes, an evaluation stops."""
    root = {'coco': coco, 'ade20k': ade}[part]
    cfg = config(part, root)
    cfg = masked(cfg) if change is no_polygon else cfg
    for mode in ALL:
        change(root, mode)
        with redirect_stdout(None):
            dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
        make_fault_tolerant(dataset, skip=mode == 'train')
        if mode == 'train':
            # the sample drawn in its place may be the same one
            (said,) = set(dataset[0]['data_samples'].skipped)
        else:
            with pytest.raises(SampleError, match='a score without') as caught:
                dataset[0]
            said = str(caught.value)
            cause = traceback.extract_tb(caught.value.__cause__.__traceback__)
            assert cause[0].name == 'attempt' and len(cause) > 1
        assert words in said
        assert said.startswith(str(root))


# Bugs in the code of a user


def user_bug(kind, image):
    """What three bugs raise inside numpy, Python and OpenCV."""
    if kind is ValueError:
        return image + image[:, :-1]
    if kind is TypeError:
        return image + None
    return cv2.resize(image, (0, 0))


BUGS = (ValueError, TypeError, cv2.error)


@TRANSFORMS.register_module()
class UserTransform(BaseTransform):
    """A transform of the user, with a bug."""

    def __init__(self, bug):
        self.bug = BUGS[bug]

    def transform(self, results):
        return user_bug(self.bug, results['img'])


def user_config(coco, *steps, workers=0):
    """A config with transforms of the user after those that load."""
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    cfg.train_dataloader.update(num_workers=workers)
    cfg.train_dataloader.persistent_workers = False
    cfg.train_dataloader.dataset.pipeline[2:2] = steps
    return cfg


def stops(monkeypatch, kind, command, *argv):
    """A command that a bug must stop -> its traceback."""
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
    with pytest.raises(kind) as caught:
        cli.run(command)
    assert not isinstance(caught.value, UsageError)
    return ''.join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(('bug', 'workers'), [(0, 0), (1, 1), (2, 0)])
def test_bug_of_a_transform_stops_training(
    coco, tmp_path, monkeypatch, bug, workers
):
    step = dict(type='UserTransform', bug=bug)
    file = write(
        user_config(coco, step, workers=workers), tmp_path / 'config.py'
    )
    argv = (file, '--no-data-check', '--work-dir', tmp_path / 'w')
    argv += ('--no-sanity-check',)
    said = stops(monkeypatch, BUGS[bug], training.train, *argv)
    (log,) = (tmp_path / 'w').rglob('*.log')
    for text in (said, log.read_text()):
        assert 'in user_bug\n' in text
        assert ('in DataLoader worker process' in text) == workers


@pytest.mark.parametrize('bug', range(3))
def test_bug_of_a_transform_stops_the_checks_before_a_training(
    coco, tmp_path, monkeypatch, bug
):
    step = dict(type='UserTransform', bug=bug)
    file = write(user_config(coco, step), tmp_path / 'config.py')
    argv = (file, '--work-dir', tmp_path / 'w')
    said = stops(monkeypatch, BUGS[bug], training.train, *argv)
    assert 'in user_bug\n' in said and 'in check_samples_of\n' in said


@pytest.mark.parametrize(('bug', 'workers'), [(0, 0), (1, 1), (2, 0)])
def test_bug_of_a_transform_stops_check_dataset(
    coco, tmp_path, monkeypatch, bug, workers
):
    step = dict(type='UserTransform', bug=bug)
    file = write(user_config(coco, step), tmp_path / 'config.py')
    argv = (file, '--workers', workers)
    said = stops(monkeypatch, BUGS[bug], checker.main, *argv)
    assert 'in user_bug\n' in said


@TRANSFORMS.register_module()
class UserLoader(LoadImageFromFile):
    """Reads with the library, and has a bug of its own if told so."""

    def __init__(self, bug=False):
        super().__init__()
        self.bug = bug

    def transform(self, results):
        results = super().transform(results)
        return user_bug(TypeError, results['img']) if self.bug else results


@TRANSFORMS.register_module()
class OpenCVLoader(BaseTransform):
    """Reads with OpenCV, which returns None for a file that is no image."""

    def transform(self, results):
        image = cv2.imread(results['img_path'])
        shape = image.shape[:2]
        return results | dict(img=image, img_shape=shape, ori_shape=shape)


@TRANSFORMS.register_module()
class UserBoxes(LoadAnnotations):
    """A bug in a method that the library's own transform calls."""

    def _load_bboxes(self, results):
        user_bug(TypeError, results['img'])


def test_loaders_of_the_user(coco):
    def items(place, step):
        cfg = user_config(coco)
        cfg.train_dataloader.dataset.pipeline[place] = step
        return look(cfg)

    for step in (
        dict(type='UserLoader', bug=True),
        dict(type='UserBoxes', with_bbox=True),
    ):
        with pytest.raises(TypeError):
            items(step['type'] == 'UserBoxes', step)
    picture(coco).write_text('x')
    for kind in ('UserLoader', 'OpenCVLoader'):
        (said,) = items(0, dict(type=kind))
        assert said.startswith(f'warning: {picture(coco)} is no image')


@TRANSFORMS.register_module()
class UserFile(BaseTransform):
    """Opens a file of the user, or the image, for every sample."""

    def __init__(self, path=None):
        self.path = path

    def transform(self, results):
        with open(self.path or results['img_path']):
            return results


def test_file_of_a_transform_of_the_user_is_no_bad_data(coco, tmp_path):
    path = str(tmp_path / 'weights.txt')
    cfg = user_config(coco, dict(type='UserFile', path=path))
    with pytest.raises(FileNotFoundError, match=path):
        look(cfg)
    (tmp_path / 'weights.txt').write_text('')
    assert not look(cfg)
    cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='UserFile'))
    picture(coco).unlink()
    (said,) = look(cfg)
    assert said.startswith(f'warning: {picture(coco)} cannot be read: No such')


def test_data_sets_of_no_library_are_left_as_they_are():
    plain = torch.utils.data.TensorDataset(torch.zeros(40, 2))
    make_fault_tolerant(plain, skip=True)
    assert not tolerant_parts(plain)


def test_stock_runner_stops_at_it(coco, tmp_path):
    """mmengine's own runner ends with a traceback."""
    cfg = config('coco', coco, **{'train_cfg.max_epochs': 1})
    picture(coco, 2).unlink()
    with pytest.raises(FileNotFoundError):
        train(cfg, tmp_path / 'w', runner=Runner)


def test_data_sets_inside_wrappers(coco):
    cfg = config('coco', coco)
    dataset = cfg.train_dataloader.dataset
    twice = dict(type='RepeatDataset', times=2, dataset=dataset)
    with redirect_stdout(None):
        both = DATASETS.build(
            dict(type='ConcatDataset', datasets=[twice, dataset])
        )
    make_fault_tolerant(both, skip=True)
    parts = list(inner(both))
    assert [type(part.pipeline).__name__ for part in parts] == [
        'FaultTolerantPipeline'
    ] * 2
    picture(coco, 1).unlink()
    names = [item['data_samples'].get('skipped', ()) for item in both]
    assert sum(map(len, names)) == 3


def test_looking_draws_no_random_numbers():
    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    wanted = numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    with kept_randomness():
        assert numbers() == wanted
    assert numbers() == wanted


def test_page_quotes_what_is_said():
    """Messages in docs/data_check.md are those of the code."""
    root = Path(__file__).parents[2]
    files = [*(root / 'pvt_mm/datasets/checks').glob('*.py')]
    files.append(root / 'pvt_mm/config/data_files.py')
    files.append(root / 'pvt_mm/config/checks.py')
    files.append(root / 'pvt_mm/visualization/dataset_cli.py')
    code = ' '.join(file.read_text() for file in files)
    said = re.sub(r"['\"]\s+f?['\"]", '', code)
    said = re.sub(r'\{[^{}\n]*\}', '', said)
    page = (root / 'docs/data_check.md').read_text()
    rows = [row.split(' | ') for row in page.split('\n') if row[:1] == '|']
    cells = [row[3] for row in rows if len(row) == 4]
    quotes = [q for cell in cells for q in re.findall('`([^`]+)`', cell)]
    assert len(quotes) > 30
    parts = {part for quote in quotes for part in quote.split('…')}
    system = {'Too many levels of symbolic links'}
    absent = [p for p in parts - system if p.strip() not in said]
    assert not absent

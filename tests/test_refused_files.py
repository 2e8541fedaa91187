"""Files that are refused with one sentence, and what logs show of them."""

import logging
import os

import cv2
import pytest
import torch
from hostile_images import png
from PIL import Image
from weight_files import saved

from pvt_mm.checkpoints import read_weights
from pvt_mm.compat import limit_pixels
from pvt_mm.config.data_files import read_json
from pvt_mm.datasets.checks.files import absent, problem
from pvt_mm.datasets.checks.report import error, lines
from pvt_mm.datasets.classification_datasets import ImageFolder
from pvt_mm.engine.runner import FaultTolerant
from pvt_mm.errors import CheckpointError, UsageError, system_error
from pvt_mm.reproduction.training_log import read_records

DEEP = 2_000_000


@pytest.mark.parametrize('content', [b'[' * DEEP, b'[' * DEEP + b']' * DEEP])
def test_deep_json(tmp_path, content):
    file = tmp_path / 'x.json'
    file.write_bytes(content)
    with pytest.raises(UsageError, match='nests lists or objects deeper'):
        read_json(file)
    with pytest.raises(UsageError, match='is no training log'):
        read_records(file)


def test_records_of_a_log_are_numbers(tmp_path):
    file = tmp_path / 'x.json'
    file.write_text(
        '{"iter": 3, "loss": 0.5, "mode": "train", "lr": "x", "epoch": 1.5}\n'
        '[1]\n{"iter": "3", "loss": 1' + '0' * 400 + '}\n'
    )
    assert read_records(file) == [dict(iter=3, loss=0.5, mode='train'), {}]


@pytest.mark.parametrize(
    ('size', 'rows'), [((15000, 15000), 15000), ((30000, 30000), 1)]
)
def test_images_of_too_many_pixels(tmp_path, monkeypatch, size, rows):
    def decoded(*_):
        raise AssertionError('the image was decoded')

    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(cv2, 'imdecode', decoded)
    limit_pixels()
    file = tmp_path / 'x.png'
    file.write_bytes(png(*size, rows))
    assert problem(str(file)) == (
        'has too many pixels: OPENCV_IO_MAX_IMAGE_PIXELS in the environment '
        'allows more'
    )
    file.write_bytes(png(1000, 1000))
    with pytest.raises(AssertionError, match='was decoded'):
        problem(str(file))
    monkeypatch.undo()
    limit_pixels()
    assert problem(str(file)) is None


def test_a_name_with_a_nul():
    assert problem('a\0b.png') == 'cannot be read: embedded null byte'
    gone, said = absent(['a\0/b.png'], '/tmp')
    assert gone == ['a\0/b.png'] and len(said) == 1


def test_torchscript_and_exported_programs_are_named(tmp_path):
    layer = torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(layer), tmp_path / 'x.pth')
    program = torch.export.export(layer, (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / 'y.pt2')
    for name in ('x.pth', 'y.pt2'):
        with pytest.raises(CheckpointError, match='is an exported program'):
            read_weights(tmp_path / name)


def test_a_tensor_whose_name_would_move_the_cursor(tmp_path):
    file = tmp_path / 'x.pth'
    file.write_bytes(saved({'a\x1b[2J\nerror: fine': torch.ones(2)}))
    with pytest.raises(CheckpointError) as caught:
        read_weights(file)
    assert str(caught.value) == (
        rf"{file} is refused: a tensor is named 'a\x1b[2J\nerror: fine'"
    )


def test_names_of_classes_and_findings_are_printable(tmp_path):
    folder = tmp_path / 'a\x1b[2J\nerror: fine'
    folder.mkdir()
    (folder / 'x.png').touch()
    dataset = ImageFolder(data_prefix=dict(img_path=str(tmp_path)))
    assert dataset.metainfo['classes'] == (r'a\x1b[2J\nerror: fine',)
    (line,) = lines([error('x', f'{folder}')], each=1)
    assert line == rf'error: {tmp_path}/a\x1b[2J\nerror: fine'


class Loud:
    """A runner whose log is on a disk without space."""

    def build_logger(self):
        logger = logging.Logger('x')
        logger.addHandler(logging.FileHandler('/dev/full'))
        return logger


class Run(FaultTolerant, Loud):
    pass


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_log_that_cannot_be_written_ends_the_run():
    with pytest.raises(OSError) as caught:
        Run().build_logger().info('x')
    said = system_error(caught.value)
    handler = logging.FileHandler('/dev/full')
    with pytest.raises(OSError) as caught:  # as mmengine's init_weights does
        handler.stream.write('x' * 100_000)
    assert said == system_error(caught.value)
    assert said.startswith('/dev/full cannot be used: no space left on device')

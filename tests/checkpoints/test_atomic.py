"""Files are written whole or not at all; errors of disks are sentences."""

import errno
import logging
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import MMLogger

from pvt_mm import cli
from pvt_mm.checkpoints.atomic import (
    check_writable,
    replacing,
    write_all_whole,
    write_image,
    write_whole,
)
from pvt_mm.errors import Record, UsageError, printable, system_error

WRITERS = {
    'ours': lambda path: write_whole(path, b'new'),
    'pickle': lambda path: dump([1], path, file_format='pkl'),
    'json': lambda path: dump([1], path, file_format='json'),
    'config': lambda path: Config(dict(a=1)).dump(f'{path}'),
    'picture': lambda path: cv2.imwrite(path, np.zeros((9, 9), np.uint8)),
}
SUFFIX = {'config': '.py', 'picture': '.png'}


@pytest.fixture(autouse=True)
def whole():
    write_all_whole()


@pytest.mark.parametrize('kind', WRITERS)
def test_a_link_is_replaced_and_its_target_stays(kind, tmp_path):
    victim, path = tmp_path / 'victim', tmp_path / f'x{SUFFIX.get(kind, "")}'
    victim.write_text('of somebody else')
    path.symlink_to(victim)
    WRITERS[kind](str(path))
    assert victim.read_text() == 'of somebody else'
    assert path.is_file() and not path.is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {'victim', path.name}


@pytest.mark.parametrize('kind', WRITERS)
def test_what_cannot_be_written_leaves_the_older_file(
    kind, tmp_path, monkeypatch
):
    path = tmp_path / f'x{SUFFIX.get(kind, "")}'
    path.write_text('older')

    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError) as caught:
        WRITERS[kind](str(path))
    said = system_error(caught.value)
    assert said.startswith(f'{path} cannot be used: no space left on device (')
    assert said.endswith(' KiB free): free some space, or choose another disk')
    assert path.read_text() == 'older'
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), replacing(tmp_path / 'x') as part:
        (part / 'y').mkdir(parents=True)
        raise KeyError
    assert not os.listdir(tmp_path)
    with replacing(tmp_path / 'x') as part:
        (part / 'y').mkdir(parents=True)
    assert os.listdir(tmp_path) == ['x'] and (tmp_path / 'x/y').is_dir()


def test_without_force_the_first_of_two_stays(tmp_path, monkeypatch):
    write_whole(tmp_path / 'x', b'first', force=False)
    for _ in range(2):  # the second time on a disk without links
        with pytest.raises(UsageError, match='x is there already: use --fo'):
            write_whole(tmp_path / 'x', b'second', force=False)
        monkeypatch.setattr(os, 'link', lambda *_: tmp_path.read_bytes())
    assert (tmp_path / 'x').read_bytes() == b'first'
    write_whole(tmp_path / 'y', b'first', force=False)
    assert sorted(os.listdir(tmp_path)) == ['x', 'y']


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / 'x')
    for write in (write_whole, lambda p, _: check_writable(p)):
        with pytest.raises(UsageError, match='is a device'):
            write(tmp_path / 'x', b'')
    assert stat.S_ISFIFO((tmp_path / 'x').stat().st_mode)


def test_no_format_of_pictures(tmp_path):
    for suffix in ('', '.xyz'):
        with pytest.raises(UsageError, match='cannot write'):
            write_image(tmp_path / f'a{suffix}', np.zeros((9, 9), np.uint8))


@pytest.mark.parametrize(
    ('path', 'folder', 'said'),
    [
        ('file/x.png', False, 'file is a file where a folder is needed: '),
        ('file/x/y', True, 'file is a file where a folder is needed: '),
        ('file', True, 'file is a file where a folder is needed: '),
        ('folder', False, 'folder cannot be used: is a directory: '),
        ('n' * 300, False, 'n cannot be used: file name too long: choose a'),
        ('n' * 300, True, 'n cannot be used: file name too long: choose a'),
    ],
)
def test_outputs_are_tested_before_the_work(path, folder, said, tmp_path):
    (tmp_path / 'file').write_text('older')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError) as caught:
        check_writable(tmp_path / path, folder=folder)
    assert said in system_error(caught.value)
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']
    check_writable(tmp_path / 'new/folders/x')
    check_writable(tmp_path / 'folder', folder=True)
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


def raised(function):
    with pytest.raises(OSError) as caught:
        function()
    return system_error(caught.value)


def test_which_errors_are_of_the_user(tmp_path):
    def full():
        with open(tmp_path / 'x', 'w') as file:
            print(file.name)
            raise OSError(errno.ENOSPC, 'No space left on device')

    assert raised(full).startswith(f'{tmp_path}/x cannot be used: no space')
    assert raised(lambda: os.kill(2**30, 0)) is None
    assert raised(Path(os.__file__).parent.read_bytes) is None
    refused = ConnectionRefusedError(errno.ECONNREFUSED, 'Refused')
    assert system_error(refused) is None
    assert system_error(ValueError()) is None
    many = OSError(errno.EMFILE, 'Too many open files')
    assert system_error(many).startswith('too many open files: raise the')


def test_an_error_of_the_system_is_a_sentence_of_any_command(tmp_path, capsys):
    (tmp_path / 'x').mkdir()

    def bug():
        raise OSError('of nothing')

    assert cli.run((tmp_path / 'x').read_bytes) == 1
    assert capsys.readouterr().err == (
        f'error: {tmp_path}/x cannot be used: is a directory: choose another '
        'name, or move it away\n'
    )
    with pytest.raises(OSError, match='of nothing'):
        cli.run(bug)


def test_logs_of_all_libraries_are_printable(tmp_path, capsys):
    logging.setLogRecordFactory(Record)
    file = tmp_path / 'x.log'
    logger = MMLogger('x', logger_name='x', log_file=str(file))
    logger.info('a \x1b]0;title\x07 %s', '\x9b2J')
    logger.info('two\nlines')
    text = file.read_text()
    assert r'a \x1b]0;title\x07 \x9b2J' in text and 'two\nlines' in text
    assert '\x1b]' not in capsys.readouterr().err
    assert printable('a\nb\x7f\u202e') == r'a\nb\x7f\u202e'

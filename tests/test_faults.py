"""Trainings that are killed, stopped and starved: what is left of them."""

import signal
import time

import pytest
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    load,
    outcome,
    same,
    small,
    start,
    write,
)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A folder with a few drawn images in both layouts."""
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(scope='module')
def detector(drawn, tmp_path_factory):
    """A config of two epochs, four iterations each, and its last file."""
    folder = tmp_path_factory.mktemp('detector')
    options = {
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP',
        'model.test_cfg.score_thr': 0.0,
        'val_dataloader.batch_size': 1,
    }
    cfg = small(load(RETINANET, **options), drawn, 'coco')
    config = write(cfg, folder / 'config.py')
    work = folder / 'whole'
    assert train(config, work, folder / 'log') == 0
    return config, work / 'epoch_2.pth'


@pytest.fixture(scope='module')
def segmentor(drawn, tmp_path_factory):
    """A config of four iterations, and its last file."""
    folder = tmp_path_factory.mktemp('segmentor')
    options = {
        'train_cfg.max_iters': 4,
        'optim_wrapper.accumulative_counts': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2,
    }
    cfg = small(load(SEGMENTOR, **options), drawn, 'ade20k')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    config = write(cfg, folder / 'config.py')
    work = folder / 'whole'
    assert train(config, work, folder / 'log') == 0
    return config, work / 'iter_4.pth'


def train(config, work, log, *faults):
    """Start a training -> its exit status."""
    argv = [config, '--work-dir', work, '--resume', '--batch', 'as-is']
    return outcome(start(argv, log, faults))


def names(work):
    return sorted(path.name for path in work.glob('*.pth*'))


@pytest.mark.parametrize(
    ('place', 'count', 'fault'),
    [
        ('after_train_iter', 6, 'SIGKILL'),  # in the second epoch
        ('before_save_checkpoint', 2, 'killed writing'),
        ('before_save_checkpoint', 2, 'killed renaming'),
        ('after_val_iter', 10, 'SIGKILL'),  # in the last evaluation
    ],
)
def test_killed(tmp_path, detector, place, count, fault):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    first = train(config, work, log, (place, count, fault))
    assert first in (-signal.SIGKILL, -signal.SIGXFSZ)
    assert train(config, work, log) == 0
    assert same(work / 'epoch_2.pth', whole)
    # with max_keep_ckpts=1, and the best one, whatever is left half-written
    assert names(work) == names(whole.parent)
    assert (work / 'last_evaluation').read_text() == '2'


@pytest.mark.parametrize(
    ('signum', 'count'), [(signal.SIGTERM, 2), (signal.SIGINT, 6)]
)
def test_stopped_in_an_epoch(tmp_path, detector, signum, count):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_train_iter', count, signum.name)
    assert train(config, work, log, fault) == 128 + signum
    said = log.read_text().strip().splitlines()[-1]
    assert said == (
        f'stopped by {signum.name}; {work}/iter_{count}.pth is saved; the '
        'same command with --resume goes on'
    )
    assert f'iter_{count}.pth' in names(work)
    assert train(config, work, log) == 0
    assert same(work / 'epoch_2.pth', whole)
    assert names(work) == names(whole.parent)  # the file of the stop is gone


def test_stopped_in_an_evaluation(tmp_path, detector):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_val_iter', 6, 'SIGTERM')
    assert train(config, work, log, fault) == 143
    assert names(work)[-1] == 'epoch_1.pth'
    assert (work / 'last_evaluation').read_text() == '0'
    fault = ('after_val_epoch', 1, 'SIGKILL')  # the first epoch's, again
    assert train(config, work, log, fault) == -signal.SIGKILL
    assert train(config, work, log) == 0
    assert same(work / 'epoch_2.pth', whole)


def test_stopped_between_iterations(tmp_path, segmentor):
    config, whole = segmentor
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_train_iter', 3, 'SIGTERM')
    assert train(config, work, log, fault) == 143
    assert train(config, work, log) == 0
    assert same(work / 'iter_4.pth', whole)


def test_full_disk(tmp_path, detector):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_save_checkpoint', 2, 'full disk')
    assert train(config, work, log, fault) == 1
    said = log.read_text().strip().splitlines()[-1]
    assert said.startswith(f'error: {work}/')
    assert 'could not be written (File too large); the last whole' in said
    assert 'Traceback' not in log.read_text()
    assert not list(work.glob('*.part'))
    assert train(config, work, log) == 0
    assert same(work / 'epoch_2.pth', whole)


def test_killed_worker(tmp_path, detector):
    config, _ = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('after_train_iter', 1, 'worker')
    began = time.monotonic()
    assert train(config, work, log, fault) == 1
    said = log.read_text().strip().splitlines()[-1]
    assert said.startswith('error: a process that loads data ended')
    assert 'num_workers' in said
    assert time.monotonic() - began < 60

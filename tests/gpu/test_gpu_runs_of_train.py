"""Trainings of seconds by the command, one process or two."""

import re
import signal

import pytest
import torch
from small_runs import (
    RETINANET,
    draw,
    free_port,
    load,
    outcome,
    pair,
    same,
    small,
    start,
    write,
)

from pvt_mm.datasets.synthetic import draw_coco

pytestmark = pytest.mark.gpu

MPVIT = dict(
    type='MPViT',
    arch=dict(
        dims=(16, 16, 16, 16),
        depths=(1, 1, 1, 1),
        mlp_ratios=(1, 1, 1, 1),
        paths=(1, 2, 2, 2),
    ),
    norm_cfg=dict(type='SyncBN'),
)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('drawn'))


def config(folder, drawn, *, mpvit=False, **options):
    """A config of two epochs, four iterations of two images each."""
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.train_cfg.update(max_epochs=2)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    if mpvit:
        cfg.model.backbone = MPVIT
        cfg.model.neck.in_channels = [16] * 4
    for key, value in options.items():
        cfg.optim_wrapper[key] = value
    return write(cfg, folder / 'config.py')


def train(file, work, log, *argv, faults=(), **environment):
    """The exit status of a training."""
    argv = [file, '--work-dir', work, '--batch', 'as-is', *argv]
    return outcome(start(argv, log, faults, **environment), 900)


def losses(log):
    found = re.findall(r'Epoch\(train\).* loss: (\S+)', log.read_text())
    return [float(loss) for loss in found]


@pytest.mark.parametrize('amp', [(), ('--amp', 'bf16')])
@pytest.mark.parametrize('mpvit', [False, True])
def test_one_process_with_ddp(tmp_path, drawn, mpvit, amp, device):
    file, log = config(tmp_path, drawn, mpvit=mpvit), tmp_path / 'log'
    where = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1')
    where |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    argv = ['--launcher', 'pytorch', *amp]
    assert train(file, tmp_path / 'run', log, *argv, **where) == 0
    assert len(losses(log)) == 8
    assert torch.tensor(losses(log)).isfinite().all()
    if device == 'cuda':
        assert 'Grad strides do not match' not in log.read_text()
        assert 'every SyncBN is a BN' not in log.read_text()


def test_two_processes_stop_together_and_go_on(tmp_path, drawn, device):
    if device == 'cuda' and torch.cuda.device_count() < 2:
        pytest.skip('two processes over NCCL need two GPUs')
    file, work = config(tmp_path, drawn, mpvit=True), tmp_path / 'run'
    middle = ('before_train_iter', 2, 'SIGTERM')
    both = pair(file, work, tmp_path / 'cut', middle)
    status = [outcome(process, 300) for process in both]
    assert status == [128 + signal.SIGTERM] * 2
    both = pair(file, work, tmp_path / 'rest')
    assert [outcome(process, 300) for process in both] == [0, 0]
    assert (work / 'epoch_2.pth').exists()


def test_two_deterministic_runs_are_equal(tmp_path, drawn):
    file = config(tmp_path, drawn)
    works = [tmp_path / name for name in 'ab']
    for work in works:
        log = tmp_path / f'{work.name}.log'
        assert train(file, work, log, '--deterministic') == 0
    assert same(*(work / 'epoch_2.pth' for work in works))


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_a_resumed_run_is_an_undisturbed_one(tmp_path, drawn, clip):
    file = config(tmp_path, drawn, clip_grad=clip)
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    argv = ['--deterministic', '--resume']
    assert train(file, whole, tmp_path / 'a', *argv) == 0
    faults = [('before_train_iter', 6, 'SIGTERM')]
    assert train(file, cut, tmp_path / 'b', *argv, faults=faults) == 143
    assert train(file, cut, tmp_path / 'c', *argv) == 0
    assert same(whole / 'epoch_2.pth', cut / 'epoch_2.pth')


def test_compiled_backbone(tmp_path, drawn):
    file, log = config(tmp_path, drawn), tmp_path / 'log'
    assert train(file, tmp_path / 'run', log, '--compile') == 0
    assert torch.tensor(losses(log)).isfinite().all()


def test_200_iterations_of_the_demo(tmp_path, device):
    """From random weights, 64 of 1600 drawn images at a time.

    The CPU takes 8, one eighth of the time, and learns accordingly.
    """
    batch, epochs, least = (64, 8, 0.3) if device == 'cuda' else (8, 1, 0.01)
    draw_coco(tmp_path / 'coco', 1600, 60, size=160)
    options = {
        'data_root': f'{tmp_path}/coco/',
        'train_dataloader.batch_size': batch,
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs,
        'optim_wrapper.optimizer.lr': 3e-3,
        'param_scheduler.0.end': 20,
        'param_scheduler.1.T_max': epochs,
    }
    file = write(load(RETINANET, **options), tmp_path / 'config.py')
    log = tmp_path / 'log'
    assert train(file, tmp_path / 'run', log) == 0
    scores = re.findall(r'bbox_mAP: (\S+)', log.read_text())
    assert float(scores[-1]) > least

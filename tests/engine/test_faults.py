"""Trainings that are killed, stopped and starved: what is left of them."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    free_port,
    load,
    outcome,
    pair,
    same,
    small,
    start,
    weights,
    write,
)

TOOLS = Path(__file__).parents[2] / 'tools'


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
    work, log = folder / 'whole', folder / 'log'
    assert train(config, work, log) == 0
    assert iterations(log) == 8
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


def last_words(log):
    """The sentence that a run ends with."""
    lines = Path(log).read_text().splitlines()
    return [x for x in lines if x.startswith(('error: ', 'stopped by'))][-1]


def iterations(log):
    """How many iterations of training a log has."""
    return len(re.findall(r'Epoch\(train\) ', Path(log).read_text()))


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
    ('signum', 'count'),
    [
        (signal.SIGTERM, 2),
        (signal.SIGINT, 6),
        (signal.SIGUSR1, 2),
        (signal.SIGUSR2, 6),
    ],
)
def test_stopped_in_an_epoch(tmp_path, detector, signum, count):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_train_iter', count, signum.name)
    assert train(config, work, log, fault) == 128 + signum
    said = last_words(log)
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
    config, whole = segmentor  # gradients of two iterations are added up
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_train_iter', 3, 'SIGINT')
    argv = [config, '--work-dir', work, '--batch', 'as-is', '--cfg-options']
    run = start([*argv, 'train_dataloader.num_workers=1'], log, [fault])
    assert outcome(run) == 130
    assert train(config, work, log) == 0
    assert same(work / 'iter_4.pth', whole)


def test_full_disk(tmp_path, detector):
    config, whole = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_save_checkpoint', 3, 'full disk')
    assert train(config, work, log, fault) == 1
    said = last_words(log)
    assert said.startswith(f'error: {work}/')
    assert ' cannot be used: file too large: ' in said
    assert f'the last whole checkpoint is {work}/epoch_1.pth' in said
    assert 'Traceback' not in log.read_text()
    assert not list(work.glob('.part-*'))
    copied = tmp_path / 'copied'
    shutil.copytree(work, copied)
    assert train(config, copied, log, (fault[0], 1, fault[2])) == 1
    assert f'the last whole checkpoint is {copied}/epoch_1.pth' in (
        last_words(log)
    )
    assert train(config, work, log) == 0
    assert same(work / 'epoch_2.pth', whole)


def test_killed_worker(tmp_path, detector):
    config, _ = detector
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('after_train_iter', 1, 'worker')
    assert train(config, work, log, fault) == 1
    said = last_words(log)
    assert said.startswith('error: a process that loads data ended')
    assert 'num_workers' in said
    assert iterations(log) <= 3  # two batches had been read ahead


def test_two_processes_stop_together(tmp_path, detector):
    """A launcher ends all after the first that ends: it must have saved."""
    work, log = tmp_path / 'run', tmp_path / 'log'
    faults = [('before_train_iter', 1, x) for x in ('slow disk', 'SIGUSR1')]
    first, second = pair(
        *(detector[0], work, log, faults[1]), first=faults[:1]
    )
    assert outcome(second) == 138
    assert (work / 'iter_1.pth').is_file()
    assert outcome(first) == 138
    assert f'{work}/iter_1.pth is saved' in Path(f'{log}0').read_text()
    assert 'is saved' not in Path(f'{log}1').read_text()


def test_death_of_one_process_ends_the_other(tmp_path, detector):
    work, log = tmp_path / 'run', tmp_path / 'log'
    fault = ('before_train_iter', 2, 'SIGKILL')
    first, second = pair(detector[0], work, log, fault)
    assert outcome(second) == -signal.SIGKILL
    assert outcome(first) == 1
    said = last_words(f'{log}0')
    assert said.startswith('error: another process of this run ended')
    # the end of the connection told it, not a time-out of half an hour
    (file,) = work.glob('*/*.log')
    broken = r'Connection (closed|reset) by peer|Broken pipe'
    assert re.search(broken, file.read_text())
    assert iterations(f'{log}0') <= 1


def test_port_in_use(tmp_path, detector):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        work, log = tmp_path / 'run', tmp_path / 'log'
        first, second = pair(detector[0], work, log, MASTER_PORT=port)
        second.kill()
        assert outcome(first) == 1
    said = last_words(tmp_path / 'log0')
    assert said.startswith(f'error: port {port} is in use')


@pytest.mark.slow
def test_two_processes_go_on_as_they_were(tmp_path, detector):
    log = tmp_path / 'log'
    both = pair(detector[0], tmp_path / 'whole', log)
    assert [outcome(process) for process in both] == [0, 0]
    fault = ('before_train_iter', 3, 'SIGTERM')  # of 2 epochs of 2
    for faults, status in (((fault,), 143), ((), 0)):
        both = pair(detector[0], tmp_path / 'run', log, *faults)
        assert [outcome(process) for process in both] == [status] * 2
    last = 'epoch_2.pth'
    assert same(tmp_path / 'run' / last, tmp_path / 'whole' / last)


@pytest.mark.slow
def test_two_processes_keep_what_they_accumulated(tmp_path, drawn):
    """Up to the order of a sum, which one half-step of each would not be."""
    options = {
        'train_cfg.max_epochs': 2,
        'optim_wrapper.accumulative_counts': 3,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
    }
    cfg = small(load(RETINANET, **options), drawn, 'coco')
    config, log = write(cfg, tmp_path / 'config.py'), tmp_path / 'log'
    both = pair(config, tmp_path / 'whole', log)
    assert [outcome(process) for process in both] == [0, 0]
    fault = ('before_train_iter', 2, 'SIGTERM')  # of 2 epochs of 2
    for faults, status in (((fault,), 143), ((), 0)):
        both = pair(config, tmp_path / 'run', log, *faults)
        assert [outcome(process) for process in both] == [status] * 2
    last = 'epoch_2.pth'
    a, b = (weights(tmp_path / run / last)[0] for run in ('run', 'whole'))
    start = weights(tmp_path / 'whole/epoch_1.pth')[0]
    moved = max((b[k] - start[k]).abs().max() for k in b)
    apart = max((a[k] - b[k]).abs().max() for k in b)
    print(f'{apart:.1e} of {moved:.1e}')
    assert apart < 0.01 * moved


@pytest.mark.parametrize('script', ['dist_train.sh x', 'dist_test.sh x y'])
def test_launcher_and_its_port(tmp_path, script):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    name, *arguments = script.split()

    def launch(**environment):
        return subprocess.run(
            ['bash', TOOLS / name, *arguments, '2', '--resume'],
            env={**os.environ, 'PYTHON': str(python), **environment},
            capture_output=True,
            text=True,
        )

    assert '--standalone --nproc-per-node=2' in launch().stdout
    port = free_port()
    said = launch(PORT=port, NNODES='2').stdout
    assert '--nnodes=2 --node-rank=0 --master-addr=127.0.0.1' in said
    assert f'--master-port={port}' in said
    assert said.endswith('--launcher pytorch --resume\n')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = launch(PORT=port)
    assert run.returncode == 1
    assert run.stderr.startswith(f'error: port {port} is in use')
    assert 'PORT=' in run.stderr


def losses(work):
    """Every loss that was written down."""
    (file,) = work.glob('*/vis_data/scalars.json')
    rows = map(json.loads, file.read_text().splitlines())
    return [row['loss'] for row in rows if 'loss' in row]


def test_deterministic(tmp_path, drawn):
    cfg = small(load(RETINANET, **{'train_cfg.max_epochs': 1}), drawn, 'coco')
    cfg.pop('randomness')
    config = write(cfg, tmp_path / 'config.py')
    found = []
    for name in ('one', 'two', 'other'):
        log, work = tmp_path / f'{name}.log', tmp_path / name
        argv = [config, '--work-dir', work, '--batch', 'as-is']
        argv += ['--deterministic'] * (name != 'other')
        assert outcome(start(argv, log)) == 0
        found.append(losses(work))
    one, two, other = found
    assert len(one) == 4
    assert one == two
    assert one != other
    assert '--deterministic: seed 0' in (tmp_path / 'one.log').read_text()


def test_two_trainings_at_once(tmp_path, detector, drawn):
    """Of one config, beside each other, from one folder of weights."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    os.link(detector[1], folder / 'start.pth')
    cfg = small(load(RETINANET, **{'train_cfg.max_epochs': 1}), drawn, 'coco')
    cfg.load_from = 'https://localhost:9/start.pth'  # found in the folder
    config = write(cfg, tmp_path / 'config.py')
    runs = [
        start(
            [config, '--work-dir', tmp_path / 'runs' / name],
            tmp_path / name,
            PVT_MM_WEIGHTS=str(folder),
        )
        for name in 'ab'
    ]
    assert [outcome(run) for run in runs] == [0, 0]
    assert same(*(tmp_path / 'runs' / n / 'epoch_1.pth' for n in 'ab'))


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, detector):
    config, whole = detector
    moments = random.Random(0)
    began = time.monotonic()
    assert train(config, tmp_path / 'timed', tmp_path / 'log') == 0
    seconds = time.monotonic() - began
    kills = runs = 0
    while kills < 20:
        work = tmp_path / f'run{runs}'
        argv = [config, '--work-dir', work, '--resume', '--batch', 'as-is']
        status = None
        while status != 0:
            run = start(argv, tmp_path / 'log')
            run.join(moments.uniform(0, 1.2 * seconds))
            run.kill()
            status = outcome(run)
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
        runs += 1
        assert same(work / 'epoch_2.pth', whole)
        assert names(work) == names(whole.parent)
    print(f'{kills} kills in {runs} runs')

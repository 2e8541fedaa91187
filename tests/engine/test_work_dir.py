"""Runs of one work dir: one at a time, and none overwrites another."""

import multiprocessing
import os
import signal
import time

import pytest
from small_runs import RETINANET, draw, load, outcome, small, start, write

from pvt_mm.checkpoints.atomic import AtomicBackend
from pvt_mm.engine.work_dir import (
    STAMP,
    lock_work_dir,
    move_earlier_checkpoints,
)
from pvt_mm.errors import UsageError, system_error


def hold(folder, ready):
    lock_work_dir(folder)
    ready.set()
    time.sleep(60)


def test_lock_ends_with_its_process(tmp_path):
    folder = str(tmp_path / 'w')
    context = multiprocessing.get_context('spawn')
    ready = context.Event()
    process = context.Process(target=hold, args=(folder, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UsageError, match=f'^process {process.pid} on .* trai'):
        lock_work_dir(folder)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    lock_work_dir(folder)
    lock_work_dir(folder)  # this process has it
    assert str(os.getpid()) in (tmp_path / 'w/.lock').read_text()


def test_work_dir_that_is_a_file(tmp_path):
    (tmp_path / 'w').touch()
    with pytest.raises(FileExistsError):
        lock_work_dir(str(tmp_path / 'w'))


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('of somebody else')
    (tmp_path / '.lock').symlink_to(victim)
    with pytest.raises(OSError) as caught:
        lock_work_dir(str(tmp_path))
    assert '.lock cannot be used: too many levels' in system_error(
        caught.value
    )
    assert victim.read_text() == 'of somebody else'


def test_second_run_keeps_the_checkpoints_of_the_first(tmp_path):
    cfg = small(load(RETINANET), draw(tmp_path), 'coco')
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.checkpoint.update(save_best='auto', rule='greater')
    path, work = write(cfg, tmp_path / 'config.py'), tmp_path / 'w'
    argv = [path, '--work-dir', work, '--batch', 'as-is']
    assert outcome(start(argv, tmp_path / 'log')) == 0
    first = (work / 'epoch_1.pth').read_bytes()
    time.sleep(1.1)  # a folder for each run has its second as name
    rate = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.01']
    assert outcome(start([*argv, *rate], tmp_path / 'log')) == 0
    (kept,) = work.glob('*/epoch_1.pth')
    assert kept.read_bytes() == first != (work / 'epoch_1.pth').read_bytes()
    assert (
        (kept.parent / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    )
    said = (tmp_path / 'log').read_text()
    assert f'checkpoints of an earlier run: moved to {kept.parent}' in said


def saved(folder, name, age):
    """A checkpoint that was written some seconds ago."""
    path = folder / name
    path.write_text(name)
    then = time.time() - age
    os.utime(path, (then, then))
    return time.strftime(STAMP, time.localtime(then - 5))


def test_only_checkpoints_move_to_the_run_that_wrote_them(tmp_path):
    run = saved(tmp_path, 'model_3.pth', 1000)
    for name in ('best_coco_bbox_mAP_epoch_1.pth', 'iter_7.pth'):
        saved(tmp_path, name, 1001)
    saved(tmp_path, 'pretrained.pth', 1000)
    later = time.strftime(STAMP)  # a run that failed before it saved
    for folder in (run, later):
        (tmp_path / folder).mkdir()
    move_earlier_checkpoints(tmp_path, tmp_path, 'model_{}.pth')
    assert {p.name for p in (tmp_path / run).iterdir()} == {
        *('model_3.pth', 'best_coco_bbox_mAP_epoch_1.pth', 'iter_7.pth'),
    }
    assert [p.name for p in tmp_path.glob('*.pth')] == ['pretrained.pth']
    move_earlier_checkpoints(tmp_path, tmp_path, 'model_{}.pth')
    assert not list((tmp_path / later).iterdir())


def put(path):
    for i in range(20):
        AtomicBackend().put(bytes([i]) * 10000, path)


def test_concurrent_writes_of_one_file(tmp_path):
    """30 at a time; none disturbs another, and nothing is left behind."""
    path = tmp_path / 'x'
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=put, args=(path,)) for _ in range(30)]
    for process in processes:
        process.start()
    assert [outcome(process) for process in processes] == [0] * 30
    assert len(path.read_bytes()) == 10000
    assert [p.name for p in tmp_path.iterdir()] == ['x']

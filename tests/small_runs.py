"""Trainings of seconds, in this process or in one that may be killed."""

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import FlexibleRunner, Runner
from torch import distributed

from pvt_mm import cli
from pvt_mm.compat import checkpoint_reading
from pvt_mm.config.cfg_options import merge_options
from pvt_mm.config.loading import load_config
from pvt_mm.datasets.synthetic import draw_ade20k, draw_coco
from pvt_mm.engine import train as training
from pvt_mm.reproduction.results import Row

RETINANET = 'configs/retinanet_pvt_v2_b0_shapes.py'
SEGMENTOR = 'configs/semantic_fpn_pvt_v2_b0_shapes.py'
WIDTHS = [8, 16, 20, 32]
TINY = dict(dims=WIDTHS, depths=[1, 1, 1, 1], mlp_ratios=[1, 1, 1, 1])
# Imported once; a new process is then there at once.
READY = ('small_runs', 'mmdet.models', 'mmdet.datasets', 'mmseg.models')

read = cache(load_config)


def load(name, **options):
    cfg = deepcopy(read(name))
    merge_options(cfg, options)
    return cfg


def draw(root):
    """A few images in both layouts."""
    draw_coco(root / 'coco', 8, 4, size=64)
    draw_ade20k(root / 'ade20k', 8, 4, size=64)
    return root


def small(cfg, drawn, part):
    """Options for a run of seconds."""
    cfg.model.backbone.arch = TINY
    merge_options(
        cfg,
        {
            'data_root': f'{drawn}/{part}/',
            'randomness.seed': 7,
            'model.backbone.drop_path_rate': 0.2,
            'model.neck.in_channels': WIDTHS,
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.pipeline.2.scale': (64, 64),
            'val_dataloader.dataset.pipeline.1.scale': (64, 64),
            'train_dataloader.num_workers': 1,
            'train_dataloader.persistent_workers': True,
            'default_hooks.logger.interval': 1,
            **({'train_cfg.val_interval': 1} if part == 'coco' else {}),
        },
    )
    return cfg


def write(cfg, path):
    """A config file of a config."""
    Config(cfg._cfg_dict.to_dict()).dump(path)
    return str(path)


class Made(Exception):
    """A config is complete."""


def write_detector(folder):
    """A detector that finds something everywhere: det.py, det.pth."""
    cfg = load(RETINANET)
    cfg.model.backbone.arch = TINY
    cfg.model.neck.in_channels = WIDTHS
    write(cfg, folder / 'det.py')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.nn.init.constant_(model.bbox_head.retina_cls.bias, 1.0)
    torch.save(model.state_dict(), folder / 'det.pth')
    return folder


def draw_with_models(root):
    """Drawn data, and what commands read beside it -> the folder.

    Configs and weights of a detector and a segmentor, for runs in the folder
    (det.py, det.pth, seg.py, seg.pth), predicted label maps and a table of
    results.
    """
    draw(root)
    for name, config, part in (
        ('det', RETINANET, 'coco'),
        ('seg', SEGMENTOR, 'ade20k'),
    ):
        cfg = small(load(config), '.', part)
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        for mode in ('train', 'val', 'test'):
            cfg[f'{mode}_dataloader'].update(
                num_workers=0, persistent_workers=False
            )
        write(cfg, root / f'{name}.py')
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        torch.save(model.state_dict(), root / f'{name}.pth')
    (root / 'maps').mkdir()
    for file in (root / 'ade20k/annotations/validation').iterdir():
        labels = np.maximum(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), 1)
        cv2.imwrite(str(root / 'maps' / file.name), labels)
    rows = [','.join(Row._fields)]
    rows += ['retinanet_pvt_v2_b0_shapes,official,box_AP=1.0,,,,,,test,,']
    (root / 'published.csv').write_text('\n'.join(rows))
    return root


def run_config(argv):
    """The config that ``train`` makes, as it is before data is looked at."""

    def stop(cfg, modes):
        raise Made(cfg)

    with patch.object(training, 'check_paths', stop):
        try:
            training.train(argv)
        except Made as made:
            return made.args[0]


def say(capsys, main, *argv):
    """The exit status of a command, and what it printed (stdout, stderr)."""
    status = cli.run(lambda: main(list(map(str, argv))))
    said = capsys.readouterr()
    return status, said.out, said.err


def one_error(said):
    """The only error message among what was printed."""
    (error,) = (x for x in said.splitlines() if x.startswith('error: '))
    return error


def start(argv, log, faults=(), **environment):
    """tools/train.py in a process of its own.

    Args:
        argv: its arguments.
        log: file of all it prints.
        faults: (hook point, how often it was passed, what happens) each.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(READY))
    arguments = ([*map(str, argv)], str(log), faults, environment)
    process = context.Process(target=train, args=arguments)
    process.start()
    return process


def outcome(process, seconds=120):
    """The exit status of a process, which must end."""
    process.join(seconds)
    assert process.exitcode is not None, 'it hangs'
    return process.exitcode


def free_port():
    """A port that nobody uses."""
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return str(one.getsockname()[1])


# The variables that tell a process its rank, its rank on this machine, and
# the number of processes.
LAUNCHERS = {
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': (
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_LOCAL_RANK',
        'OMPI_COMM_WORLD_SIZE',
    ),
}


def pair(
    config,
    work,
    log,
    *faults,
    first=(),
    launcher='pytorch',
    batch='as-is',
    **more,
):
    """Start a training of two processes -> both, faults in the second.

    Args:
        config: the config file, or one for each process.
        work: the work dir, or one for each.
        log: file of what they print, without their number.
        faults: see start.
        first: those of the first process.
        launcher: what they are to believe that started them.
        batch: what happens to the total batch.
        more: further variables of their environment.
    """
    configs = config if isinstance(config, list) else [config] * 2
    works = work if isinstance(work, list) else [work] * 2
    where = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    argv = ['--resume', '--batch', batch, '--launcher', launcher]
    both = []
    for rank, work_dir in enumerate(works):
        place = zip(LAUNCHERS[launcher], f'{rank}{rank}2', strict=True)
        both.append(
            start(
                [configs[rank], '--work-dir', work_dir, *argv],
                *(f'{log}{rank}', faults if rank else first),
                **(where | dict(place) | more),
            )
        )
    return both


def train(argv, log, faults, environment):
    """What runs in the new process."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.setpgrp()
    os.environ.update(environment)
    os.chdir(Path(log).parent)
    torch.set_num_threads(1)
    sys.argv = ['train.py', *argv]
    plant(faults)
    sys.exit(cli.run(training.train))


def plant(faults):
    """Let faults happen at the hooks of a run."""
    passed = {}
    for runner in (Runner, FlexibleRunner):
        plant_in(runner, faults, passed)


def plant_in(runner, faults, passed):
    """The same in one kind of runner."""
    plain = runner.call_hook

    def call_hook(self, name, **kwargs):
        passed[name] = passed.get(name, 0) + bool(self.hooks)  # not a trial
        for place, count, fault in faults:
            if self.hooks and (place, count) == (name, passed[name]):
                FAULTS[fault]()
        plain(self, name, **kwargs)

    runner.call_hook = call_hook


def kill(signum):
    return lambda: os.kill(os.getpid(), signum)


def signal_all(signum):
    """A terminal and torchrun signal the data loader's workers too."""

    def send():
        os.killpg(os.getpid(), signum)
        time.sleep(0.2)

    return send


def signal_job(signum):
    """Slurm signals every process of a job step, whatever its group."""

    def send():
        for child in multiprocessing.active_children():
            os.kill(child.pid, signum)
        os.kill(os.getpid(), signum)
        time.sleep(0.2)

    return send


def slow_disk():
    """A file is in its place some seconds after it is written."""
    plain = os.replace

    def replace(*paths):
        time.sleep(3)
        plain(*paths)

    os.replace = replace


def kill_worker():
    """As the kernel does when memory runs out."""
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def small_disk(signum):
    """No file can grow beyond 100 kB: writing is an error, or deadly."""

    def shrink():
        signal.signal(signal.SIGXFSZ, signum)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    return shrink


def die_before_renaming():
    """Killed when the next file is written, but not yet in its place."""
    os.replace = lambda *_: kill(signal.SIGKILL)()


def count_collectives():
    """Print a line for each reduction that Python asks for."""
    plain = distributed.all_reduce

    def all_reduce(*args, **kwargs):
        print('\nall_reduce')
        return plain(*args, **kwargs)

    distributed.all_reduce = all_reduce


FAULTS = {
    'count': count_collectives,
    'SIGKILL': kill(signal.SIGKILL),
    'SIGTERM': signal_all(signal.SIGTERM),
    'SIGINT': signal_all(signal.SIGINT),
    'SIGUSR1': signal_job(signal.SIGUSR1),
    'SIGUSR2': signal_job(signal.SIGUSR2),
    'worker': kill_worker,
    'slow disk': slow_disk,
    'full disk': small_disk(signal.SIG_IGN),
    'killed writing': small_disk(signal.SIG_DFL),
    'killed renaming': die_before_renaming,
}


def weights(path):
    """The state of a checkpoint that training goes on from."""
    with checkpoint_reading():
        checkpoint = torch.load(path)
    return checkpoint['state_dict'], checkpoint['optimizer']['state']


def same(a, b):
    """Whether two checkpoints are equal in every bit."""
    (model_a, moments_a), (model_b, moments_b) = weights(a), weights(b)
    return all(torch.equal(model_a[k], model_b[k]) for k in model_a) and all(
        torch.equal(value, moments_b[i][k])
        for i, moments in moments_a.items()
        for k, value in moments.items()
    )

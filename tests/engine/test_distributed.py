"""Several processes: their launchers, and models divided among them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import blocks, files
from config_files import backbone
from mmengine.dist import get_backend
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from small_runs import (
    RETINANET,
    draw,
    free_port,
    load,
    one_error,
    outcome,
    pair,
    same,
    small,
    start,
    weights,
    write,
)
from torch import distributed, nn

from pvt_mm.config.paths import CONFIGS
from pvt_mm.config.schema import walk
from pvt_mm.engine.fsdp import prepare_fsdp
from pvt_mm.engine.hooks import nonfinite_hook as finite
from pvt_mm.engine.launch import (
    number_process,
    replace_sync_bn,
    start_processes,
)
from pvt_mm.errors import UsageError

ROOT = Path(__file__).parents[2]
DENSE_MPVIT = sorted(
    path.stem
    for path in CONFIGS.glob('*mpvit*.py')
    if not path.stem.startswith('classifier')
)


def divided(name):
    """The config of a detector with a strategy of _base_."""
    cfg = load(RETINANET)
    cfg.launcher = 'pytorch'
    cfg.strategy = load(f'configs/_base_/strategy_{name}.py').strategy
    return cfg


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config of two epochs, two iterations each for two processes."""
    folder = tmp_path_factory.mktemp('detector')
    options = {
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'optim_wrapper.clip_grad.max_norm': 1.0,  # it always clips
    }
    cfg = small(load(RETINANET, **options), draw(folder / 'drawn'), 'coco')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    return write(cfg, folder / 'config.py')


@pytest.fixture(scope='module')
def whole(config):
    """The work dir of a training of two processes; whole.log0 is beside it."""
    work = Path(config).parent / 'whole'
    both = pair(config, work, f'{work}.log')
    assert [outcome(process) for process in both] == [0, 0]
    return work


def test_fsdp_trains_as_whole_models_do(tmp_path, config, whole):
    fsdp = tmp_path / 'fsdp.py'
    strategy = CONFIGS / '_base_/strategy_fsdp.py'
    fsdp.write_text(f"_base_ = ['{config}', '{strategy}']\n")
    middle = ('before_train_iter', 3, 'SIGTERM')  # of the second epoch
    for name, file, faults in (
        ('divided', fsdp, ()),
        ('resumed', fsdp, (middle,)),
        ('resumed', fsdp, ()),
    ):
        both = pair(file, tmp_path / name, tmp_path / f'{name}.log', *faults)
        status = 128 + signal.SIGTERM if faults else 0
        assert [outcome(process) for process in both] == [status] * 2
    resumed = tmp_path / 'resumed'
    last = 'epoch_2.pth'
    logs = (whole.parent / 'whole.log0', tmp_path / 'divided.log0')
    norms_of_all = [gradients(log) for log in logs]
    assert len(norms_of_all[0]) == 4
    assert norms_of_all[0] == pytest.approx(norms_of_all[1], rel=1e-5)
    plain, _ = weights(whole / last)
    parts, moments = weights(tmp_path / 'divided' / last)
    before, _ = weights(tmp_path / 'divided' / 'epoch_1.pth')
    assert parts.keys() == plain.keys()
    moved = {key for key in plain if not plain[key].equal(before[key])}
    assert set(moments) <= moved
    for key, value in plain.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=1e-6)
    assert same(tmp_path / 'divided' / last, resumed / last)


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_other_launchers_start_the_same_training(
    tmp_path, config, whole, launcher
):
    more, work = {}, tmp_path / 'run'
    if launcher == 'slurm':
        scontrol = tmp_path / 'scontrol'  # it knows the first machine
        scontrol.write_text('#!/bin/sh\necho "$*" | grep -o "127.*"\n')
        scontrol.chmod(0o755)
        more = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', MASTER_ADDR='')
        more |= dict(SLURM_NODELIST='127.0.0.1 127.0.0.2')
    both = pair(config, work, tmp_path / 'log', launcher=launcher, **more)
    assert [outcome(process) for process in both] == [0, 0]
    assert same(work / 'epoch_2.pth', whole / 'epoch_2.pth')


@pytest.mark.parametrize(
    ('launcher', 'local'),
    [('pytorch', 'LOCAL_RANK'), ('slurm', 'SLURM_LOCALID')],
)
def test_one_process_checks_the_annotations(tmp_path, config, launcher, local):
    """Also of several machines: each process here is alone on one."""
    cfg = load(config)
    broken = tmp_path / 'cut.json'
    broken.write_text('{"images": [')
    cfg.train_dataloader.dataset.ann_file = str(broken)
    file, log = write(cfg, tmp_path / 'config.py'), tmp_path / 'log'
    alone = {'launcher': launcher, local: '0'}
    both = pair(file, tmp_path / 'run', log, **alone)
    assert [outcome(process) for process in both] == [1, 1]
    said = ''.join(Path(f'{log}{rank}').read_text() for rank in range(2))
    assert said.count(f'error: {broken} is not JSON') == 1


def no_optimizer(cfg):
    """An error before the processes are joined."""
    cfg.pop('optim_wrapper')
    return 'has no optim_wrapper'


def no_images(cfg):
    """An error after they are joined."""
    cfg.train_dataloader.dataset.data_prefix.img = 'nowhere/'
    return 'nowhere/ is not there'


@pytest.mark.parametrize('fault', [no_optimizer, no_images])
def test_an_error_of_all_processes_is_printed_once(tmp_path, config, fault):
    cfg = load(config)
    part = fault(cfg)
    file, log = write(cfg, tmp_path / 'config.py'), tmp_path / 'log'
    both = pair(file, tmp_path / 'run', log)
    assert [outcome(process) for process in both] == [1, 1]
    said = one_error(Path(f'{log}0').read_text())
    assert part in said
    assert said not in Path(f'{log}1').read_text()


@pytest.mark.parametrize('fault', [no_optimizer, no_images])
def test_an_error_of_one_process_names_its_rank(tmp_path, config, fault):
    cfg = load(config)
    part = fault(cfg)
    file, log = write(cfg, tmp_path / 'config.py'), tmp_path / 'log'
    first, second = pair([config, file], tmp_path / 'run', log)
    assert outcome(second) == 1
    first.kill()  # as torchrun and srun do
    (said,) = re.findall('.*error: .*', Path(f'{log}1').read_text())
    assert said.startswith('rank 1: error: ')
    assert part in said


def test_torchrun_and_an_error_of_all_processes(tmp_path):
    said = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', tmp_path / 'no.py', '2'],
        env={**os.environ, 'PYTHON': sys.executable},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert said.stderr.count('error: there is no config file') == 1


def test_the_first_process_chooses_the_checkpoint(tmp_path, config, whole):
    """The folder of the second has none yet, as on a slow shared disk."""
    log, works = tmp_path / 'log', [tmp_path / name for name in 'ab']
    for work in works:
        work.mkdir()
    shutil.copy(whole / 'epoch_1.pth', works[0])
    assert [outcome(p) for p in pair(config, works, log)] == [0, 0]
    assert same(works[0] / 'epoch_2.pth', whole / 'epoch_2.pth')
    first = works[0] / 'epoch_1.pth'
    os.truncate(first, first.stat().st_size // 2)
    (works[0] / 'epoch_2.pth').unlink()
    log = tmp_path / 'refused'
    assert [outcome(p) for p in pair(config, works, log)] == [1, 1]
    said = ''.join(Path(f'{log}{rank}').read_text() for rank in range(2))
    assert said.count('error: --resume: none of the 1 checkpoints in') == 1
    assert 'Traceback' not in said


@pytest.mark.parametrize(
    ('name', 'key', 'value'),
    [
        ('slow_start.py', 'env_cfg.dist_cfg.timeout', 3600),
        ('port.py', 'env_cfg.dist_cfg.port', 29511),
        ('divided.py', 'strategy.type', 'FSDPStrategy'),
    ],
)
def test_fragments_of_the_page(tmp_path, name, key, value):
    text = files(ROOT / 'docs/distributed.md')[name]
    (tmp_path / name).write_text(text)
    cfg = load(tmp_path / name)
    assert dict(walk(cfg))[key] == value
    assert cfg.model.backbone.type in ('MPViT', 'PVTv2')


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        (dict(strategy=dict(type='DeepSpeedStrategy')), 'is not FSDPStrategy'),
        (dict(launcher='none'), 'tools/dist_train.sh CONFIG PROCESSES'),
    ],
)
def test_strategies_that_cannot_work(change, part):
    cfg = divided('fsdp')
    for key, value in change.items():
        cfg[key] = value
    with pytest.raises(UsageError, match=part):
        prepare_fsdp(cfg)


@pytest.mark.parametrize('elsewhere', [0, 1])
@pytest.mark.parametrize('fused', [False, True])
def test_a_step_is_left_out_by_all_processes_or_none(
    monkeypatch, elsewhere, fused
):
    """Of a divided model only one may have the gradient that is not finite."""

    def all_reduce(bad, operation):
        assert operation == 'max'
        bad.clamp_(min=elsewhere)

    monkeypatch.setattr(finite, 'all_reduce', all_reduce)
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    hook = finite.NonFiniteHook()
    optimizer = torch.optim.AdamW([weight], 1.0, fused=fused)
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapper(optimizer),
        cfg=dict(strategy=dict(type='FSDPStrategy')),
        hooks=[],
    )
    hook.before_train(runner)
    optimizer.step()
    left_out = hook.left_out.read() if fused else [hook.left_out]
    assert left_out == [elsewhere]
    assert weight.equal(torch.ones(2)) == bool(elsewhere)


def test_processes_on_gpus_are_joined_before_the_batch_is_fitted(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: None)
    cfg = load(RETINANET)
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    for launcher, variable in (('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID')):
        with pytest.raises(UsageError, match=f'{variable} is not set'):
            number_process(launcher)
    where = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1')
    where |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    try:
        start_processes(cfg, 'pytorch', [])
        assert get_backend() == 'gloo'
        assert cfg.model_wrapper_cfg.gradient_as_bucket_view
        assert 'device_ids' not in cfg.model_wrapper_cfg
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('status', 'times', 'again'),
    [(0, 0, 0), (1, 0, 0), (138, 0, 1), (137, 19, 1), (138, 20, 0)],
)
def test_the_job_script_of_the_page(tmp_path, status, times, again):
    """It queues a job that a signal has ended again, some times."""
    (script,) = (
        code for _, code in blocks(ROOT / 'docs/distributed.md', 'sh')
    )
    for name, code in (('srun', f'exit {status}'), ('scontrol', 'echo "$*"')):
        (tmp_path / name).write_text(f'#!/bin/sh\n{code}\n')
        (tmp_path / name).chmod(0o755)
    where = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_JOB_ID='7')
    run = subprocess.run(
        ['bash', '-c', script],
        env={**os.environ, **where, 'SLURM_RESTART_COUNT': str(times)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == status
    assert run.stdout == 'requeue 7\n' * again


ACCIDENT = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Accident(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'
        if first and runner.rank == 1 and runner.iter == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_torchrun_restarts_after_a_worker_was_killed(tmp_path, config, whole):
    (tmp_path / 'accident.py').write_text(ACCIDENT)
    cfg = load(config)
    cfg.custom_imports = dict(
        imports=[*cfg.custom_imports.imports, 'accident']
    )
    cfg.custom_hooks = [dict(type='Accident')]
    file, work = write(cfg, tmp_path / 'config.py'), tmp_path / 'run'
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    command += ['--nproc-per-node=2', '--max-restarts=1']
    command += [ROOT / 'tools/train.py', file, '--work-dir', work]
    command += ['--launcher', 'pytorch', '--resume', '--batch', 'as-is']
    environment = dict(PYTHONPATH=f'{tmp_path}:{ROOT}')
    # or torchrun keeps the addresses of the processes that have ended
    environment |= dict(TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1')
    run = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert len(list(work.glob('*/*.log'))) == 2
    assert same(work / 'epoch_2.pth', whole / 'epoch_2.pth')


def norms(network):
    return [
        m
        for m in network.modules()
        if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)
    ]


@pytest.mark.parametrize('name', DENSE_MPVIT)
def test_every_batch_norm_of_mpvit_is_synchronized(name):
    found = {type(norm) for norm in norms(backbone(name))}
    assert found == {nn.SyncBatchNorm}


def test_no_batch_norm_is_synchronized_on_the_cpu():
    cfg = load('configs/mask_rcnn_mpvit_tiny_coco.py').model
    assert replace_sync_bn(cfg) > 0
    with torch.device('meta'):
        built = MODELS.build({**cfg.backbone, 'init_cfg': None})
    assert {type(norm) for norm in norms(built)} == {nn.BatchNorm2d}


def node(rank, port, config, work, log):
    """One of two machines, by tools/dist_train.sh; it has one process."""
    command = ['bash', ROOT / 'tools/dist_train.sh', config, '1']
    command += ['--work-dir', work, '--batch', 'as-is']
    where = dict(NNODES='2', NODE_RANK=str(rank), PORT=port)
    where |= dict(MASTER_ADDR='127.0.0.2', PYTHON=sys.executable)
    with open(log, 'w') as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **where}
        )


def gradients(log):
    """Norms of the gradients of all images; a loss is of the first's own."""
    norms = re.findall(r'Epoch\(train\).* grad_norm: (\S+)', log.read_text())
    return [float(norm) for norm in norms]


@pytest.mark.slow
def test_two_machines_train_as_one_process(tmp_path, config):
    """The same two images a step, and nothing drawn for each of them.

    ATSS divides its losses by the positives of all processes. RetinaNet
    divides by each process's own, and would learn something else.
    """
    cfg = load(config, **{'train_cfg.max_epochs': 1})
    cfg.train_dataloader.dataset.indices = 6  # an even number
    cfg.train_dataloader.dataset.pipeline[3].prob = [0.0] * 3
    cfg.model.backbone.drop_path_rate = 0.0
    head, sizes = cfg.model.bbox_head, cfg.model.bbox_head.anchor_generator
    cfg.model.type = 'ATSS'
    cfg.model.bbox_head = dict(
        type='ATSSHead',
        num_classes=head.num_classes,
        in_channels=64,
        feat_channels=64,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=3,
            scales_per_octave=1,
            strides=sizes.strides,
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    )
    cfg.model.train_cfg.assigner = dict(type='ATSSAssigner', topk=9)
    cfg.train_dataloader.batch_size = 1
    two = write(cfg, tmp_path / 'two.py')
    cfg.train_dataloader.batch_size = 2
    one = write(cfg, tmp_path / 'one.py')
    port = free_port()
    runs = [
        node(rank, port, two, tmp_path / 'two', tmp_path / f'{rank}.log')
        for rank in range(2)
    ]
    assert [run.wait(240) for run in runs] == [0, 0]
    argv = [one, '--work-dir', tmp_path / 'one', '--batch', 'as-is']
    assert outcome(start(argv, tmp_path / 'one.log')) == 0
    apart = gradients(tmp_path / '0.log')
    assert len(apart) == 3
    assert apart == pytest.approx(gradients(tmp_path / 'one.log'), rel=1e-5)
    last = 'epoch_1.pth'
    first, _ = weights(tmp_path / 'two' / last)
    second, _ = weights(tmp_path / 'one' / last)
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=0, atol=2e-5)

"""Runs that are resumed with other processes, batches or schedules."""

import json

import pytest
import torch
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    load,
    outcome,
    pair,
    same,
    small,
    start,
    write,
)

from pvt_mm.compat import checkpoint_reading
from pvt_mm.config.paths import CONFIGS

IMAGES, BATCH = 8, 4  # of the data; of a step in the recipe
# Name -> config, its part of the data, steps, and options of its schedule.
RUNS = {
    'epochs': (
        *(RETINANET, 'coco', 6),
        {
            'train_cfg.max_epochs': 3,
            'train_cfg.val_begin': 4,
            'param_scheduler': [
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
                dict(type='MultiStepLR', milestones=[2]),
            ],
        },
    ),
    'iterations': (
        *(SEGMENTOR, 'ade20k', 6),
        {
            'train_cfg.max_iters': 6,
            'train_cfg.val_begin': 7,
            'param_scheduler': [dict(type='PolyLR', by_epoch=False)],
        },
    ),
}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A folder with a few drawn images in both layouts."""
    return draw(tmp_path_factory.mktemp('drawn'))


def config(folder, drawn, kind, images):
    """A config file, with a number of images in a batch."""
    name, part, _, options = RUNS[kind]
    cfg = small(load(name), drawn, part)
    for key, value in options.items():
        if key == 'param_scheduler':
            cfg.param_scheduler = value
        else:
            section, option = key.split('.')
            cfg[section][option] = value
    cfg.auto_scale_lr = dict(base_batch_size=BATCH)
    cfg.train_dataloader.update(
        batch_size=images, num_workers=0, persistent_workers=False
    )
    cfg.custom_hooks = [dict(type='EMAHook')]
    return write(cfg, folder / f'{kind}{images}.py')


def run(folder, drawn, kind, processes, images, *faults):
    """Train, or go on, in a work dir -> exit status of each process."""
    file = config(folder, drawn, kind, images)
    work, log = folder / 'run', folder / 'log'
    if processes == 2:
        both = pair(file, work, log, *faults, batch='recipe')
        return [outcome(process) for process in both]
    argv = [file, '--work-dir', work, '--resume']
    return [outcome(start(argv, log, faults))]


def rates(folder):
    """(iteration, learning rate) of all iterations, of all starts."""
    found = {}
    for file in sorted(folder.glob('run/*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if 'loss' in row:
                found[row.get('iter', row['step'])] = row['lr']
    return list(found.items())


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, drawn):
    """Kind -> rates of a run of one process, and of one batch in a step."""
    found = {}
    for kind in RUNS:
        folder = tmp_path_factory.mktemp(kind)
        assert run(folder, drawn, kind, 1, BATCH) == [0]
        found[kind] = rates(folder)
        assert len(found[kind]) == RUNS[kind][2]
    return found


# Processes and images of a batch, at first and later: 4, 2 or 1 batches in
# an iteration.
CASES = [
    ('iterations', (1, 1), (2, 1)),
    ('epochs', (2, 1), (1, 1)),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ('epochs', (1, 1), (2, 1)),
            ('epochs', (2, 2), (1, 2)),
            ('epochs', (1, 2), (1, 4)),
            ('iterations', (2, 1), (1, 2)),
            ('iterations', (2, 2), (2, 1)),
            ('iterations', (1, 4), (1, 1)),
            ('iterations', (1, 1), (1, 4)),
        ]
    ),
]


@pytest.mark.parametrize(('kind', 'first', 'later'), CASES)
def test_other_processes_go_on_at_the_same_place(
    tmp_path, drawn, undisturbed, kind, first, later
):
    """And with other images in a batch, and back to the first ones."""
    steps = RUNS[kind][2]
    middle = ('after_train_iter', 3, 'SIGTERM')
    assert set(run(tmp_path, drawn, kind, *first, middle)) == {143}
    status = run(
        tmp_path, drawn, kind, *later, ('after_train_iter', 1, 'SIGTERM')
    )
    assert set(status) == {143}
    assert set(run(tmp_path, drawn, kind, *first)) == {0}
    found = rates(tmp_path)
    assert [step for step, _ in found] == list(range(1, steps + 1))
    assert found == undisturbed[kind]
    (last,) = (tmp_path / 'run').glob(
        'iter_6.pth' if kind == 'iterations' else 'epoch_3.pth'
    )
    with checkpoint_reading():
        checkpoint = torch.load(last)
    assert checkpoint['meta']['iter'] == steps
    assert checkpoint['ema_state_dict']['steps'] == steps


@pytest.mark.parametrize('divided', [False, True])
def test_processes_compare_in_a_step_alone(tmp_path, drawn, divided):
    """Never in an evaluation, of which each may have another part."""
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.train_cfg.max_epochs = 2
    cfg.val_dataloader.batch_size = 1
    # two and one; of a divided model all must run equally often
    cfg.val_dataloader.dataset.indices = 4 if divided else 3
    cfg.val_dataloader.sampler.round_up = False
    cfg.optim_wrapper.clip_grad = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    file = write(cfg, tmp_path / 'config.py')
    if divided:
        strategy = CONFIGS / '_base_/strategy_fsdp.py'
        fsdp = tmp_path / 'fsdp.py'
        fsdp.write_text(f"_base_ = ['{file}', '{strategy}']\n")
        file = fsdp
    count = ('before_train', 1, 'count')
    both = pair(file, tmp_path / 'run', tmp_path / 'log', count)
    assert [outcome(process) for process in both] == [0, 0]
    said = (tmp_path / 'log1').read_text()
    # 4 iterations; of a divided model each has other gradients
    assert said.count('\nall_reduce\n') == (8 if divided else 4)


def test_a_signal_in_an_evaluation_of_two_processes(tmp_path, drawn):
    """Also where only one of them gets it."""
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.train_cfg.max_epochs = 1
    cfg.val_dataloader.batch_size = 1
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    file = write(cfg, tmp_path / 'config.py')
    middle = ('before_val_iter', 3, 'SIGTERM')  # after the training
    first, second = pair(file, tmp_path / 'run', tmp_path / 'log', middle)
    assert outcome(second) == 143
    assert outcome(first) == 1  # the other one does not answer
    assert (tmp_path / 'run/epoch_1.pth').is_file()


def test_early_stopping_goes_on(tmp_path, drawn):
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.train_cfg.max_epochs = 5
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    monitor = dict(monitor='coco/bbox_mAP', rule='greater', patience=2)
    cfg.custom_hooks = [dict(type='EarlyStoppingHook', **monitor)]
    cfg.model.test_cfg.score_thr = 0.0  # else there is no score
    file = write(cfg, tmp_path / 'config.py')
    argv = [file, '--work-dir', tmp_path / 'run', '--resume']
    kill = ('after_val_epoch', 2, 'SIGKILL')
    for faults, status in (((kill,), -9), ((), 0), ((), 0)):
        assert outcome(start(argv, tmp_path / 'log', faults)) == status
    names = sorted(p.name for p in (tmp_path / 'run').glob('epoch_*.pth'))
    assert names == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_what_differs_is_logged(tmp_path, drawn):
    kind = 'iterations'
    stop = ('after_train_iter', 3, 'SIGTERM')
    assert run(tmp_path, drawn, kind, 1, BATCH, stop) == [143]
    argv = [tmp_path / 'iterations4.py', '--work-dir', tmp_path / 'run']
    argv += ['--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=0.5']
    argv += ['train_cfg.max_iters=8', 'model.decode_head.dropout_ratio=0.3']
    assert outcome(start(argv, tmp_path / 'log')) == 0
    said = (tmp_path / 'log').read_text()
    for line in (
        'Config of the checkpoint -> config of now, which counts:',
        '  model.decode_head.dropout_ratio: 0.0 -> 0.3',
        '  optim_wrapper.optimizer.lr: 0.001 -> 0.5',
        '  train_cfg.max_iters: 6 -> 8',
    ):
        assert line in said, said
    found = dict(rates(tmp_path))
    assert found[4] == pytest.approx(0.5 * (1 - 3 / 7))
    assert max(found) == 8


def test_stopped_in_an_evaluation_with_averaged_weights(tmp_path, drawn):
    """Between two checkpoints: the weights that are trained are saved."""
    cfg = small(load(SEGMENTOR), drawn, 'ade20k')
    cfg.train_cfg.update(max_iters=4, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 3
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3)]
    file = write(cfg, tmp_path / 'config.py')
    middle = ('before_val_iter', 2, 'SIGTERM')
    for name, faults, status in (
        ('whole', (), 0),
        ('cut', (middle,), 143),
        ('cut', (), 0),
    ):
        argv = [file, '--work-dir', tmp_path / name, '--resume']
        argv += ['--batch', 'as-is']
        assert outcome(start(argv, tmp_path / 'log', faults)) == status
    last = 'iter_4.pth'
    assert same(tmp_path / 'cut' / last, tmp_path / 'whole' / last)

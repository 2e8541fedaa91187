"""Several batches in an iteration: the same steps as with one large batch."""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from pvt_mm.compat import checkpoint_reading
from pvt_mm.datasets.resumable_batch_sampler import ResumableBatchSampler
from pvt_mm.engine.hooks.accumulation_hook import AccumulationHook
from pvt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from pvt_mm.engine.hooks.preemption_hook import PreemptionHook
from pvt_mm.engine.hooks.resume_hook import ResumeHook
from pvt_mm.engine.hooks.seed_hook import SeedHook
from pvt_mm.engine.train_loops import LOOP_TYPES
from pvt_mm.errors import Preempted, UsageError

IMAGES = 10  # two iterations of four, and one of two, make an epoch
EPOCHS, ITERATIONS = 4, 12
BY_EPOCH = dict(type='EpochBasedTrainLoop', max_epochs=EPOCHS)
BY_ITERATION = dict(
    type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=100
)


class Numbers(Dataset):
    """The numbers 0, 1, 2, ..."""

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]), data_samples=index)


class Mean(BaseModel):
    """Two weights that learn the mean of the numbers, with noise."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.bias = torch.nn.Parameter(torch.zeros(1))
        self.seen = []
        self.noise = 0.0

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = torch.stack(inputs) / IMAGES
        self.seen.append(list(data_samples))
        noise = self.noise * torch.randn(1)
        return dict(loss=(self.weight + self.bias - x + noise).square().mean())


class Watch(Hook):
    """Keeps learning rate, loss and samples of each iteration."""

    priority = 'VERY_LOW'

    def __init__(self, stop=None):
        self.rates, self.losses, self.samples = [], [], []
        self.stop = stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates += runner.optim_wrapper.get_lr()['lr']

    def before_next_batch(self, runner):
        loop = runner.train_loop
        if (runner.iter, loop.batches_done) == self.stop:
            (hook,) = (
                h for h in runner.hooks if isinstance(h, PreemptionHook)
            )
            hook.signum = 15

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        self.losses.append(float(outputs['loss']))
        self.samples.append(list(data_batch['data_samples']))


def runner(folder, loop, images=1, batches=1, schedule=(), **cfg):
    """A runner of several batches in an iteration, or of mmengine's loop."""
    loop = dict(loop)
    if batches > 1:
        loop['type'] = LOOP_TYPES[loop['type']].__name__
        loop['batches_per_iter'] = batches
    epochs = 'max_epochs' in loop
    sampler = 'DefaultSampler' if epochs else 'InfiniteSampler'
    watch = Watch(cfg.pop('stop', None))
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9)
    optimizer.update(cfg.pop('optimizer', {}))
    learning = dict(
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=[dict(s) for s in schedule] or None,
    )
    checkpoint = dict(type=AtomicCheckpointHook.__name__, interval=100)
    checkpoint['by_epoch'] = epochs
    hooks = [SeedHook(), ResumeHook(), AccumulationHook(), PreemptionHook()]
    number = len(list(folder.glob('*')))
    built = Runner(
        model=Mean(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Numbers(),
            sampler=dict(type=sampler, shuffle=True),
            batch_sampler=dict(type=ResumableBatchSampler.__name__),
            batch_size=images,
            num_workers=0,
        ),
        train_cfg=loop,
        optim_wrapper=deepcopy(learning['optim_wrapper']),
        param_scheduler=deepcopy(learning['param_scheduler']),
        cfg=learning,
        custom_hooks=[*hooks, watch, *cfg.pop('hooks', [])],
        default_hooks=dict(checkpoint=checkpoint),
        randomness=dict(seed=3),
        experiment_name=f'{folder}{number}'.replace('/', '_'),
        log_level='WARNING',
        **cfg,
    )
    return built, watch


def weights(built):
    return [float(p.detach()) for p in built.model.parameters()]


SCHEDULES = {
    'warm-up, steps': [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
        dict(type='MultiStepLR', milestones=[2, 3]),
    ],
    'StepLR': [dict(type='StepLR', step_size=3, by_epoch=False)],
    'ExponentialLR': [dict(type='ExponentialLR', gamma=0.8, by_epoch=False)],
    'PolyLR': [dict(type='PolyLR', power=0.9, by_epoch=False)],
    'OneCycleLR': [
        dict(type='OneCycleLR', eta_max=1, total_steps=12, by_epoch=False)
    ],
    'CosineRestartLR': [
        dict(
            type='CosineRestartLR',
            periods=[4, 8],
            restart_weights=[1, 0.5],
            eta_min=0,
            by_epoch=False,
        )
    ],
    'CosineAnnealingLR of epochs': [
        dict(type='CosineAnnealingLR', T_max=4, convert_to_iter_based=True)
    ],
}


@pytest.mark.parametrize('loop', [BY_EPOCH, BY_ITERATION])
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_steps_are_those_of_the_whole_batch(tmp_path, loop, name):
    one, large = runner(tmp_path, loop, 4, schedule=SCHEDULES[name])
    one.train()
    two, small = runner(tmp_path, loop, 1, 4, schedule=SCHEDULES[name])
    two.train()
    assert len(large.rates) == ITERATIONS
    assert small.rates == large.rates
    assert small.samples == large.samples
    assert small.losses == pytest.approx(large.losses, rel=1e-5)
    assert weights(two) == pytest.approx(weights(one), rel=1e-5)
    assert all(len(seen) == 1 for seen in two.model.seen)


def rates_of(folder, loop, name, **more):
    """The undisturbed rates of a schedule."""
    built, watch = runner(folder, loop, 2, 2, SCHEDULES[name], **more)
    built.train()
    return watch.rates


@pytest.mark.parametrize('loop', [BY_EPOCH, BY_ITERATION])
@pytest.mark.parametrize('stop', [(1, 1), (4, 2), (5, 1)])
@pytest.mark.parametrize('images', [1, 2, 4])
def test_a_run_that_was_stopped_between_batches(tmp_path, loop, stop, images):
    """It resumes bit-equal; with other batches the iteration starts over."""
    if loop is BY_EPOCH and stop[0] % 3 == 2:
        stop = (stop[0], 1)  # the last iteration of an epoch has two images
    name = 'warm-up, steps' if loop is BY_EPOCH else 'PolyLR'
    schedule = SCHEDULES[name]
    ema = [EMAHook(momentum=0.1)]
    whole, every = runner(tmp_path / 'a', loop, 1, 4, schedule, hooks=ema)
    whole.model.noise = 0.1
    whole.train()
    work = tmp_path / 'b'
    ema = [EMAHook(momentum=0.1)]
    cut, first = runner(work, loop, 1, 4, schedule, stop=stop, hooks=ema)
    cut.model.noise = 0.1
    with pytest.raises(Preempted):
        cut.train()
    assert len(cut.model.seen) < len(whole.model.seen)
    ema = [EMAHook(momentum=0.1)]
    options = dict(
        resume=True, load_from=f'{work}/iter_{stop[0]}.pth', hooks=ema
    )
    again, rest = runner(work, loop, images, 4 // images, schedule, **options)
    again.model.noise = 0.1
    again.train()
    assert first.rates[: stop[0]] + rest.rates == every.rates
    if images == 1:
        seen = cut.model.seen + again.model.seen
        assert seen == whole.model.seen
        assert weights(again) == weights(whole)
        assert again.iter == whole.iter
        copies = [
            [h for h in r.hooks if isinstance(h, EMAHook)][0]
            for r in (whole, again)
        ]
        a, b = (c.ema_model.state_dict() for c in copies)
        assert all(torch.equal(a[key], b[key]) for key in a)
    else:
        assert first.samples + rest.samples == every.samples


@pytest.mark.parametrize('loop', [BY_EPOCH, BY_ITERATION])
def test_another_total_batch_is_refused(tmp_path, loop):
    cut, _ = runner(tmp_path, loop, 1, 4, stop=(4, 2))
    with pytest.raises(Preempted):
        cut.train()
    options = dict(resume=True, load_from=f'{tmp_path}/iter_4.pth')
    again, _ = runner(tmp_path, loop, 1, 2, **options)
    part = 'has 4 images .1 process.es. x 1 images x 4., and one of this run 2'
    with pytest.raises(UsageError, match=part):
        again.train()


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('loop', [BY_EPOCH, BY_ITERATION])
def test_the_schedule_of_now_counts(tmp_path, loop, name):
    """At its place, whatever the run was begun with."""
    wanted = rates_of(tmp_path / 'a', loop, name, optimizer=dict(lr=0.2))
    work, other = tmp_path / 'b', SCHEDULES['StepLR']
    cut, first = runner(work, loop, 2, 2, other, stop=(7, 1))
    with pytest.raises(Preempted):
        cut.train()
    options = dict(resume=True, load_from=f'{work}/iter_7.pth')
    options['optimizer'] = dict(lr=0.2)
    again, rest = runner(work, loop, 2, 2, SCHEDULES[name], **options)
    again.train()
    assert rest.rates == pytest.approx(wanted[7:], rel=1e-12)


def without_batch(path, counts):
    """Make a checkpoint one of a version that counted batches."""
    with checkpoint_reading():
        checkpoint = torch.load(path)
    meta = checkpoint['meta']
    for key in ('batch', 'batches_of_iteration', 'early_stopping'):
        del meta[key]
    meta['cfg'] = f'optim_wrapper = dict(accumulative_counts={counts})\n'
    torch.save(checkpoint, path)


@pytest.mark.parametrize(('counts', 'batches'), [(4, 4), (4, 1), (1, 4)])
def test_a_checkpoint_that_counted_batches_is_refused(
    tmp_path, counts, batches
):
    cut, _ = runner(tmp_path, BY_EPOCH, 1, 4, stop=(4, 2))
    with pytest.raises(Preempted):
        cut.train()
    without_batch(tmp_path / 'iter_4.pth', counts)
    options = dict(resume=True, load_from=f'{tmp_path}/iter_4.pth')
    again, _ = runner(tmp_path, BY_EPOCH, 1, batches, **options)
    with pytest.raises(UsageError, match='older pvt_mm, which counted'):
        again.train()


def test_another_data_set_starts_its_epoch_over(tmp_path, monkeypatch):
    """The schedule by iterations is where so many epochs take it."""
    name = 'warm-up, steps'
    cut, first = runner(tmp_path, BY_EPOCH, 2, 2, SCHEDULES[name], stop=(4, 1))
    with pytest.raises(Preempted):
        cut.train()
    monkeypatch.setattr(Numbers, '__len__', lambda self: 6)
    wanted = rates_of(tmp_path / 'a', BY_EPOCH, name)
    options = dict(resume=True, load_from=f'{tmp_path}/iter_4.pth')
    again, rest = runner(tmp_path, BY_EPOCH, 2, 2, SCHEDULES[name], **options)
    again.train()
    assert len(wanted) == 8
    assert rest.rates == pytest.approx(wanted[2:], rel=1e-12)

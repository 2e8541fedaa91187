"""What every training gets: finite steps, whole files, workers that end."""

import contextlib
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper as amp
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from small_runs import load
from torch.utils.data import Dataset

from pvt_mm import cli
from pvt_mm.checkpoints import read_weights
from pvt_mm.checkpoints.atomic import AtomicBackend
from pvt_mm.datasets.resumable_batch_sampler import ResumableBatchSampler
from pvt_mm.engine.hooks import nonfinite_hook
from pvt_mm.engine.hooks import preemption_hook as stopping
from pvt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from pvt_mm.engine.hooks.nonfinite_hook import NonFiniteHook
from pvt_mm.engine.process_errors import explain
from pvt_mm.engine.resume import is_whole, last_checkpoint
from pvt_mm.engine.run_hooks import add_run_hooks
from pvt_mm.errors import CheckpointError, Preempted, UsageError


class Numbers(Dataset):
    """Samples with a number each, and the random one drawn for it."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        sample = BaseDataElement(metainfo={'img_path': f'{index}.jpg'})
        number = torch.tensor([float(self.numbers[index])])
        return dict(inputs=number, data_samples=sample, drawn=torch.rand(1))


class Line(BaseModel):
    """A weight that learns to be zero."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='loss', drawn=None):
        x = torch.stack(inputs)
        # of 0 the loss is 0 and the gradient 0 / 0, as the weight is 1
        value = self.weight * x if x else (self.weight - 1).square().sqrt()
        return dict(loss=value.abs().mean())


class Watch(Hook):
    """Keeps what a test asks for, after each iteration and epoch."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(self.look(runner, data_batch))


def toy(folder, numbers, hooks, epochs=1, **cfg):
    """A runner of a model with one weight."""
    loader = dict(
        dataset=Numbers(*numbers),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_sampler=dict(type=ResumableBatchSampler.__name__),
        batch_size=1,
        num_workers=0,
    )
    loader.update(cfg.pop('loader', {}))
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1))
    wrapper.update(cfg.pop('wrapper', {}))
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=wrapper,
        custom_hooks=hooks,
        default_hooks=dict(
            checkpoint=dict(type=AtomicCheckpointHook.__name__, interval=1)
        ),
        experiment_name=str(folder).replace('/', '_'),
        log_level='WARNING',
        **cfg,
    )


def test_config_of_the_work_dir_runs_again():
    cfg = load('configs/retinanet_pvt_v2_b2_coco.py')
    add_run_hooks(cfg, sanity_check=True)
    once = cfg.pretty_text
    add_run_hooks(cfg, sanity_check=True)
    assert cfg.pretty_text == once
    add_run_hooks(cfg, sanity_check=False)
    assert 'SanityCheckHook' not in cfg.pretty_text
    loader = cfg.train_dataloader
    assert loader.batch_sampler.type == 'ResumableBatchSampler'
    assert loader.batch_sampler.inner.type == 'AspectRatioBatchSampler'


def weight(runner, batch):
    return float(runner.model.weight.detach())


def test_nan_in_a_row_ends_the_run(tmp_path):
    watch = Watch(weight)
    run = toy(tmp_path, [1, 1, *[math.nan] * 3, 1], [NonFiniteHook(), watch])
    with pytest.raises(UsageError) as said:
        run.train()
    text = str(said.value)
    assert text.startswith('iteration 5: the loss is nan, gradients are not')
    assert 'images 4.jpg; 3 steps in a row' in text
    assert 'the last good checkpoint is none' in text
    assert weight(run, None) == watch.seen[2]  # none of the three is applied


def test_last_good_checkpoint_is_named(tmp_path):
    run = toy(tmp_path, [1, 1], [NonFiniteHook(in_a_row=1), Spoil()], epochs=2)
    with pytest.raises(UsageError, match=f'{tmp_path}/epoch_1.pth'):
        run.train()


class Spoil(Hook):
    """Turns the data of the second epoch into infinities."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch:
            data_batch['inputs'][0].fill_(math.inf)


@pytest.mark.parametrize('first', [1, math.nan])
@pytest.mark.parametrize(
    'optimizer',
    [
        dict(type='AdamW', lr=0.1),
        dict(type='AdamW', lr=0.1, fused=True),
        dict(type='Adam', lr=0.1, fused=True, amsgrad=True),
        dict(type='SGD', lr=0.1, momentum=0.9, fused=True),
    ],
)
def test_single_bad_steps_are_left_out(tmp_path, optimizer, first):
    watch, wrapper = Watch(weight), dict(optimizer=optimizer)
    numbers = [first, 1, math.nan, 1, math.inf, math.nan, 1]
    hooks = [NonFiniteHook(), watch]
    run = toy(tmp_path, numbers, hooks, wrapper=deepcopy(wrapper))
    run.train()
    _, _, third, fourth, fifth, _, seventh = watch.seen
    assert third == fourth
    assert fifth == seventh
    # as if the bad ones had not been there
    good = [number for number in numbers if number == 1]
    hooks, folder = [NonFiniteHook()], tmp_path / 'clean'
    clean = toy(folder, good, hooks, wrapper=wrapper)
    clean.train()
    assert weight(run, None) == weight(clean, None)
    states = [r.optim_wrapper.optimizer.state_dict() for r in (run, clean)]
    assert states[0] == states[1]


def test_the_flag_of_a_step_does_not_stay(tmp_path):
    """The next one would be left out, too."""
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1, fused=True))
    run = toy(tmp_path, [1, math.nan], [NonFiniteHook()], wrapper=wrapper)
    run.train()
    assert not hasattr(run.optim_wrapper.optimizer, 'found_inf')


@pytest.mark.parametrize('fused', [False, True])
def test_bad_gradient_of_a_finite_loss(tmp_path, fused):
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1, fused=fused))
    run = toy(tmp_path, [0, 0, 0], [NonFiniteHook()], wrapper=wrapper)
    with pytest.raises(UsageError, match='the loss is 0.0, gradients are not'):
        run.train()
    assert weight(run, None) == 1


@pytest.mark.parametrize('fused', [False, True])
def test_large_gradients_are_finite(tmp_path, fused):
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1, fused=fused))
    hooks, numbers = [NonFiniteHook(1)], [3e19] * 4  # its square is not
    run = toy(tmp_path, numbers, hooks, wrapper=wrapper)
    run.train()
    assert weight(run, None) < 1


def test_the_norm_of_clipping_is_used(tmp_path, monkeypatch):
    def compute(grads):
        raise AssertionError('a second norm of the gradients')

    monkeypatch.setattr(nonfinite_hook, 'not_finite', compute)
    wrapper = dict(clip_grad=dict(max_norm=1.0))
    numbers = [1, *[math.nan] * 3]
    run = toy(tmp_path, numbers, [NonFiniteHook()], wrapper=wrapper)
    with pytest.raises(UsageError, match='iteration 4: the loss is nan'):
        run.train()


def test_accumulated_steps_count_once(tmp_path):
    numbers = [1, math.nan] * 4
    wrapper = dict(accumulative_counts=2)
    run = toy(tmp_path, numbers, [NonFiniteHook(4)], wrapper=wrapper)
    with pytest.raises(UsageError, match='iteration 8.*images 7.jpg'):
        run.train()


@pytest.fixture
def scaler(monkeypatch):
    """mmengine's wrapper of fp16, with torch's scaler for the CPU."""
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    plain = torch.amp.GradScaler
    monkeypatch.setattr(amp, 'GradScaler', lambda **kw: plain('cpu', **kw))


@pytest.mark.parametrize('fused', [False, True])
def test_overflow_of_fp16_is_no_fault(tmp_path, scaler, fused):
    watch = Watch(weight)
    wrapper = dict(type='AmpOptimWrapper', loss_scale={'init_scale': 1e38})
    wrapper['optimizer'] = dict(type='AdamW', lr=0.1, fused=fused)
    numbers = [100] * 8  # overflows until the scale has halved 5 times
    run = toy(tmp_path, numbers, [NonFiniteHook(), watch], wrapper=wrapper)
    run.train()
    assert watch.seen[:6] == [1] * 6
    assert weight(run, None) < 1


@pytest.mark.parametrize('fused', [False, True])
def test_nan_under_fp16_is_one(tmp_path, scaler, fused):
    wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
    wrapper['optimizer'] = dict(type='AdamW', lr=0.1, fused=fused)
    run = toy(tmp_path, [math.nan] * 3, [NonFiniteHook()], wrapper=wrapper)
    with pytest.raises(UsageError, match='the loss is nan, images 2.jpg'):
        run.train()


@pytest.mark.parametrize('persistent', [False, True])
def test_workers_end_between_epochs(tmp_path, persistent):
    def workers(runner, batch):
        return sorted(p.pid for p in multiprocessing.active_children())

    before = workers(None, None)
    watch = Watch(workers)
    loader = dict(num_workers=2, persistent_workers=persistent)
    run = toy(tmp_path, range(2, 6), [watch], epochs=3, loader=loader)
    run.train()
    counts = [len(pids) - len(before) for pids in watch.seen]
    assert counts == [2] * 12
    kinds = {tuple(pids) for pids in watch.seen}
    assert len(kinds) == (1 if persistent else 3)
    run._train_loop.dataloader._iterator = None
    assert workers(None, None) == before


@pytest.mark.parametrize('workers', [1, 2])
def test_random_numbers_do_not_depend_on_workers(tmp_path, workers):
    def drawn(runner, batch):
        return float(batch['drawn'][0])

    watches = []
    for number in (0, workers):
        watches.append(Watch(drawn))
        loader = dict(num_workers=number)
        toy(
            *(tmp_path / str(number), range(2, 6), [watches[-1]]),
            epochs=2,
            loader=loader,
            randomness=dict(seed=3),
        ).train()
    assert watches[0].seen == watches[1].seen
    assert len(set(watches[0].seen)) == 8


def test_best_checkpoint_replaces_the_last_best(tmp_path):
    run = toy(tmp_path, [1], [], epochs=1)
    hook = next(h for h in run.hooks if isinstance(h, AtomicCheckpointHook))
    hook.__init__(save_best='acc', max_keep_ckpts=2)
    run.train()
    removed = []
    hook.remove = lambda paths: removed.append([*paths])
    for score in (0.5, 0.4, 0.6):
        run.train_loop._epoch += 1
        hook._save_best_checkpoint(run, {'acc': score})
    assert hook.best_ckpt_path == f'{tmp_path}/best_acc_epoch_4.pth'
    assert removed[-1] == [f'{tmp_path}/best_acc_epoch_2.pth']
    assert (tmp_path / 'best_acc_epoch_2.pth').exists()  # until the new one is
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_4.pth')


def test_file_is_whole_or_as_before(tmp_path, monkeypatch):
    path = tmp_path / 'x.pth'
    AtomicBackend().put(b'old', path)

    def no_space(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', no_space)
    with pytest.raises(OSError, match='No space'):
        AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['x.pth']


def test_no_whole_checkpoint(tmp_path):
    torch.save(torch.zeros(99), tmp_path / 'epoch_1.pth')
    data = bytearray((tmp_path / 'epoch_1.pth').read_bytes())
    middle = data.index(bytes(99))
    data[middle + 9] ^= 1
    (tmp_path / 'epoch_1.pth').write_bytes(data)
    (tmp_path / 'epoch_2.pth').write_bytes(data[:100])
    with pytest.raises(UsageError, match='none of the 2 checkpoints'):
        last_checkpoint(tmp_path, [])


def test_any_damage_to_the_table_of_contents_is_seen(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(torch.zeros(9), path)
    data = path.read_bytes()
    start = data.index(b'PK\1\2')
    whole = 0
    for place in range(start, len(data)):
        for other in (b'\xff', b'\0'):
            path.write_bytes(data[:place] + other + data[place + 1 :])
            whole += is_whole(path)
            with contextlib.suppress(CheckpointError):
                read_weights(path)
    assert 0 < whole < 2 * (len(data) - start)  # dates do not matter


def test_second_signal_is_obeyed(monkeypatch):
    died, now = [], [0.0]
    monkeypatch.setattr(stopping, 'die', died.append)
    monkeypatch.setattr(stopping.time, 'monotonic', lambda: now[0])
    hook = stopping.PreemptionHook()
    hook.process = os.getpid()
    hook.receive(signal.SIGINT, None)
    now[0] = 1.0
    hook.receive(signal.SIGTERM, None)  # torchrun passes on Ctrl-C
    assert died == []
    now[0] = 3.0
    hook.receive(signal.SIGINT, None)
    assert died == [signal.SIGINT]
    assert hook.signum == signal.SIGINT


class Interrupt(Hook):
    """Sends a signal in the second iteration, or fails there."""

    def __init__(self, error=None):
        self.error = error

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            if self.error:
                raise self.error
            os.kill(os.getpid(), signal.SIGTERM)


def test_another_checkpoint_hook_saves_nothing_and_nothing_else_is_said(
    tmp_path,
):
    hooks = [stopping.PreemptionHook(), Interrupt()]
    run = toy(tmp_path, [1, 1, 1], hooks)
    (saver,) = (h for h in run.hooks if isinstance(h, AtomicCheckpointHook))
    run.hooks.remove(saver)
    run.message_hub.update_info('last_ckpt', 'epoch_0.pth')
    with pytest.raises(Preempted, match='SIGTERM; nothing is saved'):
        run.train()
    run.call_hook('restore_handlers')


def test_signals_are_as_before_after_an_error(tmp_path):
    before = [signal.getsignal(signum) for signum in stopping.SIGNALS]
    hook = stopping.PreemptionHook()
    run = toy(tmp_path, [1, 1], [hook, Interrupt(ZeroDivisionError())])
    with pytest.raises(ZeroDivisionError):
        run.train()
    assert signal.getsignal(signal.SIGTERM) == hook.receive
    run.call_hook('restore_handlers')
    assert [signal.getsignal(s) for s in stopping.SIGNALS] == before


def test_worker_that_ends_with_its_trainer_is_no_error(monkeypatch):
    """Both signals are there before Python looks at either."""
    wrong = []
    monkeypatch.setattr(sys, 'unraisablehook', wrong.append)
    hook = stopping.PreemptionHook()
    hook.process = os.getpid()
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, hook.receive),
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
    }
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, before)
        for signum in before:
            os.kill(os.getpid(), signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert hook.signum == signal.SIGTERM
    assert wrong == []


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        (
            'DataLoader worker (pid 12) is killed by signal: Killed. ',
            'num_workers',
        ),
        ('DataLoader worker (pid(s) 3, 4) exited unexpectedly', '3, 4'),
        (
            'Caught ConnectionResetError in pin memory thread for device 0.\n',
            'num_workers',
        ),
        ('port: 29500, error: EADDRINUSE', 'MASTER_PORT'),
        ('[gloo/x.cc] Connection closed by peer [::1]:5', 'another process'),
    ],
)
def test_fault_from_outside(capsys, monkeypatch, text, part):
    def main():
        raise RuntimeError(text)

    monkeypatch.setattr(sys, 'argv', ['x'])
    assert cli.run(main) == 1
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert part in said


def test_worker_that_dies_while_it_sends():
    def _try_get_data():  # torch's name
        raise ConnectionResetError(104, 'Connection reset by peer')

    with pytest.raises(OSError, match='reset') as caught:
        _try_get_data()
    assert explain(caught.value).startswith('a process that loads data ended')
    assert explain(ConnectionResetError('of something else')) is None


@pytest.mark.parametrize('several', [True, False])
def test_broken_pipe_is_a_process_only_if_there_are_several(
    monkeypatch, several
):
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: several)
    said = explain(RuntimeError('[gloo] Broken pipe')) or ''
    assert said.startswith('another process of this run') == several


def test_a_reader_of_the_output_that_ends_first_is_no_error():
    code = (
        'import sys; from pvt_mm.cli import run; '
        "sys.exit(run(lambda: print('x' * 100_000)))"
    )
    command = [sys.executable, '-c', code]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b''
    assert process.returncode == 141


def test_a_missing_module_is_a_sentence_only_for_a_library(
    capsys, monkeypatch
):
    monkeypatch.setattr(sys, 'argv', ['x'])

    def main(name):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    assert cli.run(lambda: main('mmdet')) == 1
    said = capsys.readouterr().err
    assert said.startswith('error: mmdet is not installed; fix: pip install')
    for name in ('nmupy', 'mmdet.modls'):
        with pytest.raises(ModuleNotFoundError):
            cli.run(lambda name=name: main(name))


def test_dead_worker_in_the_middle_of_something():
    error = SyntaxError('of a formatter')
    error.__context__ = RuntimeError('DataLoader worker (pid 1) is killed')
    assert 'pid 1' in explain(error)


def test_fault_of_the_code_is_not_hidden():
    assert explain(RuntimeError('shape mismatch')) is None


@pytest.fixture
def active_hook():
    """A PreemptionHook that handles signals, and a limit of 100 s."""

    def late(*_):
        raise TimeoutError('a child does not end')

    hook = stopping.PreemptionHook()
    hook.before_train(None)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(100)
    yield hook
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    hook.restore_handlers(None)
    for child in multiprocessing.active_children():
        child.kill()


@pytest.mark.parametrize(
    'method, rounds', [('fork', 20), ('spawn', 1), ('forkserver', 1)]
)
def test_sigterm_ends_a_child_that_has_just_begun(active_hook, method, rounds):
    context = multiprocessing.get_context(method)
    for _ in range(rounds):
        child = context.Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        child.terminate()
        child.join(20)
        assert child.exitcode == -signal.SIGTERM
    assert active_hook.signum == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_other_signals_do_not_end_a_child(active_hook):
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context('fork')
    child = context.Process(target=answer, args=(theirs,), daemon=True)
    child.start()
    ours.recv()
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(child.pid, signum)
    ours.send('go on')
    assert ours.recv() == 'go on'
    child.join()
    assert child.exitcode == 0


def answer(pipe):
    pipe.send('ready')
    pipe.send(pipe.recv())


def test_a_pool_that_replaces_its_processes_ends(active_hook):
    """It forks in a thread."""
    for _ in range(3):
        with multiprocessing.Pool(2, maxtasksperchild=1) as pool:
            assert pool.map(abs, range(-6, 0), 1) == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    'rounds', [5, pytest.param(200, marks=pytest.mark.slow)]
)
def test_voc_evaluation_ends(active_hook, rounds):
    from mmdet.evaluation import eval_map

    boxes = np.array([[5.0, 5, 30, 30], [40, 40, 60, 70]])
    found = [np.c_[boxes[i : i + 1], 0.9] for i in range(2)]
    truth = dict(bboxes=boxes, labels=np.array([0, 1]))
    for _ in range(rounds):
        score, _ = eval_map([found] * 4, [truth] * 4, logger='silent')
        assert score == 1

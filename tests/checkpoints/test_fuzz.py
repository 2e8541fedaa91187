"""Random networks, and weight files of random content (hypothesis)."""

import contextlib
import os
import resource
import signal
import sys
import time

import hypothesis
import pytest
import torch
import weight_files
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS

from pvt_mm.checkpoints import convert, load_pretrained, read_weights
from pvt_mm.checkpoints.safety import file_kind
from pvt_mm.errors import CheckpointError, InputError

SECONDS = 120  # of each search under the mark slow


def examples(check, strategies, count, seed=0):
    """Hold a property to so many examples, the same ones for a seed."""
    test = settings(
        database=None,
        deadline=None,
        max_examples=count,
        suppress_health_check=list(hypothesis.HealthCheck),
    )(given(**strategies)(check))
    hypothesis.seed(seed)(test)()


def search(check, strategies):
    """Hold a property to new examples for a while; how many there were."""
    seed, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        seed += 1
        examples(check, strategies, 100, seed)
    print(f'{100 * seed} examples')
    return 100 * seed


# Networks


@st.composite
def networks(draw):
    """A small network: family, arguments and how a side shrinks."""
    family = draw(st.sampled_from(['PVT', 'PVTv2', 'MPViT']))
    count = draw(st.integers(1, 4))

    def stages(entries):
        return draw(st.lists(entries, min_size=count, max_size=count))

    arch = {
        'depths': stages(st.integers(1, 2)),
        'dims': stages(st.sampled_from([8, 16, 24])),
        'mlp_ratios': stages(st.integers(1, 3)),
    }
    if family == 'MPViT':
        arch['paths'] = stages(st.integers(1, 3))
    else:
        arch['heads'] = stages(st.sampled_from([1, 2, 8]))
        arch['sr_ratios'] = stages(st.sampled_from([1, 2, 3, 8]))
    if family == 'PVTv2':
        arch['linear'] = draw(st.booleans())
    indices = st.sets(st.integers(0, count - 1), min_size=1)
    return {
        'type': family,
        'arch': arch,
        'in_channels': draw(st.sampled_from([1, 3])),
        'out_indices': sorted(draw(indices)),
        'with_cp': draw(st.booleans()),
        'drop_path_rate': draw(st.sampled_from([0.0, 0.5])),
    }


LAYOUTS = {
    'contiguous': lambda x: x,
    'channels last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'slice': lambda x: x.repeat_interleave(2, -1)[..., ::2],
    'transposed': lambda x: x.mT.contiguous().mT,
    'expanded': lambda x: x[:, :1].expand_as(x),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


USES = {
    'cfg': networks(),
    'batch': st.integers(0, 3),
    'size': st.tuples(st.integers(1, 200), st.integers(1, 200)),
    'dtype': st.sampled_from(DTYPES),
    'layout': st.sampled_from(sorted(LAYOUTS)),
    'training': st.booleans(),
}


def cells(cfg, size):
    """(H, W) of the maps that out_indices name, or None if one is empty.

    PVT drops what is left of a side, the others pad it; attention needs one
    whole cell of its reduction.
    """
    family, arch, maps = cfg['type'], cfg['arch'], []
    for i in range(cfg['out_indices'][-1] + 1):
        stride = 2 if i else 4
        up = 0 if family == 'PVT' else stride - 1
        size = [(side + up) // stride for side in size]
        pooled = family == 'MPViT' or arch.get('linear')
        if min(size) < (1 if pooled else arch['sr_ratios'][i]):
            return None
        maps.append(tuple(size))
    return [maps[i] for i in cfg['out_indices']]


def check_network(cfg, batch, size, dtype, layout, training):
    """Maps of the right shape and finite gradients, or a sentence of ours."""
    torch.manual_seed(0)
    model = MODELS.build(cfg).to(dtype).train(training)
    plain = torch.randn(batch, cfg['in_channels'], *size).to(dtype)
    x = LAYOUTS[layout](plain)
    wanted = cells(cfg, size)
    if not batch or wanted is None:
        with pytest.raises(InputError):
            model(x)
        return
    if training and cfg['type'] == 'MPViT' and batch * max(wanted[-1]) == 1:
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            model(x)
        return
    maps = model(x)
    arch = cfg['arch']
    dims = arch['dims']
    dims = [*dims[1:], dims[-1]] if cfg['type'] == 'MPViT' else dims
    for y, i, shape in zip(maps, cfg['out_indices'], wanted, strict=True):
        assert y.shape == (batch, dims[i], *shape)
        assert y.dtype == dtype
        assert y.isfinite().all()
        assert y.is_contiguous()
    sum(y.float().square().mean() for y in maps).backward()
    # Where a map is one cell wide oneDNN's bfloat16 gradient of a padded,
    # strided convolution reads what nobody wrote (torch 2.13, AVX-512 BF16).
    # Only that of the weight: bias and input get numbers.
    unsafe = dtype == torch.bfloat16 and wanted[-1][1] == 1
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not (unsafe and parameter.dim() == 4):
            assert parameter.grad.isfinite().all(), name
    if not training and dtype in DTYPES[:2]:
        for a, b in zip(maps, model(x.contiguous()), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_networks():
    examples(check_network, USES, 40)


@pytest.mark.slow
def test_networks_for_long():
    assert search(check_network, USES) >= 100


# Weight files

FILES = {'data': weight_files.files}
FORBIDDEN = (
    'os.exec os.fork os.link os.mkdir os.posix_spawn os.remove os.rename '
    'os.spawn os.symlink os.system os.truncate pickle.find_class shutil. '
    'socket. subprocess. webbrowser.'
)
WATCH = {'on': False, 'seen': []}


def watch(event, args):
    """Note what a file of weights must never cause."""
    if not WATCH['on']:
        return
    writes = event == 'open' and (
        set(str(args[1])) & set('wax+')
        or args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )
    if writes or event.startswith(tuple(FORBIDDEN.split())):
        WATCH['seen'].append((event, args))


sys.addaudithook(watch)  # stays, but sleeps


class Hanging(BaseException):
    """No reader can take this for an error of the file."""


@contextlib.contextmanager
def supervised(seconds=10):
    """Fail if something inside is executed or written, or does not end."""

    def ring(*_):
        raise Hanging(f'still running after {seconds} seconds')

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    WATCH.update(on=True, seen=[])
    try:
        yield
    finally:
        WATCH['on'] = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert WATCH['seen'] == []


def outcome(action, *args):
    """What an action returns, or the sentence it ends with."""
    try:
        return action(*args)
    except CheckpointError as error:
        assert str(error)
        return str(error)


@pytest.fixture(scope='module')
def check_file(tmp_path_factory):
    """Reads, loads and converts a file made by chance."""
    folder = tmp_path_factory.mktemp('fuzz')
    path, target = folder / 'w.pth', folder / 'copy.pth'
    model = weight_files.backbone()

    def check(data):
        path.write_bytes(data)
        with contextlib.chdir(folder), supervised():
            got = outcome(read_weights, path)
            loaded = outcome(load_pretrained, model, str(path))
        assert list(folder.iterdir()) == [path]
        if isinstance(got, str):
            # which fault of several that library names differs every time
            named = outcome(file_kind, str(path)) == 'safetensors'
            assert loaded == got or (named and isinstance(loaded, str))
            return
        assert all(type(x) is torch.Tensor for x in got.values())
        assert all(p.isfinite().all() for p in model.parameters())
        outcome(convert, str(path), str(target))
        if target.exists():
            assert read_weights(target)
            target.unlink()
        assert list(folder.iterdir()) == [path]

    return check


@pytest.mark.parametrize('kind', weight_files.KINDS)
@pytest.mark.filterwarnings('ignore')  # of torch's younger kinds of tensors
def test_tensors_replaced(kind, check_file, step=8):
    for state in (weight_files.OURS, weight_files.OFFICIAL):
        for key in list(state)[::step]:
            other = weight_files.KINDS[kind](state[key])
            check_file(weight_files.saved({**state, key: other}))


@pytest.mark.slow
@pytest.mark.parametrize('kind', weight_files.KINDS)
@pytest.mark.filterwarnings('ignore')
def test_every_tensor_replaced(kind, check_file):
    test_tensors_replaced(kind, check_file, step=1)


def test_weight_files(check_file):
    examples(check_file, FILES, 300)


@pytest.mark.slow
def test_weight_files_for_long(check_file):
    assert search(check_file, FILES) >= 1000


def test_supervision_sees_what_a_pickle_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w.pth').write_bytes(weight_files.saved(weight_files.Evil()))
    with pytest.raises(AssertionError), supervised():
        torch.load('w.pth', weights_only=False)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('module', [b'builtins', b'__builtin__'])
@pytest.mark.parametrize('pack', [weight_files.rezipped, bytes])
def test_file_that_asks_for_memory(module, pack, tmp_path):
    call = (
        b'c' + module + b'\nbytearray\n(J' + (2**31 - 1).to_bytes(4, 'little')
    )
    path = tmp_path / 'w.pth'
    path.write_bytes(pack(b'\x80\x02' + call + b'tR.'))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match='it asks for bytearray'):
        read_weights(path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000  # kB


@pytest.mark.parametrize('good', ['ZIP', 'LEGACY', 'SAFE'])
def test_undamaged_files_load(good, tmp_path):
    path = tmp_path / 'w.pth'
    path.write_bytes(getattr(weight_files, good))
    load_pretrained(weight_files.backbone(), str(path))
    assert outcome(convert, str(path), str(tmp_path / 'copy.pth'))
    assert (tmp_path / 'copy.pth').exists()

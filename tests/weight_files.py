"""Weight files that are damaged or hostile, as hypothesis strategies."""

import io
import os
import pickle
import struct
import zipfile

import safetensors.torch
import torch
from hypothesis import strategies as st

from pvt_mm.checkpoints.formats import from_ours
from pvt_mm.models.backbones import PVTv2

ARCH = dict(dims=(2, 4), depths=(1, 1), mlp_ratios=(1, 1), heads=(1, 2))
ARCH |= dict(sr_ratios=(2, 1))


def backbone():
    """What the good files among them fit."""
    return PVTv2(ARCH, out_indices=(0, 1))


def saved(content, **options):
    """The bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


OURS = {k: v.detach() for k, v in backbone().state_dict().items()}
OFFICIAL = from_ours(OURS, 'official').state
ZIP = saved({'state_dict': OURS})
LEGACY = saved(OFFICIAL, _use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(OURS)
GOOD = st.sampled_from([ZIP, LEGACY, SAFE])


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self):
        return os.system, ('touch ran',)


# Any file, a few bytes of it changed


@st.composite
def damaged(draw, source=GOOD):
    """A good file with a few bytes changed, most often near an end."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.sampled_from([64, 512, len(data)]))
        at = draw(st.integers(0, max(min(near, len(data)) - 1, 0)))
        at = len(data) - 1 - at if draw(st.booleans()) else at
        size = draw(st.integers(0, 16))
        change = draw(st.sampled_from(['cut', 'flip', 'put', 'drop', 'again']))
        if change == 'cut':
            del data[at:]
        elif change == 'flip' and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == 'put':
            data[at:at] = draw(st.binary(max_size=16))
        elif change == 'drop':
            del data[at : at + size]
        elif change == 'again':
            data[at:at] = data[at : at + size]
    return bytes(data)


# Archives whose pickle is damaged, with the checksums of a good one


def rezipped(pickled, compression=zipfile.ZIP_STORED, records=None):
    """The good archive with another pickle in it."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(ZIP)) as old,
        zipfile.ZipFile(file, 'w', compression) as new,
    ):
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith('data.pkl'):
                content = pickled
            new.writestr(entry.filename, content)
    return file.getvalue()


with zipfile.ZipFile(io.BytesIO(ZIP)) as archive:
    name = next(n for n in archive.namelist() if n.endswith('data.pkl'))
    PICKLE = archive.read(name)

# Pickles of random opcodes that call what they should not, or with too much
NAMES = [
    b'os\nsystem',
    b'builtins\neval',
    b'builtins\ngetattr',
    b'builtins\nbytearray',
    b'torch\nload',
    b'torch\nTensor',
    b'torch\nUntypedStorage',
    b'torch\nFloatStorage',
    b'torch._utils\n_rebuild_tensor_v2',
    b'torch._utils\n_rebuild_sparse_tensor',
    b'torch._utils\n_rebuild_meta_tensor_no_storage',
    b'torch._tensor\n_rebuild_from_type_v2',
    b'collections\nOrderedDict',
    b'collections\ndefaultdict',
    b'numpy._core.multiarray\n_reconstruct',
    b'mmengine.logging.history_buffer\nHistoryBuffer',
    b'argparse\nNamespace',
]
VALUES = [
    *(struct.pack('<cI', b'J', n) for n in (0, 1, 3, 2**31 - 1)),
    b'\x8a\x08' + struct.pack('<q', 2**60),  # LONG1
    b'N',
    b'\x88',
    b'G' + struct.pack('>d', float('nan')),
    b'X' + struct.pack('<I', 3) + b'cpu',
    b'X' + struct.pack('<I', 15) + b'touch ran; true',
    b'X' + struct.pack('<I', 2**32 - 1) + b'short',
    b']',
    b'}',
    b')',
]
OPCODES = st.one_of(
    st.sampled_from(NAMES).map(lambda name: b'c' + name + b'\n'),
    st.sampled_from(VALUES),
    st.sampled_from([b'(', b't', b'\x85', b'R', b'b', b's', b'u', b'Q']),
    st.integers(0, 5).map(lambda n: b'q' + bytes([n])),
    st.integers(0, 5).map(lambda n: b'h' + bytes([n])),
    st.binary(min_size=1, max_size=2),
)
programs = st.lists(OPCODES, max_size=12).map(
    lambda codes: b'\x80\x02' + b''.join(codes) + b'.'
)
calls = st.tuples(
    st.sampled_from(NAMES), st.lists(st.sampled_from(VALUES), max_size=5)
).map(
    lambda call: (
        b'\x80\x02}X\x01\x00\x00\x00ac'
        + call[0]
        + b'\n('
        + b''.join(call[1])
        + b'tRs.'
    )
)
archives = st.one_of(damaged(st.just(PICKLE)), programs, calls).flatmap(
    lambda data: st.sampled_from(
        [rezipped(data), rezipped(data, zipfile.ZIP_DEFLATED), data]
    )
)


# safetensors with absurd headers

lengths = st.sampled_from([0, 1, 2, 8, 2**31, 2**40, 2**63, 2**64 - 1])
entries = st.fixed_dictionaries(
    {
        'dtype': st.sampled_from(['F32', 'F8_E8M0', 'BOOL', 'C64', 'X', '']),
        'shape': st.lists(lengths, max_size=3),
        'data_offsets': st.lists(lengths, max_size=3),
    }
)
headers = st.dictionaries(
    st.sampled_from(['a', '__metadata__', 'stages.0.norm.weight', '']), entries
)


@st.composite
def absurd_headers(draw):
    """A .safetensors file whose header says anything."""
    import json

    header = json.dumps(draw(headers)).encode()
    length = draw(st.one_of(st.just(len(header)), lengths))
    return struct.pack('<Q', length) + header + draw(st.binary(max_size=64))


# Files that are whole, with contents that no backbone has

# What can stand in place of a tensor x.
KINDS = {
    'NaN': lambda x: x * torch.nan,
    'int8': lambda x: x.char(),
    'bool': lambda x: x.bool(),
    'complex': lambda x: x.to(torch.complex64),
    'float8': lambda x: x.to(torch.float8_e4m3fn),
    'half': lambda x: x.half(),
    'double': lambda x: x.double() + 1e300,
    'parameter': lambda x: torch.nn.Parameter(x.float()),
    'transposed': lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    'expanded': lambda x: x[None].expand(10**9, *x.shape),
    'scalar': lambda x: x.flatten()[0],
    'empty': lambda x: x[:0],
    'flat': lambda x: x.flatten(),
    'longer': lambda x: torch.cat([x.flatten(), x.flatten()]),
    'sparse': lambda x: x.to_sparse(),
    'sparse rows': lambda x: x.flatten()[None].to_sparse_csr(),
    'meta': lambda x: x.to('meta'),
    'quantized': lambda x: torch.quantize_per_tensor(x, 1, 0, torch.qint8),
    'nested': lambda x: torch.nested.nested_tensor([x, x]),
    'list': lambda x: [x],
    'dict': lambda x: {'state_dict': {'x': x}},
}
X = torch.arange(6.0).view(2, 3)


keys = st.one_of(
    st.sampled_from(sorted({*OURS, *OFFICIAL})),
    st.sampled_from(
        [
            '',
            '.',
            'module.',
            'block1.0.attn.foo.bar',
            'block01.0.norm1.weight',
            'patch_embed1.proj.weight',
            'stages.0.blocks.0.extra.weight',
            f'block{"9" * 5000}.0.norm1.weight',
            'block\u0661.0.norm1.weight',
            'mhca_stages.0.aggregate.conv.weight',
            'layers.0.1.0.attn.attn.in_proj_weight',
            'encoder.layers.0.blocks.0.attention.key.weight',
            'encoder.layers.0.patch_embedding.proj.weight',
        ]
    ),
    st.text(max_size=8),
    st.integers(),
    st.none(),
)
values = st.recursive(
    st.one_of(
        st.sampled_from(sorted(KINDS)).map(lambda kind: KINDS[kind](X)),
        st.sampled_from(list(OURS.values())),
        st.just(Evil()),
        st.integers(),
        st.none(),
        st.text(max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def changed_states(draw):
    """A good state dict with some entries changed, added or taken away."""
    state = dict(draw(st.sampled_from([OURS, OFFICIAL])))
    for key in draw(st.lists(keys, max_size=3)):
        if draw(st.booleans()):
            state[key] = draw(values)
        else:
            state.pop(key, None)
    wrap = draw(st.sampled_from(['state_dict', 'model', 'ema', '']))
    return {wrap: state} if wrap else state


contents = st.one_of(changed_states(), values)
whole = st.one_of(
    contents.map(saved),
    contents.map(lambda c: saved(c, _use_new_zipfile_serialization=False)),
    values.map(lambda c: pickle.dumps(c, protocol=2)),
)
files = st.one_of(damaged(), archives, absurd_headers(), whole)

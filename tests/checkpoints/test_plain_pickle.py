"""Pickles of predictions: data is read, and nothing in them is called."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch.utils.collect_env import run

from pvt_mm.checkpoints.plain_pickle import read_plain_pickle
from pvt_mm.errors import UsageError


class Calls:
    """Its pickle calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_data(tmp_path, protocol):
    data = {
        'tensor': torch.arange(6.0).view(2, 3).t(),
        'half': torch.ones(2, dtype=torch.bfloat16),
        'mask': torch.tensor([True, False]),
        'size': torch.Size([2, 3]),
        'array': np.arange(4, dtype=np.int16),
        'scalar': np.float32(0.5),
        'rle': {'size': [4, 5], 'counts': b'0`1'},
        'more': OrderedDict(a=(1, 'x', None), b=[True, 0.5]),
        'set': {1},
    }
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(data, protocol))
    found = read_plain_pickle(path)
    assert found.keys() == data.keys()
    for name in ('tensor', 'half', 'mask'):
        assert torch.equal(found.pop(name), data.pop(name))
    assert np.array_equal(found.pop('array'), data.pop('array'))
    assert found == data


def marker_in_a_tensor(path):
    """A pickle inside the bytes of a tensor."""
    inner = pickle.dumps(Calls(os.mknod, path))
    return Calls(torch.storage._load_from_bytes, inner)


HOSTILE = {
    'os': lambda path: Calls(os.mknod, path),
    'eval': lambda path: Calls(eval, f'open({path!r}, "w")'),
    'getattr': lambda path: Calls(getattr, path, 'title'),
    'torch': lambda path: Calls(run, f'touch {path}'),
    'tensor': marker_in_a_tensor,
    'array': lambda path: np.array([Calls(os.mknod, path)], dtype=object),
    'load': lambda path: Calls(torch.load, path),
    'numpy': lambda path: Calls(np.save, path, np.zeros(1)),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_code_is_refused(tmp_path, kind):
    marker, path = str(tmp_path / 'marker'), tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps([{'img_id': HOSTILE[kind](marker)}]))
    with pytest.raises(UsageError, match='x.pkl is no pickle of tensors'):
        read_plain_pickle(path)
    assert not os.path.exists(marker)


def test_damaged_files(tmp_path):
    whole = pickle.dumps([{'scores': torch.ones(3), 'img_id': 7}])
    path = tmp_path / 'x.pkl'
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(UsageError, match='x.pkl is no pickle'):
            read_plain_pickle(path)
    with pytest.raises(UsageError, match='cannot be read: Is a directory'):
        read_plain_pickle(tmp_path)

"""Deterministic weights and inputs, and what the official code made of them.

The numbers in data/golden.json come from the official code in float64
(whai362/PVT 57e2dfa, youngwanLEE/MPViT e2d86e6) with these weights; those in
data/official_keys.csv from its state dicts. Both depend on names and shapes
only.
"""

import csv
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from pvt_mm.checkpoints.formats import from_ours, to_ours
from pvt_mm.families import FAMILIES, split_name

DATA = Path(__file__).parent / 'data'
GOLDEN = json.loads((DATA / 'golden.json').read_text())
with open(DATA / 'official_keys.csv', newline='') as file:
    OFFICIAL = {row['variant']: row for row in csv.DictReader(file)}
DENSE = [name for name in OFFICIAL if not name.startswith('cls_')]


def build(variant: str, **options: object) -> nn.Module:
    """The backbone of a name such as pvt_v2_b0, or a cls_ classifier."""
    name = variant.removeprefix('cls_')
    family, arch = split_name(name)
    cfg = {'type': FAMILIES[family].backbone, 'arch': arch, **options}
    if variant.startswith('cls_'):
        cfg['out_indices'] = (3,)
        if family == 'pvt':
            cfg['class_token'] = True
        cfg = {'type': 'PyramidClassifier', 'backbone': cfg}
    return MODELS.build(cfg)


def random_state(model: nn.Module) -> dict[str, Tensor]:
    """A state dict of random values, so that no two tensors are equal."""
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }


def fill(model: nn.Module) -> nn.Module:
    """Give a model the golden weights, through the official names."""
    names = from_ours(model.state_dict(), 'official').state
    state = {key: weight(key, tuple(t.shape)) for key, t in names.items()}
    model.load_state_dict(to_ours(state).state)
    return model


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of an official parameter."""
    # All names of a shared encoding mean the encoder's own tensor.
    layer = r'\.MHCA_layers\.\d+\.(?:factoratt_crpe\.(?=crpe))?(crpe|cpe)\.'
    name = re.sub(layer, r'.\1.', name)
    last = name.rsplit('.', 1)[-1]
    if last == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.int64)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    n = random.standard_normal(shape)
    if last == 'running_mean':
        n = 0.1 * n
    elif last == 'running_var':
        n = 1 + 0.1 * abs(n)
    elif last.startswith('pos_embed') or last == 'cls_token':
        n = 0.02 * n
    elif len(shape) == 1:
        n = 1 + 0.1 * n if last == 'weight' else 0.02 * n
    else:
        n = n / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(n.astype(np.float32))


def image(shape: tuple[int, ...]) -> Tensor:
    """The golden input of that shape, float32."""
    seed = zlib.crc32(f'input:{shape}'.encode())
    n = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(n.astype(np.float32))


def digest(state: Mapping[str, Tensor]) -> str:
    """A hash of all names and shapes."""
    lines = sorted(
        f'{k} {"x".join(map(str, t.shape))}' for k, t in state.items()
    )
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()

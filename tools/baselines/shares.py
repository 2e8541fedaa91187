"""Profile our backbones: the share of each kind of operation."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from pvt_mm.benchmark.measure import run
from pvt_mm.benchmark.rows import Case, table
from pvt_mm.models.backbones import build_backbone

# Kind of operation: beginnings of the names of PyTorch's operators.
KINDS = {
    'products': ('mm', 'addmm', 'bmm', 'baddbmm'),
    'convolutions': (
        'mkldnn_convolution',
        'convolution',
        'conv',
        '_slow_conv',
    ),
    'attention': ('_scaled_dot_product',),
    'activations': ('gelu', 'hardswish', 'relu', 'threshold', '_softmax'),
    'norms': ('native_layer_norm', 'native_batch_norm'),
    'copies, fills': ('copy_', 'fill_', 'zero_', 'cat', 'clone'),
    'sums, scalings': ('add', 'mul', 'sum', 'div', 'mean'),
}
OTHER = 'all else'
# Operators that compute convolutions: products of each.
CONVOLUTIONS = {'aten::mkldnn_convolution': 1, 'aten::convolution_backward': 2}
# Those with a speed: PyTorch miscounts depthwise gradients.
RATED = ('products', 'attention')

ATTENTION = '_scaled_dot_product_flash_attention_for_cpu'
# PyTorch itself counts the attention of GPUs only.
COUNTED = {
    getattr(torch.ops.aten, ATTENTION): (
        lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    ),
    getattr(torch.ops.aten, f'{ATTENTION}_backward'): (
        lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
    ),
}


class Share(NamedTuple):
    """One kind of operation in one call of our backbone.

    Args:
        name, height, width, task: as in Case.
        kind: a name in KINDS, or OTHER.
        seconds: spent in it.
        share: of the call, from 0 to 1.
        gflops: 10^9 operations a second (a multiply-add is two), where they
            can be counted, else 0.
    """

    name: str
    height: int
    width: int
    task: str
    kind: str
    seconds: float
    share: float
    gflops: float


def kind_of(operator: str) -> str:
    """The kind of an operator such as 'aten::addmm'."""
    name = operator.partition('::')[2].partition('.')[0]
    return next((k for k, v in KINDS.items() if name.startswith(v)), OTHER)


def profile_case(case: Case) -> list[Share]:
    """Profile our backbone of a case on the CPU, largest share first."""
    torch.manual_seed(0)
    model = build_backbone(case.name)
    image = torch.randn(case.batch, 3, *case.size)
    run(model, image, case.task)
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        run(model, image, case.task)
    run(model, image, case.task)
    activities = [ProfilerActivity.CPU]
    with profile(activities=activities, record_shapes=True) as profiler:
        run(model, image, case.task)
    events = profiler.key_averages(group_by_input_shape=True)
    found = seconds_by_kind(events)
    flops: dict[str, float] = dict.fromkeys(found, 0)
    flops['products'] = sum(map(pointwise_flops, events))
    for operator, count in counter.get_flop_counts()['Global'].items():
        kind = kind_of(str(operator).replace('.', '::', 1))
        if kind in RATED:
            flops[kind] += count
    total = sum(found.values())
    return [
        Share(
            *(case.name, *case.size, case.task, kind),
            *(seconds, seconds / total, flops[kind] / seconds / 1e9),
        )
        for kind, seconds in sorted(found.items(), key=lambda x: -x[1])
    ]


def seconds_by_kind(events: Iterable[FunctionEventAvg]) -> dict[str, float]:
    """Seconds of each kind of operation."""
    found: dict[str, float] = {}
    for event in events:
        kind = kind_of(event.key)
        if pointwise_flops(event):
            kind = 'products'
        found[kind] = found.get(kind, 0) + event.self_cpu_time_total / 1e6
    return found


def pointwise_flops(event: FunctionEventAvg) -> int:
    """Operations of convolutions with a window of one cell; 0 for others.

    These are products: the linear layers of layers/cpu.py.
    """
    products = CONVOLUTIONS.get(event.key, 0)
    shapes = [s for s in event.input_shapes if len(s) == 4]
    if not products or shapes[-1][2:] != [1, 1]:
        return 0
    image, weight = shapes[-2:]
    cells = prod(image) // image[1]
    return 2 * products * event.count * cells * prod(weight)


def shares_table(found: Sequence[Share]) -> str:
    """A row per case, a column per kind: per cent and GFLOP/s."""
    kinds = [*KINDS, OTHER]
    lines = []
    for case in dict.fromkeys(s[:4] for s in found):
        cells = {s.kind: cell(s) for s in found if s[:4] == case}
        name, height, width, task = case
        values = (cells.get(kind, '') for kind in kinds)
        lines.append((name, f'{height} x {width}', task, *values))
    return table(('backbone', 'image', 'task', *kinds), lines)


def cell(share: Share) -> str:
    """Per cent of the call, with the speed where it was counted."""
    speed = f' ({share.gflops:.0f} GFLOP/s)' if share.gflops else ''
    return f'{100 * share.share:.0f} %{speed}'

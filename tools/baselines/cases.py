"""The cases that are measured, and the goals for them."""

from collections.abc import Sequence
from typing import NamedTuple

from pvt_mm.benchmark.rows import Case, Row
from pvt_mm.benchmark.variants import OURS


class Goal(NamedTuple):
    """A bound on the speed or the memory of one case.

    Args:
        name: of the backbone.
        size: of the image.
        task: as in Case.
        field: 'speed', how often faster ours is than ``model``; 'memory',
            the MiB that ``model`` saves for the backward pass; 'share', our
            MiB as a part of those of ``model``.
        model: name of a variant or baseline.
        bound: at least this speed, at most this memory or share.
    """

    name: str
    size: tuple[int, int]
    task: str
    field: str
    model: str
    bound: float

    def measured(self, rows: Sequence[Row]) -> float | None:
        """The value in the measurements; None if it is not there."""
        found = {
            row.model: row
            for row in rows
            if (row.name, (row.height, row.width), row.task) == self[:3]
            and (row.batch, row.precision) == (1, 'float32')
        }
        if not {self.model, OURS} <= set(found):
            return None
        ours, other = found[OURS], found[self.model]
        if self.field == 'speed':
            return other.seconds / ours.seconds
        if self.field == 'memory':
            return other.saved
        return ours.saved / other.saved

    def met(self, value: float) -> bool:
        """Whether a measured value is on the right side of the bound."""
        if self.field == 'speed':
            return value >= self.bound
        return value <= self.bound


BIG, SQUARE = (800, 1344), (512, 512)
B2_BASELINES = ('timm', 'transformers', 'mmdet')

CASES = (
    Case(
        'pvt_v2_b2', SQUARE, 'inference', (*B2_BASELINES, 'ours compiled'), 9
    ),
    Case('pvt_v2_b2', SQUARE, 'training', (*B2_BASELINES, 'ours with_cp')),
    Case('pvt_v2_b2', BIG, 'inference', B2_BASELINES),
    Case(
        *('pvt_v2_b2', BIG, 'training'),
        ('timm', 'mmdet', 'ours with_cp'),  # transformers: 16 GiB and more
        3,
    ),
    Case(
        'mpvit_small',
        SQUARE,
        'inference',
        ('official structure', 'ours fused'),
        9,
    ),
    Case(
        'mpvit_small',
        SQUARE,
        'training',
        ('official structure', 'ours with_cp'),
    ),
    Case('pvt_small', SQUARE, 'inference', ('mmdet',)),
    Case('pvt_small', SQUARE, 'training', ('mmdet', 'ours with_cp')),
    Case('pvt_v2_b2_li', SQUARE, 'training', ('timm', 'transformers')),
    *(
        Case('pvt_v2_b2_li', (side, side), 'inference', ('timm',))
        for side in (256, 512, 768, 1024)
    ),
)
PROFILED = tuple(
    case for case in CASES if case.name in ('pvt_v2_b2', 'mpvit_small')
)
CASES_CUDA = tuple(
    Case('pvt_v2_b2', BIG, task, ('timm', 'mmdet', 'ours compiled'), 20, 2, p)
    for p in ('float32', 'tf32', 'bf16')
    for task in ('inference', 'training')
)

# For one image, float32, two threads of the CPU.
GOALS = (
    Goal('pvt_v2_b2', BIG, 'inference', 'speed', 'timm', 2.0),
    Goal('pvt_v2_b2', BIG, 'inference', 'speed', 'mmdet', 2.8),
    Goal('pvt_v2_b2', SQUARE, 'inference', 'speed', 'timm', 2.0),
    Goal('pvt_v2_b2', SQUARE, 'inference', 'speed', 'mmdet', 1.9),
    Goal('pvt_v2_b2', BIG, 'training', 'speed', 'timm', 1.6),
    Goal('pvt_v2_b2', BIG, 'training', 'speed', 'mmdet', 2.8),
    Goal('pvt_v2_b2', SQUARE, 'training', 'speed', 'timm', 1.6),
    Goal('pvt_v2_b2', SQUARE, 'training', 'speed', 'mmdet', 1.4),
    Goal('pvt_v2_b2', BIG, 'training', 'memory', 'ours', 1650),
    Goal('pvt_v2_b2', BIG, 'training', 'memory', 'ours with_cp', 700),
    Goal(
        'mpvit_small', SQUARE, 'inference', 'speed', 'official structure', 1.5
    ),
    Goal(
        'mpvit_small', SQUARE, 'training', 'speed', 'official structure', 1.4
    ),
    Goal(
        'mpvit_small', SQUARE, 'training', 'share', 'official structure', 0.55
    ),
)

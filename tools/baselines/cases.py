"""The cases that are measured, and the goals for them."""

from collections.abc import Sequence
from typing import NamedTuple

from pvt_mm.benchmark.rows import Case, Row
from pvt_mm.benchmark.variants import OURS, UNOPTIMIZED


class Goal(NamedTuple):
    """A bound on the speed or the memory of one case.

    Args:
        maker: of the processor: the beginning of its name.
        name: of the backbone.
        size: of the image.
        task: as in Case.
        field: 'speed', how often faster ours is than ``model``; 'share',
            the MiB that ours saves for the backward pass with with_cp, as a
            part of those of ``model``.
        model: name of a variant or baseline.
        bound: at least this speed, at most this share.
    """

    maker: str
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
            if (row.name, (row.height, row.width), row.task) == self[1:4]
            and (row.batch, row.precision) == (1, 'float32')
        }
        name = OURS if self.field == 'speed' else f'{OURS} with_cp'
        if not {self.model, name} <= set(found):
            return None
        ours, other = found[name], found[self.model]
        if self.field == 'speed':
            return other.seconds / ours.seconds
        return ours.saved / other.saved

    def met(self, value: float) -> bool:
        """Whether a measured value is on the right side of the bound."""
        if self.field == 'speed':
            return value >= self.bound
        return value <= self.bound


def least(rows: Sequence[Row]) -> float | None:
    """The smallest speed of ours beside that of the unoptimized layers.

    None if none was measured.
    """
    ours = {row[:6]: row.seconds for row in rows if row.model == OURS}
    speeds = [
        row.seconds / ours[row[:6]] for row in rows if row.model == UNOPTIMIZED
    ]
    return min(speeds, default=None)


BIG, SQUARE = (800, 1344), (512, 512)
B2_MODELS = (UNOPTIMIZED, 'timm', 'mmdet')

CASES = (
    Case('pvt_v2_b2', SQUARE, 'inference', (*B2_MODELS, 'ours compiled'), 9),
    Case('pvt_v2_b2', SQUARE, 'training', (*B2_MODELS, 'ours with_cp')),
    Case('pvt_v2_b2', BIG, 'inference', B2_MODELS),
    Case('pvt_v2_b2', BIG, 'training', (*B2_MODELS, 'ours with_cp'), 3),
    *(
        Case('pvt_v2_b2', (side, side), task, (UNOPTIMIZED,), 15)
        for side in (224, 320)
        for task in ('inference', 'training')
    ),
    *(
        Case('pvt_v2_b2', SQUARE, task, (UNOPTIMIZED,), 9, 1, 'bf16')
        for task in ('inference', 'training')
    ),
    Case(
        *('mpvit_small', SQUARE, 'inference'),
        (UNOPTIMIZED, 'official structure', 'ours fused'),
        9,
    ),
    Case(
        *('mpvit_small', SQUARE, 'training'),
        (UNOPTIMIZED, 'official structure', 'ours with_cp'),
    ),
    Case('pvt_small', SQUARE, 'inference', (UNOPTIMIZED, 'mmdet')),
    Case(
        *('pvt_small', SQUARE, 'training'),
        (UNOPTIMIZED, 'mmdet', 'ours with_cp'),
    ),
    Case('pvt_v2_b2_li', SQUARE, 'training', (UNOPTIMIZED, 'timm')),
    *(
        Case(
            *('pvt_v2_b2_li', (side, side), 'inference'),
            (UNOPTIMIZED, 'timm'),
        )
        for side in (256, 512, 768, 1024)
    ),
)
PROFILED = tuple(
    case for case in CASES if case.name in ('pvt_v2_b2', 'mpvit_small')
)

# For one image, float32, two threads of a CPU with AVX-512.
GOALS = tuple(
    Goal(maker, 'pvt_v2_b2', size, task, 'speed', model, bound)
    for maker, size, task, model, bound in (
        ('AMD', SQUARE, 'training', 'mmdet', 1.5),
        ('AMD', SQUARE, 'training', 'timm', 1.8),
        ('AMD', BIG, 'training', 'mmdet', 3.2),
        ('AMD', BIG, 'training', 'timm', 2.1),
        ('AMD', SQUARE, 'inference', 'mmdet', 2.8),
        ('AMD', SQUARE, 'inference', 'timm', 3.4),
        ('AMD', BIG, 'inference', 'mmdet', 3.8),
        ('AMD', BIG, 'inference', 'timm', 2.9),
        ('Intel', SQUARE, 'training', 'mmdet', 1.35),
        ('Intel', SQUARE, 'training', 'timm', 1.6),
        ('Intel', BIG, 'training', 'mmdet', 2.1),
        ('Intel', BIG, 'training', 'timm', 1.7),
        ('Intel', SQUARE, 'inference', 'mmdet', 2.0),
        ('Intel', SQUARE, 'inference', 'timm', 2.2),
        ('Intel', BIG, 'inference', 'mmdet', 3.0),
        ('Intel', BIG, 'inference', 'timm', 2.5),
    )
) + tuple(
    Goal('', *('mpvit_small', SQUARE, task, field), model, bound)
    for task, field, model, bound in (
        ('inference', 'speed', 'official structure', 1.9),
        ('training', 'speed', 'official structure', 1.35),
        ('training', 'share', 'official structure', 0.55),
    )
)

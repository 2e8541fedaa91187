"""What is measured beside what, and what it should reach."""

from typing import NamedTuple

US = 'ours'


class Case(NamedTuple):
    """Contestants that take turns on one image.

    Args:
        name: of the backbone.
        size: height and width of the image.
        task: 'inference' or 'training' (forward and backward).
        who: names in contestants.MAKERS besides ours.
        rounds: measured calls of each.
        batch: images at a time.
        precision: one of measure.PRECISIONS.
    """

    name: str
    size: tuple[int, int]
    task: str
    who: tuple[str, ...] = ()
    rounds: int = 5
    batch: int = 1
    precision: str = 'float32'


class Goal(NamedTuple):
    """How often faster than a contestant, or how many MiB at most.

    Args:
        name: of the backbone.
        size: of the image.
        task: as in Case.
        field: 'speed', how often faster we are than ``who``; 'memory', the
            MiB that ``who`` keeps for the backward pass; 'share', our MiB
            as a part of those of ``who``.
        who: a contestant.
        bound: at least this speed, at most this memory or share.
    """

    name: str
    size: tuple[int, int]
    task: str
    field: str
    who: str
    bound: float


BIG, SQUARE = (800, 1344), (512, 512)
B2_PEERS = ('timm', 'transformers', 'mmdet')

CASES = (
    Case('pvt_v2_b2', SQUARE, 'inference', (*B2_PEERS, 'ours compiled'), 9),
    Case('pvt_v2_b2', SQUARE, 'training', (*B2_PEERS, 'ours with_cp')),
    Case('pvt_v2_b2', BIG, 'inference', B2_PEERS),
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

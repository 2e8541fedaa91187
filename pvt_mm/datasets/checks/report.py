"""The findings of the data checks, and how they are printed."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ...errors import printable

# This share of the images may be unreadable; training skips them.
SHARE = 0.01
FEW = 4  # classes that are named in one line


class Finding(NamedTuple):
    """One sentence about one sample, annotation or file.

    Attributes:
        kind: what all findings of this kind have in common.
        error: whether it must be fixed before a run.
        text: the sentence; it names file and id.
    """

    kind: str
    error: bool
    text: str


class Use(NamedTuple):
    """What a run does with an annotation file.

    Attributes:
        path: the file, as messages name it.
        classes: names that the model learns, in the order of its labels.
        masks: whether segmentations are read.
        scored: whether it is for an evaluation, not for training.
    """

    path: str
    classes: Collection[str]
    masks: bool
    scored: bool


def error(kind: str, text: str) -> Finding:
    """A finding that must be fixed before a run."""
    return Finding(kind, True, text)


def warning(kind: str, text: str) -> Finding:
    """A finding that a run can cope with."""
    return Finding(kind, False, text)


def some(findings: Iterable[Finding]) -> list[Finding]:
    """The first finding of each kind, with the number of the others."""
    first: dict[str, Finding] = {}
    counts: Counter[str] = Counter()
    for finding in findings:
        first.setdefault(finding.kind, finding)
        counts[finding.kind] += 1
    return [
        one
        if counts[kind] == 1
        else one._replace(text=f'{one.text}; {counts[kind]:,} {kind} in all')
        for kind, one in first.items()
    ]


def counted(number: int, noun: str) -> str:
    """'1 error', '2 errors'."""
    return f'{number:,} {noun}{"s" * (number != 1)}'


def allowed(images: int, share: float = SHARE) -> int:
    """How many of some images training may skip: the share, rounded up."""
    return math.ceil(share * images)


def lines(findings: Iterable[Finding], each: int) -> Iterator[str]:
    """Sentences by kind, errors first.

    Args:
        findings: in any order.
        each: how many sentences of a kind; the rest is counted.
    """
    kinds = defaultdict(list)
    for finding in findings:
        kinds[not finding.error, finding.kind].append(finding.text)
    for (harmless, kind), texts in sorted(kinds.items()):
        label = 'warning' if harmless else 'error'
        yield from (f'{label}: {printable(text)}' for text in texts[:each])
        if len(texts) > each:
            yield f'{label}: {len(texts) - each:,} more: {kind}'

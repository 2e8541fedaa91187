"""What was found in the data of a run."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

# This share of the images may be unreadable; training skips them.
SHARE = 0.01


class Finding(NamedTuple):
    """One sentence about one thing.

    Attributes:
        kind: what all findings of this sort have in common.
        mend: whether the run must not start with it.
        text: the sentence; it names file and id.
    """

    kind: str
    mend: bool
    text: str


class Use(NamedTuple):
    """What a run does with an annotation file.

    Attributes:
        path: the file, as messages name it.
        classes: names that the run learns.
        masks: it reads segmentations.
        scored: it evaluates with them, and does not train.
    """

    path: str
    classes: Collection[str]
    masks: bool
    scored: bool


def name(annotation: Mapping) -> str:
    """An annotation, as messages name it."""
    return f'annotation {annotation["id"]} of image {annotation["image_id"]}'


def mend(kind: str, text: str) -> Finding:
    """Something that the run must not start with."""
    return Finding(kind, True, text)


def note(kind: str, text: str) -> Finding:
    """Something that the run copes with."""
    return Finding(kind, False, text)


def allowed(images: int, share: float = SHARE) -> int:
    """How many of some images training may skip: at least one."""
    return math.ceil(share * images)


def lines(findings: Iterable[Finding], each: int) -> Iterator[str]:
    """Sentences by kind, what must be mended first.

    Args:
        findings: in any order.
        each: how many sentences of a kind; the rest is counted.
    """
    kinds = defaultdict(list)
    for finding in findings:
        kinds[not finding.mend, finding.kind].append(finding.text)
    for (harmless, kind), texts in sorted(kinds.items()):
        label = 'note' if harmless else 'mend'
        yield from (f'{label}: {text}' for text in texts[:each])
        if len(texts) > each:
            yield f'{label}: {len(texts) - each:,} more: {kind}'

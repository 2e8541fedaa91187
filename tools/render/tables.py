"""Markdown tables of published results: a line per config or backbone."""

from collections.abc import Iterable, Mapping, Sequence

from pvt_mm.benchmark.rows import table
from pvt_mm.reproduction.results import KINDS, Row

# Metrics of a method, in the order shown, and how they are headed.
SHOWN = {
    'classifier': (('top1',), 'top-1'),
    'mask_rcnn': (('box_AP', 'mask_AP'), 'box / mask AP'),
    'cascade_mask_rcnn': (('box_AP', 'mask_AP'), 'box / mask AP'),
    'semantic_fpn': (('mIoU',), 'mIoU'),
    'upernet': (('mIoU',), 'mIoU'),
}
BOX = (('box_AP',), 'box AP')
HEAD = ('config', 'metric', *KINDS)
# Column of the zoo -> what stands around a backbone in a config's name.
ZOO = {
    'ImageNet top-1': 'classifier_{}_imagenet',
    'RetinaNet 1x': 'retinanet_{}_coco',
    'Mask R-CNN 1x': 'mask_rcnn_{}_coco',
    'Semantic FPN': 'semantic_fpn_{}_ade20k',
    'UPerNet': 'upernet_{}_ade20k',
}


def shown(name: str) -> tuple[tuple[str, ...], str]:
    """The metrics of a config by its name, and their heading."""
    fits = [method for method in SHOWN if name.startswith(method + '_')]
    return SHOWN[max(fits, key=len)] if fits else BOX


def cell(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The first row's numbers that are there, as printed."""
    for row in rows:
        values = [row.metrics.get(metric, '-') for metric in metrics]
        if set(values) != {'-'}:
            return ' / '.join(values)
    return ''


def by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that have a config, by its name."""
    groups = {}
    for row in rows:
        if not row.no_config:
            groups.setdefault(row.name, []).append(row)
    return groups


def by_source(rows: Sequence[Row]) -> str:
    """One line per config, one column per kind of source."""
    lines = []
    for name, group in by_name(rows).items():
        metrics, heading = shown(name)
        cells = [
            cell([row for row in group if row.kind == kind], metrics)
            for kind in KINDS
        ]
        lines.append((f'[{name}](../configs/{name}.py)', heading, *cells))
    return table(HEAD, lines)


def zoo(families: Iterable[Sequence[Row]]) -> str:
    """One line per backbone: the best-trusted number of each column.

    Args:
        families: the rows of each family; its backbones come by size.
    """
    lines = []
    for rows in families:
        sized = [zoo_line(arch, by_name(rows)) for arch in archs(rows)]
        lines += [line for _, line in sorted(sized)]
    return table(('backbone', 'parameters', *ZOO), lines)


def archs(rows: Sequence[Row]) -> list[str]:
    """The backbones that have a classifier."""
    first, last = ZOO['ImageNet top-1'].split('{}')
    return [
        name.removeprefix(first).removesuffix(last)
        for name in by_name(rows)
        if name.startswith(first) and name.endswith(last)
    ]


def zoo_line(
    arch: str, groups: Mapping[str, Sequence[Row]]
) -> tuple[float, tuple[str, ...]]:
    """Millions of parameters of a backbone with its head, and its cells."""
    configs = [form.format(arch) for form in ZOO.values()]
    found = [groups.get(config, ()) for config in configs]
    millions = next(row.params for row in found[0] if row.params)
    links = [
        link(config, cell(group, shown(config)[0]))
        for config, group in zip(configs, found, strict=True)
    ]
    return float(millions), (f'`{arch}`', f'{millions} M', *links)


def link(config: str, number: str) -> str:
    """A number that leads to its config."""
    return number and f'[{number}](configs/{config}.py)'

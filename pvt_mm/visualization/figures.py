"""Plots with matplotlib, written whole or not at all."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from ..checkpoints.atomic import write_whole  # noqa: E402

COLOURS = ('#e6194b', '#0050ff', '#00a040', '#b000c8', '#d06000')


def plot(axes: Axes, points: Sequence[tuple], name: str, **style) -> None:
    """A curve through points (x, y), named in the legend; nothing if none.

    Args:
        axes: to draw on.
        points: (x, y) each.
        name: for the legend.
        style: as matplotlib's ``plot`` takes it.
    """
    if points:
        axes.plot(*zip(*points, strict=True), label=name, **style)


def label(axes: Axes, **texts) -> None:
    """Set the labels of the axes, and add a grid and a legend."""
    axes.set(**texts)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='best', fontsize=8)


def save(figure: Figure, file: str | Path) -> None:
    """Write a figure in the format of its ending, and free its memory.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    content = BytesIO()
    figure.savefig(content, format=Path(file).suffix[1:], dpi=100)
    pyplot.close(figure)
    write_whole(file, content.getvalue())

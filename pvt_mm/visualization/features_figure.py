"""Draw feature maps and attention beside their image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .figures import pyplot, save

COLUMNS = 4  # where one stage is shown
SHADE = 0.65  # of attention over the image


class Panel(NamedTuple):
    """A part of the picture.

    Attributes:
        title: above it.
        values: a map (H, W) or (H, W, 3) in [0, 1], or weights (H, W).
        covers: for weights, the share of the image below them, in height
            and width.
        query: whether the query is marked.
    """

    title: str
    values: np.ndarray
    covers: tuple[float, float] | None = None
    query: bool = False


def draw_panels(
    file,
    image: np.ndarray,
    panels: Sequence[Panel],
    at: tuple[float, float],
    title: str,
    *,
    wide: bool,
) -> None:
    """Draw the image and the panels in one figure, and write it.

    Args:
        file: picture to write.
        image: RGB (H, W, 3).
        panels: what to show beside it; those of weights lie over it.
        at: the query, as shares of height and width.
        title: of the picture.
        wide: maps in the first row, as many weights in the second.
    """
    marked = any(panel.query for panel in panels)
    cells = [Panel('image', image, None, marked), *panels]
    columns = COLUMNS
    if wide:
        columns = 1 + len(panels) // 2
        cells.insert(columns, None)  # nothing below the image
    rows = -(-len(cells) // columns)
    height = 2.6 * min(max(image.shape[0] / image.shape[1], 0.4), 2) + 0.4
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(2.6 * columns, height * rows + 0.4),
        layout='constrained',
        squeeze=False,
    )
    figure.suptitle(title, fontsize=10, wrap=True)
    for axes in grid.flat:
        axes.axis('off')
    for axes, cell in zip(grid.flat, cells, strict=False):
        if cell:
            draw_panel(axes, image, cell, at)
    save(figure, file)


def draw_panel(axes, image: np.ndarray, panel: Panel, at: tuple) -> None:
    """Draw one part of the picture.

    Args:
        axes: to draw on; its coordinates are pixels of the image.
        image: RGB (H, W, 3), under weights.
        panel: what to draw.
        at: the query, as shares of height and width.
    """
    height, width = image.shape[:2]
    title = panel.title
    if panel.covers is None:
        axes.imshow(panel.values, extent=(0, width, height, 0))
    else:
        low, high = panel.values.min(), panel.values.max()
        title += f'\n{low:.2g} to {high:.2g}'
        down, right = panel.covers
        grey = image.mean(2)
        axes.imshow(grey, cmap='gray', extent=(0, width, height, 0))
        axes.imshow(
            panel.values,
            extent=(0, width * right, height * down, 0),
            cmap='inferno',
            alpha=SHADE,
            interpolation='nearest',
        )
        axes.set(xlim=(0, width), ylim=(height, 0))
    if panel.query:
        place = (at[1] * width, at[0] * height)
        axes.plot(*place, 'o', ms=6, mfc='none', mec='#00ff60', mew=1.8)
    axes.set_title(title, fontsize=8)

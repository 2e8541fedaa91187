"""Draw what is in a data set: histograms beside painted samples."""

from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch.utils.data import Dataset

from ..datasets.checks.contents import Contents
from .browse import Batches
from .figures import COLOURS, pyplot, save

SAMPLES = 6
MOST = 30  # classes that have a bar


def draw_contents(
    file: Path, contents: Contents, cfg: Config, dataset: Dataset
) -> None:
    """Draw the numbers of a split, and six images as the network gets them.

    Args:
        file: picture to write.
        contents: of the split.
        cfg: of the run.
        dataset: of the split.

    Raises:
        UsageError: it cannot be written.
    """
    figure = pyplot.figure(figsize=(15, 9), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    histograms = 1 + bool(contents.sizes) + bool(contents.areas)
    bars, *others = np.ravel(left.subplots(histograms, 1))
    labels = range(len(contents.classes))
    order = sorted(labels, key=lambda i: -contents.counts[i])[:MOST]
    names = [contents.classes[label] for label in order]
    values = [contents.counts[label] for label in order]
    bars.bar(range(len(names)), values, color=COLOURS[1])
    bars.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    bars.set_title(f'{contents.unit} of each class ({contents.split})')
    if contents.areas:
        plot = others.pop()
        plot.hist(np.sqrt(contents.areas), bins=40, color=COLOURS[2])
        plot.set_title('boxes: square root of the area, in pixels')
    if contents.sizes:
        for side, name, colour in zip(
            zip(*contents.sizes, strict=True),
            ('height', 'width'),
            COLOURS,
            strict=False,
        ):
            others[0].hist(side, bins=40, alpha=0.5, label=name, color=colour)
        others[0].set_title('images: height and width, in pixels')
        others[0].legend(fontsize=8)
    batches = Batches(cfg, contents.split, dataset=dataset)
    for plot, view in zip(
        right.subplots(SAMPLES // 2, 2).flat,
        islice(batches, SAMPLES),
        strict=False,
    ):
        plot.imshow(batches.draw(view)[..., ::-1])
    for plot in right.axes:
        plot.set_axis_off()
    save(figure, file)

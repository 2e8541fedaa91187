"""The models of the demo page: choose one, run it on an image, draw."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..datasets.checks.files import by, header
from ..errors import UsageError
from ..inference import Predictor
from ..inference.results import Result, draw_result, infer_items, label_map
from ..inference.sources import Item

UPLOAD = 'the uploaded image'  # what messages call it
PIXELS = 25_000_000  # of an image, at most: 2 GB and some seconds


class Run(NamedTuple):
    """A config and the weights that were trained with it.

    Attributes:
        config: file, or the name of one of ours.
        weights: file of the whole model.
    """

    config: str
    weights: str


def find_runs(root: Path) -> dict[str, Run]:
    """The trained models below a folder such as work_dirs, by their name."""
    runs = {}
    for mark in sorted(root.glob('**/last_checkpoint')):
        name = mark.read_text(errors='replace').strip()
        weights = mark.parent / Path(name).name
        configs = list(mark.parent.glob('*.py'))
        if weights.is_file() and configs:
            name = str(mark.parent.relative_to(root))
            newest = max(configs, key=lambda path: path.stat().st_mtime)
            runs[name] = Run(str(newest), str(weights))
    return runs


class Models:
    """The models of a page; only the one in use is in memory.

    Args:
        runs: name that is shown -> config and weights.
        device: cpu, cuda or cuda:N; None for a GPU if there is one.
    """

    def __init__(
        self, runs: Mapping[str, Run], device: str | None = None
    ) -> None:
        self.runs = runs
        self.device = device
        self.loaded: tuple[str, Predictor] | None = None

    def predictor(self, name: str) -> Predictor:
        """The model of a name, built when it is first asked for."""
        if self.loaded is None or self.loaded[0] != name:
            self.loaded = None  # two would not fit into a small memory
            run = self.runs[name]
            predictor = Predictor(run.config, run.weights, self.device)
            self.loaded = name, predictor
        return self.loaded[1]

    def show(
        self, image: str | None, name: str, score: float
    ) -> tuple[np.ndarray, list[list]]:
        """What a model finds in an image.

        Args:
            image: the uploaded file.
            name: of the model.
            score: objects below are left out.

        Returns:
            the picture, RGB (H', W', 3), and rows of class and score
            (label maps: class and share of the pixels).

        Raises:
            UsageError: there is no image, or the model cannot take it.
            CheckpointError: the weights cannot be read or do not fit.
        """
        if image is None:
            raise UsageError('choose an image first')
        size = header(image)[1]
        if size and math.prod(size) > PIXELS:
            raise UsageError(
                f'{UPLOAD} has {by(size)} pixels, more than {PIXELS:,}'
            )
        predictor = self.predictor(name)
        item = Item(1, UPLOAD, Path(image))
        (result,) = infer_items(predictor, [item], score, 1)
        if result.sample is None:
            raise UsageError(result.fault.replace(image, UPLOAD))
        rows = list_found(result, predictor)
        return draw_result(result, predictor)[..., ::-1], rows


def list_found(result: Result, predictor: Predictor) -> list[list]:
    """Class and score of each object, or class and share of the pixels."""
    names = predictor.names
    if not predictor.semantic:
        found = result.sample.pred_instances
        pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        return [[names[label], round(score, 3)] for label, score in pairs]
    labels = label_map(result.sample)
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts)
    return [
        [names[found[i]], round(float(counts[i] / labels.size), 3)]
        for i in order
    ]

"""Compare the classes of a model and of its data sets."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from torch.utils.data import DataLoader

from ...config.checks import is_infinite
from ...config.data_files import no_images
from ...config.schema import walk
from ...errors import UsageError
from .fault_tolerant_pipeline import inner
from .report import FEW, Finding, error

# Parts whose num_classes must be the data set's; an RPN has its own.
PART = re.compile(
    r'(((^|\.)(bbox|mask|decode|auxiliary|cls)_head(\.\d+)?|^data_preprocessor)'
    r'\.|^)num_classes$'
)


def check_dataset(cfg: Config, dataset: Any) -> None:
    """Check that a built data set has samples, and the classes of the model.

    A wrong number of classes would be an IndexError after the first epoch.

    Raises:
        UsageError: it has none, or another number.
    """
    if len(dataset) == 0:
        raise UsageError(no_images(cfg.train_dataloader.dataset))
    for part in inner(dataset):
        metainfo = getattr(part, 'metainfo', None) or {}
        check_classes(cfg, metainfo.get('classes') or ())


def check_batches(cfg: Config, loader: DataLoader) -> None:
    """Check that a training's data loader has a batch.

    Raises:
        UsageError: drop_last leaves none.
    """
    if len(loader) == 0 and not is_infinite(cfg.train_dataloader):
        raise UsageError(
            f'train_dataloader.drop_last leaves no batch of '
            f'{cfg.train_dataloader.batch_size} among {len(loader.dataset)} '
            'images: set a smaller batch_size'
        )


def check_classes(cfg: Config, classes: Collection[str]) -> None:
    """Check num_classes of every part against the classes of the data set.

    Args:
        cfg: the config.
        classes: of the data set; empty if it names none, and nothing is
            checked.

    Raises:
        UsageError: a part has another number.
    """
    wrong = [
        f'model.{name}={count}'
        for name, count in walk(cfg.model)
        if classes and PART.search(name) and count != len(classes)
    ]
    if wrong:
        raise UsageError(
            f'the data set has {len(classes)} classes, but the model has '
            f'{" and ".join(wrong)}: make them equal'
        )


def compare_classes(datasets: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings on splits that have other classes than the first one.

    Args:
        datasets: by split, as they were built.
    """
    names = {
        split: list((dataset.metainfo or {}).get('classes') or ())
        for split, dataset in datasets.items()
    }
    (first, wanted), *others = names.items()
    for split, given in others:
        if wanted and given and wanted != given:
            lacks = [
                f'{one} lacks {", ".join(sorted(less)[:FEW])}'
                for one, less in (
                    (first, {*given} - {*wanted}),
                    (split, {*wanted} - {*given}),
                )
                if less
            ]
            yield error(
                'classes',
                f'{first} and {split} have different classes, so labels mean '
                f'others ({len(wanted)} and {len(given)}; '
                f'{"; ".join(lacks) or "in another order"}): give both the '
                'same, in metainfo.classes or as folders',
            )

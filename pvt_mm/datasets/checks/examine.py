"""A config -> what is wrong with the data that its run would read."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...compat import dataset_metainfo
from ...config.data_files import datasets, evaluated, read_json
from ...config.schema import find_class, walk
from ...errors import UsageError
from .coco import check_coco
from .report import Finding, Use, lines
from .samples import absent, check_samples

# Samples of each data set that are read before a run starts.
BRIEF = 32


def check_annotation_files(
    cfg: Config, modes: Sequence[str]
) -> Iterator[Finding]:
    """What is wrong with the annotation files of COCO's format.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for mode in modes:
        evaluator = cfg.get(f'{mode}_evaluator') if mode != 'train' else None
        for dataset in datasets(cfg[f'{mode}_dataloader'].dataset):
            owner = find_class(dataset['type'], scope)
            if not reads_coco(owner) or writes_only(evaluator):
                continue
            classes = dataset_metainfo(owner, dataset.get('metainfo'))[
                'classes'
            ]
            masks = any(
                (name.endswith('with_mask') and value is True)
                or value == 'segm'
                for node in (dataset.get('pipeline', []), [evaluator])
                for name, value in walk(node)
            )
            root = dataset.get('data_root') or ''
            path = os.path.join(root, dataset['ann_file'])
            scored = mode != 'train'
            for file in dict.fromkeys([path, *evaluated(evaluator)]):
                if '://' in file:
                    continue
                content = read_json(file)
                use = Use(file, classes, masks, scored)
                found = list(check_coco(content, use))
                yield from found
                if file == path and not any(f.mend for f in found):
                    yield from absent_images(content, dataset, not scored)


def reads_coco(owner: Any) -> bool:
    """Whether a class of data sets reads COCO's format as mmdet does."""
    try:
        from mmdet.datasets import CocoDataset
    except ImportError:
        return False
    return all(
        getattr(owner, part, None) is getattr(CocoDataset, part)
        for part in ('COCOAPI', 'load_data_list', 'parse_data_info')
    )


def writes_only(evaluator: Any) -> bool:
    """Whether predictions are written and not scored."""
    return any(
        name.endswith('format_only') and value
        for name, value in walk([evaluator])
    )


def absent_images(
    content: Mapping, dataset: Mapping, training: bool
) -> Iterator[Finding]:
    """Images of an annotation file that are not there."""
    if dataset.get('indices') is not None:
        return  # only some are read
    folder = os.path.join(
        dataset.get('data_root') or '',
        (dataset.get('data_prefix') or {}).get('img') or '',
    )
    images = content['images']
    paths = [os.path.join(folder, image['file_name']) for image in images]
    yield from absent(paths, training)


def stop_or_say(findings: Iterable[Finding]) -> None:
    """Say what was found before a run starts, and stop if it must not.

    Raises:
        UsageError: something must be mended.
    """
    findings = list(findings)
    wrong = [finding.text for finding in findings if finding.mend]
    if wrong:
        rest = f'; {len(wrong) - 1} more must be mended' if wrong[1:] else ''
        raise UsageError(
            f'{wrong[0]}{rest} (tools/check_dataset.py CONFIG lists all; '
            '--no-data-check starts anyway)'
        )
    if os.environ.get('LOCAL_RANK', '0') == '0':
        for line in lines(findings, each=1):
            print_log(f'Data: {line}')


def check_annotations(cfg: Config, modes: Sequence[str]) -> None:
    """Stop at annotation files that a run must not start with.

    Of the processes that torchrun starts on a machine one reads them; if it
    stops, torchrun ends the others.
    """
    if os.environ.get('LOCAL_RANK', '0') == '0':
        stop_or_say(check_annotation_files(cfg, modes))


def check_samples_of(runner: Runner, modes: Sequence[str]) -> None:
    """Stop if some samples of the built data sets cannot be used."""
    for mode in modes:
        loop = getattr(runner, f'{mode}_loop')
        found = check_samples(
            loop.dataloader.dataset, training=mode == 'train', images=BRIEF
        )
        stop_or_say(found)

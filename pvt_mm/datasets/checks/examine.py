"""Check the data of a config before a run."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ...compat import dataset_metainfo
from ...config.data_files import dataset_configs, metric_files, read_json
from ...config.schema import find_class, walk
from ...errors import UsageError
from .coco import check_coco
from .report import Finding, Use, counted, lines
from .samples import absent, check_samples

# Samples of each data set that are read before a run starts.
BRIEF = 32


def check_annotation_files(
    cfg: Config,
    modes: Sequence[str],
    contents: dict[str, Any] | None = None,
) -> Iterator[Finding]:
    """Findings on the annotation files of COCO's format, and their images.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.
        contents: gets what each file holds, by its real path.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for mode in modes:
        evaluator = cfg.get(f'{mode}_evaluator') if mode != 'train' else None
        for dataset in dataset_configs(cfg[f'{mode}_dataloader'].dataset):
            owner = find_class(dataset['type'], scope)
            if reads_coco(owner) and not writes_only(evaluator):
                yield from check_coco_files(
                    dataset, owner, evaluator, contents
                )


def check_coco_files(
    dataset: Mapping,
    owner: type,
    evaluator: Any,
    contents: dict[str, Any] | None,
) -> Iterator[Finding]:
    """Findings on the annotation files of one data set and its evaluator.

    Args:
        dataset: config of the data set.
        owner: its class.
        evaluator: config of the evaluator; None in training.
        contents: as for :func:`check_annotation_files`.
    """
    classes = dataset_metainfo(owner, dataset.get('metainfo'))['classes']
    masks = any(
        (name.endswith('with_mask') and value is True) or value == 'segm'
        for node in (dataset.get('pipeline', []), [evaluator])
        for name, value in walk(node)
    )
    training = evaluator is None
    path = os.path.join(dataset.get('data_root') or '', dataset['ann_file'])
    for file in dict.fromkeys([path, *metric_files(evaluator)]):
        if '://' in file:
            continue
        content = read_json(file)
        if contents is not None:
            contents[os.path.realpath(file)] = content
        found = list(
            check_coco(content, Use(file, classes, masks, not training))
        )
        yield from found
        if file == path and not any(f.error for f in found):
            yield from absent_images(content, dataset, training)


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
    """Findings on images of an annotation file that do not exist.

    Args:
        content: of the annotation file.
        dataset: config of the data set.
        training: training skips them, up to a share.
    """
    if dataset.get('indices') is not None:
        return  # only some are read
    folder = os.path.join(
        dataset.get('data_root') or '',
        (dataset.get('data_prefix') or {}).get('img') or '',
    )
    images = content['images']
    paths = [os.path.join(folder, image['file_name']) for image in images]
    yield from absent(paths, training)


def stop_or_log(
    findings: Iterable[Finding], logger: str | None = None
) -> None:
    """Log the notes among some findings, or stop at an error.

    Args:
        findings: in any order.
        logger: 'current' for that of the run; None, while there is none
            yet, prints.

    Raises:
        UsageError: there is an error.
    """
    findings = list(findings)
    errors = [finding.text for finding in findings if finding.error]
    if errors:
        rest = f'; {counted(len(errors) - 1, "more error")}'
        raise UsageError(
            f'{errors[0]}{rest if errors[1:] else ""} (pvt_mm check-dataset '
            'CONFIG lists all; --no-data-check starts anyway)'
        )
    for line in lines(findings, each=1):
        print_log(f'Data: {line}', logger)


def check_annotations(
    cfg: Config, modes: Sequence[str], contents: dict[str, Any] | None = None
) -> None:
    """Check the annotation files before a run.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.
        contents: as for :func:`check_annotation_files`.

    Raises:
        UsageError: an annotation file has an error.
    """
    stop_or_log(check_annotation_files(cfg, modes, contents))


def check_samples_of(loops: Mapping[str, Any]) -> None:
    """Check some samples of the built data sets before a run.

    Args:
        loops: mmengine's loops by 'train', 'val' and 'test', as far as the
            run goes through them.

    Raises:
        UsageError: a sample cannot be used, and must not be skipped.
    """
    for mode, loop in loops.items():
        found = check_samples(
            loop.dataloader.dataset, training=mode == 'train', images=BRIEF
        )
        stop_or_log(found, 'current')

"""Check the data of a config before a run."""

import gc
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ...compat import dataset_metainfo
from ...config.data_files import dataset_configs, metric_files
from ...config.schema import find_class, walk
from ...errors import UsageError, printable
from .classes import compare_classes
from .coco import check_coco
from .coco_format import Content, read_coco
from .content_checks import check_contents, check_shared_images
from .contents import Contents, contents_of
from .fault_tolerant_pipeline import tolerant_parts
from .files import absent
from .report import Finding, Use, counted, lines
from .samples import Look, look_at, unusable

# Samples of each data set that are read before a run starts.
BRIEF = 32
# Path of an annotation file -> what was read of it for each data set.
Kept = defaultdict[str, list[Content]]


def check_annotation_files(
    cfg: Config, modes: Sequence[str], kept: Kept | None = None
) -> Iterator[Finding]:
    """Findings on the annotation files of COCO's format, and their images.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.
        kept: gets the content of each data set's file, by its path.

    Raises:
        UsageError: a file is not JSON.
    """
    for mode in modes:
        evaluator = cfg.get(f'{mode}_evaluator') if mode != 'train' else None
        if writes_only(evaluator):
            continue
        for dataset, owner in coco_datasets(cfg, mode):
            content, found = check_coco_files(dataset, owner, evaluator)
            yield from found
            if kept is not None and content:
                kept[ann_file(dataset)].append(content)


def coco_datasets(cfg: Config, mode: str) -> Iterator[tuple[Mapping, type]]:
    """The configs and classes of data sets in COCO's format.

    Args:
        cfg: the config of the run.
        mode: 'train', 'val' or 'test'.
    """
    for dataset in dataset_configs(cfg[f'{mode}_dataloader'].dataset):
        owner = find_class(
            dataset['type'], cfg.get('default_scope') or 'mmengine'
        )
        if reads_coco(owner):
            yield dataset, owner


def ann_file(dataset: Mapping) -> str:
    """The annotation file of the config of a data set."""
    return os.path.join(dataset.get('data_root') or '', dataset['ann_file'])


def check_coco_files(
    dataset: Mapping, owner: type, evaluator: Any
) -> tuple[Content | None, list[Finding]]:
    """The content of a data set's annotation file, and findings.

    Args:
        dataset: config of the data set.
        owner: its class.
        evaluator: config of the evaluator, whose files are checked too; None
            in training.
    """
    classes = dataset_metainfo(owner, dataset.get('metainfo'))['classes']
    masks = masks_in(dataset.get('pipeline'), evaluator)
    scored = evaluator is not None
    path, own, findings = ann_file(dataset), None, []
    for file in dict.fromkeys([path, *metric_files(evaluator)]):
        if '://' in file:
            continue
        content, found = read_coco(file, masks=masks, scored=scored)
        if content:
            found += check_coco(content, Use(file, classes, masks, scored))
        findings += found
        if file == path and not any(f.error for f in found):
            own = content
            findings += absent_images(content, dataset, not scored)
    return own, findings


@contextmanager
def no_collection() -> Iterator[None]:
    """Context without garbage collection, which finds none in what is read.

    It would take as long as the reading.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def masks_in(*nodes: Any) -> bool:
    """Whether pipelines or evaluators of a config read segmentations."""
    return any(
        (name.endswith('with_mask') and value is True) or value == 'segm'
        for name, value in walk(list(nodes))
    )


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
    content: Content, dataset: Mapping, training: bool
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
    names = [image.file_name for image in content['images']]
    gone, said = absent(names, folder)
    yield from unusable(said, len(gone), len(names), training)


def stop_or_log(
    findings: Iterable[Finding], logger: str | None = None
) -> None:
    """Log the warnings among some findings, or stop at an error.

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


def check_annotations(cfg: Config, modes: Sequence[str]) -> None:
    """Check the annotation files before a run.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.

    Raises:
        UsageError: an annotation file has an error.
    """
    with no_collection():
        stop_or_log(check_annotation_files(cfg, modes))


def check_samples_of(loops: Mapping[str, Any]) -> None:
    """Look at some samples of the built data sets, and log what is in them.

    Args:
        loops: mmengine's loops by 'train', 'val' and 'test', as far as the
            run goes through them.

    Raises:
        UsageError: a sample cannot be used, and must not be skipped, or
            nothing is left to learn from.
    """
    datasets = {mode: loop.dataloader.dataset for mode, loop in loops.items()}
    stop_or_log(compare_classes(datasets))
    splits = {}
    for mode, dataset in datasets.items():
        splits[mode], found = examine(dataset, mode, BRIEF)
        stop_or_log(found, 'current')
        for line in splits[mode].brief() if splits[mode] else ():
            print_log(f'Data: {printable(line)}', 'current')
    stop_or_log(check_shared_images(splits), 'current')


def examine(
    dataset: Any,
    mode: str,
    images: int | None,
    workers: int = 0,
    use: Callable[[Any, Any], None] | None = None,
) -> tuple[Contents | None, list[Finding]]:
    """What is in a data set, and what is wrong with it.

    Args:
        dataset: as it was built, after :func:`make_fault_tolerant`.
        mode: 'train', 'val' or 'test'.
        images: how many of each part are read; None for all.
        workers: processes that read; 0 reads in this one.
        use: gets each data set and the ``data_samples`` of its samples.
    """
    looks: list[Look] = []
    found: list[Finding] = []
    for part in tolerant_parts(dataset):
        seen, said = look_at(
            part, images, workers, training=mode == 'train', use=use
        )
        looks += seen
        found += said
    contents = contents_of(dataset, mode, looks)
    if contents and not any(f.error for f in found):
        found += check_contents(contents)
    return contents, found

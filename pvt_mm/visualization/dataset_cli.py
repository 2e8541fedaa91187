"""The command ``check-dataset``: read all data of a config."""

import argparse
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import msgspec
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from ..checkpoints.atomic import check_writable, write_whole
from ..compat import coco_parser
from ..config.arguments import add_cfg_options, command_parser, count
from ..config.build_errors import building, first_line, passed_own_code
from ..config.data_files import check_paths
from ..config.loading import open_config
from ..config.schema import parameters
from ..datasets.checks.classes import check_dataset, compare_classes
from ..datasets.checks.coco import IGNORED
from ..datasets.checks.coco_format import read_masks
from ..datasets.checks.content_checks import check_shared_images
from ..datasets.checks.examine import (
    Kept,
    check_annotation_files,
    coco_datasets,
    examine,
    no_collection,
    reads_coco,
)
from ..datasets.checks.fault_tolerant_pipeline import (
    make_fault_tolerant,
    tolerant_parts,
)
from ..datasets.checks.ignored_labels import heads_of, metrics_of, set_ignored
from ..datasets.checks.report import Finding, counted, error, lines, warning
from ..errors import UsageError, show
from ..evaluation.ground_truth import SCORED, best_scores, score_ground_truth

MANY = 10_000  # classes: pycocotools needs 0.2 MB for each
ABOUT = 0.95  # the ground truth should have this share of it at least
TRUTH = 'ground truth'  # the kind of its finding
EACH = 20  # findings of a kind that are printed


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Read everything that a training with this config would read, print '
        'what is in it and what is wrong; status 1 if anything must be fixed.'
    )
    p.add_argument('config', help='config file, for example configs/NAME.py')
    add_cfg_options(p)
    p.add_argument(
        '--images',
        type=count,
        metavar='N',
        help='number of images of each data set to read; all if not given',
    )
    p.add_argument(
        '--workers', type=int, default=2, help='processes that read images'
    )
    p.add_argument(
        '--out', type=Path, metavar='FILE.json', help='write all numbers'
    )
    p.add_argument(
        '--picture',
        type=Path,
        metavar='FILE.png',
        help='draw the numbers of the training data beside six images',
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Check the data of a config.

    Raises:
        UsageError: the data has errors, or the config cannot be used.
    """
    args = parser().parse_args(argv)
    for file in filter(None, (args.out, args.picture)):
        check_writable(file)
    cfg = open_config(args.config, args.cfg_options)
    modes = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_paths(cfg, modes)
    kept = Kept(list)
    with no_collection():
        findings = list(check_annotation_files(cfg, modes, kept))
    report: dict = {}
    if not has_errors(findings):
        try:
            found, report = read_samples(cfg, modes, args, kept)
        finally:
            gc.unfreeze()
        if any(finding.kind == IGNORED for finding in findings):
            # which mmdet gives to no metric, and pycocotools scores
            found = [
                f._replace(error=f.error and f.kind != TRUTH) for f in found
            ]
        findings += found
    if args.out:
        report['findings'] = [finding._asdict() for finding in findings]
        text = msgspec.json.format(msgspec.json.encode(report))
        write_whole(args.out, text)
    show(*lines(findings, each=EACH))
    errors = sum(finding.error for finding in findings)
    said = counted(errors, 'error')
    warnings = counted(len(findings) - errors, 'warning')
    images = sum(report[m]['images_read'] for m in modes if m in report)
    read = counted(images, 'image') if images else 'no image'
    print(f'{read} read; {said}, {warnings}')
    if errors:
        raise UsageError(f'the data has {said}: to be fixed before a training')


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether something must be fixed."""
    return any(finding.error for finding in findings)


def read_samples(
    cfg: Config,
    modes: Sequence[str],
    args: argparse.Namespace,
    kept: Kept,
) -> tuple[list[Finding], dict]:
    """Findings on the samples of some modes, and all numbers by mode.

    Args:
        cfg: the config.
        modes: 'train' and perhaps 'val'.
        args: the command line.
        kept: of :func:`check_annotation_files`, for one use each.
    """
    with (
        building(cfg, args.config),
        no_collection(),
        redirect_stdout(None),  # of pycocotools
        coco_parser(lambda path: kept[path] and kept[path].pop(0)),
    ):
        datasets = {mode: build(cfg, mode) for mode in modes}
        evaluator, found = validation_metrics(cfg, datasets, args)
        if 'decode_head' in cfg.model:
            set_ignored(datasets['train'], heads_of(MODELS.build(cfg.model)))
        gc.freeze()  # passed over by collections until main ends
    findings = [*compare_classes(datasets), *found]
    try:
        check_dataset(cfg, datasets['train'])
    except UsageError as wrong:
        findings.append(error('classes', str(wrong)))
    report: dict = {}
    splits = {}
    faults: list[str] = []

    def use(part: Dataset, sample: BaseDataElement) -> None:
        with noted(faults):
            score_ground_truth(evaluator, part, sample)

    for mode, dataset in datasets.items():
        splits[mode], found = examine(
            dataset,
            mode,
            args.images,
            args.workers,
            use if mode == 'val' and evaluator else None,
        )
        findings += found
        if (contents := splits[mode]) is not None:
            show(*contents.table())
            report[mode] = contents.report()
            if mode == 'train' and args.picture:
                from .dataset_figure import draw_contents

                with redirect_stdout(None):  # of pycocotools
                    draw_contents(args.picture, contents, cfg, dataset)
    findings += check_shared_images(splits)
    if evaluator and not has_errors(findings):
        most = contents.most if contents else 0
        scores, found = score(evaluator, len(dataset), most, faults)
        findings += found
        report['ground_truth_as_predictions'] = scores
    return findings, report


def build(cfg: Config, mode: str) -> Dataset:
    """The data set of a mode, as a run has it.

    Those of COCO's format keep their segmentations as they were read, and
    their samples as they are: to pack them takes as long as to read them.

    Args:
        cfg: the config.
        mode: 'train' or 'val'.
    """
    for part, owner in coco_datasets(cfg, mode):
        if 'serialize_data' in parameters(owner):
            part['serialize_data'] = False
    dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
    make_fault_tolerant(dataset, skip=mode == 'train')
    for part in tolerant_parts(dataset):
        if reads_coco(type(part)):
            part.pipeline.transforms.insert(0, read_masks)
    return dataset


def validation_metrics(
    cfg: Config, datasets: Mapping[str, Dataset], args: argparse.Namespace
) -> tuple[Evaluator | None, list[Finding]]:
    """The evaluator, if the validation is scored; and why it is not.

    The data set accepts the labels that its metrics ignore, as in a run.

    Args:
        cfg: the config.
        datasets: by mode.
        args: the command line.
    """
    segments = 'decode_head' in cfg.model
    if 'val' not in datasets or not (segments or args.images is None):
        return None, []
    metainfo = datasets['val'].metainfo
    if (number := len(metainfo.get('classes') or ())) > MANY:
        text = (
            f'an evaluation of {number:,} classes needs about '
            f'{number // 5000} GB of memory, so the ground truth was not '
            'scored'
        )
        return None, [warning('evaluation', text)]
    MMLogger.get_current_instance().setLevel('ERROR')  # of the metrics
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = metainfo
    if segments:
        set_ignored(datasets['val'], metrics_of(evaluator, 'val'))
    return (evaluator if args.images is None else None), []


def score(
    evaluator: Evaluator, images: int, most: int, faults: list[str]
) -> tuple[dict[str, float], list[Finding]]:
    """The scores of the ground truth as predictions, and what is wrong.

    Args:
        evaluator: that has them.
        images: of the validation.
        most: objects in one of them.
        faults: why it refused samples.
    """
    every: dict = {}
    if any(metric.results for metric in evaluator.metrics):
        with redirect_stdout(None), noted(faults):
            every = evaluator.evaluate(images)
    if faults:
        text = f'val_evaluator cannot score the ground truth: {faults[0]}'
        return {}, [error('evaluator', text)]
    scores = list(best_scores(every))
    for name, value, _ in scores:
        print(f'ground truth as predictions: {name} {value:g}')
    finding = error
    cause = 'compare its ann_file and ids with those of the data set'
    if most > SCORED:
        finding = warning
        cause = (
            f'an image has {most:,} objects, and COCO scores the {SCORED} '
            'predictions of an image that are surest'
        )
    return {name: value for name, value, _ in scores}, [
        finding(
            TRUTH,
            'the ground truth itself, given to val_evaluator as predictions, '
            f'has a {name} of {value:g}, not {best}: {cause}',
        )
        for name, value, best in scores
        if value < ABOUT * best
    ]


@contextmanager
def noted(faults: list[str]) -> Iterator[None]:
    """Context: an error of a metric that is not the user's own is noted."""
    try:
        yield
    except Exception as error:
        if passed_own_code(error):
            raise
        told = isinstance(error, AssertionError)  # says what it expects
        kind = '' if told else f'{type(error).__name__}: '
        faults.append(f'{kind}{first_line(error)}')

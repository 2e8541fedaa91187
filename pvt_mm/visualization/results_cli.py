"""``pvt_mm analyze-results``: scores per class and the confusion matrix."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..checkpoints.atomic import check_writable
from ..checkpoints.plain_pickle import read_plain_pickle
from ..config.arguments import add_cfg_options, command_parser, share
from ..config.build_errors import building
from ..config.data_files import check_paths
from ..config.loading import open_config
from ..datasets.fonts import use_font_for
from ..errors import UsageError, show
from ..evaluation.class_scores import average_precision, check_results
from ..evaluation.confusion import (
    detections,
    intersections,
    label_maps,
    score_rows,
)
from ..reproduction.report import write_csv
from .figures import pyplot, save

KEYS = {'img_id', 'ori_shape', 'pred_instances'}  # of a prediction
PARTS = ('bboxes', 'labels', 'scores')  # of pred_instances
FEW = 25  # classes: up to so many, the cells show their numbers


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = command_parser(
        'Scores per class and the confusion matrix of '
        'predictions that tools/test.py --out kept.'
    )
    p.add_argument('config', help='the config that was tested')
    p.add_argument(
        'predictions', type=Path, help='FILE.pkl, or folder of label maps'
    )
    p.add_argument(
        '--out',
        type=Path,
        required=True,
        help='folder for classes.csv, confusion.csv and confusion.png',
    )
    p.add_argument(
        '--score',
        type=share,
        default=0.3,
        help='found objects below are no part of the matrix (default: 0.3)',
    )
    p.add_argument(
        '--iou',
        type=share,
        default=0.5,
        help='least overlap of boxes that are the same object (default: 0.5)',
    )
    add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Analyse what the command line names.

    Raises:
        UsageError: the config, data or predictions cannot be used.
    """
    args = parser().parse_args(argv)
    check_writable(args.out, folder=True)
    cfg = open_config(args.config, args.cfg_options)
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg'):
        raise UsageError(
            f'{args.config}: only detectors and segmentors can be analysed, '
            f'and default_scope is {scope!r}'
        )
    check_paths(cfg, ('test',))
    predictions = read_predictions(args.predictions, scope)
    with building(cfg, args.config), redirect_stdout(None):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = list(dataset.metainfo['classes'])
    if scope == 'mmseg':
        matrix = label_maps(dataset, predictions)
        pixels = matrix.sum(1).tolist()
        columns = {'pixels': pixels, **intersections(matrix)}
        axes = (names, names)
    else:
        matrix, columns = analyse(cfg, dataset, predictions, args)
        axes = ([*names, 'no object'], [*names, 'not found'])
    report(args.out, list(score_rows(names, columns)), matrix, axes)
    print(f'scores per class and confusion matrix: {args.out}')


def report(folder: Path, rows: list, matrix: np.ndarray, axes: tuple) -> None:
    """Print the scores, and write classes.csv, confusion.csv and .png.

    Args:
        folder: to write to.
        rows: of the table of scores, as text.
        matrix: counts, true by found.
        axes: names of its rows and columns.
    """
    show(*map(aligned, rows), *mistakes(matrix, *axes))
    write_csv(folder / 'classes.csv', rows)
    body = [
        [name, *row]
        for name, row in zip(axes[0], matrix.tolist(), strict=True)
    ]
    head = ['true \\ found', *axes[1]]
    write_csv(folder / 'confusion.csv', [head, *body])
    draw(folder / 'confusion.png', matrix, axes)


def read_predictions(path: Path, scope: str) -> Any:
    """The predictions of a test run.

    Args:
        path: what ``tools/test.py --out`` wrote.
        scope: 'mmdet' or 'mmseg'.

    Returns:
        for mmdet the list that its DumpDetResults wrote, for mmseg the
        folder of label maps.

    Raises:
        UsageError: there are none.
    """
    if scope == 'mmseg':
        if not path.is_dir():
            raise UsageError(
                f'{path} is no folder: give the label maps that tools/test.py '
                '--out FOLDER keeps'
            )
        return path
    found = read_plain_pickle(path)
    if isinstance(found, list) and all(map(is_prediction, found)):
        return found
    raise UsageError(
        f'{path} holds no predictions of tools/test.py --out FILE.pkl'
    )


def is_prediction(one: Any) -> bool:
    """Whether it is a prediction of mmdet, with lists of one length."""
    if not (isinstance(one, dict) and one.keys() >= KEYS):
        return False
    objects = one['pred_instances']
    lists = [objects.get(k) for k in PARTS] if type(objects) is dict else []
    return (
        isinstance(one['img_id'], int | str)
        and bool(lists)
        and all(map(torch.is_tensor, lists))
        and len({part.shape[:1] for part in lists}) == 1
        and lists[0].shape[1:] == (4,)
    )


def analyse(
    cfg: Config, dataset: Any, results: list, args: argparse.Namespace
) -> tuple[np.ndarray, dict[str, list]]:
    """The confusion matrix and the columns of the table of a detector.

    Raises:
        UsageError: the predictions are of another data set.
    """
    check_results(dataset, results)
    matrix = detections(dataset, results, args.score, args.iou)
    with redirect_stdout(None):  # pycocotools tells what it does
        scores = average_precision(cfg, dataset, results)
    if not scores:
        print('no metric of test_evaluator has scores per class')
    if not any(len(r['pred_instances']['labels']) for r in results):
        print('nothing was found in any image, so there are no scores')
    counts = matrix[:-1].sum(1).tolist()
    return matrix, {'objects': counts, **scores}


def mistakes(
    matrix: np.ndarray, true: list[str], found: list[str], most: int = 5
) -> Iterator[str]:
    """The most frequent confusions, one line each.

    Args:
        matrix: counts, true by found.
        true: names of its rows.
        found: names of its columns.
        most: number of lines at most.
    """
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    totals = matrix.sum(1)
    for place in np.argsort(-wrong, axis=None, kind='stable')[:most]:
        row, column = np.unravel_index(place, wrong.shape)
        if count := wrong[row, column]:
            share = f'{100 * count / totals[row]:.0f} %'
            yield f'{true[row]} -> {found[column]}: {count} ({share})'


def aligned(row: Sequence[str]) -> str:
    """A row of the table as a line for a terminal."""
    return f'{row[0]:24}' + ''.join(f'{value:>12}' for value in row[1:])


def draw(
    file: Path, matrix: np.ndarray, axes: tuple[list[str], list[str]]
) -> None:
    """Draw the matrix in percent of its rows.

    Args:
        file: picture to write.
        matrix: counts, true by found.
        axes: names of its rows and columns.
    """
    use_font_for(axes[0])
    shares = 100 * matrix / matrix.sum(1, keepdims=True).clip(1)
    few = len(matrix) <= FEW
    side = max(6, (0.55 if few else 0.18) * len(matrix) + 2.5)
    figure, plot = pyplot.subplots(
        figsize=(side + 0.5, side), layout='constrained'
    )
    shown = plot.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    size = 8 if few else 7
    plot.set_yticks(range(len(axes[0])), axes[0], fontsize=size)
    plot.set_xticks(range(len(axes[1])), axes[1], fontsize=size, rotation=90)
    plot.set(xlabel='found', ylabel='true')
    if few:
        for (row, column), value in np.ndenumerate(shares):
            colour = 'white' if value > 60 else 'black'
            plot.text(
                *(column, row, f'{value:.0f}'),
                **dict(ha='center', va='center', fontsize=8, color=colour),
            )
    figure.colorbar(shown, shrink=0.6, label='% of what is true')
    save(figure, file)

"""The command ``pvt_mm infer``."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.progress import track

from ..checkpoints.atomic import check_writable
from ..config.arguments import add_cfg_options, command_parser, count, share
from ..errors import UsageError, printable, show
from .coco import Ids, describe, objects
from .output import (
    CODECS,
    PICTURES,
    Folder,
    VideoFile,
    check_label_names,
    whole_video,
)
from .predictor import Predictor
from .results import Result, draw_result, infer_items
from .sources import Video, open_source

OUT = Path('work_dirs/infer')


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Run a trained detector or segmentor on images or a '
        'video; write pictures, and results as JSON or label maps.'
    )
    p.add_argument('config', help='config file, for example configs/NAME.py')
    p.add_argument('weights', help='weights of the whole model')
    p.add_argument('source', help='an image, a folder of images, or a video')
    p.add_argument(
        '--out',
        type=Path,
        default=OUT,
        help=f'folder of results (default: {OUT})',
    )
    p.add_argument(
        '--score',
        type=share,
        default=0.3,
        help='objects below are left out; 0.3 if not given',
    )
    p.add_argument(
        '--batch-size',
        type=count,
        default=1,
        metavar='N',
        help='images at a time (default: 1)',
    )
    p.add_argument(
        '--device', help='cpu, cuda or cuda:N; a GPU if there is one'
    )
    p.add_argument(
        '--annotations',
        metavar='FILE',
        help="COCO's annotation file of these images: results.json takes its "
        'image and category ids',
    )
    add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Run a model on the source that the command line names.

    Raises:
        UsageError: something cannot be used; what could be is kept.
    """
    args = parser().parse_args(argv)
    check_writable(args.out, folder=True)
    source = open_source(args.source, args.out)
    predictor = Predictor(
        args.config, args.weights, args.device, args.cfg_options
    )
    ids = Ids(predictor.names, args.annotations)
    numbers = ids.classes
    if not isinstance(source, Video):
        for item in source:
            ids.image(item)
    if predictor.semantic:
        numbers = list(range(len(predictor.names)))  # as in the label maps
        if not isinstance(source, Video):
            check_label_names([item.name for item in source])
    folder = Folder(args.out, predictor.names, numbers)
    results = infer_items(predictor, source, args.score, args.batch_size)
    results = track(results, args.source, total=len(source))
    bad = write_results(results, predictor, source, folder, ids)
    good = len(folder.images)
    show(f'{good} images, {len(folder.results)} results: {args.out}')
    if old := folder.earlier():
        print(f'{old} more files in {args.out} are of an earlier run')
    if bad:
        raise UsageError(f'{bad} of {good + bad} images could not be used')
    if fault := getattr(source, 'fault', ''):
        raise UsageError(fault)


def write_results(
    results, predictor: Predictor, source, folder, ids: Ids
) -> int:
    """Write results as they come -> number of images that failed.

    After an interruption, the JSON has the results up to it.

    Args:
        results: of :func:`infer_items`.
        predictor: that made them.
        source: of the images.
        folder: to write to.
        ids: of images and classes in the JSON.
    """
    bad, video = 0, nullcontext()
    if isinstance(source, Video):
        suffix = source.path.suffix.lower()
        name = source.path.stem + (suffix if suffix in CODECS else '.mp4')
        video = whole_video(folder.path / name, source.fps)
    try:
        with video as frames:
            for result in results:
                if result.fault:
                    text = printable(f'error: {result.fault}')
                    print(text, file=sys.stderr)
                    bad += 1
                    continue
                write_result(result, predictor, folder, ids, frames)
    finally:
        if folder.images:
            folder.save_json()
    return bad


def write_result(
    result: Result,
    predictor: Predictor,
    folder: Folder,
    ids: Ids,
    video: VideoFile | None,
) -> None:
    """Write the picture of one image, and add its results to the JSON."""
    entry = describe(result, ids.image(result.item))
    picture = draw_result(result, predictor)
    if video:
        video.add(picture)
    else:
        folder.save_image(f'{PICTURES}/{result.item.name}', picture)
    if predictor.semantic:
        folder.save_labels(result, entry)
    else:
        folder.results += objects(result, entry, ids.classes)
    folder.images.append(entry)

"""Pictures of a run: its curves, and predictions beside the truth."""

import json
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from mmengine.fileio import load  # noqa: E402

from ..checkpoints.atomic import write_whole  # noqa: E402

COLOURS = ('#e6194b', '#0050ff', '#00a040', '#b000c8', '#d06000')


def read_scalars(file, scores: Iterable[str] = ()) -> tuple[list, list]:
    """mmengine's scalars.json -> records of training, records of scores.

    A network that found nothing has no scores there: the named ones are 0.
    """
    lines = Path(file).read_text().splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    nothing = dict.fromkeys(scores, 0.0)
    return (
        [r for r in records if 'loss' in r],
        [nothing | r for r in records if 'loss' not in r],
    )


def draw_curves(file, scalars, scores: Mapping[str, str], title: str) -> None:
    """The loss over iterations, and below it the scores over epochs.

    Args:
        file: picture to write.
        scalars: mmengine's scalars.json of one run.
        scores: key of a score in that file -> its name in the legend.
        title: of the picture.
    """
    losses, points = read_scalars(scalars, scores)
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(7, 6), layout='constrained'
    )
    figure.suptitle(title)
    for key in ('loss', 'loss_cls', 'loss_bbox'):
        plot(top, [(r['step'], r[key]) for r in losses if key in r], key)
    label(top, xlabel='iteration', ylabel='training loss', ylim=(0, None))
    for key, name in scores.items():
        curve = [(r['step'], r[key]) for r in points]
        plot(bottom, curve, f'{name} {curve[-1][1]:.3f}', 'o-')
    label(bottom, xlabel='epoch', ylabel='held-out score', ylim=(0, 1))
    save(figure, file)


def plot(axes, points: Sequence[tuple], name: str, *style, **options) -> None:
    """A curve through (x, y), with its name in the legend, if it has any."""
    if points:
        axes.plot(*zip(*points, strict=True), *style, label=name, **options)


def label(axes, **texts) -> None:
    """Write on the axes, and add a grid and a legend."""
    axes.set(**texts)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='best', fontsize=8)


def draw_boxes(axes, boxes) -> None:
    """Boxes as (x1, y1, x2, y2, class index, caption)."""
    for x1, y1, x2, y2, index, caption in boxes:
        colour = COLOURS[index % len(COLOURS)]
        size = (x2 - x1, y2 - y1)
        axes.add_patch(
            Rectangle((x1, y1), *size, fill=False, color=colour, lw=2)
        )
        axes.text(
            min(max(x1, 1), axes.get_xlim()[1] * 0.72),
            max(y1, 11),  # a caption above the image would be cut
            caption,
            color='white',
            fontsize=7,
            va='bottom',
            bbox={'facecolor': colour, 'edgecolor': 'none', 'pad': 1},
        )


def true_boxes(truth, number: int, classes: Sequence[str]) -> list:
    """The annotated boxes of one image of a COCO json."""
    boxes = []
    for note in truth['annotations']:
        if note['image_id'] == number:
            x, y, w, h = note['bbox']
            ids = [c['id'] for c in truth['categories']]
            index = ids.index(note['category_id'])
            caption = classes[index] + (' crowd' if note['iscrowd'] else '')
            boxes.append((x, y, x + w, y + h, index, caption))
    return boxes


def found_boxes(found, classes: Sequence[str], threshold: float) -> list:
    """The predicted boxes of one image that score enough."""
    keep = found['scores'] >= threshold
    rows = zip(
        found['bboxes'][keep].tolist(),
        found['labels'][keep].tolist(),
        found['scores'][keep].tolist(),
        strict=True,
    )
    return [(*b, i, f'{classes[i]} {score:.2f}') for b, i, score in rows]


def draw_detections(file, annotations, images, results) -> None:
    """The truth in the upper row, what was found below it.

    Args:
        file: picture to write.
        annotations: COCO-format json of the images.
        images: folder of the images.
        results: mmdet's dumped predictions of the images to show.
    """
    truth = load(annotations)
    classes = [c['name'] for c in truth['categories']]
    files = {i['id']: Path(images, i['file_name']) for i in truth['images']}
    figure, grid = pyplot.subplots(
        2,
        len(results),
        figsize=(2.4 * len(results), 5.2),
        layout='constrained',
        squeeze=False,
    )
    for column, result in zip(grid.T, results, strict=True):
        number = result['img_id']
        image = cv2.imread(str(files[number]))[..., ::-1]  # BGR to RGB
        for axes in column:
            axes.imshow(image)
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f'image {number}: truth', fontsize=9)
        column[1].set_title('found', fontsize=9)
        draw_boxes(column[0], true_boxes(truth, number, classes))
        found = result['pred_instances']
        draw_boxes(column[1], found_boxes(found, classes, 0.5))
    save(figure, file)


def save(figure, file) -> None:
    """Write a picture in the format of its ending, and free its memory.

    Raises:
        UsageError: it cannot be written; what was there stays.
    """
    content = BytesIO()
    figure.savefig(content, format=Path(file).suffix[1:], dpi=100)
    pyplot.close(figure)
    write_whole(file, content.getvalue())

#!/usr/bin/env python
"""Train RetinaNet with PVTv2 on synthetic images and show its AP.

Draws the data, then runs ``tools/train.py`` and ``tools/test.py``.
"""

import math
import re
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmcv  # noqa: E402
import numpy as np  # noqa: E402
from mmdet.datasets import CocoDataset  # noqa: E402
from mmengine.fileio import load  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from pvt_mm.datasets.synthetic import CLASSES, draw_all  # noqa: E402
from pvt_mm.datasets.synthetic.shapes import IMAGES  # noqa: E402
from pvt_mm.errors import UsageError  # noqa: E402
from pvt_mm.reproduction.training_log import (  # noqa: E402
    SCALARS,
    read_log,
    read_records,
)
from pvt_mm.visualization.browse import objects  # noqa: E402
from pvt_mm.visualization.curves import draw_runs  # noqa: E402
from pvt_mm.visualization.drawing import (  # noqa: E402
    build_visualizer,
    draw_objects,
)

CONFIG = 'configs/retinanet_pvt_v2_b0_shapes.py'
DATA = 'data/shapes'
OUT = 'work_dirs/demo'
AP, AP50 = 'coco/bbox_mAP', 'coco/bbox_mAP_50'
# The image as it is, and every annotation, those of crowds too.
PIPELINE = [
    dict(type='mmdet.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs'),
]
GOOD = {AP: 0.60, AP50: 0.80}
PROGRESS = re.compile(
    r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\].* eta: (\S+) .*loss: (\S+)'
)
SCORE = re.compile(rf'Epoch\(val\) .*{AP}: (\S+) +{AP50}: (\S+)')
NOTHING = 'testing results of the whole dataset is empty'


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


class Screen:
    """Print the log of a run as a line of progress now and then.

    Args:
        pause: least seconds between two lines.
    """

    def __init__(self, pause: float = 8.0) -> None:
        self.pause, self.last = pause, -math.inf

    def show(self, line: str) -> None:
        """Print what a line of the log says, if it is time."""
        score, progress = SCORE.search(line), PROGRESS.search(line)
        if score:
            say(f'  held-out images: AP {score[1]}  AP50 {score[2]}')
        elif NOTHING in line:
            say('  held-out images: AP 0, the network finds nothing')
        elif progress and time.monotonic() - self.last >= self.pause:
            self.last = time.monotonic()
            epoch, step, steps, left, loss = progress.groups()
            say(
                f'  epoch {epoch}  {step:>4}/{steps}  loss {loss}  {left} left'
            )


def run(log: Path, *command: str) -> None:
    """Run a tool; everything it prints goes to a log file."""
    say(f'$ python {" ".join(command)}   (log: {log.relative_to(ROOT)})')
    screen = Screen()
    with log.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, '-u', *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in process.stdout:
            file.write(line)
            screen.show(line)
    if process.wait():
        tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
        sys.exit(f'{tail}\ndemo: {command[0]} failed; all of it is in {log}')


def draw_data() -> None:
    """Draw the images that are not there."""
    say(f'Drawing {IMAGES} images of shapes into {DATA} (15 seconds) ...')
    try:
        drawn = draw_all(ROOT / DATA, IMAGES)
    except (UsageError, OSError) as error:
        sys.exit(f'demo: {error}')
    say('  drawn' if drawn else '  complete from an earlier run, reused')


def newest(pattern: str) -> Path:
    """The latest file of the run; mmengine names folders by time."""
    return max((ROOT / OUT).glob(pattern), key=lambda p: p.stat().st_mtime)


def draw_pictures() -> None:
    """The curves, and the first held-out images with what was found."""
    coco = ROOT / DATA / 'coco'
    results = load(ROOT / OUT / 'predictions.pkl')[:6]
    run = read_log(ROOT / OUT)._replace(name='RetinaNet, PVTv2-B0')
    draw_runs(ROOT / OUT / 'curves.png', [run])
    draw_detections(
        ROOT / OUT / 'predictions.png',
        coco / 'annotations/instances_val2017.json',
        coco / 'val2017',
        results,
    )


def draw_detections(file, annotations, images, results) -> None:
    """Draw the truth in the upper row, what was found below it.

    Args:
        file: picture to write.
        annotations: COCO-format json of the images.
        images: folder of the images.
        results: mmdet's dumped predictions of the first images, in their
            order; objects that score at least 0.5 are drawn.
    """
    with redirect_stdout(None):  # pycocotools tells what it does
        data = CocoDataset(
            ann_file=str(annotations),
            data_prefix=dict(img=str(images)),
            metainfo=dict(classes=CLASSES),
            test_mode=True,
            pipeline=PIPELINE,
        )
    visualizer = build_visualizer('mmdet', data.metainfo)
    rows = [], []
    for result, item in zip(results, data, strict=False):
        image = item['inputs'].permute(1, 2, 0).numpy()
        truth = objects(item['data_samples'], CLASSES, image.shape[:2])
        found = InstanceData(**result['pred_instances'])
        found = found[found.scores >= 0.5]
        for row, shown in zip(rows, (truth, found), strict=True):
            row.append(draw_objects(visualizer, image, shown))
    size = np.max([image.shape[:2] for row in rows for image in row], 0)
    white = dict(shape=tuple(size), pad_val=(255, 255, 255))
    grid = [np.hstack([mmcv.impad(i, **white) for i in row]) for row in rows]
    mmcv.imwrite(np.vstack(grid), str(file))


def summary(scalars: Path, seconds: float) -> bool:
    """Print AP before and after; whether it is good enough."""
    nothing = dict.fromkeys(GOOD, 0.0)  # mmdet gives no AP if none is found
    records = [r for r in read_records(scalars) if 'loss' not in r]
    scores = [nothing | record for record in records]
    before, after = scores[0], scores[-1]
    minutes, rest = divmod(round(seconds), 60)
    say(f'\nAP   {before[AP]:.3f} -> {after[AP]:.3f}')
    say(f'AP50 {before[AP50]:.3f} -> {after[AP50]:.3f}')
    say(
        f'trained and tested in {minutes} min {rest} s, weights and log: {OUT}'
    )
    say(f'predictions beside the truth: {OUT}/predictions.png')
    say(f'loss and AP: {OUT}/curves.png')
    return all(after[key] >= least for key, least in GOOD.items())


def main() -> None:
    """Draw, train, test and show the result."""
    draw_data()
    out = ROOT / OUT
    if out.exists():
        say(f'{OUT} is there from an earlier run: training starts anew in it')
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    run(out / 'train.txt', 'tools/train.py', CONFIG, '--work-dir', OUT)
    weights = (out / 'last_checkpoint').read_text().strip()
    weights = str(Path(weights).relative_to(ROOT))
    run(
        out / 'test.txt',
        *('tools/test.py', CONFIG, weights, '--work-dir', f'{OUT}/test'),
        *('--out', f'{OUT}/predictions.pkl'),
    )
    scalars = newest(SCALARS)
    draw_pictures()
    if not summary(scalars, time.monotonic() - start):
        sys.exit(f'demo: below the aim of AP {GOOD[AP]}, AP50 {GOOD[AP50]}')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('demo: stopped')

#!/usr/bin/env python
"""Train RetinaNet with PVTv2 on drawn shapes, from nothing to a score.

Draws the data, then runs ``tools/train.py`` and ``tools/test.py`` as anybody
would, and shows what came out.
"""

import math
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmengine.fileio import load  # noqa: E402

from pvt_mm.datasets.synthetic import draw_all  # noqa: E402
from pvt_mm.errors import UsageError  # noqa: E402
from pvt_mm.visualization.figures import (  # noqa: E402
    draw_curves,
    draw_detections,
    read_scalars,
)

CONFIG = 'configs/retinanet_pvt_v2_b0_shapes.py'
DATA = 'data/shapes'
OUT = 'work_dirs/demo'
IMAGES = 1200
AP, AP50 = 'coco/bbox_mAP', 'coco/bbox_mAP_50'
GOOD = {AP: 0.60, AP50: 0.80}
PROGRESS = re.compile(
    r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\].* eta: (\S+) .*loss: (\S+)'
)
SCORE = re.compile(rf'Epoch\(val\) .*{AP}: (\S+) +{AP50}: (\S+)')
NOTHING = 'testing results of the whole dataset is empty'


def say(text: str) -> None:
    print(text, flush=True)


class Screen:
    """Turns the log of a run into one line of progress now and then."""

    def __init__(self, pause: float = 8.0) -> None:
        self.pause, self.last = pause, -math.inf

    def show(self, line: str) -> None:
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
    """Run one of our tools; everything it says goes to a log file."""
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
    say(f'Drawing {IMAGES} images of shapes into {DATA} (half a minute) ...')
    try:
        drawn = draw_all(ROOT / DATA, IMAGES)
    except (UsageError, OSError) as error:
        sys.exit(f'demo: {error}')
    say('  drawn' if drawn else '  complete from an earlier run, reused')


def newest(pattern: str) -> Path:
    """The latest file of the run; mmengine names folders by time."""
    return max((ROOT / OUT).glob(pattern), key=lambda p: p.stat().st_mtime)


def pictures(scalars: Path) -> None:
    """The curves, and the first held-out images with what was found."""
    coco = ROOT / DATA / 'coco'
    results = load(ROOT / OUT / 'predictions.pkl')[:6]
    draw_curves(
        ROOT / OUT / 'curves.png',
        scalars,
        {AP: 'AP', AP50: 'AP50'},
        'RetinaNet, PVTv2-B0, drawn shapes',
    )
    draw_detections(
        ROOT / OUT / 'predictions.png',
        coco / 'annotations/instances_val2017.json',
        coco / 'val2017',
        results,
    )


def summary(scalars: Path, seconds: float) -> bool:
    """Print the one thing that matters; whether it is good enough."""
    scores = read_scalars(scalars, GOOD)[1]
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
    scalars = newest('*/vis_data/scalars.json')
    pictures(scalars)
    if not summary(scalars, time.monotonic() - start):
        sys.exit(f'demo: below the aim of AP {GOOD[AP]}, AP50 {GOOD[AP50]}')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('demo: stopped')

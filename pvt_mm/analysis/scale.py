"""How long COCO 1x takes on many GPUs: an estimate, with what it rests on.

A training step computes, sums the gradients of all processes (ring
all-reduce: twice the gradients' bytes through each link, less 1/n), and
meanwhile the workers load the next images. Summing overlaps with the backward
pass, two thirds of the computation; what is left of it is waited for, and so
is each SyncBN, forward and backward. docs/scale.md shows the table.
"""

import math
from typing import NamedTuple

from ..home import checkout

IMAGES = 117_266  # COCO train2017 with annotations, as mmdet filters it
EPOCHS = 12
FORWARD_AND_BACKWARD = 3  # a backward pass is two forward passes
OPERATIONS = 2  # of a multiply-add
BYTES = 4  # of a gradient in fp32


class Machines(NamedTuple):
    """What the hardware achieves, not what it could.

    Args:
        tflops: 10^12 operations per second of a GPU in training.
        inside: GB/s of the ring of an all-reduce, within a machine.
        between: likewise, between machines.
        latency: seconds of a small exchange, as SyncBN makes it.
        per_machine: GPUs of a machine.
        workers: processes that load data, per GPU.
    """

    tflops: float
    inside: float
    between: float
    latency: float
    per_machine: int
    workers: int


class Model(NamedTuple):
    """What is trained.

    Args:
        parameters: in millions (docs/flops.md).
        gmacs: 10^9 multiply-adds of an image (docs/flops.md, true).
        synced: how many of its norms are SyncBN.
        loaded: images per second that a process loads for it.
    """

    parameters: float
    gmacs: float
    synced: int
    loaded: float


class Estimate(NamedTuple):
    """A training on so many GPUs; times in seconds per step.

    Args:
        batch: images of a step, all GPUs together.
        rate: factor of the learning rate.
        compute: forward and backward pass.
        reduce: sum of gradients, by itself.
        waited: what of it the backward pass does not hide, and SyncBN.
        loading: time for a GPU's workers to load its images.
        step: how long a step takes.
        images: images per second, all GPUs together.
        hours: 12 epochs.
    """

    batch: int
    rate: float
    compute: float
    reduce: float
    waited: float
    loading: float
    step: float
    images: float
    hours: float


def estimate(
    model: Model, machines: Machines, gpus: int, per_gpu: int, recipe: int = 16
) -> Estimate:
    """Estimate a training.

    Args:
        model: what is trained.
        machines: on what.
        gpus: how many.
        per_gpu: images per GPU and step.
        recipe: total batch that the learning rate was made for.
    """
    operations = FORWARD_AND_BACKWARD * OPERATIONS * model.gmacs * 1e9
    compute = per_gpu * operations / (machines.tflops * 1e12)
    many = gpus > machines.per_machine
    speed = machines.between if many else machines.inside
    moved = 2 * (gpus - 1) / gpus * model.parameters * 1e6 * BYTES
    reduce = moved / (speed * 1e9)
    waited = max(reduce - compute * 2 / 3, 0.0)
    waited += 2 * model.synced * machines.latency
    loading = per_gpu / (machines.workers * model.loaded)
    step = max(compute + waited, loading)
    batch = gpus * per_gpu
    seconds = EPOCHS * math.ceil(IMAGES / batch) * step
    return Estimate(
        batch=batch,
        rate=batch / recipe,
        compute=compute,
        reduce=reduce,
        waited=waited,
        loading=loading,
        step=step,
        images=batch / step,
        hours=seconds / 3600,
    )


PAGE = 'docs/scale.md'
MODELS = {
    'retinanet_pvt_v2_b2_coco': Model(35.10, 290.17, 0, 200.0),
    'mask_rcnn_mpvit_small_coco': Model(42.74, 268.76, 29, 60.0),
}
MACHINES = Machines(
    tflops=15.0,
    inside=100.0,
    between=20.0,
    latency=5e-5,
    per_machine=8,
    workers=2,
)
RUNS = ((8, 2), (16, 1), (64, 1), (64, 2), (256, 1), (256, 2))
HEAD = (
    '| GPUs x images | batch | lr x | compute ms | all-reduce ms | waited ms '
    '| loading ms | step ms | images/s | of linear | hours |'
)


def table(model: Model, machines: Machines = MACHINES) -> str:
    """Estimates in Markdown; linear is 8 GPUs times as many."""
    base = estimate(model, machines, *RUNS[0])
    rows = [HEAD, '|' + ' --- |' * HEAD.count(' |')]
    for gpus, per_gpu in RUNS:
        e = estimate(model, machines, gpus, per_gpu)
        linear = e.images / (base.images * gpus / RUNS[0][0])
        times = (e.compute, e.reduce, e.waited, e.loading, e.step)
        cells = [f'{gpus} x {per_gpu}', e.batch, f'{e.rate:g}']
        cells += [f'{time * 1e3:.1f}' for time in times]
        cells += [f'{e.images:.0f}', f'{linear:.0%}', f'{e.hours:.2f}']
        rows.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(rows)


if __name__ == '__main__':
    page = checkout('the page of scale') / PAGE
    text = page.read_text()
    for name, model in MODELS.items():
        mark = f'<!-- {name} -->\n'
        before, _, after = text.split(mark)
        text = f'{before}{mark}\n{table(model)}\n\n{mark}{after}'
    page.write_text(text)

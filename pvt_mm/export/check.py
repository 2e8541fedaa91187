"""Compare an exported file with its model: results and latency."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from ..benchmark.measure import interleave
from ..engine.onnx_model import normalize
from ..errors import UsageError
from . import parity
from .program import quiet
from .target import Target

Run = Callable[[Tensor], tuple[Tensor, ...]]

LIMIT = 1e-4  # allowed difference, relative to the largest value
# Pixels added to the smallest height and width.
MORE = ((0, 0), (11, 139), (32, 64), (37, 71), (160, 160))


def runner(data: bytes, suffix: str) -> Run:
    """A function that runs an exported file on the CPU.

    Args:
        data: content of the file.
        suffix: .onnx or .pt2.
    """
    if suffix == '.pt2':
        with quiet():
            program = torch.export.load(io.BytesIO(data)).module()
        return lambda image: outputs(program, image)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        data, options, providers=['CPUExecutionProvider']
    )
    return lambda image: tuple(
        map(torch.from_numpy, session.run(None, {'image': image.numpy()}))
    )


@torch.no_grad()
def outputs(model: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """Run a model -> its results as a tuple.

    Shape:
        image (B, C, H, W)
    """
    result = model(image)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def shapes(
    channels: int, size: tuple[int, int] | None, smallest: int
) -> list[tuple[int, ...]]:
    """Shapes (B, C, H, W) to compare at; of a fixed size only that one."""
    if size:
        return [(1, channels, *size)]
    return [
        (batch, channels, smallest + height, smallest + width)
        for height, width in MORE
        for batch in (1, 2)
    ]


def random_image(shape: tuple[int, ...], raw: bool) -> Tensor:
    """A random image, normalized or, if raw, of pixels."""
    generator = torch.Generator().manual_seed(0)
    if raw:
        return torch.randint(
            256, shape, generator=generator, dtype=torch.uint8
        )
    return torch.randn(shape, generator=generator)


def difference(
    model: nn.Module, run: Run, shape: tuple[int, ...], raw: bool = False
) -> float:
    """The largest difference of results, relative to the largest value.

    Args:
        model: that was exported.
        run: runs the file.
        shape: (B, C, H, W) of the random image.
        raw: whether images are uint8.
    """
    image = random_image(shape, raw)
    pairs = zip(outputs(model, image), run(image), strict=True)
    return max(apart(ours, theirs) for ours, theirs in pairs)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference by largest value; infinite for other shapes.

    Of label maps the share of pixels that differ.
    """
    if ours.shape != theirs.shape:
        return float('inf')
    if not ours.is_floating_point():
        return float((ours != theirs).float().mean())
    return float((ours - theirs).abs().max() / ours.abs().max())


def compare(
    found: Target,
    run: Run,
    size: tuple[int, int] | None,
    timed: tuple[int, int],
) -> Iterator[str]:
    """Compare a file with its model -> lines on difference and latency.

    A detector with its heads is compared with mmdet's own, on drawn images.

    Args:
        found: what was exported.
        run: runs the file.
        size: fixed height and width; None for any.
        timed: height and width of the image for the latency.

    Raises:
        UsageError: the results differ by more than is allowed.
    """
    channels = found.backbone.in_channels
    wanted = shapes(channels, size, found.smallest)
    if 'boxes' in found.outputs:
        yield compare_objects(found, run, wanted)
    else:
        yield compare_values(found, run, wanted)
    image = random_image((1, channels, *timed), found.raw)
    calls = {
        'eager': partial(outputs, found.model, image),
        'file': partial(run, image),
    }
    seconds = interleave(calls, 5)
    eager, file = median(seconds['eager']), median(seconds['file'])
    yield (
        f'one image of {timed[0]}x{timed[1]}: {1e3 * file:.0f} ms, in '
        f'PyTorch {1e3 * eager:.0f} ms (median of 5, '
        f'{torch.get_num_threads()} threads)'
    )


def compare_values(
    found: Target, run: Run, wanted: list[tuple[int, ...]]
) -> str:
    """Compare maps, logits or label maps -> a line.

    Raises:
        UsageError: they differ by more than LIMIT.
    """
    worst = 0.0
    for shape in wanted:
        worst = max(worst, difference(found.model, run, shape, found.raw))
        if not worst <= LIMIT:
            raise UsageError(
                f'nothing was written: for an image {shape} the file would '
                f'differ by {worst:.1e} of the largest value (allowed '
                f'{LIMIT:.0e})'
            )
    return (
        f'equal within {worst:.1e} of the largest value ({len(wanted)} '
        'batches)'
    )


def compare_objects(
    found: Target, run: Run, wanted: list[tuple[int, ...]]
) -> str:
    """Compare objects in drawn images with mmdet's -> a line.

    Raises:
        UsageError: they differ by more than parity.LIMITS.
    """
    about, total = found.about, parity.Apart()
    # queries leave many weak objects, and nothing depends on their order
    best = 0 if 'iou_threshold' in about else parity.BEST
    for batch, _, height, width in wanted:
        image = images = parity.draw(batch, height, width)
        if not found.raw:
            values = (about[key] for key in ('mean', 'std', 'channels'))
            image = torch.from_numpy(normalize(images.numpy(), *values))
        ours = parity.objects_of(run(image), images, about)
        if found.whole:
            theirs = parity.detect(found.whole, images)
        else:  # rounded weights
            results = outputs(found.model, image)
            theirs = parity.objects_of(results, images, about)
        total = total.join(parity.difference(ours, theirs, best))
        if not total.equal():
            raise UsageError(
                'nothing was written: for an image '
                f'{(batch, 3, height, width)} the file would find other '
                f'objects than mmdet ({total})'
            )
    return f'the same as mmdet in {len(wanted)} batches, {total}'

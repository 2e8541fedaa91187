"""Compare an exported file with its model: results and latency."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from ..benchmark.measure import interleave
from ..errors import UsageError
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


def difference(model: nn.Module, run: Run, shape: tuple[int, ...]) -> float:
    """The largest difference of results, relative to the largest value.

    Args:
        model: that was exported.
        run: runs the file.
        shape: (B, C, H, W) of the random image.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator)
    pairs = zip(outputs(model, image), run(image), strict=True)
    return max(apart(ours, theirs) for ours, theirs in pairs)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference by largest value; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return float('inf')
    return float((ours - theirs).abs().max() / ours.abs().max())


def compare(
    found: Target,
    run: Run,
    size: tuple[int, int] | None,
    timed: tuple[int, int],
) -> Iterator[str]:
    """Compare a file with its model -> lines on difference and latency.

    Args:
        found: what was exported.
        run: runs the file.
        size: fixed height and width; None for any.
        timed: height and width of the image for the latency.

    Raises:
        UsageError: the results differ by more than LIMIT.
    """
    channels, worst = found.backbone.in_channels, 0.0
    wanted = shapes(channels, size, found.smallest)
    for shape in wanted:
        worst = max(worst, difference(found.model, run, shape))
        if not worst <= LIMIT:
            raise UsageError(
                f'nothing was written: for an image {shape} the file would '
                f'differ by {worst:.1e} of the largest value (allowed '
                f'{LIMIT:.0e})'
            )
    yield (
        f'equal within {worst:.1e} of the largest value ({len(wanted)} '
        'batches)'
    )
    image = torch.randn(1, channels, *timed)
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

"""Random textures and colours to fill areas with."""

import cv2
import numpy as np


def texture(
    rng: np.random.Generator, size: tuple, colour: np.ndarray | None = None
) -> np.ndarray:
    """Soft spots, perhaps stripes, and noise: (H, W, 3) int16, 0..255.

    Args:
        rng: the only source of random numbers.
        size: (H, W) in pixels.
        colour: (3,) mean; a random one with more contrast if None.
    """
    height, width = size
    spread = 45 if colour is None else 18
    if colour is None:
        colour = rng.integers(60, 196, 3)
    cells = rng.integers(-spread, spread + 1, (*rng.integers(3, 7, 2), 3))
    spots = cv2.resize(
        (cells + 128).astype(np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR_EXACT,
    )
    pixels = spots.astype(np.int16) - 128 + colour
    if rng.random() < 0.4:
        across, down = rng.integers(-3, 4, 2)
        rows, columns = np.mgrid[:height, :width]
        stripes = (rows * down + columns * across) // rng.integers(8, 25) % 2
        pixels = pixels + stripes[..., None] * rng.integers(8, 25)
    noise = rng.integers(-10, 11, (height, width, 1))
    return np.clip(pixels + noise, 0, 255).astype(np.int16)


def contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A colour (3,) that stands out from the mean of some pixels (N, 3)."""
    colours = rng.integers(20, 236, (24, 3))
    distance = np.abs(colours - ground.mean(0).round()).sum(1)
    far = colours[distance >= 120]
    return far[0] if len(far) else colours[distance.argmax()]

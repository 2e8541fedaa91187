"""Draw one image of shapes on a textured ground, with a mask for each.

Arithmetic is on integers wherever pixels depend on it, so a seed gives the
same pixels on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from .texture import contrasting, texture

CLASSES = ('disc', 'square', 'triangle', 'star', 'ring')
GROUND = -1
CROWD = -2
# A later shape may hide at most this share of an earlier one.
MAX_HIDDEN = 0.4
TRIES = 40


@dataclass
class Scene:
    """A drawn image and its labels.

    Attributes:
        image: BGR (H, W, 3) uint8, or (H, W) for a grey one.
        owner: (H, W) int16, index of the topmost shape, GROUND or CROWD.
        labels: class index of each shape, in drawing order.
        full: (H, W) bool mask of each shape, with the parts that are covered.
        crowd_label: class of the shapes in the crowd, None without one.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: list = field(default_factory=list)
    full: list = field(default_factory=list)
    crowd_label: int | None = None

    def visible(self, index: int) -> np.ndarray:
        """(H, W) bool: the pixels of one shape that nothing covers."""
        return self.owner == index


def outline(
    label: int, centre: Sequence[int], radius: float, angle: float
) -> list[np.ndarray]:
    """Polygons of one shape, (N, 2) int32 in pixels; a second is a hole.

    Args:
        label: index of the class.
        centre: x and y in pixels.
        radius: in pixels.
        angle: in radians.
    """
    corners = {'disc': 48, 'square': 4, 'triangle': 3, 'star': 10, 'ring': 48}
    name = CLASSES[label]
    angles = angle + np.arange(corners[name]) * 2 * np.pi / corners[name]
    reach = np.full(len(angles), float(radius))
    if name == 'star':
        reach[1::2] *= 0.42
    unit = np.stack([np.cos(angles), np.sin(angles)], 1)
    outer = np.rint(unit * reach[:, None] + centre).astype(np.int32)
    if name != 'ring':
        return [outer]
    inner = np.rint(unit * radius * 0.55 + centre).astype(np.int32)
    return [outer, inner]


def shape_mask(
    size: tuple, label: int, centre: Sequence[int], radius: int, angle: float
) -> np.ndarray:
    """The mask of one shape, cut at the border of the image.

    Args:
        size: (H, W) of the image.
        label: its class.
        centre: x, y in pixels.
        radius: in pixels.
        angle: in radians.

    Returns:
        bool (H, W)
    """
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, outline(label, centre, radius, angle), 1)
    return mask.astype(bool)


def add_shape(scene: Scene, rng: np.random.Generator) -> bool:
    """Draw one more shape -> whether it was drawn.

    It is not if it would hide too much of others, or does not fit.
    """
    size = scene.owner.shape
    label = int(rng.integers(len(CLASSES)))
    radius = int(rng.integers(min(size) // 11, min(size) * 3 // 10))
    margin = radius * 3 // 4
    if min(size) <= 2 * margin:
        return False
    centre = [int(rng.integers(margin, n - margin)) for n in size[::-1]]
    mask = shape_mask(size, label, centre, radius, rng.random() * 2 * np.pi)
    if (scene.owner[mask] == CROWD).any():
        return False
    for index, full in enumerate(scene.full):
        left = (scene.visible(index) & ~mask).sum()
        if left < (1 - MAX_HIDDEN) * full.sum():
            return False
    colour = contrasting(rng, scene.image[mask])
    scene.image[mask] = texture(rng, size, colour)[mask]
    scene.owner[mask] = len(scene.labels)
    scene.labels.append(label)
    scene.full.append(mask)
    return True


def add_crowd(scene: Scene, rng: np.random.Generator) -> None:
    """Draw a crowd region: many small shapes of one class, overlapping."""
    height, width = scene.owner.shape
    radius = max(3, min(height, width) // 22)
    label = scene.crowd_label = int(rng.integers(len(CLASSES)))
    for _ in range(24):
        centre = (
            int(rng.integers(radius, width // 2)),
            int(rng.integers(radius, height // 3)),
        )
        angle = rng.random() * 2 * np.pi
        mask = shape_mask(scene.owner.shape, label, centre, radius, angle)
        scene.image[mask] = contrasting(rng, scene.image[mask])
        scene.owner[mask] = CROWD


def draw_scene(
    rng: np.random.Generator,
    size: int,
    shapes: int | None = None,
    crowd: bool = False,
    grey: bool = False,
) -> Scene:
    """Draw a scene whose longer side is ``size`` pixels.

    Args:
        rng: the only source of random numbers.
        size: longer side in pixels, at least 32.
        shapes: how many shapes to try for; a random one to six if None.
        crowd: draw a crowd region first.
        grey: convert the image to grey.
    """
    shorter = int(rng.integers(size * 3 // 5, size + 1))
    height, width = rng.permutation([size, shorter])
    image = texture(rng, (height, width)).astype(np.uint8)
    scene = Scene(image, np.full((height, width), GROUND, np.int16))
    if crowd:
        add_crowd(scene, rng)
    wanted = int(rng.integers(1, 7)) if shapes is None else shapes
    for _ in range(TRIES):
        if len(scene.labels) < wanted:
            add_shape(scene, rng)
    if grey:
        scene.image = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY)
    return scene

"""Write masks as COCO does: boxes, polygons and run lengths."""

import cv2
import numpy as np

from .scene import CROWD, Scene


def bounding_box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] of a bool mask (H, W), in pixels."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Bool mask (H, W) -> flat polygons [x, y, x, y, ...] along its edges.

    COCO polygons have no holes: a hole becomes a notch, joined to the outer
    edge by a slit that is walked both ways and so covers no pixel.
    """
    fine = 4  # contours run through pixel centres: magnify to find the edges
    big = mask.astype(np.uint8).repeat(fine, 0).repeat(fine, 1)
    contours, tree = cv2.findContours(
        big, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    contours = [cv2.approxPolyDP(c, fine / 2, True)[:, 0] for c in contours]
    found = []
    for index, (_, _, _, parent) in enumerate(tree[0]):
        if parent >= 0:
            continue
        edge = contours[index]
        for hole, (_, _, _, owner) in zip(contours, tree[0], strict=True):
            if owner == index:
                edge = cut_hole(edge, hole)
        if len(edge) >= 3:
            found.append(((edge + 0.5) / fine).round(2).ravel().tolist())
    return found


def cut_hole(edge: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join an edge (N, 2) and its hole (M, 2) by a slit -> (N + M + 2, 2)"""
    gap = np.abs(edge[:, None] - hole[None]).sum(-1)
    near, far = np.unravel_index(gap.argmin(), gap.shape)
    ring = np.roll(hole, -far, 0)
    return np.concatenate([edge[: near + 1], ring, ring[:1], edge[near:]])


def run_lengths(mask: np.ndarray) -> dict:
    """Bool mask (H, W) -> uncompressed RLE: down the columns, zeros first."""
    flat = np.concatenate([[0], mask.ravel(order='F')]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff([0, *edges, mask.size])
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def annotations(scene: Scene) -> list[dict]:
    """COCO annotations of one scene, without ids."""
    found = []
    for index, label in enumerate(scene.labels):
        mask = scene.visible(index)
        found.append(annotation(label, mask, polygons(mask), 0))
    if scene.crowd_label is not None:
        mask = scene.visible(CROWD)
        found.append(annotation(scene.crowd_label, mask, run_lengths(mask), 1))
    return found


def annotation(
    label: int, mask: np.ndarray, segmentation: list | dict, crowd: int
) -> dict:
    """One COCO annotation without ids; box and area are of the mask."""
    return {
        'category_id': label + 1,
        'bbox': bounding_box(mask),
        'area': int(mask.sum()),
        'segmentation': segmentation,
        'iscrowd': crowd,
    }

"""Synthetic data: masks, boxes and labels fit the drawn pixels."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from pvt_mm.datasets.synthetic import draw_ade20k, draw_all, draw_coco
from pvt_mm.datasets.synthetic.coco import bounding_box, polygons, run_lengths
from pvt_mm.datasets.synthetic.scene import CROWD, draw_scene
from pvt_mm.datasets.synthetic.shapes import scenes
from pvt_mm.errors import UsageError


def decode(segmentation, size):
    """COCO segmentation -> (H, W) bool, by the official tools."""
    parts = rle.frPyObjects(segmentation, *size)
    parts = rle.merge(parts) if isinstance(parts, list) else parts
    return rle.decode(parts).astype(bool)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def digest(folder):
    """{relative path: bytes} of every file under a folder."""
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_polygon_covers_its_mask_and_leaves_the_hole_open():
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:45] = True
    mask[12:20, 20:33] = False
    found = polygons(mask)
    assert len(found) == 1
    assert (decode(found, mask.shape) == mask).all()


def test_run_lengths_are_exact_for_any_mask():
    rng = np.random.default_rng(0)
    masks = [rng.random((7, 9)) < share for share in (0.0, 0.3, 0.9, 1.0)]
    for mask in masks:
        assert (decode(run_lengths(mask), mask.shape) == mask).all()


def test_bounding_box_counts_whole_pixels():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert bounding_box(mask) == [3, 2, 5, 3]


def test_visible_masks_are_disjoint_and_inside_the_full_ones():
    overlaps = 0
    for _, scene in scenes(0, 'train', 20, 96):
        seen = [scene.visible(i) for i in range(len(scene.labels))]
        assert all(
            (~full & part).sum() == 0
            for full, part in zip(scene.full, seen, strict=True)
        )
        assert sum(part.sum() for part in seen) == (scene.owner >= 0).sum()
        overlaps += (
            sum(full.sum() for full in scene.full) > (scene.owner >= 0).sum()
        )
        for full, part in zip(scene.full, seen, strict=True):
            assert part.sum() >= 0.6 * full.sum()
    assert overlaps >= 5


def test_coco_annotations_match_the_drawn_pixels(tmp_path):
    draw_coco(tmp_path, train=12, val=4, size=96, seed=1)
    coco = COCO(str(tmp_path / 'annotations/instances_train2017.json'))
    sizes = set()
    for number, scene in scenes(1, 'train', 12, 96):
        image = coco.imgs[number]
        size = (image['height'], image['width'])
        sizes.add(size)
        read = cv2.imread(str(tmp_path / 'train2017' / image['file_name']))
        assert read.shape[:2] == size == scene.owner.shape
        anns = coco.imgToAnns[number]
        masks = [scene.visible(i) for i in range(len(scene.labels))]
        masks += (
            [scene.visible(CROWD)] if scene.crowd_label is not None else []
        )
        assert len(anns) == len(masks)
        for ann, mask in zip(anns, masks, strict=True):
            assert iou(coco.annToMask(ann).astype(bool), mask) > 0.93
            assert ann['area'] == mask.sum()
            assert ann['bbox'] == bounding_box(mask)
    assert len(sizes) > 8


def test_coco_set_holds_a_crowd_an_empty_and_a_grey_image(tmp_path):
    draw_coco(tmp_path, train=4, val=4, size=64)
    for split in ('train', 'val'):
        file = tmp_path / f'annotations/instances_{split}2017.json'
        coco = COCO(str(file))
        crowds = [a for a in coco.anns.values() if a['iscrowd']]
        assert [a['image_id'] for a in crowds] == [3]
        assert isinstance(crowds[0]['segmentation'], dict)
        assert coco.imgToAnns[4] == []
        grey = tmp_path / f'{split}2017' / coco.imgs[2]['file_name']
        assert cv2.imread(str(grey), cv2.IMREAD_UNCHANGED).ndim == 2


def test_ade20k_labels_match_the_drawn_pixels(tmp_path):
    draw_ade20k(tmp_path, train=4, val=2, size=64)
    for number, scene in scenes(0, 'train', 4, 64):
        name = f'ADE_train_{number:08d}'
        file = tmp_path / f'annotations/training/{name}.png'
        found = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert ((found == 0) == (scene.owner == CROWD)).all()
        for index, label in enumerate(scene.labels):
            assert (found[scene.visible(index)] == label + 2).all()
        assert (tmp_path / f'images/training/{name}.jpg').is_file()
    assert len(list((tmp_path / 'images/validation').iterdir())) == 2


def test_seed_decides_every_byte(tmp_path):
    for name, seed in (('a', 5), ('b', 5), ('c', 6)):
        draw_coco(tmp_path / name, train=3, val=2, size=64, seed=seed)
        draw_ade20k(tmp_path / name, train=2, val=1, size=64, seed=seed)
    same, again, other = (digest(tmp_path / n) for n in 'abc')
    assert same == again
    assert same.keys() == other.keys()
    assert not any(
        same[k] == other[k] for k in same if k.endswith(('png', 'jpg'))
    )


def test_pixels_of_a_seed_never_change():
    scene = draw_scene(np.random.default_rng([0, 0, 5]), 64)
    assert scene.image.astype(int).sum() == 1445384
    assert scene.labels == [4, 2, 0, 4, 2]


def test_train_and_val_are_different_images():
    pairs = zip(
        scenes(0, 'train', 6, 64), scenes(0, 'val', 6, 64), strict=True
    )
    for (_, one), (_, other) in pairs:
        assert (
            one.image.shape != other.image.shape
            or (one.image != other.image).any()
        )


def test_complete_data_is_reused_and_a_half_written_folder_is_not(tmp_path):
    root = tmp_path / 'shapes'
    leftover = tmp_path / '.part-01234567'
    leftover.mkdir()
    (leftover / 'junk').write_text('of a run that was stopped')
    assert draw_all(root, 4) is True
    assert not (root / 'junk').exists()
    before = (root / 'drawn.json').stat().st_mtime_ns
    assert draw_all(root, 4) is False
    assert (root / 'drawn.json').stat().st_mtime_ns == before
    assert json.loads((root / 'drawn.json').read_text())['images'] == 4


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('x')
    with pytest.raises(UsageError, match='mine exists .* delete it'):
        draw_all(tmp_path / 'mine', 4)
    assert (tmp_path / 'mine/thesis.txt').read_text() == 'x'
    draw_all(tmp_path / 'seed0', 4)
    with pytest.raises(UsageError, match='other synthetic data'):
        draw_all(tmp_path / 'seed0', 4, seed=1)

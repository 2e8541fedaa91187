"""Detectors and segmentors of other code bases, converted to ours.

Weights are random; each file is made in another code base's names, converted,
loaded strictly into the model of one of our configs, and detects the same.
"""

from copy import deepcopy
from pathlib import Path

import detectron2_rules as d2
import golden
import libraries
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from pvt_mm.checkpoints import convert, read_weights
from pvt_mm.checkpoints.formats import from_ours
from pvt_mm.config.loading import load_config
from pvt_mm.datasets.synthetic.coco import bounding_box
from pvt_mm.datasets.synthetic.scene import draw_scene

CONFIGS = Path(__file__).parents[2] / 'configs'
MPVIT = {
    'dims': (16, 24, 32, 40),
    'depths': (1, 1, 2, 1),
    'mlp_ratios': (2, 2, 2, 2),
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope='module')
def scene():
    """One drawn image with shapes on it."""
    return draw_scene(np.random.default_rng(3), 256, shapes=5)


@pytest.fixture(scope='module')
def image(scene):
    """Its pixels, BGR (3, H, W) of bytes."""
    return torch.from_numpy(scene.image).permute(2, 0, 1)


def build(config, backbone=None, **neck):
    """The model of a config with another backbone, random weights."""
    cfg = load_config(CONFIGS / f'{config}.py')
    init_default_scope(cfg.default_scope)
    model = deepcopy(cfg.model)
    model.backbone = {**(backbone or model.backbone), 'init_cfg': None}
    if backbone:
        model.neck.update(neck)
    return MODELS.build(model).eval()


def detect(model, image):
    """Detections of an image (3, H, W) by an mmdet model."""
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[1:])
    meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1, 1)}
    data = {'inputs': [image], 'data_samples': [DetDataSample(metainfo=meta)]}
    found = model.test_step(data)[0].pred_instances
    return d2.Detections(
        found.bboxes, found.scores, found.labels, found.get('masks')
    )


def same(ours, theirs):
    """Whether two sets of detections are one, in any order."""
    if len(ours.boxes) != len(theirs.boxes):
        return False
    gap = (ours.boxes[:, None] - theirs.boxes).abs().amax(-1)  # pixels
    gap = gap.maximum((ours.scores[:, None] - theirs.scores).abs() * 1000)
    gap[ours.labels[:, None] != theirs.labels] = torch.inf
    low, partner = gap.min(1)
    if low.max() > 0.02 or len(partner.unique()) < len(partner):
        return False
    if ours.masks is None:
        return True
    off = (ours.masks != theirs.masks[partner]).float().mean((1, 2))
    return bool(off.max() < 1e-3)


def converted(state, folder, container, **extra):
    """What the tool makes of a file with this state dict, and its report."""
    folder.mkdir(exist_ok=True)
    torch.save({container: state, **extra}, folder / 'theirs.pth')
    ours = folder / 'ours.pth'
    lines = convert(str(folder / 'theirs.pth'), str(ours), force=True)
    return read_weights(ours), '\n'.join(lines)


# detectron2


def d2_state(table):
    """A MPViT detector in detectron2's names, and its backbone."""
    backbone = MODELS.build({'type': 'MPViT', 'arch': MPVIT}).eval()
    golden.fill(backbone)
    names = from_ours(backbone.state_dict(), 'official').state
    state = {f'backbone.bottom_up.{k}': v for k, v in names.items()}
    return {**state, **d2.heads(table, backbone.out_channels)}, backbone


def d2_pair(table, config, folder):
    """A detectron2 file and its backbone, and our model with its weights."""
    theirs, backbone = d2_state(table)
    constants = {
        'pixel_mean': torch.tensor(d2.MEAN),
        'pixel_std': torch.tensor(d2.STD),
        'anchor_generator.cell_anchors.0': torch.ones(9, 4),
        'proposal_generator.anchor_generator.cell_anchors.0': torch.ones(3, 4),
    }
    ours, report = converted({**theirs, **constants}, folder, 'model')
    assert 'detectron2 MPViT' in report
    assert '2 dropped (constants of the data preprocessor)' in report
    assert '2 dropped (anchors, which follow from the config)' in report
    assert libraries.equal(from_ours(ours, 'detectron2').state, theirs)
    cfg = {'type': 'MPViT', 'arch': MPVIT}
    model = build(config, cfg, in_channels=list(backbone.out_channels))
    model.load_state_dict(ours, strict=True)
    return theirs, backbone, model


def test_detectron2_retinanet(tmp_path, image):
    theirs, backbone, model = d2_pair(
        d2.RETINANET, 'retinanet_mpvit_tiny_coco', tmp_path
    )
    size = tuple(image.shape[1:])
    most = 5000  # instead of 100, so that every level has its say
    wanted = d2.retinanet(theirs, backbone(d2.prepare(image)), size, most)
    assert len(wanted.boxes) > 1000
    assert wanted.labels.unique().numel() == d2.CLASSES
    model.bbox_head.test_cfg.max_per_img = most
    # mmdet cuts boxes at the border before the suppression, detectron2
    # after it; so here that is done by hand.
    model.bbox_head.bbox_coder.clip_border = False
    assert same(d2.cut(detect(model, image), size), wanted)


def test_detectron2_mask_rcnn(tmp_path, image):
    theirs, backbone, model = d2_pair(
        d2.MASK_RCNN, 'mask_rcnn_mpvit_tiny_coco', tmp_path
    )
    size = tuple(image.shape[1:])
    wanted = d2.mask_rcnn(theirs, backbone(d2.prepare(image)), size, 100)
    assert len(wanted.boxes) > 50
    assert set(d2.levels_of(wanted.boxes).tolist()) >= {2, 3}
    assert 0.1 < wanted.masks.float().mean() < 0.9
    assert same(detect(model, image), wanted)


# mmdet 3

MMDET_EPS = (r'backbone\.layers\.\d\.0\.norm', r'attn\.norm')


def mmdet_retinanet(name):
    """A RetinaNet of mmdet's own zoo, without its published weights."""
    text = f"_base_ = 'mmdet::pvt/retinanet_{name}_fpn_1x_coco.py'"
    cfg = Config.fromstring(text, '.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    return spread(MODELS.build(cfg.model))


def spread(model):
    """Random weights with which a RetinaNet's scores differ."""
    libraries.fill(model)
    for conv in (*model.bbox_head.cls_convs, *model.bbox_head.reg_convs):
        conv.conv.weight.data *= d2.HE
    model.bbox_head.retina_cls.weight.data *= 0.3
    model.bbox_head.retina_reg.weight.data *= 0.1
    return model


def losses(model, image, scene):
    """Each loss of a RetinaNet for the shapes of the scene, per level."""
    from mmdet.structures import DetDataSample

    boxes = [bounding_box(scene.visible(i)) for i in range(len(scene.labels))]
    boxes = torch.tensor(boxes).float()
    boxes[:, 2:] += boxes[:, :2]
    truth = InstanceData(bboxes=boxes, labels=torch.tensor(scene.labels))
    size = tuple(image.shape[1:])
    sample = DetDataSample(metainfo={'img_shape': size, 'pad_shape': size})
    sample.gt_instances = truth
    data = {'inputs': [image], 'data_samples': [sample]}
    data = model.data_preprocessor(data, training=True)
    found = model(**data, mode='loss')
    return torch.stack([x for part in found.values() for x in part])


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('pvt-t', 'retinanet_pvt_tiny_coco'),
        ('pvtv2-b0', 'retinanet_pvt_v2_b0_coco'),
    ],
)
def test_mmdet_retinanet(name, config, tmp_path, image, scene):
    theirs = mmdet_retinanet(name)
    state = theirs.state_dict()
    weights, report = converted(state, tmp_path, 'state_dict', meta={})
    assert 'mmdet PVT' in report
    assert libraries.equal(from_ours(weights, 'mmdet').state, state)
    ours = build(config)
    ours.load_state_dict(weights, strict=True)
    libraries.official_eps(theirs, *MMDET_EPS)  # mmdet has 1e-6 everywhere
    wanted = losses(theirs, image, scene)
    assert (wanted > 0).sum() > 5
    torch.testing.assert_close(losses(ours, image, scene), wanted)
    wanted = detect(theirs, image)
    assert len(wanted.boxes) > 50
    assert same(detect(ours, image), wanted)


# mmdet 2 and mmseg, with the official backbones


def official_file(model):
    """A state dict as the official code wrote it: only the backbone differs.

    tests/checkpoints/test_formats.py compares the names of the backbone with a
    list of the official code's.
    """
    names = from_ours(model.backbone.state_dict(), 'official').state
    state = {f'backbone.{k}': v for k, v in names.items()}
    for key, value in model.state_dict().items():
        if not key.startswith('backbone.'):
            state[key] = value
    return state


def run(model, image):
    """The scores of a segmentor, or the detections of a detector."""
    if hasattr(model, 'decode_head'):
        data = model.data_preprocessor({'inputs': [image]}, training=False)
        return [model(data['inputs'], mode='tensor')]
    found = detect(model, image)
    assert len(found.boxes) > 50
    return [part for part in found if part is not None]


@pytest.mark.parametrize(
    'config',
    [
        'retinanet_pvt_tiny_coco',
        'retinanet_pvt_v2_b0_coco',
        'mask_rcnn_pvt_v2_b0_coco',
        'semantic_fpn_pvt_tiny_ade20k',
        'semantic_fpn_pvt_v2_b0_ade20k',
        'upernet_mpvit_tiny_ade20k',
    ],
)
def test_official_files(config, tmp_path, image):
    theirs = libraries.fill(build(config))
    state = official_file(theirs)
    meta = {'mmdet_version': '2.8.0', 'epoch': 12, 'CLASSES': ('person',)}
    weights, report = converted(state, tmp_path, 'state_dict', meta=meta)
    assert f': official {type(theirs.backbone).__name__}, ' in report
    assert libraries.equal(weights, theirs.state_dict())
    assert libraries.equal(from_ours(weights, 'official').state, state)
    ours = build(config)
    ours.load_state_dict(weights, strict=True)
    part = image[:, :128, :160]
    for a, b in zip(run(ours, part), run(theirs, part), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

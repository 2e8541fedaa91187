"""Whole detectors: the objects of a file are those that mmdet finds."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import small_detectors
import small_runs
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from pvt_mm.config.loading import load_config
from pvt_mm.engine.onnx_model import OnnxModel, normalize, paste
from pvt_mm.engine.test import test as run_test
from pvt_mm.errors import UsageError
from pvt_mm.export import check, cli, parity
from pvt_mm.export.detectors import Detector
from pvt_mm.export.operators import OUT, nms, roi_align
from pvt_mm.export.program import to_onnx, trace
from pvt_mm.inference.predictor import Predictor

ROOT = Path(__file__).parents[2]
# A config of each method but Sparse R-CNN.
METHODS = (
    'retinanet_pvt_v2_b0_coco',
    'atss_pvt_v2_b2_coco',
    'gfl_pvt_v2_b2_coco',
    'mask_rcnn_pvt_v2_b0_coco',
    'cascade_mask_rcnn_pvt_v2_b2_coco',
    'detr_pvt_small_coco',
    'deformable_detr_mpvit_small_coco',
)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(name, **options):
    """A slim detector of a config, whose random heads find something.

    Args:
        name: of the config.
        options: further fields of its model.
    """
    cfg = load_config(ROOT / f'configs/{name}.py')
    init_default_scope('mmdet')
    levels = cfg.model.backbone.get('out_indices', (0, 1, 2, 3))
    cfg.model.backbone = dict(
        small_detectors.BACKBONE, out_indices=tuple(levels)
    )
    cfg.model.neck.in_channels = [small_detectors.DIMS[i] for i in levels]
    cfg.model.update(options)
    if 'encoder' in cfg.model:
        cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    elif 'sparse' not in name:
        small_detectors.narrow(cfg.model, 64)
        heads = cfg.model.get('roi_head', {}).get('bbox_head')
        for head in heads if isinstance(heads, list) else []:
            small_detectors.narrow(head, 64)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    for key, value in model.named_parameters():
        if 'head' in key and 'proposal' not in key:
            nn.init.normal_(value, float(value.mean() > 0.5), 0.05)
    if 'deformable' in name:  # else whatever is in memory
        nn.init.normal_(model.level_embed)
    if 'sparse' in name:
        model.rpn_head.init_weights()  # boxes of the whole image
    return model


def objects(run, images):
    """What a detector or a file finds in BGR images."""
    image = torch.from_numpy(normalize(images.numpy(), MEAN, STD, 'RGB'))
    return parity.objects_of(run(image), images, {'mask_threshold': '0.5'})


def assert_mmdets(run, model):
    """Odd sizes, so that the image is padded; alone and two together."""
    total = parity.Apart()
    for batch, height, width in ((1, 131, 173), (2, 128, 137)):
        images = parity.draw(batch, height, width)
        ours, theirs = objects(run, images), parity.detect(model, images)
        total = total.join(parity.difference(ours, theirs, parity.BEST))
    assert total.objects >= 60
    assert total.boxes < 1e-3 and total.scores < 1e-5 and total.masks < 0.01


@pytest.mark.parametrize('name', METHODS)
def test_objects_are_mmdets(name):
    model = build(name)
    assert_mmdets(partial(check.outputs, Detector(model)), model)


@pytest.mark.parametrize('two_stage', [False, True])
def test_box_refinement_in_onnx(two_stage):
    model = build(
        'deformable_detr_mpvit_small_coco',
        with_box_refine=True,
        as_two_stage=two_stage,
    )
    detector = Detector(model)
    assert_mmdets(partial(check.outputs, detector), model)
    names = ['boxes', 'scores', 'labels']
    data = to_onnx(trace(detector, 3, None, 128), {}, names)
    assert_mmdets(check.runner(data, '.onnx'), model)


@pytest.mark.parametrize('batch', [1, 2])
def test_objects_of_sparse_rcnn_in_float64(batch):
    """In float32 the scores of random heads are equal but for rounding."""
    model = build('sparse_rcnn_pvt_v2_b2_coco').double()
    images = parity.draw(batch, 128, 96).numpy()
    image = torch.from_numpy(normalize(images, MEAN, STD, 'RGB')).double()
    size = tuple(image.shape[2:])
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    samples = [DetDataSample(metainfo=meta) for _ in images]
    with torch.no_grad():
        ours = zip(*Detector(model).eval()(image), strict=True)
        theirs = model.predict(image, samples, rescale=False)
    for (boxes, scores, labels), sample in zip(ours, theirs, strict=True):
        found = sample.pred_instances
        order = found.scores.argsort(descending=True)
        assert len(order) == len(boxes) == 300
        assert torch.equal(labels, found.labels[order])
        torch.testing.assert_close(
            boxes, found.bboxes[order], rtol=1e-9, atol=1e-6
        )
        torch.testing.assert_close(scores, found.scores[order])


def test_there_are_max_per_img_objects():
    """Beyond the last one zeros, label -1."""
    model = build('mask_rcnn_pvt_v2_b0_coco')
    model.roi_head.test_cfg.score_thr = 0.9
    image = torch.randn(2, 3, 128, 160)
    boxes, scores, labels, masks = check.outputs(Detector(model), image)
    assert boxes.shape == (2, 100, 4) and masks.shape == (2, 100, 28, 28)
    none = labels < 0
    assert none.any() and (labels[none] == -1).all()
    assert (scores[none] == 0).all() and (boxes[none] == 0).all()
    assert (scores[~none] > 0.9).all()
    assert (scores.diff() <= 0).all()  # the best first


class Operators(nn.Module):
    """Both operators, at boxes made of an image's values."""

    def forward(self, image):
        """(B, 3, H, W) -> kept boxes, and what is in them"""
        corners = image[:, :2, :10, :2].flatten(1).view(-1, 10, 4).abs() * 40
        first = corners[..., :2]
        boxes = torch.cat([first, first + corners[..., 2:] + 1], -1)
        scores = image[:, 2, :10, 5].sigmoid()
        scores = scores.where(scores > 0.3, OUT)
        number = torch.arange(image.shape[0])[:, None] + 0 * scores
        rois = torch.cat([number[..., None], boxes], -1).flatten(0, 1)
        levels = (rois[:, 3] > 30).long()
        maps = [image, nn.functional.avg_pool2d(image, 2)]
        adaptive, fixed = (
            roi_align(maps, rois, levels, [1, 2], 7, samples)
            for samples in (0, 2)
        )
        return nms(boxes, scores, 0.2, 10), adaptive, fixed


def test_operators_of_onnx_are_mmcvs():
    model = Operators()
    data = to_onnx(trace(model, 3, None), {}, ['kept', 'adaptive', 'fixed'])
    run = check.runner(data, '.onnx')
    for shape in ((1, 3, 64, 80), (3, 3, 71, 65)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        kept, *features = check.outputs(model, image)
        assert 0 < kept.sum() < kept.numel()
        results = run(image)
        assert torch.equal(results[0], kept)
        for ours, theirs in zip(results[1:], features, strict=True):
            assert theirs.abs().max() > 0.5
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_masks_are_pasted_as_mmdet_does():
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    torch.manual_seed(0)
    logits = nn.functional.interpolate(torch.randn(5, 3, 7, 7), (28, 28))
    corners = torch.rand(5, 2) * 40
    boxes = torch.cat([corners, corners + 3 + torch.rand(5, 2) * 60], 1)
    labels = torch.tensor([0, 1, 2, 0, 1])
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(70, 90))
    cfg = load_config(ROOT / 'configs/mask_rcnn_pvt_v2_b0_coco.py').model
    head = FCNMaskHead(num_convs=0, num_classes=3)
    (found,) = head.predict_by_feat(
        [logits],
        [parity.InstanceData(bboxes=boxes, labels=labels)],
        [meta],
        cfg.test_cfg.rcnn,
    )
    mine = logits[range(5), labels].sigmoid().numpy()
    ours = paste(mine, boxes.numpy(), (70, 90)) >= 0.5
    assert found.masks.any()
    assert (found.masks.numpy() != ours).mean() < 1e-4


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Drawn data, RetinaNet of the shapes with weights, and its file."""
    root = tmp_path_factory.mktemp('detector')
    small_runs.draw(root)
    small_runs.write_detector(root)
    cli.main(words(root, 'det.onnx', '--check'))
    return root


def words(root, out, *more):
    """The command line that exports the detector of a folder."""
    size = ('--size', '64', '96')
    names = (root / 'det.py', root / 'det.pth', '--out', root / out)
    return [*map(str, names), *size, *more]


def test_file_has_classes_and_thresholds(folder):
    made = onnx.load(folder / 'det.onnx')
    about = {prop.key: prop.value for prop in made.metadata_props}
    assert json.loads(about['classes'])[:2] == ['disc', 'square']
    assert about['score_threshold'] == '0.05'
    assert about['iou_threshold'] == '0.5'
    assert about['max_per_image'] == '100'
    assert json.loads(about['resize']) == [128, 128]
    names = [output.name for output in made.graph.output]
    assert names == ['boxes', 'scores', 'labels']
    domains = {node.domain for node in made.graph.node}
    assert domains <= {'', 'ai.onnx'}  # no custom operators


WRONG = {
    (1, 3, 63, 80): 'image of no batch or below 64 x 64 pixels',
    (0, 3, 64, 80): 'image of no batch or below 64 x 64 pixels',
    (1, 4, 64, 80): 'Got: 4 Expected: 3',
}


@pytest.mark.parametrize('shape', WRONG)
def test_images_that_a_file_refuses(folder, shape):
    session = onnxruntime.InferenceSession(folder / 'det.onnx')
    image = np.zeros(shape, np.float32)
    with pytest.raises(Exception, match=re.escape(WRONG[shape])):
        session.run(None, {'image': image})


def test_images_that_a_test_of_a_file_refuses(folder):
    model = OnnxModel(folder / 'det.onnx')
    with pytest.raises(UsageError, match='64 x 64 pixels on, not 63 x 80'):
        model.predict([torch.zeros(3, 63, 80)], [None])


def test_ap_of_a_file(folder, monkeypatch, capsys):
    """``pvt_mm test CONFIG FILE.onnx`` prints the AP of the weights."""
    monkeypatch.chdir(folder)
    options = ['data_root=coco/', 'test_dataloader.batch_size=1']
    printed = []
    for weights in ('det.pth', 'det.onnx'):
        run_test(
            ['det.py', weights, '--out', 'x.pkl', '--cfg-options', *options]
        )
        said = capsys.readouterr().out
        printed.append(re.findall(r'bbox_mAP\S*: (\S+)', said))
    assert printed[0] and printed[0] == printed[1]


def test_files_that_cannot_be_tested(folder, tmp_path):
    (tmp_path / 'x.onnx').write_bytes(b'no model')
    with pytest.raises(UsageError, match='x.onnx is no ONNX model'):
        OnnxModel(tmp_path / 'x.onnx')
    model = OnnxModel(folder / 'det.onnx')
    data = parity.InstanceData()
    data.set_metainfo(dict(classes=('cat', 'dog')))
    with pytest.raises(UsageError, match='has the classes disc, square'):
        model.check_classes(data)


def reader():
    """The reader of docs/export.md."""
    text = (ROOT / 'docs/export.md').read_text()
    (code,) = (
        block
        for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL)
        if 'photograph' in block
    )
    return code


@pytest.fixture(scope='module')
def masks(tmp_path_factory):
    """Mask R-CNN whose random heads find something -> its folder.

    The file has the preprocessing inside.
    """
    root = tmp_path_factory.mktemp('masks')
    cfg = load_config(ROOT / 'configs/mask_rcnn_pvt_v2_b0_coco.py')
    cfg.model.backbone = dict(small_detectors.BACKBONE)
    cfg.model.neck.in_channels = list(small_detectors.DIMS)
    small_detectors.narrow(cfg.model, 64)
    cfg.model.test_cfg.rpn.max_per_img = 100
    small_runs.write(cfg, root / 'mask.py')
    model = build('mask_rcnn_pvt_v2_b0_coco')
    torch.save(model.state_dict(), root / 'mask.pth')
    names = [root / 'mask.py', root / 'mask.pth']
    out = [*names, '--out', root / 'mask.onnx', '--with-preprocessing']
    cli.main(list(map(str, out)))
    return root


@pytest.mark.slow
def test_the_reader_of_the_page(masks, tmp_path):
    """It prints the objects that mmdet finds, and paints them."""
    assert len(reader().splitlines()) <= 40
    (tmp_path / 'reader.py').write_text(reader())
    image = parity.draw(1, 160, 200)[0].permute(1, 2, 0).numpy()
    cv2.imwrite(str(tmp_path / 'in.png'), image)
    done = subprocess.run(
        [sys.executable, 'reader.py', masks / 'mask.onnx', 'in.png', 'o.png'],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    predictor = Predictor(str(masks / 'mask.py'), masks / 'mask.pth', 'cpu')
    (sample,) = predictor.predict([predictor.prepare(image)])
    found = sample.pred_instances
    found = found[found.scores > 0.3]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(found) > 0
    boxes = torch.tensor([[float(x) for x in line[-4:]] for line in lines])
    order = found.scores.argsort(descending=True)
    assert (boxes - found.bboxes[order]).abs().max() < 0.1
    painted = cv2.imread(str(tmp_path / 'o.png'))
    assert painted.shape == image.shape and (painted != image).any()


@pytest.mark.slow
def test_openvino_finds_the_same(masks):
    openvino = pytest.importorskip('openvino', reason='pip install openvino')
    images = parity.draw(2, 160, 200)
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    model = openvino.Core().compile_model(masks / 'mask.onnx', 'CPU', exact)
    results = model({'image': images.numpy()})
    results = [torch.from_numpy(results[x]) for x in model.outputs]
    run = check.runner((masks / 'mask.onnx').read_bytes(), '.onnx')
    ours, theirs = (
        parity.objects_of(x, images, {'mask_threshold': '0.5'})
        for x in (results, run(images))
    )
    assert parity.difference(ours, theirs).equal()

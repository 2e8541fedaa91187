"""Drawing, browse-dataset, visualize-features and log backends."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from small_runs import RETINANET, SEGMENTOR, TINY, load, one_error, say, write

import pvt_mm
from pvt_mm.config.cfg_options import merge_options
from pvt_mm.config.paths import HOME
from pvt_mm.engine import train as training
from pvt_mm.errors import UsageError
from pvt_mm.visualization import (
    browse_cli,
    features_cli,
    features_input,
)
from pvt_mm.visualization.browse import STRIPE, Batches, labelled
from pvt_mm.visualization.drawing import (
    add_title,
    build_visualizer,
    draw_label_map,
    draw_objects,
    middle,
    to_rgb,
)
from pvt_mm.visualization.features import (
    attention,
    mean_absolute,
    principal_components,
    recorded_calls,
)

COLOURS = [(255, 0, 0), (0, 0, 255)]


# --- drawing


@pytest.fixture(scope='module')
def detector():
    return build_visualizer('mmdet', dict(classes='ab', palette=COLOURS))


@pytest.fixture(scope='module')
def segmentor():
    return build_visualizer('mmseg', dict(classes='ab', palette=COLOURS))


def noise(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def instances(boxes, labels, **fields):
    boxes = torch.tensor(boxes, dtype=torch.float).view(-1, 4)
    labels = torch.tensor(labels, dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels, **fields)


def test_masks_and_boxes_have_the_colour_of_their_class(detector):
    image = np.full((240, 240, 3), 100, np.uint8)
    masks = torch.zeros(2, 240, 240, dtype=torch.bool)
    masks[0, 100:140, 100:140] = True
    boxes = [(100, 100, 140, 140), (10, 30, 50, 70)]
    scores = torch.tensor([0.9, 0.8])
    found = instances(boxes, [1, 0], masks=masks, scores=scores)
    picture = draw_objects(detector, image, found)
    assert picture.shape == (480, 480, 3)  # twice as large: it was small
    assert (picture == draw_objects(detector, image, found)).all()
    inside = picture[250, 240].astype(int)  # blue, varied by mmdet, BGR
    assert inside[0] > 150 and inside[1:].max() < 100
    edge = picture[100, 20].astype(int)  # of the red box
    assert edge[2] > 200 and edge[:2].max() < 40
    assert picture[130, 60].tolist() == [100, 100, 100]
    caption = picture[200:220, 202:260]
    assert (caption.max(2) < 60).sum() > 200  # its background
    assert 20 < (caption.min(2) > 120).sum() < 200  # its letters


def test_drawing_leaves_the_random_state_as_it_was(detector, monkeypatch):
    np.random.seed(1)
    wanted = np.random.rand()
    for fails in (False, True):
        np.random.seed(1)
        if fails:
            monkeypatch.setattr(detector, 'add_datasample', None)
            with pytest.raises(TypeError):
                draw_objects(detector, noise(50, 50), instances([], []))
        else:
            draw_objects(detector, noise(50, 50), instances([], []))
        assert np.random.rand() == wanted


@pytest.mark.parametrize('size', [(481, 640), (2001, 301), (37, 23), (3, 500)])
def test_an_image_without_objects_is_drawn_as_it_is(detector, size):
    image = noise(*size)
    picture = draw_objects(detector, image, instances([], []))
    k = -(-480 // max(size))
    assert (picture == image.repeat(k, 0).repeat(k, 1)).all()


@pytest.mark.parametrize(
    ('boxes', 'labels'),
    [
        ([], []),
        ([(0, 0, 0, 0)], [0]),
        ([(0, 0, 0, 0), (5, 5, 5, 5)], [0, 1]),
        ([(50, 50, 20, 20)], [1]),  # the wrong way round
        ([(-500, -500, 900, 900)], [0]),
        ([(5, 5, 9, 9), (1, 1, 4, 4)], [2, 1]),  # 2 is no class
    ],
)
def test_objects_that_are_hard_to_draw_are_no_error(detector, boxes, labels):
    image = noise(100, 120)
    for masks in (torch.zeros, torch.ones):
        masks = masks(len(boxes), 100, 120).bool()
        found = instances(boxes, labels, masks=masks)
        picture = draw_objects(detector, image, found)
        assert picture.shape == (400, 480, 3)
        assert found.masks is masks and len(found) == len(boxes)
        assert np.array_equal(found.bboxes, np.reshape(boxes, (-1, 4)))


def test_label_maps_have_colours_and_names(segmentor):
    image = np.full((240, 240, 3), 100, np.uint8)
    labels = np.zeros((240, 240), np.int64)
    labels[:60] = 1
    labels[200:] = 255
    labels[190:200] = 2
    picture = draw_label_map(segmentor, image, labels)
    assert picture.shape == (480, 480, 3)
    assert picture[20, 20].tolist() == [177, 50, 50]  # half blue, BGR
    assert picture[300, 20].tolist() == [50, 50, 177]
    assert (picture[380:] == 100).all()  # no class
    for row in (60, 250):  # the name of each class, in its middle
        name = picture[row - 8 : row + 8, 230:250]
        assert (name.max(2) < 70).any() and (name.min(2) > 150).any()
    labels[:] = 255
    assert (draw_label_map(segmentor, image, labels) == 100).all()


def test_names_are_inside_their_regions():
    ring = np.zeros((60, 100), bool)
    ring[10:50, 20:70] = True
    ring[15:45, 25:60] = False  # it is widest on the right
    assert middle(ring).tolist() == [64, 29]
    ring[:] = True
    assert middle(ring).tolist() == [49, 29]
    ring[:] = False
    ring[0, 99] = True
    assert middle(ring).tolist() == [99, 0]


def test_pictures_do_not_influence_each_other_or_stay(detector, segmentor):
    image, labels = noise(480, 640), np.zeros((480, 640), np.uint8)
    found = instances([(50, 50, 90, 90)], [0])
    first = draw_objects(detector, image, found)
    figure = detector.ax_save
    artists = len(figure.get_children())
    draw_objects(detector, noise(600, 500), instances([(1, 1, 300, 300)], [1]))
    for _ in range(3):
        assert (draw_objects(detector, image, found) == first).all()
        assert len(figure.get_children()) == artists
        draw_label_map(segmentor, image, labels)
    assert not pyplot.get_fignums()


def test_any_image_can_be_drawn():
    for image in (
        np.zeros((5, 7)),
        np.linspace(0, 4000, 70).reshape(5, 7, 2).astype(np.uint16),
        np.zeros((5, 7, 4), np.uint8),
    ):
        colour = to_rgb(image)
        assert (colour.shape, colour.dtype) == ((5, 7, 3), np.uint8)
    assert to_rgb(np.array([[0, 500]])).max() == 255
    assert to_rgb(np.array([[[1, 2, 3]]], np.uint8)).tolist() == [[[3, 2, 1]]]


def test_every_class_has_a_colour():
    names = [f'class {i}' for i in range(150)]
    for palette in (None, [], COLOURS):
        metainfo = dict(classes=names, palette=palette)
        meta = build_visualizer('mmdet', metainfo).dataset_meta
        assert len(set(meta['palette'])) == 150
    meta = build_visualizer('mmseg', dict(classes='a', palette=[[4, 5, 6]]))
    assert meta.dataset_meta == dict(classes=['a'], palette=[(4, 5, 6)])


def test_titles_are_below_and_complete(segmentor):
    image = noise(480, 480)
    one = add_title(segmentor, image, 'a $x_$ title')  # no formula
    two = add_title(segmentor, image, 'a title ' * 10)
    assert one.shape == (498, 480, 3) and two.shape == (516, 480, 3)
    for picture in (one, two):
        assert (picture[:480] == image).all()
        assert picture[480:].min() < 50 and (picture[480:, -2:] == 255).all()
    narrow = add_title(segmentor, noise(500, 3), 'title')
    assert narrow.shape == (518, 240, 3)


# --- browse


def test_what_is_shown_is_what_the_network_gets(configs):
    cfg = load(configs['det'])
    cfg.train_dataloader.batch_size = 4
    init_default_scope('mmdet')
    batches = Batches(cfg, 'train')
    views = [view for _, view in zip(range(8), batches, strict=False)]
    padded = [v for v in views if 'padded to' in v.text]
    assert padded
    view = padded[0]
    height, width = view.truth.img_shape
    beyond = view.image[height:] if height < 64 else view.image[:, width:]
    assert set(np.unique(beyond)) <= {120, 200}
    assert len(np.unique(beyond)) == 2 or min(beyond.shape[:2]) < STRIPE
    # an image that nothing changed comes back to the pixel
    plain = load(configs['det'])
    plain.train_dataloader.dataset.pipeline = [
        t
        for t in plain.train_dataloader.dataset.pipeline
        if t.type not in ('Resize', 'RandomFlip')
    ]
    view = next(iter(Batches(plain, 'train')))
    image = cv2.imread(view.truth.img_path)
    height, width = image.shape[:2]
    assert (view.image[:height, :width] == image).all()


def test_each_branch_of_semi_supervised_training_is_shown(configs):
    init_default_scope('mmdet')
    batches = Batches(load(configs['det']), 'train')
    plain = batches.preprocessor
    names = ['sup', 'unsup_student']

    def by_branch(batch, training):
        found = plain(batch, training)
        return {k: dict.fromkeys(names, v) for k, v in found.items()}

    batches.preprocessor = by_branch
    batches.preprocessor.data_preprocessor = plain
    images = len(batches.loader.dataset)
    views = list(batches)
    assert len(views) == 2 * images
    for view in views:
        assert view.text.startswith((*(f'{name}, 0' for name in names),))
        assert view.image.max() > 50  # without normalization


def test_boxes_of_validation_lie_on_the_resized_image(configs):
    cfg = load(configs['det'])
    cfg.val_dataloader.dataset.pipeline[1].scale = (32, 32)
    init_default_scope('mmdet')
    views = list(Batches(cfg, 'val'))
    assert len(views) == 4
    for view in views:
        truth = view.truth
        width, height = truth.scale_factor
        assert width == pytest.approx(0.5, abs=0.02)
        boxes = truth.gt_instances.bboxes
        right, low = truth.img_shape[1] + 1, truth.img_shape[0] + 1
        assert (boxes[:, 2] <= right).all() and (boxes[:, 3] <= low).all()


@pytest.mark.parametrize('kind', ['det', 'seg'])
def test_pictures_of_the_data(configs, tmp_path, capsys, kind):
    argv = [configs[kind], '--out', tmp_path, '--number', 3]
    status, out, _ = say(capsys, browse_cli.main, *argv)
    assert (status, '3 pictures of train' in out) == (0, True)
    first = [p.read_bytes() for p in sorted(tmp_path.iterdir())]
    assert len(first) == 3
    say(capsys, browse_cli.main, *argv)  # randomness has a seed
    assert [p.read_bytes() for p in sorted(tmp_path.iterdir())] == first
    argv = [*argv, '--split', 'val', '--out', tmp_path / 'val']
    assert say(capsys, browse_cli.main, *argv)[0] == 0
    assert len(list((tmp_path / 'val').iterdir())) == 3


def test_labels_of_a_classifier_are_words():
    names = ('cat', 'dog', 'owl')
    assert labelled(torch.tensor(1), names) == 'dog'
    mixed = torch.tensor([0.25, 0.0, 0.75])
    assert labelled(mixed, names) == '75% owl + 25% cat'
    assert labelled(torch.tensor([0.0, 1.0, 0.0]), names) == '100% dog'


def test_images_of_a_classifier_are_shown(tmp_path, capsys):
    for kind in ('cat', 'dog'):
        (tmp_path / 'train' / kind).mkdir(parents=True)
        for i in range(2):
            image = np.full((40, 40, 3), 90 * i, np.uint8)
            cv2.imwrite(str(tmp_path / f'train/{kind}/{i}.png'), image)
    status, out, _ = say(
        *(capsys, browse_cli.main),
        'configs/classifier_pvt_v2_b0_imagenet.py',
        *('--out', tmp_path / 'seen', '--number', 2, '--cfg-options'),
        *(f'data_root={tmp_path}', 'train_dataloader.batch_size=2'),
        'model.data_preprocessor.num_classes=2',
    )
    assert (status, '2 pictures' in out) == (0, True)
    names = sorted(p.name for p in (tmp_path / 'seen').iterdir())
    assert names == ['0001.png', '0002.png']


def test_data_that_is_not_there_is_one_sentence(configs, tmp_path, capsys):
    argv = [configs['det'], '--out', tmp_path / 'out', '--cfg-options']
    status, _, said = say(
        capsys, browse_cli.main, *argv, f'data_root={tmp_path}/no'
    )
    assert status == 1 and 'is not there' in one_error(said)
    assert not (tmp_path / 'out').exists()


# --- features


@pytest.mark.parametrize(
    ('model', 'stage'),
    [
        (lambda: pvt_mm.PVTv2(TINY), 0),  # strided
        (lambda: pvt_mm.PVTv2(TINY), 3),  # all keys
        (lambda: pvt_mm.PVTv2(TINY, linear=True), 1),  # pooled
        (lambda: pvt_mm.PVT(TINY), 1),
    ],
)
def test_attention_is_what_the_block_computes(model, stage):
    torch.manual_seed(0)
    backbone = model().eval()
    for parameter in backbone.parameters():  # far from uniform
        if parameter.ndim == 2:
            parameter.data.mul_(8)
    block = backbone.stages[stage].blocks[0]
    with recorded_calls([block]) as calls, torch.no_grad():
        backbone(torch.randn(1, 3, 72, 104))
    (x, size), _ = calls[block]
    seen = attention(calls[block], block, (0.6, 0.3))
    assert seen.query
    place = int(0.6 * size[0]) * size[1] + int(0.3 * size[1])
    attn = block.attn
    with torch.no_grad():
        y = block.norm1(x)
        v = attn.kv(attn.reduction(y, size)).chunk(2, -1)[1][0]
        v = v.unflatten(-1, (attn.heads, -1))
        mixed = torch.einsum('hm,mhd->hd', seen.weights.flatten(1), v)
        expected = attn(y, size)[0, place]
        assert torch.allclose(attn.proj(mixed.flatten()), expected, atol=1e-5)
    assert seen.weights.sum((1, 2)).allclose(torch.ones(attn.heads))
    assert seen.weights.std() > 1e-4
    grid = [n * c for n, c in zip(size, seen.covers, strict=True)]
    ratio = getattr(attn.reduction, 'conv', None)
    if ratio is not None and ratio.stride[0] > 1:
        steps = ratio.stride[0]
        assert list(seen.weights.shape[1:]) == [round(n / steps) for n in grid]


def test_softmax_of_mpvit_is_over_tokens_and_of_no_query():
    arch = dict(dims=(16, 16, 16, 16), depths=(1,) * 4, mlp_ratios=(1,) * 4)
    backbone = pvt_mm.MPViT(arch).eval()
    block = backbone.stages[1].paths[2].blocks[0]
    seen_k = []
    block.attn.qkv.register_forward_hook(
        lambda m, a, out: seen_k.append(out.chunk(3, -1)[1])
    )
    with recorded_calls([block]) as calls, torch.no_grad():
        backbone(torch.randn(1, 3, 64, 96))
    seen = attention(calls[block], block, (0.5, 0.5))
    assert not seen.query and seen.weights.shape == (8, 8, 12)
    expected = seen_k[0][0].unflatten(-1, (8, -1)).softmax(0).mean(-1)
    assert seen.weights.flatten(1).T.allclose(expected)


def test_colours_of_maps_show_their_parts():
    x = torch.zeros(8, 10, 12)
    x[:, :, 6:] = torch.arange(8.0)[:, None, None]
    x += 1e-3 * torch.randn(x.shape)
    colours = principal_components(x)
    assert colours.shape == (10, 12, 3)
    assert colours.min() >= 0 and colours.max() <= 1
    first = colours[..., 0]
    assert (first[:, 6:].min() - first[:, :6].max()).abs() > 0.9
    assert torch.equal(principal_components(x), colours)
    assert mean_absolute(x)[:, 6:].min() > mean_absolute(x)[:, :6].max()


def test_features_of_a_name_and_of_a_trained_config(
    configs, drawn, tmp_path, capsys
):
    image = next((drawn / 'coco/val2017').iterdir())
    out = tmp_path / 'out.png'
    argv = [image, '--out', out, '--side', 64]
    assert say(capsys, features_cli.main, 'mpvit_tiny', *argv)[0] == 0
    assert cv2.imread(str(out)).shape[1] == 1300
    cfg = load(configs['det'])
    torch.manual_seed(1)
    model = features_input.build(cfg)
    state = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'det.pth')
    argv += ['--stage', 2, '--block', 0, '--at', 3, 4, '--how', 'mean']
    weights = ['--weights', tmp_path / 'det.pth']
    config = configs['det']
    assert say(capsys, features_cli.main, config, *argv, *weights)[0] == 0
    assert cv2.imread(str(out)).shape[1] == 1040


@pytest.mark.parametrize(
    ('channels', 'stored', 'error'),
    [
        (1, 1, ''),
        (1, 3, ''),  # is read in grey
        (4, 4, ''),
        (3, 4, ''),  # without its transparency
        (4, 3, 'has 3 channels, and the backbone takes 4'),
        (2, 1, 'has 1 channels, and the backbone takes 2'),
    ],
)
@pytest.mark.parametrize('normalized', [True, False])
def test_features_of_images_with_any_channels(
    tmp_path, capsys, channels, stored, error, normalized
):
    cfg = load(SEGMENTOR)
    cfg.model.backbone.update(arch=TINY, in_channels=channels)
    cfg.model.data_preprocessor = dict(type='SegDataPreProcessor')
    if normalized:
        cfg.model.data_preprocessor.update(
            mean=[90.0] * channels, std=[60.0] * channels
        )
    config = write(cfg, tmp_path / 'config.py')
    image = np.random.default_rng(0).integers(256, size=(40, 64, stored))
    cv2.imwrite(str(tmp_path / 'a.png'), image.astype(np.uint8))
    argv = [config, tmp_path / 'a.png', '--out', tmp_path / 'out.png']
    status, _, said = say(capsys, features_cli.main, *argv, '--side', 64)
    if error:
        assert status == 1 and error in one_error(said)
    else:
        assert status == 0 and (tmp_path / 'out.png').is_file()


def test_a_model_or_place_that_is_not_there(drawn, tmp_path, capsys):
    image = next((drawn / 'coco/val2017').iterdir())
    (tmp_path / 'text.png').write_text('text')
    out = ['--out', tmp_path / 'out.png', '--side', 64]
    for argv, text in (
        (['pvt_v2_b9', image], 'nearest: b'),
        (['nothing', image], 'there is no config file nothing'),
        (['pvt_v2_b0', tmp_path / 'text.png'], 'is no image'),
        (['pvt_v2_b0', image, '--stage', 4], '--stage 4 does not exist'),
        (['pvt_v2_b0', image, '--block', 2], 'has blocks 0..1'),
        (['mpvit_tiny', image, '--path', 2], 'has paths 0..1'),
        (['pvt_v2_b0', image, '--at', 900, 1], '--at 900 1 is outside'),
    ):
        status, _, said = say(capsys, features_cli.main, *argv, *out)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / 'out.png').exists()


# --- TensorBoard, Weights & Biases


def test_a_place_after_the_last_is_added_to_a_list():
    cfg = load(RETINANET)
    key = 'visualizer.vis_backends.1'
    merge_options(cfg, {f'{key}.type': 'TensorboardVisBackend'})
    kinds = [b.type for b in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend']
    for wrong in ('visualizer.vis_backends.3.type', f'{key[:-1]}2'):
        with pytest.raises(UsageError, match='nothing in the config reads'):
            merge_options(cfg, {wrong: 'TensorboardVisBackend'})


@pytest.mark.parametrize(
    ('kind', 'module'),
    [
        ('TensorboardVisBackend', 'tensorboard'),
        ('WandbVisBackend', 'wandb'),
    ],
)
def test_the_lines_of_the_page_build_or_say_what_is_missing(
    configs, tmp_path, capsys, monkeypatch, kind, module
):
    page = (HOME / 'docs/visualization.md').read_text()
    option = f'visualizer.vis_backends.1.type={kind}'
    assert f'--cfg-options {option}' in page
    # absent, whatever is installed here
    for name in (module, 'tensorboardX', 'torch.utils.tensorboard'):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(DetLocalVisualizer, '_instance_dict', {})
    status, _, said = say(
        capsys,
        training.train,
        *(configs['det'], '--work-dir', tmp_path, '--cfg-options', option),
    )
    assert status == 1
    assert one_error(said) == (
        f'error: {module} is not installed, and the config logs to it; '
        f'fix: pip install {module}'
    )


def test_tensorboard_builds_where_it_is_installed(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            pass

    module = type(json)('tensorboardX')
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    monkeypatch.setitem(sys.modules, 'tensorboardX', module)
    cfg = load(RETINANET)
    option = {'visualizer.vis_backends.1.type': 'TensorboardVisBackend'}
    merge_options(cfg, option)
    backends = Config(cfg.visualizer).vis_backends
    seen = Visualizer(vis_backends=backends, save_dir=str(tmp_path))
    seen.add_scalar('loss', 0.5, step=3)
    assert ('loss', 0.5, 3) in written

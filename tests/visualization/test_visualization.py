"""Pictures: what goes in, what happens inside, what comes out, and curves."""

import csv
import json
import math
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from small_runs import RETINANET, SEGMENTOR, TINY, draw, load, small, write

import pvt_mm
from pvt_mm.cli import run
from pvt_mm.config.cfg_options import merge_options
from pvt_mm.datasets.synthetic.scene import CLASSES
from pvt_mm.engine import train as training
from pvt_mm.errors import UsageError
from pvt_mm.evaluation.confusion import match
from pvt_mm.visualization import (
    browse_cli,
    canvas,
    features_cli,
    features_input,
    logs_cli,
    paint,
)
from pvt_mm.visualization import results_cli as confusion_cli
from pvt_mm.visualization.browse import STRIPE, Batches, labelled
from pvt_mm.visualization.curves import draw_runs, expect, summary
from pvt_mm.visualization.features import (
    attention,
    average,
    principal,
    watched,
)
from pvt_mm.visualization.logs import read_run

COLOURS = [(255, 0, 0), (0, 0, 255)]


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(scope='module')
def configs(drawn, tmp_path_factory):
    """A detector and a segmentor that read the drawn images."""
    folder = tmp_path_factory.mktemp('configs')
    return {
        name: write(small(load(leaf), drawn, part), folder / f'{name}.py')
        for name, leaf, part in (
            ('det', RETINANET, 'coco'),
            ('seg', SEGMENTOR, 'ade20k'),
        )
    }


def say(capsys, main, *argv):
    """Status and what is said of a verb."""
    status = run(lambda: main(list(map(str, argv))))
    said = capsys.readouterr()
    return status, said.out, said.err


def one_error(said):
    (error,) = (x for x in said.splitlines() if x.startswith('error: '))
    return error


# --- paint


def test_captions_stay_inside_and_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes = rng.integers(0, 300, (4, 4)).tolist()
        taken = []
        for box in boxes:
            taken.append(paint.free_place(box, 90, (300, 300), taken))
        for x1, y1, x2, y2 in taken:
            assert 0 <= x1 < x2 <= 300 and 0 <= y1 < y2 <= 300
    apart = [paint.free_place((50, 50, 99, 99), 90, (300, 300), [])]
    for _ in range(3):
        apart.append(paint.free_place((50, 50, 99, 99), 90, (300, 300), apart))
    assert not any(
        paint.overlap(a, b) for i, a in enumerate(apart) for b in apart[:i]
    )


def test_masks_and_boxes_have_the_colour_of_their_class():
    image = np.full((240, 240, 3), 100, np.uint8)
    mask = np.zeros((240, 240), bool)
    mask[100:140, 100:140] = True
    things = [
        paint.Thing((100, 100, 140, 140), 1, 'b 0.90', mask),
        paint.Thing((10, 30, 50, 70), 0, 'a 0.80'),
    ]
    picture = paint.paint_things(image, things, COLOURS, ('a', 'b'))
    assert picture.shape == (480, 480, 3)  # twice as large: it was small
    assert picture[240, 240].tolist() == [177, 50, 50]  # half blue, BGR
    assert picture[100, 20].tolist() == [0, 0, 255]  # the edge of the box
    assert picture[100, 60].tolist() == [100, 100, 100]


def test_legend_names_the_classes_seen_and_counts_the_rest():
    image = np.zeros((480, 480, 3), np.uint8)
    labels = np.zeros((480, 480), np.int64)
    labels[:120] = 1
    labels[470:] = 255
    picture = paint.paint_labels(image, labels, COLOURS, ('a', 'b'))
    assert picture[60, 240].tolist() == [127, 0, 0]
    assert picture[475, 240].tolist() == [0, 0, 0]  # no class
    swatches = picture[:, 480 + canvas.GAP + 7]
    assert swatches[10].tolist() == [0, 0, 255]  # the larger one first
    assert swatches[30].tolist() == [255, 0, 0]
    assert (swatches[45:] == 255).all()
    names = [f'class {i}' for i in range(40)]
    many = np.arange(480 * 480).reshape(480, 480) % 40
    strip = paint.legend(many, canvas.colours_of(40), names, 240)
    assert len(strip) == 240
    column = strip[:, canvas.GAP + 7]
    rows = [(column[20 * r + 10] != 255).any() for r in range(12)]
    assert rows == [True] * 11 + [False]  # the last line counts the rest
    assert (strip[220:, 26:] < 128).any()


def test_any_image_can_be_painted():
    for image in (
        np.zeros((5, 7)),
        np.linspace(0, 4000, 70).reshape(5, 7, 2).astype(np.uint16),
        np.zeros((5, 7, 4), np.uint8),
    ):
        colour = canvas.as_colour(image)
        assert (colour.shape, colour.dtype) == ((5, 7, 3), np.uint8)
    assert canvas.as_colour(np.array([[0, 500]])).max() == 255
    assert len(set(canvas.colours_of(150))) == 150
    assert canvas.colours_of(2, [[1, 2, 3], [4, 5, 6]])[1] == (4, 5, 6)


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
    say(capsys, browse_cli.main, *argv)  # chance has a seed
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


# --- logs


def log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return str(path)


def started(folder, when, first, last):
    """The log of one start of a run: iterations and their epochs of 10."""
    rows = []
    for i in range(first, last + 1):
        row = dict(loss=1 / i, lr=0.1, epoch=(i + 9) // 10, step=i)
        rows.append({**row, 'iter': i})
        if i % 10 == 0:
            rows.append({'coco/bbox_mAP': i / 100, 'step': i // 10})
    log(folder / f'{when}/vis_data/scalars.json', rows)


def test_a_resumed_run_is_one_curve(tmp_path):
    folder = tmp_path / 'run'
    started(folder, 1, 1, 24)
    started(folder, 2, 21, 30)
    (folder / 'mask_rcnn_pvt_v2_b0_coco.py').write_text('')
    seen = read_run(str(folder))
    assert [x for x, _ in seen.losses] == list(range(1, 31))
    assert seen.scores == {'box_AP': [(1, 10.0), (2, 20.0), (3, 30.0)]}
    assert seen.by_epoch and seen.config == 'mask_rcnn_pvt_v2_b0_coco'
    # one that began anew is its own curve only
    started(folder, 3, 1, 10)
    seen = read_run(str(folder))
    assert len(seen.losses) == 10 and len(seen.rates) == 10
    assert seen.scores == {'box_AP': [(1, 10.0)]}
    assert summary(seen) == [
        f'{folder}: box_AP 10.0, best 10.0 at 1; official 38.2, -28.2',
        f'{folder}: loss 1.000 at iteration 1, 0.100 at 10',
    ]


def test_published_logs_are_read(tmp_path):
    old = [
        dict(mode='train', epoch=e, iter=i, loss=1.0, lr=0.1)
        for e in (1, 2)
        for i in (50, 100)
    ]
    val = [dict(mode='val', epoch=2, iter=9, bbox_mAP=0.25)]
    seen = read_run(log(tmp_path / 'a.log.json', [{'seed': 0}, *old, *val]))
    assert [x for x, _ in seen.losses] == [50, 100, 150, 200]
    assert seen.scores == {'box_AP': [(2, 25.0)]}
    rows = [{'iteration': 19, 'total_loss': 2.0, 'lr': 0.1}]
    seen = read_run(log(tmp_path / 'metrics.json', rows))
    assert (seen.losses, seen.rates) == ([(19, 2.0)], [(19, 0.1)])


def test_curves_stand_beside_what_was_published(tmp_path, capsys, monkeypatch):
    for name, when in (('a', 1), ('b', 2)):
        started(tmp_path / name, when, 1, 30)
    (tmp_path / 'a/retinanet_pvt_v2_b0_coco.py').write_text('')
    lines = []
    monkeypatch.setattr(
        'pvt_mm.seeing.curves.expect',
        lambda axes, *rest: (expect(axes, *rest), lines.extend(axes.lines)),
    )
    out = tmp_path / 'new/curves.png'
    argv = [tmp_path / 'a', tmp_path / 'b', '--out', out]
    status, text, _ = say(capsys, logs_cli.main, *argv)
    assert status == 0
    assert 'official 37.2, -7.2' in text
    assert cv2.imread(str(out)).shape == (720, 1100, 3)
    labels = [line.get_label() for line in lines]
    assert labels[-1] == 'retinanet_pvt_v2_b0_coco: 37.2 (official)'
    assert lines[-1].get_ydata()[0] == 37.2
    assert not list(out.parent.glob('*.part'))
    with pytest.raises(UsageError, match='cannot be written'):
        (tmp_path / 'file').write_text('')
        draw_runs(tmp_path / 'file/x.png', [read_run(str(tmp_path / 'a'))])


def test_logs_that_are_none_are_one_sentence(tmp_path, capsys):
    (tmp_path / 'text').write_text('text')
    (tmp_path / 'empty.json').write_text('{}')
    for name, out, text in (
        ('nothing', 'x.png', 'has no */vis_data/scalars.json'),
        ('text', 'x.png', 'is no training log'),
        ('empty.json', 'x.png', 'neither a loss nor a score'),
        ('text', 'x.txt', 'the name must end with .png'),
    ):
        argv = [tmp_path / name, '--out', tmp_path / out]
        status, _, said = say(capsys, logs_cli.main, *argv)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / out).exists()


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
    with watched([block]) as calls, torch.no_grad():
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
    with watched([block]) as calls, torch.no_grad():
        backbone(torch.randn(1, 3, 64, 96))
    seen = attention(calls[block], block, (0.5, 0.5))
    assert not seen.query and seen.weights.shape == (8, 8, 12)
    expected = seen_k[0][0].unflatten(-1, (8, -1)).softmax(0).mean(-1)
    assert seen.weights.flatten(1).T.allclose(expected)


def test_colours_of_maps_show_their_parts():
    x = torch.zeros(8, 10, 12)
    x[:, :, 6:] = torch.arange(8.0)[:, None, None]
    x += 1e-3 * torch.randn(x.shape)
    colours = principal(x)
    assert colours.shape == (10, 12, 3)
    assert colours.min() >= 0 and colours.max() <= 1
    first = colours[..., 0]
    assert (first[:, 6:].min() - first[:, :6].max()).abs() > 0.9
    assert torch.equal(principal(x), colours)
    assert average(x)[:, 6:].min() > average(x)[:, :6].max()


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


def test_a_model_or_place_that_is_not_there(drawn, tmp_path, capsys):
    image = next((drawn / 'coco/val2017').iterdir())
    (tmp_path / 'text.png').write_text('text')
    out = ['--out', tmp_path / 'out.png', '--side', 64]
    for argv, text in (
        (['pvt_v2_b9', image], 'nearest: b'),
        (['nothing', image], 'there is no config file nothing'),
        (['pvt_v2_b0', tmp_path / 'text.png'], 'is no image'),
        (['pvt_v2_b0', image, '--stage', 4], '--stage 4 is not there'),
        (['pvt_v2_b0', image, '--block', 2], 'has blocks 0..1'),
        (['mpvit_tiny', image, '--path', 2], 'has paths 0..1'),
        (['pvt_v2_b0', image, '--at', 900, 1], '--at 900 1 is outside'),
    ):
        status, _, said = say(capsys, features_cli.main, *argv, *out)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / 'out.png').exists()


# --- confusion


def found(boxes, labels, scores):
    return {
        'bboxes': torch.tensor(boxes, dtype=torch.float).view(-1, 4),
        'labels': torch.tensor(labels, dtype=torch.long),
        'scores': torch.tensor(scores),
    }


def true(box, label, ignore=0):
    return dict(bbox=box, bbox_label=label, ignore_flag=ignore)


def test_each_object_is_matched_once():
    truth = [
        true([0, 0, 10, 10], 0),
        true([20, 0, 30, 10], 1),
        true([40, 40, 90, 90], 2, ignore=1),
    ]
    result = {
        'pred_instances': found(
            [[0, 0, 10, 9], [0, 0, 10, 10], [21, 0, 30, 10], [50, 50, 60, 60]]
            + [[70, 0, 80, 10], [0, 0, 10, 10]],
            [0, 1, 0, 2, 2, 0],
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.1],
        )
    }
    pairs = sorted(match(truth, result, 0.3, 0.5))
    # right; a second box on it; a wrong class; on a crowd; on nothing
    assert pairs == [(-1, 1), (-1, 2), (0, 0), (1, 0)]
    nothing = {'pred_instances': found([], [], [])}
    assert sorted(match(truth, nothing, 0.3, 0.5)) == [(0, -1), (1, -1)]
    assert list(match([], nothing, 0.3, 0.5)) == []


def test_the_most_frequent_mistakes_are_named():
    matrix = np.array([[5, 3, 0], [1, 8, 1], [4, 0, 0]])
    names = (['a', 'b', 'no object'], ['a', 'b', 'not found'])
    assert list(confusion_cli.mistakes(matrix, *names, most=3)) == [
        'no object -> a: 4 (100 %)',
        'a -> b: 3 (38 %)',
        'b -> a: 1 (10 %)',
    ]
    assert not list(confusion_cli.mistakes(np.diag([1, 2, 3]), *names))


def rows_of(path):
    return list(csv.reader(path.open()))


def test_perfect_detections_score_all(configs, drawn, tmp_path, capsys):
    truth = json.loads(
        (drawn / 'coco/annotations/instances_val2017.json').read_text()
    )
    results, counts = [], [0] * len(CLASSES)
    for image in truth['images']:
        notes = [
            a
            for a in truth['annotations']
            if a['image_id'] == image['id'] and not a['iscrowd']
        ]
        boxes = np.array([a['bbox'] for a in notes]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [a['category_id'] - 1 for a in notes]
        for label in labels:
            counts[label] += 1
        one = found(boxes.tolist(), labels, [0.9] * len(labels))
        shape = (image['height'], image['width'])
        known = {'img_id': image['id'], 'ori_shape': shape}
        results.append({**known, 'pred_instances': one})
    dump(results, tmp_path / 'found.pkl')
    argv = [configs['det'], tmp_path / 'found.pkl', '--out', tmp_path / 'out']
    status, out, _ = say(capsys, confusion_cli.main, *argv)
    assert status == 0
    table = rows_of(tmp_path / 'out/classes.csv')
    assert table[0] == ['class', 'objects', 'box AP']
    for name, count, row in zip(CLASSES, counts, table[1:], strict=False):
        score = '100.0' if count else '-'
        assert row == [name, str(count), score]
        assert f'{name:24}{count:>12}{score:>12}' in out
    assert table[-1] == ['mean, or sum', str(sum(counts)), '100.0']
    matrix = rows_of(tmp_path / 'out/confusion.csv')
    assert [r[1:] for r in matrix[1:]] == [
        [str(count if i == j else 0) for j in range(6)]
        for i, count in enumerate([*counts, 0])
    ]
    assert cv2.imread(str(tmp_path / 'out/confusion.png')) is not None


def test_label_maps_give_the_scores_of_the_test_run(
    configs, drawn, tmp_path, capsys
):
    truth = drawn / 'ade20k/annotations/validation'
    maps = tmp_path / 'maps'
    maps.mkdir()
    pixels = np.zeros((7, 7), np.int64)  # true by found, counted from 1
    for path in truth.iterdir():
        right = cv2.imread(str(path), -1)
        wrong = np.where(right == 3, 2, right).clip(1)
        wrong[:3] = 1
        cv2.imwrite(str(maps / path.name), wrong)
        np.add.at(pixels, (right.ravel(), wrong.ravel()), 1)
    matrix = pixels[1:, 1:]
    argv = [configs['seg'], maps, '--out', tmp_path / 'out']
    assert say(capsys, confusion_cli.main, *argv)[0] == 0
    kept = rows_of(tmp_path / 'out/confusion.csv')
    assert [list(map(int, r[1:])) for r in kept[1:]] == matrix.tolist()
    for i, row in enumerate(rows_of(tmp_path / 'out/classes.csv')[1:7]):
        union = matrix[i].sum() + matrix[:, i].sum() - matrix[i, i]
        iou = 100 * matrix[i, i] / union if union else math.nan
        assert row[2] == ('-' if math.isnan(iou) else f'{iou:.1f}')
    next(maps.iterdir()).unlink()
    status, _, said = say(capsys, confusion_cli.main, *argv)
    assert status == 1 and 'is not there: give the folder' in one_error(said)


def test_predictions_that_are_none_are_one_sentence(configs, tmp_path, capsys):
    (tmp_path / 'text.pkl').write_text('text')
    dump([{'img_id': 1}], tmp_path / 'other.pkl')
    foreign = {'img_id': 99, 'ori_shape': (9, 9)}
    foreign['pred_instances'] = found([], [], [])
    dump([foreign], tmp_path / 'foreign.pkl')
    for kind, name, text in (
        ('det', 'no.pkl', 'no.pkl holds no predictions'),
        ('det', 'text.pkl', 'text.pkl holds no predictions'),
        ('det', 'other.pkl', 'it holds something else'),
        ('det', 'foreign.pkl', 'an image 99 that the test data set'),
        ('seg', 'text.pkl', 'is no folder: give the label maps'),
    ):
        argv = [configs[kind], tmp_path / name, '--out', tmp_path / 'out']
        status, _, said = say(capsys, confusion_cli.main, *argv)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / 'out').exists()


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
    page = (pvt_mm.home.HOME / 'docs/seeing.md').read_text()
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
        f'mend: pip install {module}'
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

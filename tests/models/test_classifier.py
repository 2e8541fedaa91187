"""Classification: recipes, their transforms and metrics, and a training."""

import json
import math
import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)

from pvt_mm.checkpoints import load_pretrained
from pvt_mm.compat import checkpoint_reading
from pvt_mm.config.loading import load_config
from pvt_mm.datasets import RepeatedAugSampler
from pvt_mm.datasets.classification_datasets import RECORD, read_records
from pvt_mm.datasets.rand_augment import OPERATIONS
from pvt_mm.engine.test import test as run_test
from pvt_mm.engine.train import train as run_train
from pvt_mm.errors import UsageError
from pvt_mm.evaluation import TopAccuracy
from pvt_mm.models.classifiers.batch_augments import cutmix, erase, mixup

# drop path and gradient clipping of the published recipes
IMAGENET = {
    'pvt_tiny': (0.1, None),
    'pvt_small': (0.1, None),
    'pvt_medium': (0.3, 1.0),
    'pvt_large': (0.3, 1.0),
    'pvt_v2_b0': (0.1, None),
    'pvt_v2_b1': (0.1, None),
    'pvt_v2_b2': (0.1, None),
    'pvt_v2_b2_li': (0.1, None),
    'pvt_v2_b3': (0.3, 1.0),
    'pvt_v2_b4': (0.3, 1.0),
    'pvt_v2_b5': (0.3, 1.0),
    'mpvit_tiny': (0.0, None),
    'mpvit_xsmall': (0.0, None),
    'mpvit_small': (0.05, None),
    'mpvit_base': (0.3, None),
}
# published, in millions, with the head
PARAMETERS = {
    'pvt_tiny': 13.2,
    'pvt_small': 24.5,
    'pvt_medium': 44.2,
    'pvt_large': 61.4,
    'pvt_v2_b0': 3.7,
    'pvt_v2_b1': 14.0,
    'pvt_v2_b2': 25.4,
    'pvt_v2_b2_li': 22.6,
    'pvt_v2_b3': 45.2,
    'pvt_v2_b4': 62.6,
    'pvt_v2_b5': 82.0,
    'mpvit_tiny': 5.84,
    'mpvit_xsmall': 10.57,
    'mpvit_small': 22.89,
    'mpvit_base': 74.85,
}
CIFAR = 'configs/classifier_pvt_tiny_cifar10.py'


def config(name):
    return load_config(f'configs/classifier_{name}.py')


def build(cfg):
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_config_has_the_published_size_and_rates(name):
    cfg = config(f'{name}_imagenet')
    drop_path, clip = IMAGENET[name]
    assert cfg.model.backbone.get('drop_path_rate', 0.0) == drop_path
    assert cfg.optim_wrapper.get('clip_grad') == (
        dict(max_norm=clip) if clip else None
    )
    count = sum(p.numel() for p in build(cfg).parameters()) / 1e6
    digits = 2 if name.startswith('mpvit') else 1
    assert round(count, digits) == PARAMETERS[name]


def test_only_matrices_and_positions_decay():
    cfg = config('pvt_tiny_imagenet')
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(g['params'][0]): g for g in optimizer.param_groups}
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        free = parameter.ndim == 1 or name.endswith('cls_token')
        assert group['weight_decay'] == (0.0 if free else 0.05), name
        assert group['lr'] == 1e-3


def test_learning_rate_follows_timm_epoch_by_epoch():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight], lr=1e-3)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(part, optimizer=optimizer))
        for part in config('pvt_tiny_imagenet').param_scheduler
    ]
    for epoch in range(300):
        cosine = (1 + math.cos(math.pi * epoch / 300)) / 2
        expected = 1e-5 + (1e-3 - 1e-5) * cosine
        if epoch < 5:
            expected = 1e-6 + (1e-3 - 1e-6) * epoch / 5
        seen = optimizer.param_groups[0]['lr']
        assert seen == pytest.approx(expected, rel=5e-4 if epoch < 5 else 1e-5)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_mixing_keeps_shares_of_images_and_labels_equal():
    images = torch.stack([torch.full((3, 16, 16), float(n)) for n in range(4)])
    for mix in (mixup, cutmix):
        random.seed(3)
        mixed, share = mix(images, 0.3)
        mean = mixed.mean((1, 2, 3))
        expected = share * torch.arange(4.0) + (1 - share) * torch.arange(
            3.0, -1, -1
        )
        assert torch.allclose(mean, expected)
        assert 0 < share < 1


def test_erasing_fills_a_rectangle_with_noise():
    random.seed(0)
    torch.manual_seed(0)
    shares = []
    for _ in range(40):
        image = torch.full((3, 64, 64), 100.0)
        erase(image)
        gone = image != 100
        assert (gone[0] == gone[1]).all()
        rows, columns = gone[0].any(1).sum(), gone[0].any(0).sum()
        assert gone[0].sum() == rows * columns
        assert image[gone].abs().max() < 6
        shares.append(gone.float().mean().item())
    assert min(shares) > 0.015 and max(shares) < 0.36


def test_preprocessor_mixes_in_training_only():
    cfg = config('pvt_tiny_imagenet').model.data_preprocessor
    preprocessor = MODELS.build(dict(cfg, num_classes=10))
    data = dict(
        inputs=torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8),
        labels=torch.tensor([0, 1, 2, 3, 4, 5]),
    )
    plain = preprocessor(data, False)
    assert plain['labels'].shape == (6,)
    assert set(plain) == {'inputs', 'labels'}  # what the model takes
    mean, std = torch.tensor(
        [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]]
    )
    expected = (data['inputs'].flip(1).float() - mean[:, None, None]) / std[
        :, None, None
    ]
    assert torch.allclose(plain['inputs'], expected, atol=1e-5)
    mixed = preprocessor(data, True)
    assert mixed['labels'].shape == (6, 10)
    assert torch.allclose(mixed['labels'].sum(1), torch.ones(6))
    assert not torch.allclose(mixed['inputs'], plain['inputs'])


def test_loss_smooths_shares_as_timm_does():
    cfg = config('mpvit_tiny_imagenet').model
    model = MODELS.build(dict(cfg, num_classes=5, data_preprocessor=None))
    model.eval()
    image, labels = torch.randn(2, 3, 32, 32), torch.eye(5)[[1, 3]]
    loss = model(image, labels, mode='loss')['loss']
    target = labels * 0.9 + 0.1 / 5
    scores = model(image).log_softmax(1)
    assert torch.allclose(loss, -(target * scores).sum(1).mean())


@pytest.mark.parametrize('index', range(len(OPERATIONS)))
def test_each_operation_changes_an_image_but_not_its_form(index):
    rng = np.random.default_rng(0)
    small = rng.integers(20, 230, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(small, (48, 32))
    random.seed(1)
    changed = OPERATIONS[index](image, 0.9)
    assert changed.shape == image.shape
    assert np.abs(changed.astype(int) - image).mean() > 0.5
    assert changed.min() >= 0 and changed.max() <= 255


def test_random_augment_leaves_half_of_the_operations_out():
    transform = TRANSFORMS.build(dict(type='RandAugment', count=1))
    random.seed(0)
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    same = sum(
        np.array_equal(transform(dict(img=image))['img'], image)
        for _ in range(300)
    )
    assert 110 < same < 190


def test_crop_is_a_part_of_the_wanted_share_and_aspect():
    crop = TRANSFORMS.build(dict(type='RandomResizedCrop', size=24))
    random.seed(0)
    for _ in range(50):
        x, y, w, h = crop.part(90, 120)
        assert 0 <= x <= 120 - w and 0 <= y <= 90 - h
        assert 0.07 < w * h / (90 * 120) <= 1
        assert 0.7 < w / h < 1.4
    # nothing fits into a thin strip: its middle
    assert crop.part(3, 300) == (148, 0, 4, 3)
    image = np.zeros((90, 120, 3), np.uint8)
    assert crop(dict(img=image))['img'].shape == (24, 24, 3)


def test_test_images_are_cut_from_the_middle():
    transform = TRANSFORMS.build(dict(type='ResizeShort', edge=32, crop=28))
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 63:65] = 255
    result = transform(dict(img=image))['img']
    assert result.shape == (28, 28, 3)
    assert result[0, :, 0].argmax() in (13, 14)
    assert np.array_equal(result[:, :13], result[:, :-14:-1])


def test_repeated_sampler_shares_copies_among_processes(monkeypatch):
    samplers = []
    for rank in range(3):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info', lambda r=rank: (r, 3)
        )
        samplers.append(RepeatedAugSampler(range(30), seed=5))
    drawn = [list(sampler) for sampler in samplers]
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == len(drawn[0]) == 10 == len(samplers[0])
    before = drawn[0]
    samplers[0].set_epoch(1)
    assert isinstance(samplers[0], DefaultSampler)
    assert list(samplers[0]) != before


def test_accuracy_counts_best_and_best_five():
    metric = METRICS.build(dict(type='TopAccuracy'))
    assert isinstance(metric, TopAccuracy)
    scores = torch.arange(10.0).repeat(4, 1)
    metric.process(None, (scores, torch.tensor([9, 8, 5, 0])))
    assert metric.evaluate(4) == {'top1': 25.0, 'top5': 75.0}


def test_image_folder_names_classes_by_folder(tmp_path):
    for number, name in enumerate(('zebra', 'ant')):
        (tmp_path / 'train' / name).mkdir(parents=True)
        image = np.full((8, 8, 3), number * 200, np.uint8)
        cv2.imwrite(str(tmp_path / 'train' / name / 'a.JPEG'), image)
    cfg = config('pvt_tiny_imagenet').train_dataloader.dataset
    data = DATASETS.build(dict(cfg, data_root=str(tmp_path)))
    assert data.metainfo['classes'] == ('ant', 'zebra')
    assert [data.get_data_info(n)['gt_label'] for n in (0, 1)] == [0, 1]
    item = data[0]
    assert item['inputs'].shape == (3, 224, 224)
    assert item['labels'] == 0
    with pytest.raises(UsageError, match='no images in folders of classes'):
        DATASETS.build(
            dict(
                cfg,
                data_root=str(tmp_path),
                data_prefix=dict(img_path='train/ant'),
            )
        )


def draw(file, count, seed):
    """A CIFAR-10 file: a shape of the class's hue on a grey ground."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(count):
        label = int(rng.integers(10))
        image = rng.normal(rng.integers(60, 200), 12, (32, 32, 1))
        image = np.repeat(image, 3, 2)
        hue = (label * 18 + int(rng.integers(-3, 4))) % 180
        value = int(rng.integers(150, 256))
        colour = cv2.cvtColor(
            np.uint8([[[hue, 220, value]]]), cv2.COLOR_HSV2BGR
        )
        centre = [int(n) for n in rng.integers(10, 22, 2)]
        radius = int(rng.integers(5, 10))
        image = np.clip(image, 0, 255).astype(np.uint8)
        cv2.circle(image, centre, radius, colour[0, 0].tolist(), -1)
        planes = image[:, :, ::-1].transpose(2, 0, 1)
        records.append(bytes([label]) + planes.tobytes())
    file.write_bytes(b''.join(records))


def test_cifar_records_are_read_as_drawn(tmp_path):
    draw(tmp_path / 'data_batch_1.bin', 3, 0)
    data = (tmp_path / 'data_batch_1.bin').read_bytes()
    items = read_records(tmp_path / 'data_batch_1.bin')
    assert [item['gt_label'] for item in items] == list(data[::RECORD])
    red = items[1]['img'][:, :, 2]  # BGR
    assert red.tobytes() == data[RECORD + 1 : RECORD + 1 + 1024]
    (tmp_path / 'data_batch_1.bin').write_bytes(data[:-5])
    with pytest.raises(UsageError, match='not a multiple of 3073'):
        read_records(tmp_path / 'data_batch_1.bin')


@pytest.fixture
def one_thread():
    """Small maps: threads would wait for each other more than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(folder):
    """The recipe for CIFAR-10 made smaller: 3 epochs of 32 x 32 images."""
    values = {
        'data_root': folder,
        'train_dataloader.dataset.pipeline.0.size': 32,
        'train_dataloader.batch_size': 32,
        'param_scheduler.0.end': 2,
        'param_scheduler.0.start_factor': 0.5,
        'param_scheduler.1.T_max': 3,
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 3,
        'randomness.seed': 0,
    }
    for loader in ('train', 'val', 'test'):
        values[f'{loader}_dataloader.num_workers'] = 0
        values[f'{loader}_dataloader.persistent_workers'] = False
    for loader in ('val', 'test'):
        values[f'{loader}_dataloader.dataset.pipeline.0.edge'] = 32
        values[f'{loader}_dataloader.dataset.pipeline.0.crop'] = 32
    return ['--cfg-options', *(f'{k}={v}' for k, v in values.items())]


def test_pvt_tiny_learns_drawn_cifar_and_its_weights_enter_a_detector(
    tmp_path, one_thread
):
    draw(tmp_path / 'data_batch_1.bin', 1024, 0)
    draw(tmp_path / 'test_batch.bin', 200, 1)
    out = tmp_path / 'out'
    run_train([CIFAR, '--work-dir', str(out), *options(tmp_path)])
    trained = str(out / 'epoch_3.pth')
    run_test([CIFAR, trained, '--work-dir', str(out), *options(tmp_path)])
    logs = sorted(out.glob('*/*.json'))
    scores = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    assert scores[-1]['top1'] > 90
    detector = load_config('configs/retinanet_pvt_tiny_coco.py').model
    backbone = MODELS.build(dict(detector.backbone, init_cfg=None))
    load_pretrained(backbone, trained)
    with checkpoint_reading():
        state = torch.load(trained)['state_dict']
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{name}']), name

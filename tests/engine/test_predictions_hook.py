"""Pictures and label maps of a test."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from pvt_mm.engine.hooks.predictions_hook import PredictionsHook

NAMES = ('a/0.jpg', 'b/0.jpg', 'b/../../up/0.jpg', 'b/1.gif')
WRITTEN = ('d/a/0.jpg', 'd/b/0.jpg', 'up/0.jpg', 'd/b/1.gif')


class Images:
    """A data set of images with these names in a folder."""

    def __init__(self, folder):
        self.paths = [str(folder / name) for name in NAMES]

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, i):
        return {'img_path': self.paths[i]}


@pytest.fixture
def images(tmp_path):
    """Four images, three of them with the same name."""
    from PIL import Image

    for name in WRITTEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.full((20, 30, 3), 100, np.uint8)
        Image.fromarray(image).save(tmp_path / name)
    return Images(tmp_path / 'd')


def run(hook, images, visualizer, samples):
    loader = SimpleNamespace(dataset=images)
    runner = SimpleNamespace(test_dataloader=loader, visualizer=visualizer)
    hook.before_test(runner)
    for path, sample in zip(images.paths, samples, strict=True):
        sample.set_metainfo(dict(img_path=path))
        hook.after_test_iter(runner, 0, None, [sample])


def files(folder):
    found = (p for p in folder.rglob('*') if p.is_file())
    return {p.relative_to(folder).as_posix() for p in found}


@pytest.mark.parametrize('first', [0, 1])  # of the labels: reduce_zero_label
def test_each_image_has_a_label_map_and_a_picture(images, tmp_path, first):
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    visualizer = SegLocalVisualizer()
    visualizer.dataset_meta = dict(
        classes=list('abcd'), palette=[[9 * i] * 3 for i in range(4)]
    )
    samples = []
    for i in range(4):
        data = PixelData(data=torch.full((1, 20, 30), i))
        sample = SegDataSample(pred_sem_seg=data)
        sample.set_metainfo(dict(reduce_zero_label=bool(first)))
        samples.append(sample)
    maps, shown = tmp_path / 'maps', tmp_path / 'shown'
    hook = PredictionsHook(pictures=str(shown), label_maps=str(maps))
    run(hook, images, visualizer, samples)
    assert files(maps) == {n[:-4] + '.png' for n in WRITTEN}
    assert len(files(shown)) == 4
    for i, name in enumerate(WRITTEN):
        labels = cv2.imread(str(maps / f'{name[:-4]}.png'), -1)
        assert labels.dtype == np.uint8 and (labels == i + first).all()


def test_label_maps_of_many_classes_have_16_bits(images, tmp_path):
    from mmseg.structures import SegDataSample

    data = PixelData(data=torch.full((1, 2, 2), 300))
    samples = [SegDataSample(pred_sem_seg=data) for _ in range(4)]
    run(PredictionsHook(label_maps=str(tmp_path)), images, None, samples)
    labels = cv2.imread(str(tmp_path / 'up/0.png'), -1)
    assert labels.dtype == np.uint16 and (labels == 300).all()


def test_pictures_show_what_scores_enough(images, tmp_path):
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dict(classes=['a'], palette=[(255, 0, 0)])
    samples = []
    for score in (0.9, 0.5, 0.3, 0.1):
        one = InstanceData(
            bboxes=torch.tensor([[2.0, 2, 20, 15]]),
            labels=torch.tensor([0]),
            scores=torch.tensor([score]),
        )
        samples.append(DetDataSample(pred_instances=one))
    hook = PredictionsHook(pictures=str(tmp_path / 'x'), pred_score_thr=0.4)
    run(hook, images, visualizer, samples)
    assert files(tmp_path / 'x') == {*WRITTEN}
    drawn = [
        np.ptp(cv2.imread(str(tmp_path / 'x' / name))) > 50
        for name in WRITTEN[:3]
    ]
    assert drawn == [True, True, False]

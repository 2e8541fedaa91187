"""Samples in branches, as semi-supervised training has them."""

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement

from pvt_mm.datasets.checks.fault_tolerant_pipeline import (
    FaultTolerantPipeline,
    samples_in,
)
from pvt_mm.engine.hooks.nonfinite_hook import names
from pvt_mm.engine.hooks.skipped_samples_hook import SkippedSamplesHook
from pvt_mm.errors import SampleError

BRANCHES = ('sup', 'unsup_teacher', 'unsup_student')


@pytest.fixture
def folder(tmp_path):
    """Three images, of which the second is none."""
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((8, 9, 3), 40 * i))
    (tmp_path / '1.png').write_text('text')
    return tmp_path


def pipeline(*filled, skip=True):
    """A pipeline into some of the branches."""
    import mmdet.datasets  # noqa: F401

    keys = ('img_path', 'ori_shape')
    pack = [dict(type='mmdet.PackDetInputs', meta_keys=keys)]
    steps = [
        dict(type='LoadImageFromFile'),
        dict(
            type='mmdet.MultiBranch',
            branch_field=BRANCHES,
            **dict.fromkeys(filled, pack),
        ),
    ]
    steps = Compose([TRANSFORMS.build(step) for step in steps])
    return FaultTolerantPipeline(steps, skip=skip, classes=2, ignore=255)


def info(folder, i, height=8):
    path = str(folder / f'{i}.png')
    return dict(img_path=path, height=height, width=9)


def test_a_bad_image_of_a_branch_is_skipped_and_reported_once(folder):
    labelled = pipeline('sup')
    unlabelled = pipeline('unsup_teacher', 'unsup_student')
    assert unlabelled(info(folder, 1)) is None
    batch = pseudo_collate(
        [labelled(info(folder, 0)), unlabelled(info(folder, 2))]
    )
    found = list(samples_in(batch['data_samples']))
    assert len(found) == 3
    hook = SkippedSamplesHook()
    hook.check = lambda runner, last: None
    hook.after_train_iter(None, 0, batch)
    assert hook.times == 1
    (what,) = hook.seen
    assert what.startswith(f'{folder}/1.png is no image')
    assert names(batch) == [f'{folder}/0.png', f'{folder}/2.png']


def test_a_bad_image_of_a_branch_stops_an_evaluation(folder):
    with pytest.raises(SampleError, match='1.png is no image'):
        pipeline('sup', skip=False)(info(folder, 1))


def test_the_size_of_each_branch_is_compared(folder):
    one = pipeline('unsup_teacher')
    assert one(info(folder, 0)) is not None
    assert one(info(folder, 0, height=10)) is None
    assert 'is 9x8, but its annotation says 9x10' in one.skipped[0]


@pytest.mark.parametrize(
    ('data', 'count'),
    [
        (None, 0),
        ([], 0),
        (np.zeros(3), 0),
        (BaseDataElement(), 1),
        ((BaseDataElement(), None), 1),
        ({'a': [None, BaseDataElement()], 'b': None}, 1),
        ([{'a': BaseDataElement()}, {'a': BaseDataElement()}], 2),
    ],
)
def test_samples_of_any_batch(data, count):
    assert len(list(samples_in(data))) == count

"""Scores per class of kept predictions, by the metrics of a config."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from small_runs import RETINANET, draw, load, small

from pvt_mm.errors import UsageError
from pvt_mm.evaluation.class_scores import average_precision, check_results


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A config and its test data set of four drawn images."""
    folder = draw(tmp_path_factory.mktemp('drawn'))
    cfg = small(load(RETINANET), folder, 'coco')
    init_default_scope('mmdet')
    return cfg, DATASETS.build(cfg.test_dataloader.dataset)


@pytest.fixture
def truth(data):
    """The ground truth as predictions, as ``test --out`` keeps them."""
    _, dataset = data
    results = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        real = [o for o in info['instances'] if not o['ignore_flag']]
        boxes = torch.tensor([o['bbox'] for o in real]).view(-1, 4)
        found = dict(
            bboxes=boxes,
            labels=torch.tensor([o['bbox_label'] for o in real]).long(),
            scores=torch.full((len(real),), 0.9),
        )
        results.append(
            dict(
                img_id=info['img_id'],
                img_path=f'/elsewhere/{info["img_path"].split("/")[-1]}',
                ori_shape=(info['height'], info['width']),
                pred_instances=found,
            )
        )
    return results


def scores(data, results, *metrics):
    cfg, dataset = data
    init_default_scope('mmdet')
    file = cfg.test_evaluator.ann_file
    listed = [
        {'ann_file': file, **m} if 'Coco' in m['type'] else m for m in metrics
    ]
    given = listed if len(listed) > 1 else listed[0]
    return average_precision(
        Config(dict(test_evaluator=given)), dataset, results
    )


COCO, VOC = dict(type='CocoMetric', metric='bbox'), dict(type='VOCMetric')


@pytest.mark.parametrize(
    ('metrics', 'names'),
    [
        ([COCO], ['box AP']),
        ([dict(COCO, type='mmdet.CocoMetric', prefix='x/y')], ['box AP']),
        (
            [dict(COCO, prefix='bbox'), dict(COCO, metric='proposal')],
            ['box AP'],
        ),
        ([COCO, dict(COCO, prefix='b')], ['box AP', 'box AP (b)']),
        ([VOC], ['AP50']),
        ([dict(VOC, iou_thrs=[0.5, 0.75])], ['AP50', 'AP75']),
        ([dict(VOC, metric='recall'), COCO], ['box AP']),
        ([dict(type='mmdet.VOCMetric', eval_mode='area')], ['AP50']),
        ([dict(COCO, metric='proposal')], []),
        ([dict(type='DumpResults', out_file_path='x.pkl')], []),
    ],
)
def test_perfect_predictions_score_all_by_any_metric(
    data, truth, metrics, names
):
    found = scores(data, truth, *metrics)
    assert list(found) == names
    labels = torch.cat([r['pred_instances']['labels'] for r in truth]).tolist()
    for values in found.values():
        for label, value in enumerate(values):
            if label in labels:
                assert value == pytest.approx(100)
            else:
                assert math.isnan(value)


def test_a_class_that_is_never_found_scores_0(data, truth):
    labels = torch.cat([r['pred_instances']['labels'] for r in truth])
    lost = int(labels.mode().values)
    for result in truth:
        found = result['pred_instances']
        keep = found['labels'] != lost
        result['pred_instances'] = {k: v[keep] for k, v in found.items()}
    both = scores(data, truth, COCO, VOC)
    assert both['box AP'][lost] == both['AP50'][lost] == 0


def other_id(results):
    results[0]['img_id'] = 99


def other_file(results):
    results[0]['img_path'] = '/a/street.jpg'


def other_size(results):
    results[0]['ori_shape'] = (480, 640)


def other_class(results):
    results[0]['pred_instances']['labels'] = torch.tensor([2, 80])


def fewer(results):
    results.pop()


def twice(results):
    results.append(results[0])


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (other_id, 'an image 99 that the test data set does not have'),
        (other_file, r'another image \d+: it is street.jpg, and .*.png'),
        (other_size, r'height and width are \(480, 640\), and \(52, 64\)'),
        (other_class, 'have a class 80 of 0 to 4'),
        (fewer, 'there are 3 predictions, of 3 of the 4 images'),
        (twice, 'there are 5 predictions, of 4 of the 4 images'),
    ],
)
def test_predictions_of_another_data_set_are_refused(
    data, truth, change, said
):
    check_results(data[1], truth)
    change(truth)
    with pytest.raises(UsageError, match=said):
        check_results(data[1], truth)

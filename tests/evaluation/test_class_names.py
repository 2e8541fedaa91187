"""The names of classes that VOCMetric prints."""

import pytest

from pvt_mm.evaluation.class_names import show_own_classes


@pytest.mark.parametrize('kind', ['VOC2007', 'VOC2012', None])
@pytest.mark.parametrize(
    'classes', [('moss', 'stone'), ('aeroplane',), ['moss'], 'VOC']
)
def test_a_table_has_the_names_of_the_data(kind, classes):
    from mmdet.datasets import VOCDataset
    from mmdet.evaluation import VOCMetric

    if classes == 'VOC':
        classes = VOCDataset.METAINFO['classes']
    metric = VOCMetric()
    metric.dataset_meta = {'classes': classes, 'dataset_type': kind}
    show_own_classes(metric.dataset_meta)
    own = len(classes) < 20
    expected = None if own else kind
    assert metric.dataset_meta.get('dataset_type') == expected


@pytest.mark.parametrize('metainfo', [{}, {'classes': ('moss',)}])
def test_other_data_sets_stay_as_they_are(metainfo):
    before = dict(metainfo)
    show_own_classes(metainfo)
    assert metainfo == before

"""Let mmdet's VOCMetric print the class names of the data set."""

from collections.abc import MutableMapping
from typing import Any


def show_own_classes(metainfo: MutableMapping[str, Any]) -> None:
    """Remove the dataset_type of classes that are not Pascal VOC's.

    mmdet 3.3 sets it for a path with VOC2007 or VOC2012 in it, and prints
    aeroplane, bicycle, ... then, whatever the classes are.

    Args:
        metainfo: of a data set, as a metric has it.
    """
    if metainfo.get('dataset_type') in ('VOC2007', 'VOC2012'):
        from mmdet.evaluation import get_classes

        if list(metainfo['classes']) != get_classes('voc'):
            del metainfo['dataset_type']

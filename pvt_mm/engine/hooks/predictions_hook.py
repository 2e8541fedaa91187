"""Write a picture or a label map for each image of a test."""

import os
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...checkpoints.atomic import write_image
from ...datasets.fonts import use_font_for
from ...datasets.image_names import (
    image_paths,
    label_map_names,
    relative_names,
)


@HOOKS.register_module()
class PredictionsHook(Hook):
    """Writes what is predicted in each image of a test.

    mmdet's and mmseg's name files by the last part of the image's path only.

    Args:
        pictures: folder for drawn predictions.
        label_maps: folder for label maps, counted from 1 where label 0 is no
            class (reduce_zero_label), as mmseg writes them.
        options: of the visualizer's ``add_datasample``.
    """

    def __init__(
        self, pictures: str = '', label_maps: str = '', **options: Any
    ) -> None:
        self.pictures, self.label_maps = pictures, label_maps
        self.options = options

    def before_test(self, runner) -> None:
        """Name the files of all images."""
        if self.pictures:
            use_font_for(runner.visualizer.dataset_meta.get('classes') or ())
        paths = image_paths(runner.test_dataloader.dataset)
        self.names = relative_names(paths)
        self.map_names = label_map_names(paths)

    def after_test_iter(
        self, runner, batch_idx, data_batch=None, outputs=()
    ) -> None:
        """Write the files of a batch."""
        for sample in outputs:
            path = sample.img_path
            if self.label_maps:
                labels = sample.pred_sem_seg.data[0].cpu().numpy()
                labels = labels + bool(sample.get('reduce_zero_label'))
                depth = np.uint8 if labels.max() < 256 else np.uint16
                file = Path(self.label_maps, self.map_names[path])
                write_image(file, labels.astype(depth))
            if self.pictures:
                file = os.path.join(self.pictures, self.names[path])
                writable = cv2.haveImageWriter(file)
                runner.visualizer.add_datasample(
                    'prediction',
                    mmcv.imread(path, channel_order='rgb'),
                    sample,
                    out_file=file if writable else f'{file}.png',
                    **self.options,
                )

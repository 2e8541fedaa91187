"""Build a trained detector or segmentor and run it on images."""

import os
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement

from ..checkpoints import load_model, locate
from ..config.build_errors import building
from ..config.cfg_options import merge_options
from ..config.data_files import dataset_configs
from ..config.loading import load_config
from ..datasets.checks.classes import check_classes
from ..datasets.checks.fault_tolerant_pipeline import blame, is_data_error
from ..errors import UsageError
from ..visualization.drawing import TYPES, build_visualizer


class BadImage(UsageError):
    """One image cannot be used; the others may be."""


class Predictor:
    """A model of mmdet or mmseg with its weights and test pipeline.

    The libraries' own inferencers build, load images and predict. Loading is
    strict: every parameter is in the file, or it is an error.

    Args:
        config: a config, its file, or the name of one of ours.
        weights: file, address or ``pvt://NAME`` of a whole model.
        device: cpu, cuda or cuda:N; None for a GPU if there is one.
        options: changes of the config, as ``--cfg-options`` takes them.

    Attributes:
        names: of the classes.
        visualizer: of mmdet or mmseg, for these classes.
        semantic: whether it predicts label maps; else, objects.

    Raises:
        UsageError: the config, weights or device cannot be used.
        CheckpointError: the weights are nowhere, or cannot be read safely.
    """

    def __init__(
        self,
        config: str | Config,
        weights: str | os.PathLike,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        path = str(locate(str(weights)))
        cfg, name = read_config(config, options or {})
        self.semantic = cfg.default_scope == 'mmseg'
        device = choose_device(device)
        with building(cfg, name), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # no weights yet, they say
            metainfo = lazy_metainfo(cfg)
            self.names = tuple(metainfo.get('classes') or ())
            self.inferencer = build_inferencer(cfg, device)
        if not self.names:
            raise UsageError(
                f'{name}: the test data set names no classes; set '
                'metainfo=dict(classes=(...)) there'
            )
        check_classes(cfg, self.names)
        load_model(self.inferencer.model, path)
        self.visualizer = build_visualizer(cfg.default_scope, metainfo)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """An image as the test pipeline reads it: BGR (H, W, 3)

        Raises:
            BadImage: the file is not there, or is no whole image.
        """
        (loader,) = (
            transform.from_file
            for transform in self.inferencer.pipeline.transforms
            if hasattr(transform, 'from_file')
        )
        try:
            return loader({'img_path': str(path)})['img']
        except Exception as error:  # many, by the library that decodes
            info = {'img_path': str(path)}
            if not is_data_error(error, info, {}):
                raise
            raise BadImage(blame(info, error)) from error

    def prepare(self, image: np.ndarray) -> dict:
        """Through the test pipeline: BGR (H, W, 3) -> inputs (3, H', W')

        Raises:
            BadImage: the pipeline cannot take an image of this size, or
                drops it. Any other exception of a transform is a bug,
                and passes.
        """
        try:
            prepared = self.inferencer.pipeline(image)
        except Exception as error:
            if not is_data_error(error, {}, {}):
                raise
            what = str(error).strip().split('\n')[0]
            raise BadImage(
                f'fails in the test pipeline ({type(error).__name__}: {what})'
            ) from error
        if prepared is None:
            raise BadImage('a transform of the test pipeline drops it')
        return prepared

    def predict(self, prepared: Sequence[dict]) -> list[BaseDataElement]:
        """A batch of prepared images -> a sample each, on the CPU.

        Args:
            prepared: results of :meth:`prepare` of the same size.

        Returns:
            DetDataSample or SegDataSample, in pixels of the image.
        """
        batch = self.inferencer.collate_fn(list(prepared))
        return [s.cpu() for s in self.inferencer.forward(batch)]


def read_config(
    config: str | Config, options: Mapping[str, Any]
) -> tuple[Config, str]:
    """A config as inferencers need it, and its name for messages.

    Raises:
        UsageError: it is not of a detector or segmentor that can be tested.
    """
    name = config if isinstance(config, str) else config.filename or 'config'
    cfg = load_config(config) if isinstance(config, str) else deepcopy(config)
    merge_options(cfg, options)
    if cfg.get('default_scope') not in TYPES:
        raise UsageError(
            f'{name}: infer takes detectors and segmentors, and '
            f'default_scope is {cfg.get("default_scope")!r}'
        )
    loader = cfg.get('test_dataloader')
    if not loader:
        raise UsageError(
            f'{name} has no test_dataloader, whose pipeline prepares images'
        )
    loader.dataset = next(dataset_configs(loader.dataset))
    cfg.visualizer = dict(type=TYPES[cfg.default_scope])
    init_default_scope(cfg.default_scope)
    return cfg, Path(name).name


def lazy_metainfo(cfg: Config) -> dict:
    """The metainfo (classes, palette) of the test data set, unread."""
    dataset = deepcopy(cfg.test_dataloader.dataset)
    return DATASETS.build({**dataset, 'lazy_init': True}).metainfo


def build_inferencer(cfg: Config, device: str) -> Any:
    """DetInferencer or MMSegInferencer of a config, with random weights."""
    if cfg.default_scope == 'mmdet':
        from mmdet.apis import DetInferencer

        return DetInferencer(cfg, device=device, show_progress=False)
    from mmseg.apis import MMSegInferencer

    return MMSegInferencer(cfg, device=device)


def choose_device(device: str | None) -> str:
    """The device to compute on.

    Raises:
        UsageError: there is no such device here.
    """
    there = torch.cuda.is_available()
    if device is None:
        return 'cuda' if there else 'cpu'
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f'--device {device}: give cpu, cuda or cuda:N'
        ) from error
    if device.startswith('cuda') and not there:
        raise UsageError(
            f'--device {device}: there is no GPU here; leave it out, or give '
            '--device cpu'
        )
    return device

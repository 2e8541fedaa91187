"""Evaluate a model: the command ``test`` from its first step to its last."""

import argparse
import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..checkpoints import check_fit, locate
from ..checkpoints.atomic import check_writable
from ..config.arguments import command_parser
from ..config.build_errors import building
from ..config.data_files import check_paths
from ..datasets.checks.classes import check_dataset
from ..datasets.checks.examine import check_annotations, check_samples_of
from ..errors import UsageError
from .gpu import prepare_gpu
from .hooks.predictions_hook import PredictionsHook
from .launch import call_in_first, number_process, start_processes
from .onnx_model import OnnxModel
from .run_config import add_import, add_run_arguments, read_run_config
from .runner import FaultTolerantRunner

# Boxes found in the image and in its mirror image, merged by NMS.
DETECTION_TTA = ConfigDict(
    type='DetTTAModel',
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
VISUALIZERS = {'mmdet': 'DetLocalVisualizer', 'mmseg': 'SegLocalVisualizer'}
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')


class EvaluationRunner(FaultTolerantRunner):
    """Writes its config beside its log; the one of the training stays."""

    def dump_config(self) -> None:
        """Write the config to the folder of this run."""
        name = f'{Path(self.cfg.filename).stem}.py'
        self.cfg.dump(os.path.join(self.log_dir, name))


def test_parser() -> argparse.ArgumentParser:
    """The options of testing."""
    p = command_parser('Evaluate a trained detector, segmentor or classifier.')
    add_run_arguments(p)
    p.add_argument(
        'checkpoint',
        help='weights of the whole model, or a FILE.onnx of pvt_mm export',
    )
    p.add_argument(
        '--out', help='keep predictions: FILE.pkl, or a folder of label maps'
    )
    p.add_argument('--show-dir', help='folder for drawn predictions')
    p.add_argument(
        '--tta',
        action='store_true',
        help='also test mirrored (segmentation: and scaled) images',
    )
    return p


def test(argv: Sequence[str] | None = None) -> None:
    """Evaluate the model of a config.

    Raises:
        UsageError: something on the command line, in the config, the data
            or the weights cannot be used.
    """
    args = test_parser().parse_args(argv)
    number_process(args.launcher)
    needed = ('test_dataloader', 'test_evaluator')
    cfg, changes = read_run_config(args, needed)
    exported = args.checkpoint.endswith('.onnx')
    if exported and args.tta:
        raise UsageError('--tta needs weights, not an .onnx file')
    path = str(locate(args.checkpoint).absolute())
    cfg.load_from = None if exported else path
    changes.note('CHECKPOINT')
    if args.out:
        check_writable(args.out, folder=cfg.get('default_scope') == 'mmseg')
        keep_predictions(cfg, args.out)
        changes.note('--out')
    if args.show_dir:
        check_writable(args.show_dir, folder=True)
        draw_predictions(cfg, os.path.abspath(args.show_dir))
        changes.note('--show-dir')
    if args.tta:
        augment(cfg)
        changes.note('--tta')
    prepare_gpu(cfg)
    changes.note('GPU')
    start_processes(cfg, args.launcher, changes.remarks)
    changes.note('processes')
    check_paths(cfg, ('test',))
    if not args.no_data_check:
        call_in_first(check_annotations, cfg, ('test',))
    if exported:
        cfg.model = ConfigDict(type=OnnxModel.__name__, file=path)
        add_import(cfg, OnnxModel)
        changes.note('CHECKPOINT')
    with building(cfg, args.config):
        try:
            runner = EvaluationRunner.from_cfg(cfg)
        finally:
            changes.log()
        loops = {'test': runner.test_loop}
    check_dataset(cfg, loops['test'].dataloader.dataset)
    if not args.no_data_check:
        call_in_first(check_samples_of, loops)
    if exported:
        runner.model.check_classes(loops['test'].dataloader.dataset)
    else:
        check_fit(runner.model, cfg.load_from)
    runner.test()


def keep_predictions(cfg: Config, out: str) -> None:
    """Write predictions: a pickle of detections, or a folder of label maps.

    Raises:
        UsageError: detections to another kind of file.
    """
    scope = cfg.get('default_scope')
    if scope == 'mmseg':
        add_predictions_hook(cfg, label_maps=os.path.abspath(out))
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise UsageError(f'--out {out}: detections go to a file named *.pkl')
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    kind = 'DumpDetResults' if scope == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*metrics, dict(type=kind, out_file_path=out)]


def draw_predictions(cfg: Config, folder: str) -> None:
    """Draw every prediction over its image, into a folder.

    Raises:
        UsageError: the predictions cannot be drawn.
    """
    scope = cfg.get('default_scope')
    if scope not in VISUALIZERS:
        raise UsageError(
            '--show-dir draws objects and label maps, and default_scope is '
            f'{scope!r}'
        )
    cfg.setdefault('visualizer', dict(type=VISUALIZERS[scope]))
    hook = (cfg.get('default_hooks') or {}).get('visualization') or {}
    kept = {'score_thr': 'pred_score_thr'} if scope == 'mmdet' else {}
    options = {new: hook[old] for old, new in kept.items() if old in hook}
    add_predictions_hook(cfg, pictures=folder, **options)


def add_predictions_hook(cfg: Config, **options: Any) -> None:
    """Add a PredictionsHook to a test."""
    hook = dict(type=PredictionsHook.__name__, **options)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    add_import(cfg, PredictionsHook)


def augment(cfg: Config) -> None:
    """Test on scaled and mirrored images too, and merge the predictions.

    Raises:
        UsageError: the config has no way to merge them.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if cfg.get('default_scope') == 'mmdet':
        if 'mask_head' in cfg.model.get('roi_head', {}):
            raise UsageError(
                '--tta: mmdet merges boxes, not masks; leave --tta out for '
                'a model with a mask head'
            )
        cfg.setdefault('tta_model', DETECTION_TTA)
        cfg.setdefault('tta_pipeline', mirrored(dataset.pipeline))
    missing = [k for k in ('tta_model', 'tta_pipeline') if k not in cfg]
    if missing:
        raise UsageError(
            f'--tta: the config has no {" and no ".join(missing)}'
        )
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


def mirrored(pipeline: list) -> list:
    """Test pipeline of a detector -> one that adds the mirrored image."""
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    pack = dict(
        deepcopy(pipeline[-1]), meta_keys=(*META, 'flip', 'flip_direction')
    )
    both = dict(type='TestTimeAug', transforms=[flips, [pack]])
    return [*pipeline[:-1], both]

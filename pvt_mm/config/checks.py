"""Check what a config says before anything is built from it."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from ..errors import UsageError, nearest_names
from .inheritance import unused_names
from .schema import (
    bare,
    check_names,
    find_class,
    known_keys,
    parameters,
    walk,
)

# Keys of MMDetection 2.x and MMSegmentation 0.x -> those of today.
RENAMED = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'fp16': "optim_wrapper.type = 'AmpOptimWrapper'",
    'lr_config': 'param_scheduler',
    'momentum_config': 'param_scheduler',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'total_iters': 'train_cfg.max_iters',
    'workflow': 'train_cfg.val_interval',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'samples_per_gpu': 'train_dataloader.batch_size',
    'workers_per_gpu': 'train_dataloader.num_workers',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger and visualizer.vis_backends',
    'resume_from': 'load_from and resume = True',
    'auto_resume': 'resume = True',
    'dist_params': 'env_cfg.dist_cfg',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'gpu_ids': 'CUDA_VISIBLE_DEVICES in the environment',
    'seed': 'randomness.seed',
    'deterministic': 'randomness.deterministic',
}
# Of the model's train_cfg and test_cfg, which were at the top of old configs.
OF_MODEL = {'rpn', 'rcnn', 'assigner', 'nms', 'score_thr', 'mode'}
DICTS = {
    *('model', 'optim_wrapper', 'default_hooks', 'env_cfg', 'randomness'),
    *('auto_scale_lr', 'log_processor', 'visualizer'),
    *(
        f'{mode}_{part}'
        for mode in ('train', 'val', 'test')
        for part in ('dataloader', 'cfg')
    ),
}
# Not '0010', which is a name.
NUMBER = re.compile(
    r'[-+]?((0|[1-9]\d*)\.?\d*|\.\d+)(e[-+]?\d+)?', re.IGNORECASE
)
# Where every number is one of a run, and none a name.
NUMBERED = re.compile(
    r'(model|optim_wrapper|param_scheduler|(train|val|test)_cfg|auto_scale_lr|'
    r'randomness|(default|custom)_hooks|\w+_dataloader\.(?!dataset))\b'
)
# Samplers of mmengine and mmdet that draw without end.
INFINITE = {'InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler'}
EPOCHS = 'EpochBasedTrainLoop'
MODES = ('train', 'val', 'test')
# mmengine's types of clip_grad -> what takes the other keys.
CLIPPING = {
    'norm': nn.utils.clip_grad_norm_,
    'value': nn.utils.clip_grad_value_,
}
# Metrics that may only write predictions -> the key that says where.
FILES = {'CocoMetric': 'outfile_prefix', 'IoUMetric': 'output_dir'}
# A key of a data set that must be a dict -> how.
WRITE = {
    'data_prefix': "data_prefix=dict(img='FOLDER/')",
    'metainfo': "metainfo=dict(classes=('NAME', ...))",
}
# Keys that must be numbers.
NUMBERS = {
    *(f'optim_wrapper.optimizer.{key}' for key in ('lr', 'weight_decay')),
    *('randomness.seed', 'train_cfg.max_epochs', 'train_cfg.max_iters'),
}
DATASET = re.compile(r'(train|val|test)_dataloader\.dataset\b')


def check_config(cfg: Config) -> None:
    """Stop at what no run or check of data could use.

    Raises:
        UsageError: it names the file, the key, and what to write.
    """
    found = [*wrong_kinds(cfg)] or [
        *old_keys(cfg),
        *wrong_hooks(cfg),
        *numbers_as_texts(cfg),
        *wrong_datasets(cfg),
        *wrong_loops(cfg),
        *wrong_loaders(cfg),
        *wrong_losses(cfg),
        *wrong_arguments(cfg),
    ]
    if found:
        raise UsageError(f'{cfg.filename}: {"; ".join(found)}')
    check_names(cfg)


def old_keys(cfg: Config) -> Iterator[str]:
    """A sentence on the keys that earlier versions of the libraries read."""
    # an inherited name may be a variable of today: mmseg's have `optimizer`
    names = unused_names(cfg.filename) if 'train_dataloader' in cfg else cfg
    old = {name: new for name, new in RENAMED.items() if name in names}
    for name in ('train_cfg', 'test_cfg'):
        if OF_MODEL & set(cfg.get(name) or ()):
            old[name] = f'model.{name}'
    if old:
        pairs = [f'{new} in place of {name}' for name, new in old.items()]
        yield (
            'nothing reads keys of MMDetection 2.x and MMSegmentation 0.x: '
            f'write {", ".join(pairs)}'
        )


def wrong_kinds(cfg: Config) -> Iterator[str]:
    """Sentences on values at the top that should be dicts or lists."""
    for names, kind, text in (
        (DICTS, Mapping, 'a dict'),
        ({'custom_hooks'}, list, 'a list of dicts'),
    ):
        for name in sorted(names & {*cfg}):
            if not isinstance(cfg[name], kind | None):
                yield f'{name}={cfg[name]!r} must be {text}'


def wrong_hooks(cfg: Config) -> Iterator[str]:
    """Sentences on hooks without a type, and on the arguments of one."""
    hooks = cfg.get('default_hooks') or {}
    named = {f'default_hooks.{name}': hook for name, hook in hooks.items()}
    for number, hook in enumerate(cfg.get('custom_hooks') or ()):
        named[f'custom_hooks.{number}'] = hook
    for key, hook in named.items():
        if hook is not None and not (
            isinstance(hook, Mapping) and 'type' in hook
        ):
            yield (
                f'{key}={hook!r} has no type: write its class too, as in '
                "checkpoint=dict(type='CheckpointHook', interval=1)"
            )
    hook = bare(hooks.get('checkpoint'))
    if isinstance(hook, dict) and hook.get('type') == 'CheckpointHook':
        known = known_keys(['default_hooks', 'checkpoint'], hook, 'mmengine')
        for key in set(hook) - known:  # it takes any and fails when it saves
            yield (
                f'default_hooks.checkpoint.{key}: CheckpointHook takes no '
                f'{key}; {nearest_names(key, known)}'
            )


def numbers_as_texts(cfg: Config) -> Iterator[str]:
    """Sentences on numbers with quotes around them."""
    for key, value in walk(cfg):
        if (
            isinstance(value, str)
            and NUMBERED.match(key)
            and NUMBER.fullmatch(value)
            and not key.endswith('.attention_type')  # mmdet's, as '1111'
        ):
            number = int(value) if value.isdigit() else float(value)
            yield f'{key} is a text: write {number} without quotes'
        elif isinstance(value, str) and key in NUMBERS:
            yield f'{key}={value!r} is a text: write a number'


def wrong_datasets(cfg: Config) -> Iterator[str]:
    """Sentences on annotation files and class names of data sets."""
    scope = cfg.get('default_scope') or 'mmengine'
    for key, node in walk(cfg):
        end = key.rsplit('.', 1)[-1]
        if not DATASET.match(key):
            continue
        if not isinstance(node, Mapping | None) and end in WRITE:
            yield f'{key}={node!r} must be a dict: write {WRITE[end]}'
        if not isinstance(node, Mapping):
            continue
        if end == 'metainfo' and (old := {'CLASSES', 'PALETTE'} & {*node}):
            name = min(old)
            yield f'nothing reads {key}.{name}: write {name.lower()}'
        classes = node.get('classes') or ()  # or the name of a file
        if isinstance(classes, set):
            yield f'{key}.classes is a set, which has no order: write a tuple'
        elif isinstance(classes, str):
            if not os.path.isfile(classes):
                yield (
                    f'{key}.classes is a text, and no file of names: write '
                    f'{(classes,)!r}'
                )
        elif wrong := [each for each in classes if not isinstance(each, str)]:
            yield (
                f'{key}.classes has {wrong[0]!r}, which is no text: write the '
                "names of the classes, in COCO's format those of the "
                'categories'
            )
        elif len({*classes}) < len(classes):
            same = max(classes, key=list(classes).count)
            yield f'{key}.classes has {same!r} more than once'
        if not isinstance(node.get('type'), str):
            continue
        file = node.get('ann_file')
        if isinstance(file, list | tuple):
            yield (
                f'{key}.ann_file is a list: write a data set for each file, '
                "and around them dict(type='ConcatDataset', datasets=[...])"
            )
        elif not file and needs_file(find_class(node['type'], scope)):
            yield f'{key} has no ann_file: name the file of annotations'


def needs_file(owner: Any) -> bool:
    """Whether a class of data sets is one of mmdet's that read a file."""
    parents = {part.__name__ for part in getattr(owner, '__mro__', ())}
    return bool(parents & {'CocoDataset', 'XMLDataset'})


def wrong_loops(cfg: Config) -> Iterator[str]:
    """Sentences on loops: half of one, or a number that is not positive."""
    for mode in MODES:
        names = [f'{mode}_{p}' for p in ('dataloader', 'cfg', 'evaluator')]
        there = [name for name in names if cfg.get(name) is not None]
        absent = [name for name in names if name not in there]
        # without test_cfg a run takes mmengine's loop
        if there and mode != 'train' and absent not in ([], ['test_cfg']):
            yield (
                f'there is {" and ".join(there)}, but no '
                f'{" and no ".join(absent)}: set all three, or all three to '
                'None'
            )
    loop = cfg.get('train_cfg') or {}
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        if isinstance(loop.get(key, 1), int) and loop.get(key, 1) < 1:
            yield f'train_cfg.{key}={loop[key]} must be 1 or more'


def wrong_loaders(cfg: Config) -> Iterator[str]:
    """Sentences on samplers without end, lost images, and workers."""
    loop = cfg.get('train_cfg') or {}
    epochs = loop.get('type', EPOCHS if loop.get('by_epoch') else '') == EPOCHS
    for mode in MODES:
        key = f'{mode}_dataloader'
        loader = cfg.get(key) or {}
        endless = is_infinite(loader) and not loader.get('num_batch_per_epoch')
        if endless and (mode != 'train' or epochs):
            yield (
                f'{key}.sampler never ends: take DefaultSampler, or a '
                'training that counts iterations'
            )
        if mode != 'train' and loader.get('drop_last'):
            yield (
                f'{key}.drop_last=True leaves images out of the score: set '
                'it to False'
            )
        if loader.get('persistent_workers') and not loader.get('num_workers'):
            yield (
                f'{key}.persistent_workers=True needs num_workers of 1 or '
                'more: set it to False'
            )


def wrong_arguments(cfg: Config) -> Iterator[str]:
    """Sentences on arguments that fail in the first step, or after a test."""
    clip = (cfg.get('optim_wrapper') or {}).get('clip_grad') or {}
    clipping = CLIPPING.get(clip.get('type', 'norm'))
    for key in sorted({*clip} - {'type'}) if clipping else ():
        if key not in (known := parameters(clipping)):
            yield (
                f'optim_wrapper.clip_grad.{key} is not read; '
                f'{nearest_names(key, known)}'
            )
    for mode in MODES:
        name = f'{mode}_evaluator'
        for key, metric in walk({name: cfg.get(name)}):
            if isinstance(metric, Mapping) and metric.get('format_only'):
                wanted = FILES.get(metric.get('type'))
                if wanted and not metric.get(wanted):
                    yield (
                        f'{key}.format_only=True needs {wanted}, where the '
                        'predictions are written'
                    )


def is_infinite(loader: Mapping) -> bool:
    """Whether the sampler of a data loader's config draws without end."""
    name = str((loader.get('sampler') or {}).get('type'))
    return name.split('.')[-1] in INFINITE


def wrong_losses(cfg: Config) -> Iterator[str]:
    """Sentences on losses whose names keep them out of the sum."""
    for key, name in walk(cfg.get('model')):
        if key.endswith('loss_name') and 'loss' not in str(name):
            yield (
                f'model.{key}={name!r} must begin with loss_: mmengine adds '
                'up the losses by their names, and would leave it out'
            )


def warn_of_checkpoints(cfg: Config) -> None:
    """Warn if a run by iterations saves by epochs: at its end only."""
    loop = cfg.train_cfg
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    iterations = loop.get('type') == 'IterBasedTrainLoop' or (
        loop.get('by_epoch') is False
    )
    if iterations and hook.get('by_epoch', True) and hook.get('interval'):
        print_log(
            'train_cfg counts iterations, but default_hooks.checkpoint saves '
            'by epochs, so only at the end: set its by_epoch=False',
            logger='current',
            level=logging.WARNING,
        )


def check_custom_keys(cfg: Config, model: nn.Module) -> None:
    """Warn of custom keys that are in no parameter's name.

    Args:
        cfg: the config of a run.
        model: of the run.
    """
    given = cfg.optim_wrapper.get('paramwise_cfg') or {}
    names = [f'.{name}' for name, _ in model.named_parameters()]
    parts = {'.'.join(n[1:].split('.')[:i]) for n in names for i in (1, 2, 3)}
    for key in given.get('custom_keys') or {}:
        if not any(key in name for name in names):  # as mmengine matches
            print_log(
                'optim_wrapper.paramwise_cfg.custom_keys: no name of a '
                f'parameter has {key!r} in it; {nearest_names(key, parts)}',
                logger='current',
                level=logging.WARNING,
            )

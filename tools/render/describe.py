"""Describe the hyper-parameters of a config, one line of text each."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from render.pipelines import images


def describe(cfg: Config) -> dict[str, str]:
    """Hyper-parameters of a recipe, as docs/recipes/official.csv has them.

    Args:
        cfg: config of a detector or segmentor.

    Returns:
        value by name; 'none' for what the recipe does not have.
    """
    backbone = cfg.model.backbone
    train = cfg.train_dataloader.dataset
    test = cfg.test_dataloader.dataset
    filters = train.get('filter_cfg') or {}
    norm = backbone.get('norm_cfg') or {}
    return {
        **describe_optimizer(cfg.optim_wrapper),
        'batch': str(cfg.auto_scale_lr.base_batch_size),
        **describe_schedule(cfg),
        'drop path': number(backbone.get('drop_path_rate', 0.0)),
        'batch norm of the backbone': norm.get('type', 'none'),
        'training images': images(train.pipeline),
        'images without objects': (
            'left out' if filters.get('filter_empty_gt') else 'kept'
        ),
        'test images': images(test.pipeline),
        'unused parameters searched': (
            'yes' if cfg.get('find_unused_parameters') else 'no'
        ),
        'neck': describe_neck(cfg.model.get('neck')),
        'heads': describe_heads(cfg.model),
    }


def number(value: float) -> str:
    """0.0001 -> '0.0001', 7.142857e-05 -> '7.14286e-05'"""
    return f'{value:.6g}'


def listed(values: Sequence[float]) -> str:
    """(0.9, 0.999) -> '0.9, 0.999'"""
    return ', '.join(number(value) for value in values)


def describe_optimizer(wrapper: Mapping[str, Any]) -> dict[str, str]:
    """Optimizer, rates, weight decay, clipping and precision."""
    optimizer = wrapper['optimizer']
    keys = (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    clip = wrapper.get('clip_grad') or {}
    amp = wrapper['type'] == 'AmpOptimWrapper'
    slower = {
        key: value['lr_mult']
        for key, value in keys.items()
        if value.get('lr_mult', 1) != 1
    }
    free = [k for k, v in keys.items() if v.get('decay_mult', 1) == 0]
    return {
        'optimizer': optimizer['type'],
        'learning rate': number(optimizer['lr']),
        'learning rates that differ': (
            ', '.join(f'{k} x{number(v)}' for k, v in sorted(slower.items()))
            or 'none'
        ),
        'betas': listed(optimizer.get('betas', (0.9, 0.999))),
        'weight decay': number(optimizer['weight_decay']),
        'exempt from decay': ', '.join(sorted(free)) or 'none',
        'gradient clipping': (
            f'norm {number(clip["max_norm"])}' if clip else 'none'
        ),
        'precision': 'fp16 mixed' if amp else 'fp32',
    }


def describe_schedule(cfg: Config) -> dict[str, str]:
    """Length of the training, decay of the rate and warm-up."""
    loop = cfg.train_cfg
    epochs = loop.get('max_epochs')
    words = {'warm-up': 'none'}
    for step in cfg.param_scheduler:
        if step.type == 'LinearLR':
            words['warm-up'] = (
                f'{step.end} iterations from {number(step.start_factor)}'
            )
        elif step.type == 'MultiStepLR':
            words['decay of the rate'] = (
                f'x{number(step.gamma)} after {listed(step.milestones)}'
            )
        elif step.type == 'PolyLR':
            words['decay of the rate'] = (
                f'polynomial {number(step.power)} to {number(step.eta_min)}'
            )
    length = f'{epochs} epochs' if epochs else f'{loop.max_iters} iterations'
    return {'length': length, **words}


def describe_neck(neck: Mapping[str, Any] | None) -> str:
    """The neck: type, width, its feature maps."""
    if neck is None:
        return 'none'
    words = [f'{neck["type"]} {neck["out_channels"]}']
    words.append(f'{len(neck["in_channels"])} maps to {neck["num_outs"]}')
    if neck.get('start_level'):
        words.append(f'from map {neck["start_level"] + 1}')
    if neck.get('add_extra_convs'):
        words.append(f'more {neck["add_extra_convs"].replace("_", " ")}')
    if neck.get('relu_before_extra_convs'):
        words.append('ReLU before P7')
    return ', '.join(words)


def describe_heads(model: Mapping[str, Any]) -> str:
    """The heads, with their losses and the weights of these."""
    words = []
    if 'rpn_head' in model and 'loss_bbox' in model['rpn_head']:
        words.append(f'RPN {loss(model["rpn_head"]["loss_bbox"])}')
    roi = model.get('roi_head', {})
    found = roi.get('bbox_head') or model.get('bbox_head') or []
    found = found if isinstance(found, list) else [found]
    words += dict.fromkeys(box_head(head) for head in found)
    for name in ('decode_head', 'auxiliary_head'):
        if name in model:
            words.append(mask_head(model[name]))
    queries = model.get('num_queries') or model.get('rpn_head', {}).get(
        'num_proposals'
    )
    if queries:
        words.append(f'{queries} queries')
    return '; '.join(words)


def loss(cfg: Mapping[str, Any]) -> str:
    """Type of a loss, its beta and its weight where not 1."""
    beta = f' beta {number(cfg["beta"])}' if 'beta' in cfg else ''
    weight = cfg.get('loss_weight', 1)
    return cfg['type'] + beta + (f' x{number(weight)}' if weight != 1 else '')


def box_head(head: Mapping[str, Any]) -> str:
    """Layers, norm and box loss of a head for boxes."""
    words = [head['type']]
    if 'num_shared_convs' in head:
        convs, layers = head['num_shared_convs'], head['num_shared_fcs']
        words.append(f'{convs} conv {layers} fc')
    if 'norm_cfg' in head:
        words.append(head['norm_cfg']['type'])
    if 'reg_class_agnostic' in head:
        shared = head['reg_class_agnostic']
        words.append('one box' if shared else 'a box per class')
    return ' '.join([*words, loss(head['loss_bbox'])])


def mask_head(head: Mapping[str, Any]) -> str:
    """Width, dropout, norm and weight of a head for segmentation."""
    words = [head['type'], str(head['channels'])]
    words.append(f'dropout {number(head["dropout_ratio"])}')
    words.append(head['norm_cfg']['type'])
    if 'in_index' in head and isinstance(head['in_index'], int):
        words.append(f'on map {head["in_index"] + 1}')
    return ' '.join([*words, loss(head['loss_decode'])])

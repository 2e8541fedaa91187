"""Layer-wise learning-rate decay for PVT, PVT v2 and MPViT."""

from numbers import Real

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..config.schema import PARAMWISE, check_paramwise
from ..errors import UsageError
from ..models import PVT, MPViT, PVTv2
from ..models.layers import Blocks

# Parts of a stage that follow its blocks; all others come before them.
AFTER_BLOCKS = ('norm', 'aggregate')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PyramidLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that fall by a factor from block to block.

    In a backbone of n blocks a parameter of depth d has the learning rate
    ``lr * decay_rate ** (n + 1 - d)``. Necks and heads have ``lr``.

    The depth is the number of blocks passed, the parameter's own included,
    as in mmpretrain's constructor: blocks count from 1 through all stages,
    those of MPViT's parallel paths together. What comes before the blocks
    of a stage (stem, patch embeddings, positions, class token, local path)
    has the depth of the block before, 0 in the first stage; what follows
    them (norm, aggregation) that of the stage's last block.

    Args:
        optim_wrapper_cfg: see mmengine's DefaultOptimWrapperConstructor; the
            optimizer needs ``lr``.
        paramwise_cfg: ``decay_rate``, above 0 and at most 1, and what
            DefaultOptimWrapperConstructor takes. ``lr_mult`` of custom keys
            and ``bias_lr_mult`` multiply the decayed rate.

    Raises:
        UsageError: an argument is missing, unknown or out of range.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        name = type(self).__name__
        check_paramwise(name, self.paramwise_cfg, PARAMWISE | {'decay_rate'})
        self.decay_rate = self.paramwise_cfg.get('decay_rate')
        if not isinstance(self.decay_rate, Real) or not (
            0 < self.decay_rate <= 1
        ):
            raise UsageError(
                f'optim_wrapper.paramwise_cfg.decay_rate={self.decay_rate!r}: '
                f'{name} needs a number above 0 and at most 1'
            )
        if self.base_lr is None:
            raise UsageError(
                f'optim_wrapper.optimizer.lr is missing: {name} multiplies it'
            )

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: bool | None = None,
    ) -> None:
        """Add a group per parameter of a module, at the rate of its depth.

        Args:
            params: groups are added here.
            module: the whole model, or a part of it.
            prefix: name of the part; '' for the whole model.
            is_dcn_module: whether the part is in a deformable convolution.

        Raises:
            UsageError: the backbone is of another family.
        """
        if not prefix:
            self.rates = self.rates_of(module)
        before, lr = len(params), self.base_lr
        # the base class multiplies its base_lr by lr_mult, and calls this
        # method for each child
        self.base_lr = self.rates.get(module, self.optimizer_cfg['lr'])
        super().add_params(params, module, prefix, is_dcn_module)
        for group in params[before:]:
            group.setdefault('lr', self.base_lr)
        self.base_lr = lr

    def rates_of(self, model: nn.Module) -> dict[nn.Module, float]:
        """Log the rate of each depth -> the rate of each backbone module."""
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, PVT | PVTv2 | MPViT):
            raise UsageError(
                f'optim_wrapper.constructor={type(self).__name__!r} is for '
                'backbones of the types PVT, PVTv2 and MPViT; this model '
                f'({type(model).__name__}) has '
                f'{type(backbone).__name__ if backbone else "no backbone"}'
            )
        depths = depth_by_module(backbone)
        last = max(depths.values())
        rates = [
            self.base_lr * self.decay_rate ** (last + 1 - depth)
            for depth in range(last + 1)
        ]
        text = ', '.join(f'{d}: {rate:.4g}' for d, rate in enumerate(rates))
        print_log(
            f'Learning rate by depth, decay_rate {self.decay_rate}, '
            f'{type(backbone).__name__}: {text}; outside the backbone: '
            f'{self.base_lr:.4g}',
            logger='current',
        )
        return {module: rates[depth] for module, depth in depths.items()}


def depth_by_module(backbone: PVT | PVTv2 | MPViT) -> dict[nn.Module, int]:
    """The depth of the parameters that a module itself has, by module."""
    depths = dict.fromkeys(backbone.modules(), 0)
    passed = 0
    for stage in backbone.stages:
        depths |= dict.fromkeys(stage.modules(), passed)
        paths = [part for part in stage.modules() if isinstance(part, Blocks)]
        for blocks in paths:
            for depth, block in enumerate(blocks, passed + 1):
                depths |= dict.fromkeys(block.modules(), depth)
        passed += max(map(len, paths))
        for name, part in stage.named_children():
            if name in AFTER_BLOCKS:
                depths |= dict.fromkeys(part.modules(), passed)
    return depths

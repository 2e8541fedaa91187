"""What both trainings of engine/test_training_parity.py import.

It makes their numbers and random draws equal; nothing here is of pvt_mm.
"""

import re

import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import set_random_seed
from torch import Tensor

# Norms of mmdet's PVT v2 that have eps 1e-5 in the official code: those of
# patch embeddings and reductions. Ours have other names.
COARSE = re.compile(r'backbone\.layers\.\d\.(0|.*\.attn)\.norm$')
SAVED = (1, 10, 50)  # steps after which the weights are written


def bernoulli_(self, p):
    """Draw as mmcv's DropPath does; torch draws other numbers."""
    return self.copy_((p + torch.rand_like(self)).floor())


# Only our DropPath calls it; dropout calls what lies below it.
Tensor.bernoulli_ = bernoulli_


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds the transforms of a sample by its number."""

    def transform(self, results):
        set_random_seed(results['sample_idx'])
        return results


@HOOKS.register_module()
class Parity(Hook):
    """Float64, eps of the official code, seeds, weights after some steps."""

    def before_run(self, runner):
        runner.model.double()
        for name, module in runner.model.named_modules():
            if COARSE.match(name):
                module.eps = 1e-5

        def to_double(preprocessor, given, batch):
            set_random_seed(runner.iter)
            return {**batch, 'inputs': batch['inputs'].double()}

        # after the preprocessor's float(), and right before the network
        runner.model.data_preprocessor.register_forward_hook(to_double)

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 in SAVED:
            path = f'{runner.work_dir}/step_{runner.iter + 1}.pth'
            torch.save(runner.model.state_dict(), path)

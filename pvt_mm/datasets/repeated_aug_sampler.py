"""Sample each image several times in an epoch: repeated augmentation."""

import math
from collections.abc import Iterator

import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatedAugSampler(DefaultSampler):
    """Samples each image ``repeats`` times, in different processes.

    The length of an epoch does not change, so it has 1/repeats of the images
    (arXiv:1902.05509; DeiT, arXiv:2012.12877).

    Args:
        dataset: whose indices are sampled.
        repeats: copies of each image.
        seed: the same in all processes; random if None.
    """

    def __init__(
        self, dataset: object, repeats: int = 3, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        self.repeats = repeats

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.seed + self.epoch)
        count = math.ceil(self.total_size / self.repeats)
        order = torch.randperm(len(self.dataset), generator=random)[:count]
        order = order.repeat_interleave(self.repeats)[: self.total_size]
        return iter(order[self.rank :: self.world_size].tolist())

"""An image classifier on top of a pyramid backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import init_tokens


@MODELS.register_module()
class PyramidClassifier(BaseModel):
    """Image -> scores of classes: mean of the last map, one linear layer.

    This is the official head of all three families: PVT v2 and MPViT take
    the mean over the last map; PVT, built with ``class_token=True``, ends
    with its class token as a 1x1 map.

    Args:
        backbone: config of a backbone that returns one map.
        num_classes: number of scores.
        label_smoothing: share of each target given to all classes alike.
        data_preprocessor: see mmengine's BaseModel.
        init_cfg: see mmengine's BaseModule.

    Shape:
        (B, C, H, W) -> (B, num_classes)

    Raises:
        ValueError: the backbone returns several maps.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        num_classes: int = 1000,
        *,
        label_smoothing: float = 0.0,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        channels = self.backbone.out_channels
        if len(channels) != 1:
            raise ValueError(
                f'a classifier needs one map, its backbone returns '
                f'{len(channels)}: set out_indices=(3,)'
            )
        self.head = nn.Linear(channels[0], num_classes)
        self.label_smoothing = label_smoothing
        init_tokens(self.head)

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | Sequence[Tensor]:
        """Scores, losses or predictions.

        Args:
            inputs: images (B, C, H, W).
            labels: classes (B,), or shares of classes (B, num_classes).
            mode: 'tensor' gives scores (B, num_classes), 'loss' a dict with
                the cross entropy, 'predict' scores and labels.
        """
        (x,) = self.backbone(inputs)
        scores = self.head(x.mean((2, 3)))
        if mode == 'loss':
            smoothing = self.label_smoothing
            loss = F.cross_entropy(scores, labels, label_smoothing=smoothing)
            return {'loss': loss}
        return scores if mode == 'tensor' else (scores, labels)

"""Whole detectors of mmdet for any batch and any size."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from .dense_heads import dense
from .query_heads import box_queries, cell_centres, map_queries, proposals_of
from .replacements import exportable
from .two_stage_heads import two_stage


class Detector(nn.Module):
    """A detector -> boxes, scores, labels and, if it has them, masks.

    As in mmdet's data preprocessor, the image is padded below and on the
    right to a multiple of `pad_size_divisor`.

    Args:
        model: of mmdet.

    Shape:
        image (B, 3, H, W) -> boxes (B, N, 4) in pixels of the image, scores
        (B, N), labels (B, N), masks (B, N, 28, 28) relative to their boxes;
        N is max_per_img, the best first; beyond the last one zeros, label -1

    Raises:
        UsageError: a part of the head has no counterpart here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check(model)
        self.model = exportable(model)
        self.find = kind_of(model)
        if hasattr(model, 'level_embed'):  # mmdet's linspace fixes the size
            self.model.encoder.get_encoder_reference_points = cell_centres
            self.model.gen_encoder_output_proposals = partial(
                proposals_of, self.model
            )
        preprocessor = model.data_preprocessor
        self.divisor = preprocessor.pad_size_divisor
        self.fill = float(preprocessor.pad_value)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run backbone, neck and heads."""
        height, width = size = image.shape[2:]
        more = (0, -width % self.divisor, 0, -height % self.divisor)
        image = F.pad(image, more, value=self.fill)
        maps = self.model.extract_feat(image)
        return self.find(self.model, maps, size, image.shape[2:])


def kind_of(model: nn.Module) -> Callable[..., tuple[Tensor, ...]] | None:
    """The function that finds objects in the maps of a model, if any."""
    from mmdet.models import dense_heads, detectors, roi_heads

    head = getattr(model, 'bbox_head', None)
    rois = getattr(model, 'roi_head', None)
    if isinstance(rois, roi_heads.SparseRoIHead) and not rois.with_mask:
        return box_queries
    if type(rois) in (roi_heads.StandardRoIHead, roi_heads.CascadeRoIHead):
        return two_stage
    if type(model) in (detectors.DETR, detectors.DeformableDETR):
        return map_queries
    if type(head) in (
        *(dense_heads.RetinaHead, dense_heads.RetinaSepBNHead),
        *(dense_heads.ATSSHead, dense_heads.GFLHead),
    ):
        return dense
    return None


def check(model: nn.Module) -> None:
    """Stop at options of a head that would be ignored here.

    Raises:
        UsageError: names the option.
    """
    for cfg in test_cfgs(model):
        kind = (cfg.get('nms') or {}).get('type', 'nms')
        if kind != 'nms':
            raise UsageError(f'export has no {kind}: set nms type to nms')
        if cfg.get('nms_pre', 1) < 1:
            raise UsageError('export needs nms_pre of 1 or more in test_cfg')
    for layer in model.modules():
        if type(layer).__name__ in ('RoIAlign', 'RoIPool') and not (
            getattr(layer, 'aligned', False) and layer.pool_mode == 'avg'
        ):
            raise UsageError('export takes RoIAlign, aligned, with means')


def thresholds(model: nn.Module) -> dict[str, str]:
    """What the last head decides by, for the metadata of a file."""
    cfg = test_cfgs(model)[-1]
    iou = (cfg.get('nms') or {}).get('iou_threshold')
    values = {
        'score_threshold': cfg.get('score_thr', 0.0),
        'iou_threshold': iou,
        'mask_threshold': cfg.get('mask_thr_binary'),
        'max_per_image': cfg.get('max_per_img'),
    }
    return {k: str(v) for k, v in values.items() if v is not None}


def test_cfgs(model: nn.Module) -> list[Mapping[str, Any]]:
    """The options at test time of each head."""
    heads = [
        getattr(model, name, None)
        for name in ('bbox_head', 'rpn_head', 'roi_head')
    ]
    return [h.test_cfg for h in heads if getattr(h, 'test_cfg', None)]

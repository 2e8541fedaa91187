"""Run every part of a model once, as the MM libraries count FLOPs.

The number of regions, which depends on the values in the image, is what
``forward_dummy`` of mmdet 2 assumes: 1000 for the box heads and 100 for the
mask heads.
"""

from torch import Tensor, nn

BOXES, MASKS = 1000, 100
BOX, MASK = 7, 14  # side of a region's map


def forward(model: nn.Module, image: Tensor) -> None:
    """Run the model on image (B, 3, H, W); the output has no meaning."""
    name = type(model).__name__
    if name == 'SparseRCNN':
        sparse_rcnn(model, image)
    elif hasattr(model, 'roi_head'):
        two_stage(model, image)
    elif hasattr(model, 'decoder'):
        model(image, [sample(image)], mode='tensor')
    else:
        model(image, mode='tensor')


def two_stage(model: nn.Module, image: Tensor) -> None:
    """Faster R-CNN and Cascade R-CNN, with or without masks."""
    maps = model.extract_feat(image)
    model.rpn_head(maps)
    channels = maps[0].shape[1]
    for head in heads(model.roi_head.bbox_head):
        head(image.new_empty(BOXES, channels, BOX, BOX))
    if model.roi_head.with_mask:
        for head in heads(model.roi_head.mask_head):
            head(image.new_empty(MASKS, channels, MASK, MASK))


def sparse_rcnn(model: nn.Module, image: Tensor) -> None:
    """Sparse R-CNN: a fixed number of proposals through all stages."""
    maps = model.extract_feat(image)
    channels = maps[0].shape[1]
    features = model.rpn_head.init_proposal_features.weight[None]
    number = features.shape[1]
    for head in heads(model.roi_head.bbox_head):
        regions = image.new_empty(number, channels, BOX, BOX)
        head(regions, features)


def heads(module: nn.Module) -> list[nn.Module]:
    """The heads of all stages."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def sample(image: Tensor) -> object:
    """A data sample without padding, which DETR asks for."""
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[2:])
    data = dict(img_shape=size, batch_input_shape=size, pad_shape=size)
    return DetDataSample(metainfo=data)

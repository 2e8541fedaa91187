# Multi-scale training as DETR introduced it (arXiv:2005.12872, appendix A.4):
# a mirrored image, resized as it is or after a crop. The names of this file
# are for recipes to pick from.
load = dict(type='LoadImageFromFile')
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
load_masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(
    type='RandomChoiceResize',
    scales=[(short, 1333) for short in range(480, 801, 32)],
    keep_ratio=True,
)
resize_for_crop = dict(
    type='RandomChoiceResize',
    scales=[(400, 1333), (500, 1333), (600, 1333)],
    keep_ratio=True,
)
crop = dict(
    type='RandomCrop',
    crop_type='absolute_range',
    crop_size=(384, 600),
    allow_negative_crop=True,
)
augment = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[[resize], [resize_for_crop, crop, resize]],
    ),
    dict(type='PackDetInputs'),
]
pipeline_boxes = [load, load_boxes, *augment]
pipeline_masks = [load, load_masks, *augment]

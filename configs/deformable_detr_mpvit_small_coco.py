_base_ = './_base_/deformable_detr_50e_coco.py'
model = dict(
    backbone=dict(
        type='MPViT',
        arch='small',
        init_cfg=dict(checkpoint='pvt://mpvit_small'),
    ),
    neck=dict(in_channels=[216, 288, 288]),
)

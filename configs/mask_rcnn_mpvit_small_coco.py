_base_ = './_base_/mask_rcnn_90k_coco.py'
weights = dict(checkpoint='pvt://mpvit_small')
model = dict(
    backbone=dict(
        type='MPViT', arch='small', drop_path_rate=0.2, init_cfg=weights
    ),
    neck=dict(in_channels=[128, 216, 288, 288]),
)

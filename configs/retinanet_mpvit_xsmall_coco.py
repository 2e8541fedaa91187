_base_ = './_base_/retinanet_90k_coco.py'
weights = dict(checkpoint='pvt://mpvit_xsmall')
model = dict(
    backbone=dict(
        type='MPViT', arch='xsmall', drop_path_rate=0.1, init_cfg=weights
    ),
    neck=dict(in_channels=[128, 192, 256, 256]),
)

_base_ = './_base_/mask_rcnn_270k_ms_coco.py'
weights = dict(checkpoint='pvt://mpvit_base')
model = dict(
    backbone=dict(
        type='MPViT', arch='base', drop_path_rate=0.4, init_cfg=weights
    ),
    neck=dict(in_channels=[224, 368, 480, 480]),
)

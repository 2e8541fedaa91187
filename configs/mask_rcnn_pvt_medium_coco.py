_base_ = './_base_/mask_rcnn_1x_coco.py'
weights = dict(checkpoint='pvt://pvt_medium')
model = dict(
    backbone=dict(
        type='PVT', arch='medium', drop_path_rate=0.0, init_cfg=weights
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

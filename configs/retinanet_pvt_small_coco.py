_base_ = './_base_/retinanet_1x_coco.py'
model = dict(
    backbone=dict(
        type='PVT', arch='small', init_cfg=dict(checkpoint='pvt://pvt_small')
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

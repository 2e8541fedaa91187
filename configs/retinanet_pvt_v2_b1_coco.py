_base_ = './_base_/retinanet_1x_coco.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b1', init_cfg=dict(checkpoint='pvt://pvt_v2_b1')
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

_base_ = './_base_/gfl_3x_ms_coco.py'
model = dict(
    backbone=dict(
        type='PVTv2',
        arch='b2_li',
        init_cfg=dict(checkpoint='pvt://pvt_v2_b2_li'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

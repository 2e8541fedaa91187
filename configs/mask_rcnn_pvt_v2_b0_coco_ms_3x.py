_base_ = './_base_/mask_rcnn_3x_ms_coco.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b0', init_cfg=dict(checkpoint='pvt://pvt_v2_b0')
    ),
    neck=dict(in_channels=[32, 64, 160, 256]),
)

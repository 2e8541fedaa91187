_base_ = './_base_/mask_rcnn_1x_batch8_coco.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b5', init_cfg=dict(checkpoint='pvt://pvt_v2_b5')
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

_base_ = './_base_/detr_50e_coco.py'
model = dict(
    backbone=dict(
        type='PVT', arch='small', init_cfg=dict(checkpoint='pvt://pvt_small')
    ),
    neck=dict(in_channels=[512]),
)

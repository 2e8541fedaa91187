_base_ = './_base_/semantic_fpn_40k_ade20k.py'
model = dict(
    backbone=dict(
        type='PVT', arch='small', init_cfg=dict(checkpoint='pvt://pvt_small')
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

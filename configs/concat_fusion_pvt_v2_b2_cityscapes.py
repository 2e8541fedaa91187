_base_ = './_base_/concat_fusion_80k_cityscapes.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b2', init_cfg=dict(checkpoint='pvt://pvt_v2_b2')
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)

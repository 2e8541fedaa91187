_base_ = './_base_/concat_fusion_80k_cityscapes.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b1', init_cfg=dict(checkpoint='pvt://pvt_v2_b1')
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)

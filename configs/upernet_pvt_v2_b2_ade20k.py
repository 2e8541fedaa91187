_base_ = './_base_/upernet_160k_ade20k.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b2', init_cfg=dict(checkpoint='pvt://pvt_v2_b2')
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)

_base_ = './_base_/upernet_160k_ade20k.py'
model = dict(
    backbone=dict(
        type='PVTv2', arch='b0', init_cfg=dict(checkpoint='pvt://pvt_v2_b0')
    ),
    decode_head=dict(in_channels=[32, 64, 160, 256]),
    auxiliary_head=dict(in_channels=160),
)

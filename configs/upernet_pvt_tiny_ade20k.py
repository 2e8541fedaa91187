_base_ = './_base_/upernet_160k_ade20k.py'
model = dict(
    backbone=dict(
        type='PVT', arch='tiny', init_cfg=dict(checkpoint='pvt://pvt_tiny')
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)

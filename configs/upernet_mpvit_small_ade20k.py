_base_ = './_base_/upernet_160k_ade20k.py'
model = dict(
    backbone=dict(
        type='MPViT',
        arch='small',
        norm_cfg=dict(type='SyncBN'),
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='pvt://mpvit_small'),
    ),
    decode_head=dict(in_channels=[128, 216, 288, 288]),
    auxiliary_head=dict(in_channels=288),
)

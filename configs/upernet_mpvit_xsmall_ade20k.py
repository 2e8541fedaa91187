_base_ = './_base_/upernet_syncbn_160k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_xsmall')
model = dict(
    backbone=dict(
        type='MPViT', arch='xsmall', drop_path_rate=0.1, init_cfg=weights
    ),
    decode_head=dict(in_channels=[128, 192, 256, 256]),
    auxiliary_head=dict(in_channels=256),
)

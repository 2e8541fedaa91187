_base_ = './_base_/upernet_syncbn_160k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_small')
model = dict(
    backbone=dict(
        type='MPViT', arch='small', drop_path_rate=0.2, init_cfg=weights
    ),
    decode_head=dict(in_channels=[128, 216, 288, 288]),
    auxiliary_head=dict(in_channels=288),
)

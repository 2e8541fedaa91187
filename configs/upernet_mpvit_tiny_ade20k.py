_base_ = './_base_/upernet_syncbn_160k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_tiny')
model = dict(
    backbone=dict(
        type='MPViT', arch='tiny', drop_path_rate=0.1, init_cfg=weights
    ),
    decode_head=dict(in_channels=[96, 176, 216, 216]),
    auxiliary_head=dict(in_channels=216),
)

_base_ = './_base_/upernet_syncbn_160k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_base')
model = dict(
    backbone=dict(
        type='MPViT', arch='base', drop_path_rate=0.4, init_cfg=weights
    ),
    decode_head=dict(in_channels=[224, 368, 480, 480]),
    auxiliary_head=dict(in_channels=480),
)

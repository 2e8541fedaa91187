_base_ = './_base_/semantic_fpn_syncbn_40k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_base')
model = dict(
    backbone=dict(
        type='MPViT', arch='base', drop_path_rate=0.4, init_cfg=weights
    ),
    neck=dict(in_channels=[224, 368, 480, 480]),
)

_base_ = './_base_/semantic_fpn_syncbn_40k_ade20k.py'
weights = dict(checkpoint='pvt://mpvit_small')
model = dict(
    backbone=dict(
        type='MPViT', arch='small', drop_path_rate=0.2, init_cfg=weights
    ),
    neck=dict(in_channels=[128, 216, 288, 288]),
)

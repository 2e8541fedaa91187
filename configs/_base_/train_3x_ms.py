# What the multi-scale 3x recipes of PVTv2 share: 36 epochs, 8 GPUs x 2 images
# (whai362/PVT, detection/configs/*_3x_mstrain*). Recipes pick these names,
# because the keys they stand for are in mmdet's own files already.
_base_ = './detr_crops.py'
# Norms are exempt from decay, biases are not. The official list has two more
# keys, which match nothing in PVTv2.
adamw_3x = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=1e-4,
        betas=(0.9, 0.999),
        weight_decay=0.05,
    ),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))),
)
schedule_3x = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=36,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1,
    ),
]

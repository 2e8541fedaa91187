_base_ = './_base_/retinanet_1x_amp_coco.py'
weights = dict(checkpoint='pvt://pvt_large')
model = dict(
    backbone=dict(
        type='PVT', arch='large', drop_path_rate=0.0, init_cfg=weights
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

_base_ = './_base_/retinanet_shapes.py'
model = dict(
    backbone=dict(type='PVTv2', arch='b0'),
    neck=dict(in_channels=[32, 64, 160, 256]),
)

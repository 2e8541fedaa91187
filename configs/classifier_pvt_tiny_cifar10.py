_base_ = './_base_/classifier_100e_cifar10.py'
model = dict(
    backbone=dict(
        type='PVT', arch='tiny', class_token=True, drop_path_rate=0.1
    )
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(cls_token=dict(decay_mult=0.0)))
)

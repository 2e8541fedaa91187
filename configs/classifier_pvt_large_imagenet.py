_base_ = './_base_/classifier_300e_imagenet.py'
model = dict(
    backbone=dict(
        type='PVT', arch='large', class_token=True, drop_path_rate=0.3
    )
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys=dict(cls_token=dict(decay_mult=0.0))),
)

_base_ = './_base_/classifier_300e_imagenet.py'
model = dict(backbone=dict(type='PVTv2', arch='b5', drop_path_rate=0.3))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))

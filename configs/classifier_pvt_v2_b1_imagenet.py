_base_ = './_base_/classifier_300e_imagenet.py'
model = dict(backbone=dict(type='PVTv2', arch='b1', drop_path_rate=0.1))

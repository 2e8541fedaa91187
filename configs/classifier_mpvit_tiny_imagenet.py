_base_ = './_base_/classifier_300e_imagenet.py'
model = dict(backbone=dict(type='MPViT', arch='tiny'))

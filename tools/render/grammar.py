"""The words that the names of configs are made of."""

# Method: type of the model, and of the head that makes the difference.
METHODS = {
    'retinanet': ('RetinaNet', 'RetinaHead'),
    'mask_rcnn': ('MaskRCNN', 'StandardRoIHead'),
    'cascade_mask_rcnn': ('CascadeRCNN', 'CascadeRoIHead'),
    'atss': ('ATSS', 'ATSSHead'),
    'gfl': ('GFL', 'GFLHead'),
    'sparse_rcnn': ('SparseRCNN', 'SparseRoIHead'),
    'detr': ('DETR', 'DETRHead'),
    'deformable_detr': ('DeformableDETR', 'DeformableDETRHead'),
    'semantic_fpn': ('EncoderDecoder', 'FPNHead'),
    'upernet': ('EncoderDecoder', 'UPerHead'),
    'concat_fusion': ('EncoderDecoder', 'ConcatFusionHead'),
    'classifier': ('PyramidClassifier', None),
}
DATA = ('coco', 'ade20k', 'cityscapes', 'imagenet', 'cifar10', 'shapes')
SCHEDULES = ('', 'ms_3x', '640')  # '' is the family's own standard

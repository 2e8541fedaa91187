# Mask R-CNN on COCO by detectron2's recipe, 1x, for MPViT (youngwanLEE/MPViT,
# detectron2/configs/maskrcnn).
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './coco_90k.py']
model = dict(
    backbone=dict(
        _delete_=True,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained'),
    )
)
annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = [
    _base_.train_pipeline[0],
    annotations,
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])

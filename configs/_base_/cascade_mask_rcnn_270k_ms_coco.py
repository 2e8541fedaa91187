# Cascade Mask R-CNN on COCO by detectron2's recipe, multi-scale 3x, for MPViT
# (youngwanLEE/MPViT, detectron2/configs/cascade_rcnn). detectron2 scales the
# three heads' gradient into the pyramid by 1/3, which mmdet cannot; mmdet's
# weights 1, 0.5, 0.25 of their losses stay instead.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    './coco_90k.py',
    './train_270k_ms.py',
]
heads = [
    dict(head, loss_bbox=dict(type='L1Loss', loss_weight=1.0))
    for head in _base_.model.roi_head.bbox_head
]
model = dict(
    backbone=dict(
        _delete_=True,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained'),
    ),
    rpn_head=dict(
        loss_bbox=dict(_delete_=True, type='L1Loss', loss_weight=1.0)
    ),
    roi_head=dict(bbox_head=heads),
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline_masks))
train_cfg = dict(max_iters=270000)
param_scheduler = _base_.schedule_270k
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])

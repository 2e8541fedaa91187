# Cascade Mask R-CNN multi-scale 3x on COCO (whai362/PVT, detection/configs:
# cascade_mask_rcnn_pvt_v2_b2_fpn_3x_mstrain_fp16). torch's autocast stands
# for apex O1, which is no longer made.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './train_3x_ms.py',
]
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
# four convolutions and one linear layer, boxes decoded and per class
heads = [
    dict(
        type='ConvFCBBoxHead',
        num_shared_convs=4,
        num_shared_fcs=1,
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=stds,
        ),
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_cls=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    )
    for stds in (
        [0.1, 0.1, 0.2, 0.2],
        [0.05, 0.05, 0.1, 0.1],
        [0.033, 0.033, 0.067, 0.067],
    )
]
model = dict(
    backbone=dict(
        _delete_=True, drop_path_rate=0.1, init_cfg=dict(type='Pretrained')
    ),
    roi_head=dict(bbox_head=heads),
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline_masks))
train_cfg = dict(max_epochs=36)
param_scheduler = _base_.schedule_3x
optim_wrapper = dict(type='AmpOptimWrapper', **_base_.adamw_3x)
auto_scale_lr = dict(enable=False, base_batch_size=16)

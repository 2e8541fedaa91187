# Data, optimizer and schedule of detectron2's 1x, 16 images per iteration, as
# MPViT is trained (youngwanLEE/MPViT, detectron2/configs).
_base_ = [
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
# detectron2 also learns from images without objects, however small
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(filter_cfg=dict(_delete_=True, filter_empty_gt=False)),
)
# norms and biases are decayed too; the norm clipped is that of all gradients
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=90000,
        by_epoch=False,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=90000, val_interval=10000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)

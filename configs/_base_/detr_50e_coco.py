# DETR for 50 epochs on COCO, 8 GPUs x 2 images (whai362/PVT,
# detection/configs: detr_pvt_s_8x2_50ep_coco). mmdet's own file has the
# official optimizer, clipping and smaller learning rate of the backbone.
_base_ = 'mmdet::detr/detr_r50_8xb2-150e_coco.py'
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        out_indices=(3,),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained'),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, short) for short in range(640, 801, 32)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=50,
        by_epoch=True,
        milestones=[33],
        gamma=0.1,
    )
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

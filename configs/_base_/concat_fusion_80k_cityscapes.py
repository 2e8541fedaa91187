# Concat fusion 80k on Cityscapes, 8 GPUs x 1 crop of 512x1024. No official
# recipe is known: optimizer and schedule are those of UPerNet on ADE20K
# (upernet_160k_ade20k.py) at half the length and batch. A config adds the
# backbone's type, arch and weights, and the width of its maps.
_base_ = [
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(
    imports=['pvt_mm', 'pvt_mm.models.decode_heads'],
    allow_failed_imports=False,
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 1024),
    ),
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(type='Pretrained')),
    decode_head=dict(
        type='ConcatFusionHead',
        channels=512,
        dropout_ratio=0.0,
        num_classes=19,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=6e-5, weight_decay=0.01)
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False
    ),
    dict(
        type='PolyLR', power=1.0, eta_min=0, begin=0, end=80000, by_epoch=False
    ),
]
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(enable=False, base_batch_size=8)

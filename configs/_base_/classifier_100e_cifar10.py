# CIFAR-10 from scratch, 100 epochs, one GPU x 128 images at 64 pixels, where
# the last of four stages still has 2x2 cells. A config adds the backbone.
_base_ = './classifier_300e_imagenet.py'
data_root = 'data/cifar10/'

model = dict(
    num_classes=10,
    data_preprocessor=dict(
        _delete_=True,
        type='LabelledPreprocessor',
        mean=[125.3, 123.0, 113.9],
        std=[63.0, 62.1, 66.7],
        bgr_to_rgb=True,
    ),
)
train_pipeline = [
    dict(type='RandomResizedCrop', size=64, area=(0.4, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackLabelled'),
]
test_pipeline = [
    dict(type='ResizeShort', edge=64, crop=64),
    dict(type='PackLabelled'),
]
train_dataloader = dict(
    num_workers=2,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='Cifar10',
        split='train',
        data_root=data_root,
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='Cifar10',
        split='test',
        data_root=data_root,
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=100)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=6),
    dict(type='CosineAnnealingLR', T_max=100, eta_min=5e-6),
]
auto_scale_lr = dict(base_batch_size=128)

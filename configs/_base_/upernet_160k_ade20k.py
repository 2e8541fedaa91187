# UPerNet 160k on ADE20K, 8 GPUs x 2 images (youngwanLEE/MPViT,
# semantic_segmentation/configs). A config adds the backbone's type, arch and
# weights, and the width of its maps. For PVT and PVTv2 nobody published a
# recipe: theirs is this one, with PVT's drop path.
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        _delete_=True, drop_path_rate=0.1, init_cfg=dict(type='Pretrained')
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
# no paramwise: norms and biases are decayed too; no clipping
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=6e-5, weight_decay=0.01)
)
# Both from iteration 0: mmcv 1 multiplied the warm-up with the decay.
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False
    ),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0,
        begin=0,
        end=160000,
        by_epoch=False,
    ),
]
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)

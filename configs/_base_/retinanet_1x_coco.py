# RetinaNet 1x on COCO, 8 GPUs x 2 images (whai362/PVT, detection/configs).
# A config adds type, arch and weights of the backbone, and the maps' width.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, drop_path_rate=0.1, init_cfg=dict(type='Pretrained')
    )
)
# no paramwise: norms and biases are decayed too
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4)
)
auto_scale_lr = dict(enable=False, base_batch_size=16)

# Deformable DETR for 50 epochs on COCO, 8 GPUs x 2 images (youngwanLEE/MPViT,
# deformable_detr), without box refinement and second stage. mmdet's own file
# has the official optimizer, schedule and crops.
_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        out_indices=(1, 2, 3),
        norm_cfg=dict(type='SyncBN'),
        drop_path_rate=0.0,
        init_cfg=dict(type='Pretrained'),
    )
)
auto_scale_lr = dict(enable=False, base_batch_size=16)

# Sparse R-CNN multi-scale 3x on COCO, 300 proposals, 8 GPUs x 2 images
# (whai362/PVT, detection/configs: sparse_rcnn_pvt_v2_b2_li_fpn_300_proposals_
# crop_mstrain_480-800_3x_coco). mmdet's own file has the official crops,
# schedule, optimizer and clipping.
_base_ = (
    'mmdet::sparse_rcnn/'
    'sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'
)
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, drop_path_rate=0.1, init_cfg=dict(type='Pretrained')
    )
)
auto_scale_lr = dict(enable=False, base_batch_size=16)

# Mask R-CNN multi-scale 3x on COCO (whai362/PVT, detection/configs:
# mask_rcnn_pvt_v2_b2_fpn_3x_mstrain).
_base_ = ['./mask_rcnn_1x_coco.py', './train_3x_ms.py']
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline_masks))
train_cfg = dict(max_epochs=36)
param_scheduler = _base_.schedule_3x
optim_wrapper = _base_.adamw_3x

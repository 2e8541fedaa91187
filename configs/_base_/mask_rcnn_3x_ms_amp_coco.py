# Mask R-CNN multi-scale 3x on COCO in mixed precision (whai362/PVT,
# detection/configs: mask_rcnn_pvt_v2_b2_li_fpn_3x_mstrain). torch's autocast
# stands for apex O1, which is no longer made.
_base_ = './mask_rcnn_3x_ms_coco.py'
optim_wrapper = dict(type='AmpOptimWrapper')

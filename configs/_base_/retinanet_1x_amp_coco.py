# RetinaNet 1x on COCO in mixed precision (whai362/PVT, detection/configs:
# pvt_large). torch's autocast stands for apex O1, which is no longer made.
_base_ = './retinanet_1x_coco.py'
optim_wrapper = dict(type='AmpOptimWrapper')

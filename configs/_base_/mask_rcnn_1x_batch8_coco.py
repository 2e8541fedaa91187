# Mask R-CNN 1x on COCO for the largest backbones: 8 GPUs x 1 image, and the
# learning rate divided by 1.4 (whai362/PVT, detection/configs: large, b4, b5).
_base_ = './mask_rcnn_1x_coco.py'
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=2e-4 / 1.4))
auto_scale_lr = dict(base_batch_size=8)

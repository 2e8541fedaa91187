# Sparse R-CNN multi-scale 3x on COCO, 8 GPUs x 1 image, and the learning rate
# divided by 1.4 (whai362/PVT, detection/configs: b2).
_base_ = './sparse_rcnn_3x_ms_coco.py'
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=2.5e-5 / 1.4))
auto_scale_lr = dict(base_batch_size=8)

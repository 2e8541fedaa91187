# RetinaNet on COCO by detectron2's recipe, multi-scale 3x, for MPViT
# (youngwanLEE/MPViT, detectron2/configs/retinanet).
_base_ = ['./retinanet_90k_coco.py', './train_270k_ms.py']
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline_boxes))
train_cfg = dict(max_iters=270000)
param_scheduler = _base_.schedule_270k

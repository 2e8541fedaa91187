# RetinaNet 1x on COCO with a short side of 640 pixels, in training and in the
# test (whai362/PVT, detection/configs: retinanet_pvt_s_fpn_1x_coco_640).
_base_ = './retinanet_1x_coco.py'
resize = dict(type='Resize', scale=(1066, 640), keep_ratio=True)
train_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

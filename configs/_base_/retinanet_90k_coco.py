# RetinaNet on COCO by detectron2's recipe, 1x, for MPViT (youngwanLEE/MPViT,
# detectron2/configs/retinanet).
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './coco_90k.py']
model = dict(
    backbone=dict(
        _delete_=True,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained'),
    ),
    # P6 comes from the backbone's last map, P7 from ReLU(P6)
    neck=dict(relu_before_extra_convs=True),
)

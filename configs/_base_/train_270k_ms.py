# What the multi-scale 3x recipes of MPViT share (youngwanLEE/MPViT,
# detectron2/configs/*_ms_3x). Recipes pick these names, because the keys they
# stand for are in the 1x recipe already.
_base_ = './detr_crops.py'
schedule_270k = [
    dict(
        type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=270000,
        by_epoch=False,
        milestones=[210000, 250000],
        gamma=0.1,
    ),
]

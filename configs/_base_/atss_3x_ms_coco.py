# ATSS multi-scale 3x on COCO (whai362/PVT, detection/configs:
# atss_pvt_v2_b2_fpn_3x_mstrain_fp16). torch's autocast stands for apex O1,
# which is no longer made.
_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', './train_3x_ms.py']
custom_imports = dict(imports=['pvt_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, drop_path_rate=0.1, init_cfg=dict(type='Pretrained')
    )
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline_boxes))
train_cfg = dict(max_epochs=36)
param_scheduler = _base_.schedule_3x
optim_wrapper = dict(type='AmpOptimWrapper', **_base_.adamw_3x)
auto_scale_lr = dict(enable=False, base_batch_size=16)

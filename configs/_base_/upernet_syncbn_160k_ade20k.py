# UPerNet 160k on ADE20K for backbones with batch norms: over all GPUs, as in
# both official configs (youngwanLEE/MPViT, semantic_segmentation).
_base_ = './upernet_160k_ade20k.py'
model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))

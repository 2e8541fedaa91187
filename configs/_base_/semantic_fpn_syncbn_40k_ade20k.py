# Semantic FPN 40k on ADE20K for backbones with batch norms. Nobody published
# one for MPViT: this is PVT's recipe; norms over all GPUs and drop path (in
# the configs) are those of MPViT's other recipes.
_base_ = './semantic_fpn_40k_ade20k.py'
model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))

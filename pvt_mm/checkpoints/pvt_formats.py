"""Checkpoint formats of PVT and PVT v2: ours, and four code bases'."""

import torch

from .key_templates import WEIGHTS, CheckpointFormat, Row, ValueMapping

BLOCK = 'stages.{i}.blocks.{j}.'
CONV, NORM = BLOCK + 'attn.reduction.conv.', BLOCK + 'attn.reduction.norm.'
HEAD = Row('head.{name}', '/head.{name}')
SAME = Row('/{rest}', '/{rest}')  # necks and heads of the MM libraries


# whai362/PVT: one naming for classification, detection and segmentation.
THEIRS = 'block{i+1}.{j}.'
OFFICIAL_BLOCKS = (
    Row('patch_embed{i+1}.{rest}', 'stages.{i}.patch_embed.{rest}'),
    Row(THEIRS + 'attn.sr.{name}', CONV + '{name}'),
    Row(THEIRS + 'attn.norm.{name}', NORM + '{name}'),
    Row(THEIRS + 'mlp.dwconv.dwconv.{name}', BLOCK + 'mlp.dwconv.{name}'),
    Row(THEIRS + '{rest}', BLOCK + '{rest}'),
)
OFFICIAL_PVT = (
    Row('pos_embed{i+1}', 'stages.{i}.pos_embed'),
    *OFFICIAL_BLOCKS,
    Row('cls_token', 'stages.3.cls_token'),
    Row('norm.{name}', 'stages.3.norm.{name}'),
    HEAD,
    SAME,
)
OFFICIAL_PVT_V2 = (
    *OFFICIAL_BLOCKS,
    Row('norm{i+1}.{name}', 'stages.{i}.norm.{name}'),
    HEAD,
    SAME,
)


# timm, models/pvt_v2.py.
TIMM_PVT_V2 = (
    Row('patch_embed.{rest}', 'stages.0.patch_embed.{rest}'),
    Row('stages.{i}.downsample.{rest}', 'stages.{i}.patch_embed.{rest}'),
    Row(BLOCK + 'attn.sr.{name}', CONV + '{name}'),
    Row(BLOCK + 'attn.norm.{name}', NORM + '{name}'),
    Row(BLOCK + '{rest}', BLOCK + '{rest}'),
    Row('stages.{i}.norm.{name}', 'stages.{i}.norm.{name}'),
    HEAD,
    SAME,
)


# transformers, classes Pvt* and PvtV2*: key and value are two layers.
def transformers_block(
    theirs: str, attention: str, reduction: str, proj: str
) -> tuple[Row, ...]:
    """Rows of a block: its prefix and what its parts are called."""
    attention = theirs + attention
    return (
        Row(theirs + 'layer_norm_{k}.{name}', BLOCK + 'norm{k}.{name}'),
        Row(attention + 'query.{name}', BLOCK + 'attn.q.{name}'),
        Row(
            (attention + 'key.{name}', attention + 'value.{name}'),
            BLOCK + 'attn.kv.{name}',
            shares=(1, 1),
        ),
        Row(attention + reduction + '.{name}', CONV + '{name}'),
        Row(attention + 'layer_norm.{name}', NORM + '{name}'),
        Row(theirs + proj + '.{name}', BLOCK + 'attn.proj.{name}'),
        Row(theirs + 'mlp.dense{k}.{name}', BLOCK + 'mlp.fc{k}.{name}'),
        Row(theirs + 'mlp.dwconv.dwconv.{name}', BLOCK + 'mlp.dwconv.{name}'),
    )


EMBED, V2_STAGE = 'encoder.patch_embeddings.{i}.', 'encoder.layers.{i}.'
CLASSIFIER = Row('/classifier.{name}', '/head.{name}')
TRANSFORMERS_PVT = (
    Row(EMBED + 'position_embeddings', 'stages.{i}.pos_embed'),
    Row(EMBED + 'cls_token', 'stages.{i}.cls_token'),
    Row(EMBED + 'projection.{name}', 'stages.{i}.patch_embed.proj.{name}'),
    Row(EMBED + 'layer_norm.{name}', 'stages.{i}.patch_embed.norm.{name}'),
    *transformers_block(
        'encoder.block.{i}.{j}.',
        'attention.self.',
        'sequence_reduction',
        'attention.output.dense',
    ),
    Row('encoder.layer_norm.{name}', 'stages.3.norm.{name}'),
    CLASSIFIER,
)
TRANSFORMERS_PVT_V2 = (
    Row(
        V2_STAGE + 'patch_embedding.proj.{name}',
        'stages.{i}.patch_embed.proj.{name}',
    ),
    Row(
        V2_STAGE + 'patch_embedding.layer_norm.{name}',
        'stages.{i}.patch_embed.norm.{name}',
    ),
    *transformers_block(
        V2_STAGE + 'blocks.{j}.',
        'attention.',
        'spatial_reduction',
        'attention.proj',
    ),
    Row(V2_STAGE + 'layer_norm.{name}', 'stages.{i}.norm.{name}'),
    CLASSIFIER,
)


CONV1X1 = ValueMapping(
    lambda x: x.flatten(1),
    lambda x: x[..., None, None],
    '1x1 convolutions to linear layers',
)
CLASS_ROW = ValueMapping(
    lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], dim=1),
    lambda x: x[:, 1:],
    'an unused class token row of zeros added to positions',
)


# mmdet 3, PyramidVisionTransformer(V2): query, key and value are one tensor,
# the linear layers of the feed-forward network are 1x1 convolutions.
def mmdet_block(theirs: str, fc2: int) -> tuple[Row, ...]:
    """Rows of a block: its prefix and the number of its second layer."""
    return (
        Row(
            theirs + 'attn.attn.in_proj_{name}',
            (BLOCK + 'attn.q.{name}', BLOCK + 'attn.kv.{name}'),
            shares=(1, 2),
        ),
        Row(theirs + 'attn.attn.out_proj.{name}', BLOCK + 'attn.proj.{name}'),
        Row(theirs + 'attn.sr.{name}', CONV + '{name}'),
        Row(theirs + 'attn.norm.{name}', NORM + '{name}'),
        Row(
            theirs + 'ffn.layers.0.weight',
            BLOCK + 'mlp.fc1.weight',
            values=CONV1X1,
        ),
        Row(theirs + 'ffn.layers.0.bias', BLOCK + 'mlp.fc1.bias'),
        Row(
            theirs + f'ffn.layers.{fc2}.weight',
            BLOCK + 'mlp.fc2.weight',
            values=CONV1X1,
        ),
        Row(theirs + f'ffn.layers.{fc2}.bias', BLOCK + 'mlp.fc2.bias'),
        Row(theirs + 'norm{k}.{name}', BLOCK + 'norm{k}.{name}'),
    )


MMDET_EMBED = (
    Row(
        'layers.{i}.0.projection.{name}', 'stages.{i}.patch_embed.proj.{name}'
    ),
    Row('layers.{i}.0.norm.{name}', 'stages.{i}.patch_embed.norm.{name}'),
)
MMDET_PVT = (
    *MMDET_EMBED,
    Row('layers.3.1.0.pos_embed', 'stages.3.pos_embed', values=CLASS_ROW),
    Row('layers.{i}.1.0.pos_embed', 'stages.{i}.pos_embed'),
    *mmdet_block('layers.{i}.1.{j+1}.', fc2=3),
    SAME,
)
MMDET_PVT_V2 = (
    *MMDET_EMBED,
    Row('layers.{i}.1.{j}.ffn.layers.1.{name}', BLOCK + 'mlp.dwconv.{name}'),
    *mmdet_block('layers.{i}.1.{j}.', fc2=4),
    Row('layers.{i}.2.{name}', 'stages.{i}.norm.{name}'),
    SAME,
)


STAGE_KEYS = (
    r'stages\.\d+\.(patch_embed\.(proj|norm)|norm|'
    r'blocks\.\d+\.(norm[12]|attn\.(q|kv|proj|reduction\.(conv|norm))'
)
PVT_FORMATS = (  # our PVT before our PVT v2, whose signature it has too
    CheckpointFormat(
        *('pvt_mm', 'PVT', ('stages.0.pos_embed',)),
        keys=(
            rf'{STAGE_KEYS}|mlp\.fc[12])){WEIGHTS}',
            r'stages\.\d+\.(pos_embed|cls_token)',
        ),
    ),
    CheckpointFormat(
        *('pvt_mm', 'PVTv2', ('stages.0.patch_embed.proj.weight',)),
        keys=(rf'{STAGE_KEYS}|mlp\.(fc[12]|dwconv))){WEIGHTS}',),
    ),
    CheckpointFormat('official', 'PVT', ('pos_embed1',), OFFICIAL_PVT),
    CheckpointFormat(
        *('official', 'PVTv2', ('block1.0.mlp.dwconv.dwconv.weight',)),
        OFFICIAL_PVT_V2,
    ),
    CheckpointFormat(
        *('timm', 'PVTv2', ('stages.1.downsample.proj.weight',)), TIMM_PVT_V2
    ),
    CheckpointFormat(
        *('transformers', 'PVT'),
        ('encoder.patch_embeddings.0.position_embeddings',),
        TRANSFORMERS_PVT,
        classifier='pvt.',
    ),
    CheckpointFormat(
        *('transformers', 'PVTv2'),
        ('encoder.layers.0.patch_embedding.proj.weight',),
        TRANSFORMERS_PVT_V2,
        classifier='pvt_v2.',
    ),
    CheckpointFormat(
        *('mmdet', 'PVT', ('layers.0.1.0.pos_embed',), MMDET_PVT),
        container='state_dict',
    ),
    CheckpointFormat(
        *('mmdet', 'PVTv2', ('layers.0.1.0.ffn.layers.4.weight',)),
        MMDET_PVT_V2,
        container='state_dict',
    ),
)

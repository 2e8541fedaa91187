"""Everybody else's names for the weights of PVT and PVT v2."""

from .key_templates import Dialect, Rule

BLOCK = 'stages.{i}.blocks.{j}.'
CONV, NORM = BLOCK + 'attn.reduction.conv.', BLOCK + 'attn.reduction.norm.'
HEAD = Rule('head.{leaf}', '/head.{leaf}')
SAME = Rule('/{rest}', '/{rest}')  # necks and heads of the MM libraries


# whai362/PVT: one naming for classification, detection and segmentation.
THEIRS = 'block{i+1}.{j}.'
OFFICIAL_BLOCKS = (
    Rule('patch_embed{i+1}.{rest}', 'stages.{i}.patch_embed.{rest}'),
    Rule(THEIRS + 'attn.sr.{leaf}', CONV + '{leaf}'),
    Rule(THEIRS + 'attn.norm.{leaf}', NORM + '{leaf}'),
    Rule(THEIRS + 'mlp.dwconv.dwconv.{leaf}', BLOCK + 'mlp.dwconv.{leaf}'),
    Rule(THEIRS + '{rest}', BLOCK + '{rest}'),
)
OFFICIAL_PVT = (
    Rule('pos_embed{i+1}', 'stages.{i}.pos_embed'),
    *OFFICIAL_BLOCKS,
    Rule('cls_token', 'stages.3.cls_token'),
    Rule('norm.{leaf}', 'stages.3.norm.{leaf}'),
    HEAD,
    SAME,
)
OFFICIAL_PVT_V2 = (
    *OFFICIAL_BLOCKS,
    Rule('norm{i+1}.{leaf}', 'stages.{i}.norm.{leaf}'),
    HEAD,
    SAME,
)


# timm, models/pvt_v2.py.
TIMM_PVT_V2 = (
    Rule('patch_embed.{rest}', 'stages.0.patch_embed.{rest}'),
    Rule('stages.{i}.downsample.{rest}', 'stages.{i}.patch_embed.{rest}'),
    Rule(BLOCK + 'attn.sr.{leaf}', CONV + '{leaf}'),
    Rule(BLOCK + 'attn.norm.{leaf}', NORM + '{leaf}'),
    Rule(BLOCK + '{rest}', BLOCK + '{rest}'),
    Rule('stages.{i}.norm.{leaf}', 'stages.{i}.norm.{leaf}'),
    HEAD,
    SAME,
)


# transformers, classes Pvt* and PvtV2*: key and value are two layers.
def transformers_block(
    theirs: str, attention: str, reduction: str, proj: str
) -> tuple[Rule, ...]:
    """Rows of a block: its prefix and what its parts are called."""
    attention = theirs + attention
    return (
        Rule(theirs + 'layer_norm_{k}.{leaf}', BLOCK + 'norm{k}.{leaf}'),
        Rule(attention + 'query.{leaf}', BLOCK + 'attn.q.{leaf}'),
        Rule(
            (attention + 'key.{leaf}', attention + 'value.{leaf}'),
            BLOCK + 'attn.kv.{leaf}',
            shares=(1, 1),
        ),
        Rule(attention + reduction + '.{leaf}', CONV + '{leaf}'),
        Rule(attention + 'layer_norm.{leaf}', NORM + '{leaf}'),
        Rule(theirs + proj + '.{leaf}', BLOCK + 'attn.proj.{leaf}'),
        Rule(theirs + 'mlp.dense{k}.{leaf}', BLOCK + 'mlp.fc{k}.{leaf}'),
        Rule(theirs + 'mlp.dwconv.dwconv.{leaf}', BLOCK + 'mlp.dwconv.{leaf}'),
    )


EMBED, V2_STAGE = 'encoder.patch_embeddings.{i}.', 'encoder.layers.{i}.'
CLASSIFIER = Rule('/classifier.{leaf}', '/head.{leaf}')
TRANSFORMERS_PVT = (
    Rule(EMBED + 'position_embeddings', 'stages.{i}.pos_embed'),
    Rule(EMBED + 'cls_token', 'stages.{i}.cls_token'),
    Rule(EMBED + 'projection.{leaf}', 'stages.{i}.patch_embed.proj.{leaf}'),
    Rule(EMBED + 'layer_norm.{leaf}', 'stages.{i}.patch_embed.norm.{leaf}'),
    *transformers_block(
        'encoder.block.{i}.{j}.',
        'attention.self.',
        'sequence_reduction',
        'attention.output.dense',
    ),
    Rule('encoder.layer_norm.{leaf}', 'stages.3.norm.{leaf}'),
    CLASSIFIER,
)
TRANSFORMERS_PVT_V2 = (
    Rule(
        V2_STAGE + 'patch_embedding.proj.{leaf}',
        'stages.{i}.patch_embed.proj.{leaf}',
    ),
    Rule(
        V2_STAGE + 'patch_embedding.layer_norm.{leaf}',
        'stages.{i}.patch_embed.norm.{leaf}',
    ),
    *transformers_block(
        V2_STAGE + 'blocks.{j}.',
        'attention.',
        'spatial_reduction',
        'attention.proj',
    ),
    Rule(V2_STAGE + 'layer_norm.{leaf}', 'stages.{i}.norm.{leaf}'),
    CLASSIFIER,
)


# mmdet 3, PyramidVisionTransformer(V2): query, key and value are one tensor,
# the linear layers of the feed-forward network are 1x1 convolutions.
def mmdet_block(theirs: str, fc2: int) -> tuple[Rule, ...]:
    """Rows of a block: its prefix and the number of its second layer."""
    return (
        Rule(
            theirs + 'attn.attn.in_proj_{leaf}',
            (BLOCK + 'attn.q.{leaf}', BLOCK + 'attn.kv.{leaf}'),
            shares=(1, 2),
        ),
        Rule(theirs + 'attn.attn.out_proj.{leaf}', BLOCK + 'attn.proj.{leaf}'),
        Rule(theirs + 'attn.sr.{leaf}', CONV + '{leaf}'),
        Rule(theirs + 'attn.norm.{leaf}', NORM + '{leaf}'),
        Rule(
            theirs + 'ffn.layers.0.weight',
            BLOCK + 'mlp.fc1.weight',
            change='conv1x1',
        ),
        Rule(theirs + 'ffn.layers.0.bias', BLOCK + 'mlp.fc1.bias'),
        Rule(
            theirs + f'ffn.layers.{fc2}.weight',
            BLOCK + 'mlp.fc2.weight',
            change='conv1x1',
        ),
        Rule(theirs + f'ffn.layers.{fc2}.bias', BLOCK + 'mlp.fc2.bias'),
        Rule(theirs + 'norm{k}.{leaf}', BLOCK + 'norm{k}.{leaf}'),
    )


MMDET_EMBED = (
    Rule(
        'layers.{i}.0.projection.{leaf}', 'stages.{i}.patch_embed.proj.{leaf}'
    ),
    Rule('layers.{i}.0.norm.{leaf}', 'stages.{i}.patch_embed.norm.{leaf}'),
)
MMDET_PVT = (
    *MMDET_EMBED,
    Rule('layers.3.1.0.pos_embed', 'stages.3.pos_embed', change='class_row'),
    Rule('layers.{i}.1.0.pos_embed', 'stages.{i}.pos_embed'),
    *mmdet_block('layers.{i}.1.{j+1}.', fc2=3),
    SAME,
)
MMDET_PVT_V2 = (
    *MMDET_EMBED,
    Rule('layers.{i}.1.{j}.ffn.layers.1.{leaf}', BLOCK + 'mlp.dwconv.{leaf}'),
    *mmdet_block('layers.{i}.1.{j}.', fc2=4),
    Rule('layers.{i}.2.{leaf}', 'stages.{i}.norm.{leaf}'),
    SAME,
)


# fmt: off
PVT_DIALECTS = (
    Dialect('official', 'PVT', ('pos_embed1',), OFFICIAL_PVT),
    Dialect('official', 'PVTv2', ('block1.0.mlp.dwconv.dwconv.weight',),
            OFFICIAL_PVT_V2),
    Dialect('timm', 'PVTv2', ('stages.1.downsample.proj.weight',),
            TIMM_PVT_V2),
    Dialect('transformers', 'PVT',
            ('encoder.patch_embeddings.0.position_embeddings',),
            TRANSFORMERS_PVT, classifier='pvt.'),
    Dialect('transformers', 'PVTv2',
            ('encoder.layers.0.patch_embedding.proj.weight',),
            TRANSFORMERS_PVT_V2, classifier='pvt_v2.'),
    Dialect('mmdet', 'PVT', ('layers.0.1.0.pos_embed',), MMDET_PVT,
            container='state_dict'),
    Dialect('mmdet', 'PVTv2', ('layers.0.1.0.ffn.layers.4.weight',),
            MMDET_PVT_V2, container='state_dict'),
)
# fmt: on

"""Our own names: every tensor that a backbone of each family can have."""

import re
from collections.abc import Iterable

WEIGHTS = r'\.(weight|bias)'
BATCH_NORM = r'bn\.(weight|bias|running_mean|running_var|num_batches_tracked)'
CONV_NORM = rf'(conv\.weight|{BATCH_NORM})'
PYRAMID = (
    r'stages\.\d+\.(patch_embed\.(proj|norm)|norm|'
    r'blocks\.\d+\.(norm[12]|attn\.(q|kv|proj|reduction\.(conv|norm))'
)
NAMES = {
    'PVT': (
        rf'{PYRAMID}|mlp\.fc[12])){WEIGHTS}',
        r'stages\.\d+\.(pos_embed|cls_token)',
    ),
    'PVTv2': (rf'{PYRAMID}|mlp\.(fc[12]|dwconv))){WEIGHTS}',),
    'MPViT': (
        rf'stem\.[01]\.{CONV_NORM}',
        rf'stages\.\d+\.(local\.conv[123]|aggregate)\.{CONV_NORM}',
        rf'stages\.\d+\.embeds\.\d+\.((dwconv|pwconv)\.weight|{BATCH_NORM})',
        rf'stages\.\d+\.paths\.\d+\.(cpe\.proj|crpe\.convs\.\d+){WEIGHTS}',
        r'stages\.\d+\.paths\.\d+\.blocks\.\d+\.'
        rf'(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]){WEIGHTS}',
    ),
}


def strangers(family: str, keys: Iterable[str]) -> list[str]:
    """The keys that no backbone of the family has.

    Args:
        family: PVT, PVTv2 or MPViT.
        keys: in our names, without prefix.
    """
    patterns = [re.compile(text) for text in NAMES[family]]
    return [k for k in keys if not any(p.fullmatch(k) for p in patterns)]

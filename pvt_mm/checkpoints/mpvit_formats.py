"""Checkpoint formats of MPViT: ours, the official code's, detectron2's."""

from torch import Tensor

from .key_templates import (
    BATCH_NORM,
    WEIGHTS,
    CheckpointFormat,
    Row,
    ValueMapping,
)
from .pvt_formats import SAME

# youngwanLEE/MPViT: one naming for classification, mmseg and detectron2. An
# encoder's position encodings have a name of the encoder's own and one more
# in each layer that uses them.
PATH = 'stages.{i}.paths.{k}.'
EACH_LAYER = PATH + 'blocks.{j}.norm1.weight'
STAGE = 'mhca_stages.{i}.'
ENCODER = STAGE + 'mhca_blks.{k}.'
LAYER = ENCODER + 'MHCA_layers.{j}.'
ATTENTION = LAYER + 'factoratt_crpe.'
CPE, CRPE = PATH + 'cpe.{rest}', PATH + 'crpe.convs.{rest}'
BACKBONE = (
    Row('stem.{rest}', 'stem.{rest}'),
    Row(
        'patch_embed_stages.{i}.patch_embeds.{k}.patch_conv.{rest}',
        'stages.{i}.embeds.{k}.{rest}',
    ),
    Row(ENCODER + 'cpe.{rest}', CPE),
    Row(ENCODER + 'crpe.conv_list.{rest}', CRPE),
    Row(LAYER + 'cpe.{rest}', CPE, alias=EACH_LAYER),
    Row(LAYER + 'crpe.conv_list.{rest}', CRPE, alias=EACH_LAYER),
    Row(ATTENTION + 'crpe.conv_list.{rest}', CRPE, alias=EACH_LAYER),
    Row(ATTENTION + '{rest}', PATH + 'blocks.{j}.attn.{rest}'),
    Row(LAYER + '{rest}', PATH + 'blocks.{j}.{rest}'),
    Row(STAGE + 'InvRes.conv1.{rest}', 'stages.{i}.local.conv1.{rest}'),
    Row(STAGE + 'InvRes.dwconv.{name}', 'stages.{i}.local.conv2.conv.{name}'),
    Row(STAGE + 'InvRes.norm.{name}', 'stages.{i}.local.conv2.bn.{name}'),
    Row(STAGE + 'InvRes.conv2.{rest}', 'stages.{i}.local.conv3.{rest}'),
    Row(STAGE + 'aggregate.{rest}', 'stages.{i}.aggregate.{rest}'),
)
HEAD = Row('cls_head.cls.{name}', '/head.{name}')


# detectron2 agrees with mmdet 3 on the order of classes, the background's
# place (last), box deltas, RoI sampling and RGB input. Only RetinaNet's
# anchors are ordered size by size there and ratio by ratio here.
def retinanet_subnet(theirs: str, ours: str) -> tuple[Row, ...]:
    """Rows of a subnet: four convolutions with a ReLU after each."""
    return tuple(
        Row(
            f'/head.{theirs}_subnet.{2 * n}.' + '{name}',
            f'/bbox_head.{ours}_convs.{n}.conv.' + '{name}',
        )
        for n in range(4)
    )


def flip_anchors(x: Tensor) -> Tensor:
    """Size-major anchors to ratio-major ones, or back: (9 * K, ...)

    Three sizes and three ratios (RetinaNet): one order is the transpose of
    the other.
    """
    return x.unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)


ANCHORS = ValueMapping(
    flip_anchors, flip_anchors, 'anchors from size-major to ratio-major'
)
# fmt: off
RETINANET = (
    Row('/backbone.top_block.p6.{name}', '/neck.fpn_convs.3.conv.{name}'),
    Row('/backbone.top_block.p7.{name}', '/neck.fpn_convs.4.conv.{name}'),
    Row('/backbone.fpn_lateral{n+3}.{name}',
         '/neck.lateral_convs.{n}.conv.{name}'),
    Row('/backbone.fpn_output{n+3}.{name}',
         '/neck.fpn_convs.{n}.conv.{name}'),
    *retinanet_subnet('cls', 'cls'),
    *retinanet_subnet('bbox', 'reg'),
    Row('/head.cls_score.{name}', '/bbox_head.retina_cls.{name}',
         values=ANCHORS),
    Row('/head.bbox_pred.{name}', '/bbox_head.retina_reg.{name}',
         values=ANCHORS),
)
RPN, BOX, MASK = 'rpn_head.', 'roi_head.bbox_head.', 'roi_head.mask_head.'
MASK_RCNN = tuple(
    Row('/' + theirs + '.{name}', '/' + ours + '.{name}')
    for theirs, ours in (
        ('backbone.fpn_lateral{n+2}', 'neck.lateral_convs.{n}.conv'),
        ('backbone.fpn_output{n+2}', 'neck.fpn_convs.{n}.conv'),
        ('proposal_generator.rpn_head.conv', RPN + 'rpn_conv'),
        ('proposal_generator.rpn_head.objectness_logits', RPN + 'rpn_cls'),
        ('proposal_generator.rpn_head.anchor_deltas', RPN + 'rpn_reg'),
        ('roi_heads.box_head.fc{n+1}', BOX + 'shared_fcs.{n}'),
        ('roi_heads.box_predictor.cls_score', BOX + 'fc_cls'),
        ('roi_heads.box_predictor.bbox_pred', BOX + 'fc_reg'),
        ('roi_heads.mask_head.mask_fcn{n+1}', MASK + 'convs.{n}.conv'),
        ('roi_heads.mask_head.deconv', MASK + 'upsample'),
        ('roi_heads.mask_head.predictor', MASK + 'conv_logits'),
    )
)
# fmt: on
CONV_NORM = rf'(conv\.weight|{BATCH_NORM})'
SIGNATURE = 'mhca_stages.0.aggregate.conv.weight'
MPVIT_FORMATS = (
    CheckpointFormat(
        *('pvt_mm', 'MPViT', ('stages.0.aggregate.conv.weight',)),
        keys=(
            rf'stem\.[01]\.{CONV_NORM}',
            rf'stages\.\d+\.(local\.conv[123]|aggregate)\.{CONV_NORM}',
            r'stages\.\d+\.embeds\.\d+\.'
            rf'((dwconv|pwconv)\.weight|{BATCH_NORM})',
            r'stages\.\d+\.paths\.\d+\.'
            rf'(cpe\.proj|crpe\.convs\.\d+){WEIGHTS}',
            r'stages\.\d+\.paths\.\d+\.blocks\.\d+\.'
            rf'(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]){WEIGHTS}',
        ),
    ),
    *(
        CheckpointFormat(
            *('detectron2', 'MPViT', (SIGNATURE, head), BACKBONE + table),
            model='backbone.bottom_up.',
            container='model',
        )
        for head, table in (
            ('/head.cls_subnet.0.weight', RETINANET),
            ('/roi_heads.box_head.fc1.weight', MASK_RCNN),
        )
    ),
    CheckpointFormat(
        *('official', 'MPViT', (SIGNATURE,), (*BACKBONE, HEAD, SAME)),
        container='model',
    ),
)

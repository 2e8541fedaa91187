"""Everybody else's names for the weights of MPViT and its detectors."""

from .key_templates import Dialect, Rule
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
    Rule('stem.{rest}', 'stem.{rest}'),
    Rule(
        'patch_embed_stages.{i}.patch_embeds.{k}.patch_conv.{rest}',
        'stages.{i}.embeds.{k}.{rest}',
    ),
    Rule(ENCODER + 'cpe.{rest}', CPE),
    Rule(ENCODER + 'crpe.conv_list.{rest}', CRPE),
    Rule(LAYER + 'cpe.{rest}', CPE, alias=EACH_LAYER),
    Rule(LAYER + 'crpe.conv_list.{rest}', CRPE, alias=EACH_LAYER),
    Rule(ATTENTION + 'crpe.conv_list.{rest}', CRPE, alias=EACH_LAYER),
    Rule(ATTENTION + '{rest}', PATH + 'blocks.{j}.attn.{rest}'),
    Rule(LAYER + '{rest}', PATH + 'blocks.{j}.{rest}'),
    Rule(STAGE + 'InvRes.conv1.{rest}', 'stages.{i}.local.conv1.{rest}'),
    Rule(STAGE + 'InvRes.dwconv.{leaf}', 'stages.{i}.local.conv2.conv.{leaf}'),
    Rule(STAGE + 'InvRes.norm.{leaf}', 'stages.{i}.local.conv2.bn.{leaf}'),
    Rule(STAGE + 'InvRes.conv2.{rest}', 'stages.{i}.local.conv3.{rest}'),
    Rule(STAGE + 'aggregate.{rest}', 'stages.{i}.aggregate.{rest}'),
)
HEAD = Rule('cls_head.cls.{leaf}', '/head.{leaf}')


# detectron2 agrees with mmdet 3 on the order of classes, the background's
# place (last), box deltas, RoI sampling and RGB input. Only RetinaNet's
# anchors are ordered size by size there and ratio by ratio here.
def retinanet_subnet(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rows of a subnet: four convolutions with a ReLU after each."""
    return tuple(
        Rule(
            f'/head.{theirs}_subnet.{2 * n}.' + '{leaf}',
            f'/bbox_head.{ours}_convs.{n}.conv.' + '{leaf}',
        )
        for n in range(4)
    )


# fmt: off
RETINANET = (
    Rule('/backbone.top_block.p6.{leaf}', '/neck.fpn_convs.3.conv.{leaf}'),
    Rule('/backbone.top_block.p7.{leaf}', '/neck.fpn_convs.4.conv.{leaf}'),
    Rule('/backbone.fpn_lateral{n+3}.{leaf}',
         '/neck.lateral_convs.{n}.conv.{leaf}'),
    Rule('/backbone.fpn_output{n+3}.{leaf}',
         '/neck.fpn_convs.{n}.conv.{leaf}'),
    *retinanet_subnet('cls', 'cls'),
    *retinanet_subnet('bbox', 'reg'),
    Rule('/head.cls_score.{leaf}', '/bbox_head.retina_cls.{leaf}',
         change='anchors'),
    Rule('/head.bbox_pred.{leaf}', '/bbox_head.retina_reg.{leaf}',
         change='anchors'),
)
RPN, BOX, MASK = 'rpn_head.', 'roi_head.bbox_head.', 'roi_head.mask_head.'
MASK_RCNN = tuple(
    Rule('/' + foreign + '.{leaf}', '/' + ours + '.{leaf}')
    for foreign, ours in (
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

MARK = 'mhca_stages.0.aggregate.conv.weight'
MPVIT_DIALECTS = (
    Dialect('detectron2', 'MPViT', (MARK, '/head.cls_subnet.0.weight'),
            BACKBONE + RETINANET, model='backbone.bottom_up.',
            container='model'),
    Dialect('detectron2', 'MPViT', (MARK, '/roi_heads.box_head.fc1.weight'),
            BACKBONE + MASK_RCNN, model='backbone.bottom_up.',
            container='model'),
    Dialect('official', 'MPViT', (MARK,), (*BACKBONE, HEAD, SAME),
            container='model'),
)
# fmt: on

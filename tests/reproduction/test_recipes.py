"""Every config: its name, its shape, its official recipe, one real step."""

import json
from fnmatch import fnmatch

import pytest
import torch
from config_files import (
    CONFIG_NAMES,
    backbone,
    fresh,
    model,
    parse_name,
    read,
)
from golden import build
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from render import recipes
from render.describe import describe
from render.grammar import METHODS
from torch import nn

from pvt_mm.checkpoints.formats import from_ours
from pvt_mm.config.paths import CONFIGS
from pvt_mm.config.schema import bare
from pvt_mm.datasets.synthetic import CLASSES, draw_ade20k, draw_coco
from pvt_mm.families import FAMILIES

DENSE = [
    name for name in CONFIG_NAMES if parse_name(name).method != 'classifier'
]
PUBLIC = [name for name in DENSE if parse_name(name).data != 'shapes']
OFFICIAL = {row['config']: row for row in recipes.read('official.csv')}
VARIANTS = [
    f'{family}_{arch}'
    for family, about in FAMILIES.items()
    for arch in about.archs
]
TABLE = [
    f'{method}_{variant}_{data}'
    for variant in VARIANTS
    for method, data in (
        ('retinanet', 'coco'),
        ('mask_rcnn', 'coco'),
        ('semantic_fpn', 'ade20k'),
        ('upernet', 'ade20k'),
    )
]
DATASETS_OF = {
    'coco': 'CocoDataset',
    'ade20k': 'ADE20KDataset',
    'cityscapes': 'CityscapesDataset',
}
# The smallest config of each family and method, and of each recipe besides.
STEPS = [
    *(
        f'{method}_{variant}_{data}'
        for method, data in (
            ('retinanet', 'coco'),
            ('mask_rcnn', 'coco'),
            ('semantic_fpn', 'ade20k'),
            ('upernet', 'ade20k'),
        )
        for variant in ('pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny')
    ),
    'retinanet_mpvit_tiny_coco_ms_3x',
    'mask_rcnn_pvt_v2_b0_coco_ms_3x',
    'cascade_mask_rcnn_pvt_v2_b2_coco',
    'cascade_mask_rcnn_mpvit_small_coco',
    'atss_pvt_v2_b2_coco',
    'gfl_pvt_v2_b2_li_coco',
    'sparse_rcnn_pvt_v2_b2_coco',
    'detr_pvt_small_coco',
    'deformable_detr_mpvit_small_coco',
    'concat_fusion_pvt_v2_b1_cityscapes',
]
each_config = pytest.mark.parametrize('name', DENSE)
each_public = pytest.mark.parametrize('name', PUBLIC)


def test_every_backbone_has_every_method():
    assert len(TABLE) == 60
    assert set(TABLE) <= set(PUBLIC)


@each_config
def test_name_is_the_specification(name):
    said, cfg = parse_name(name), read(name)
    head = cfg.model.get('roi_head') or cfg.model.get('bbox_head')
    head = head or cfg.model.decode_head
    assert (cfg.model.type, head.type) == METHODS[said.method]
    assert cfg.model.backbone.type == FAMILIES[said.family].backbone
    assert cfg.model.backbone.arch == said.arch
    if said.data == 'shapes':
        assert 'init_cfg' not in cfg.model.backbone
        return
    assert cfg.train_dataloader.dataset.type == DATASETS_OF[said.data]
    weights = f'pvt://{said.family}_{said.arch}'
    expected = dict(type='Pretrained', checkpoint=weights)
    assert cfg.model.backbone.init_cfg == expected
    length = describe(cfg)['length']
    assert (said.schedule == 'ms_3x') <= (
        length in ('36 epochs', '270000 iterations')
    )
    assert (said.schedule == '640') == (
        'side 640,' in describe(cfg)['test images']
    )


def test_a_name_outside_the_grammar_is_refused():
    with pytest.raises(ValueError, match='METHOD_FAMILY_ARCH_DATA'):
        parse_name('faster_rcnn_pvt_tiny_coco')


@each_config
def test_config_is_short(name):
    text = (CONFIGS / f'{name}.py').read_text()
    assert len(text.splitlines()) < 10
    assert text.startswith("_base_ = './_base_/")


@each_config
def test_no_weights_from_elsewhere(name):
    text = str(read(name)._cfg_dict)
    assert 'openmmlab.com' not in text
    assert 'torchvision://' not in text
    assert 'open-mmlab://' not in text


@each_config
def test_neck_and_heads_fit_the_backbone(name):
    cfg, channels = read(name).model, list(backbone(name).out_channels)
    taker = cfg.get('neck') or cfg.decode_head
    assert taker.in_channels == channels
    if 'auxiliary_head' in cfg:
        extra = cfg.auxiliary_head
        assert extra.in_channels == channels[extra.in_index]


@each_config
def test_total_batch_is_that_of_eight_gpus(name):
    cfg = read(name)
    gpus = 1 if parse_name(name).data == 'shapes' else 8
    batch = cfg.train_dataloader.batch_size * gpus
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=batch)


@each_public
def test_recipe_is_the_official_one(name):
    """Or somebody wrote down why not; compare raises if nobody did."""
    reasons = recipes.read('differences.csv')
    lines = list(
        recipes.compare(OFFICIAL[name], describe(read(name)), reasons)
    )
    assert [line.name for line in lines] == [*OFFICIAL[name]][3:]
    assert all(line.verdict != 'no' or line.why for line in lines)


def test_a_difference_needs_a_reason():
    name = 'retinanet_pvt_v2_b2_coco'
    ours = {**describe(read(name)), 'learning rate': '0.02'}
    with pytest.raises(recipes.UsageError, match="rate is '0.02', officially"):
        list(recipes.compare(OFFICIAL[name], ours, []))


def test_every_reason_and_note_is_used():
    reasons = recipes.read('differences.csv')
    used = {
        line.why
        for name in PUBLIC
        for line in recipes.compare(
            OFFICIAL[name], describe(read(name)), reasons
        )
    }
    assert used - {''} == {row['why'] for row in reasons}
    for row in recipes.read('notes.csv'):
        assert any(fnmatch(name, row['config']) for name in PUBLIC), row


def test_the_page_is_what_the_configs_say(monkeypatch):
    monkeypatch.setattr(recipes, 'load_config', read)
    assert recipes.PAGE.read_text() == recipes.render()
    assert set(OFFICIAL) == set(PUBLIC)


def groups(name):
    """(learning rate, decay) of each parameter, as the optimizer has it."""
    cfg, built = fresh(name), model(name)
    cfg.optim_wrapper.type = 'OptimWrapper'  # the other one needs a GPU
    optimizer = build_optim_wrapper(built, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    found = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    return {name: found[id(p)] for name, p in built.named_parameters()}


@each_public
def test_optimizer_groups(name):
    """Rates and decay of every parameter, from the official recipe."""
    row = OFFICIAL[name]
    if row['learning rate'] == recipes.UNKNOWN:
        row = describe(read(name))
    rate, decay = float(row['learning rate']), float(row['weight decay'])
    slower = dict(
        part.split(' x')
        for part in row['learning rates that differ'].split(', ')
        if part != 'none'
    )
    free = row['exempt from decay'].split(', ')
    for key, (lr, wd) in groups(name).items():
        factors = [float(slower[part]) for part in slower if part in key]
        rated = pytest.approx(rate * min(factors, default=1), rel=1e-5)
        assert lr == rated, key
        exempt = any(part in key for part in free)
        assert wd == pytest.approx(0 if exempt else decay), key


@pytest.mark.parametrize('variant', ['pvt_v2_b0', 'pvt_v2_b2_li'])
def test_names_with_norm_are_the_official_ones(variant):
    """So that the same parameters are exempt from decay."""
    state = build(variant).state_dict()
    official = from_ours(state, 'official')

    def exempt(tensors):
        return sum(t.numel() for name, t in tensors.items() if 'norm' in name)

    assert exempt(state) == exempt(official.state) > 0


@each_public
def test_everything_trains(name):
    built = model(name).train()
    assert all(p.requires_grad for p in built.parameters())
    assert all(m.training for m in built.modules())
    norms = [
        module
        for module in built.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


class OneWeight(BaseModel):
    """A model whose loss is its only weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight) if mode == 'loss' else [inputs]


class One(BaseMetric):
    """A metric whose score is always 1."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(score=1)


def loggers():
    """What logs in an iteration-based run -> the first config that has it."""
    found = {}
    for name in CONFIG_NAMES:
        cfg = read(name)
        if cfg.train_cfg.type == 'IterBasedTrainLoop':
            key = json.dumps(bare([cfg.default_hooks, cfg.log_processor]))
            found.setdefault(key, name)
    return found.values()


def test_scores_are_logged_at_their_iteration(tmp_path):
    """In every iteration-based config; one run for those that log alike."""
    for name in loggers():
        cfg = fresh(name)
        loader = dict(
            dataset=[dict(inputs=torch.zeros(1))],
            sampler=dict(type='InfiniteSampler'),
            batch_size=1,
        )
        Runner(
            OneWeight(),
            str(tmp_path / name),
            train_dataloader=loader,
            train_cfg=dict(cfg.train_cfg, max_iters=4, val_interval=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader={**loader, 'sampler': dict(type='DefaultSampler')},
            val_cfg=cfg.val_cfg,
            val_evaluator=[One()],
            default_hooks=cfg.default_hooks,
            log_processor=cfg.log_processor,
            default_scope=cfg.default_scope,
            experiment_name=name,
        ).train()
        (file,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        rows = map(json.loads, file.read_text().splitlines())
        assert [r['step'] for r in rows if 'score' in r] == [2, 4], name


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Drawn images in both layouts."""
    root = tmp_path_factory.mktemp('drawn')
    draw_coco(root / 'coco', 2, 1, size=96)
    draw_ade20k(root / 'ade20k', 2, 1, size=96)
    return root


def shrink(pipeline):
    """Make every resizing and crop of a pipeline small."""
    for step in pipeline:
        for ways in step.get('transforms', []):
            shrink(ways)
        if 'scale' in step:
            step.scale = (96, 96)
        if 'scales' in step:
            step.scales = [(96, 96), (64, 96)]
        if 'crop_size' in step:
            step.crop_size = (64, 64)


def few_proposals(model):
    """Make the second stage of a detector see few boxes."""
    if 'num_proposals' in model.get('rpn_head', {}):
        model.rpn_head.num_proposals = 16
    stages = model.train_cfg.get('rcnn') or []
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 16
    for proposals in (
        model.train_cfg.get('rpn_proposal'),
        model.test_cfg.get('rpn'),
    ):
        if proposals:
            proposals.max_per_img = 16


def batch(cfg, mode, drawn):
    """Drawn images through the config's own pipeline, at a small size."""
    dataset = cfg[f'{mode}_dataloader'].dataset
    if cfg.default_scope == 'mmdet':
        dataset.update(
            data_root=f'{drawn}/coco', metainfo={'classes': CLASSES}
        )
    else:
        split = 'training' if mode == 'train' else 'validation'
        dataset.update(
            type='ADE20KDataset',
            data_root=f'{drawn}/ade20k',
            data_prefix=dict(
                img_path=f'images/{split}', seg_map_path=f'annotations/{split}'
            ),
        )
    shrink(dataset.pipeline)
    built = DATASETS.build(dataset)
    return pseudo_collate([built[i] for i in range(len(built))])


@pytest.mark.parametrize('name', STEPS)
def test_one_step_of_training_and_of_testing(name, drawn):
    cfg = fresh(name)
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    else:
        few_proposals(cfg.model)
    cfg.model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    cfg.optim_wrapper.type = 'OptimWrapper'
    torch.manual_seed(0)
    built = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    built.init_weights()
    wrapper = build_optim_wrapper(built, cfg.optim_wrapper)
    before = [p.detach().clone() for p in built.backbone.parameters()]
    losses = built.train_step(batch(cfg, 'train', drawn), wrapper)
    assert all(torch.isfinite(v).all() for v in losses.values())
    after = list(built.backbone.parameters())
    moved = [
        not torch.equal(*pair) for pair in zip(before, after, strict=True)
    ]
    assert all(moved)
    (found,) = built.eval().test_step(batch(cfg, 'test', drawn))
    if cfg.default_scope == 'mmseg':
        assert found.pred_sem_seg.shape == found.ori_shape
        assert found.pred_sem_seg.data.max() < 150
    else:
        assert found.pred_instances.bboxes.shape[1] == 4
        assert found.pred_instances.labels.dtype == torch.int64

"""FLOPs: against published counts, against running, and as shown."""

import csv

import pytest
import torch
from mmengine.registry import MODELS
from render.flops import (
    COUNTS,
    PAGE,
    REASONS,
    deviation,
    first,
    published,
    reason,
    render,
    size_of,
    with_deviation,
)
from small_runs import load
from torch.utils.flop_counter import FlopCounterMode

from pvt_mm.benchmark import flops_cli as cli
from pvt_mm.benchmark.flops import Count, build, count
from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME, list_configs
from pvt_mm.errors import UsageError
from pvt_mm.models.backbones.mpvit import ARCHS

# What the authors' tools printed: parameters in M, multiply-adds in G.
PRINTED = {
    'classifier_pvt_v2_b2_imagenet': ('25.36', '4.04'),
    'classifier_mpvit_tiny_imagenet': ('5.843736', '1.654163812'),
    'gfl_pvt_v2_b2_coco': ('33.11', '260.65'),
    'mask_rcnn_pvt_small_coco': ('44.1', '304.4'),
    'retinanet_pvt_small_coco_640': ('34.2', '157.2'),
    'semantic_fpn_pvt_v2_b2_ade20k': ('29.1', '45.8'),
}


@pytest.fixture(scope='module')
def counts():
    with open(HOME / COUNTS, newline='') as file:
        return {
            line.pop('name'): Count(**{k: float(v) for k, v in line.items()})
            for line in csv.DictReader(file)
        }


@pytest.mark.parametrize('name', PRINTED)
def test_count_is_what_the_authors_printed(name, counts):
    params, gflops = PRINTED[name]
    found = count(load_config(name), size_of(name))
    assert found.params == pytest.approx(float(params), rel=2e-3)
    assert found.published == pytest.approx(float(gflops), rel=2e-3)
    assert found.naive <= found.true <= found.published
    for value, kept in zip(found, counts[name], strict=True):
        assert value == pytest.approx(kept, abs=6e-4)


def test_true_count_is_that_of_a_run_with_explicit_attention():
    """On the CPU a fused attention is lost, and only that."""
    cfg = load_config('classifier_pvt_v2_b0_imagenet')
    found = count(cfg, (64, 64))
    model = MODELS.build(dict(cfg.model, data_preprocessor=None)).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    seen = counter.get_total_flops() / 2e9
    assert seen == pytest.approx(found.naive, rel=1e-9)
    # tokens x keys x channels, twice: 16x16 with 4 keys, and so on
    tokens = ((256, 4, 32), (64, 4, 64), (16, 4, 160), (4, 4, 256))
    products = sum(2 * 2 * n * m * c for n, m, c in tokens) / 1e9
    assert found.true - found.naive == pytest.approx(products, rel=1e-9)


def test_published_mpvit_tiny_detectors_have_wider_mlps():
    """The remark in docs/flops.md: 17.0 M and 196 G, 28.0 M and 216 G."""
    arch = ARCHS['tiny']._replace(mlp_ratios=(4, 4, 4, 4))._asdict()
    for method, params, gflops in (
        ('retinanet', 17, 196),
        ('mask_rcnn', 28, 216),
    ):
        cfg = load_config(f'{method}_mpvit_tiny_coco')
        cfg.model.backbone.arch = arch
        found = count(cfg, (800, 1280))
        assert int(found.params) == params
        assert int(found.true) == gflops


def test_every_config_is_counted_and_every_deviation_explained(counts):
    assert list(counts) == list_configs()
    rows, used = published(), set()
    for name, values in counts.items():
        theirs = rows.get(name, [])
        pairs = (
            (values.params, first(theirs, 'params')),
            (values.published, first(theirs, 'gflops')),
        )
        for ours, printed in pairs:
            if printed and deviation(ours, printed):
                assert reason(name), (name, ours, printed)
                used.add(reason(name))
    assert used == set(range(1, len(REASONS) + 1))


def test_page_is_rendered_from_the_counts(counts):
    assert (HOME / PAGE).read_text() == render(counts)


@pytest.mark.parametrize(
    ('ours', 'printed', 'text'),
    [
        (25.36, '25.4', '25.4'),
        (22.89, '22.8', '22.8'),  # cut
        (30.43, '30.0', '30.0'),  # a whole number
        (15.10, '17.0', '17.0 (-11.2 %, 1)'),
        (509.0, '503', '503 (+1.2 %, 1)'),
        (1.0, '', ''),
    ],
)
def test_deviation_is_shown_if_rounding_does_not_explain_it(
    ours, printed, text
):
    assert with_deviation('retinanet_mpvit_tiny_coco', ours, printed) == text


def test_tool_counts_one_config_at_a_size(capsys):
    path = 'configs/classifier_pvt_tiny_imagenet.py'
    cli.main([path, '--size', '64', '96'])
    assert capsys.readouterr().out.startswith(f'{path}, 64x96: 13.229 M')
    cli.main([path])
    assert '224x224: 13.229 M parameters, 1.933 G' in capsys.readouterr().out
    with pytest.raises(UsageError, match='at least 32 32'):
        cli.main([path, '--size', '16', '64'])
    with pytest.raises(SystemExit):
        cli.main(['--size', '64', '64'])
    assert 'required: configs' in capsys.readouterr().err


@pytest.mark.parametrize('channels', [1, 2, 4, 12])
def test_images_with_any_channels_are_counted(channels):
    cfg, usual = (
        load('configs/semantic_fpn_pvt_v2_b0_shapes.py') for _ in range(2)
    )
    cfg.model.backbone.in_channels = channels
    one, three = (count(c, (64, 96)) for c in (cfg, usual))
    more = (channels - 3) * 32 * 7 * 7  # weights of the first layer
    assert one.params - three.params == pytest.approx(more / 1e6)
    grid = 64 // 4 * 96 // 4
    assert one.true - three.true == pytest.approx(more * grid / 1e9)


def test_the_detector_of_semi_supervised_training_is_counted(tmp_path, capsys):
    plain = tmp_path / 'plain.py'
    plain.write_text("_base_ = 'pvt_mm::retinanet_pvt_v2_b0_coco.py'\n")
    semi = tmp_path / 'semi.py'
    semi.write_text(f"""
_base_ = {str(plain)!r}
model = dict(
    _delete_=True, type='SemiBaseDetector', detector=_base_.model,
    data_preprocessor=dict(type='MultiBranchDataPreprocessor'))
""")
    numbers = []
    for path in (plain, semi):
        cli.main([str(path), '--size', '64', '96'])
        numbers.append(capsys.readouterr().out.removeprefix(str(path)))
    assert numbers[0] == numbers[1]
    semi.write_text("model = dict(type='X')")
    with pytest.raises(UsageError, match='semi.py: model has no backbone'):
        cli.main([str(semi)])


def test_a_detector_without_masks_has_less_to_count():
    cfg = load('configs/mask_rcnn_pvt_v2_b0_coco.py')
    both = count(cfg, (64, 96))
    head = sum(
        p.numel() for p in build(cfg, 'meta').roi_head.mask_head.parameters()
    )
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    boxes = count(cfg, (64, 96))
    assert boxes.params == pytest.approx(both.params - head / 1e6)
    assert boxes.true < both.true

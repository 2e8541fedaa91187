"""The benchmark: equal models, what is counted, tables and pages."""

import os
import weakref
from types import SimpleNamespace

import pytest
import torch
from baselines import BUILDERS
from baselines.cases import GOALS, Goal
from baselines.results import (
    FACTS,
    ROWS,
    SHARES,
    Fact,
    read_rows,
    write_rows,
)
from baselines.shares import (
    OTHER,
    Share,
    kind_of,
    profile_case,
    shares_table,
)
from render import performance as page
from torch import nn

from pvt_mm.benchmark import cli
from pvt_mm.benchmark.measure import (
    MIB,
    finish,
    interleave,
    peak_bytes,
    precision,
    saved_bytes,
    stage_seconds,
)
from pvt_mm.benchmark.rows import Case, Row, measure, rows_table
from pvt_mm.benchmark.variants import (
    BASELINES,
    VARIANTS,
    build_equal,
    check_equal,
)
from pvt_mm.config.paths import HOME
from pvt_mm.errors import UsageError
from pvt_mm.models.backbones import build_backbone
from pvt_mm.models.layers import Block

MODELS = [
    ('pvt_v2_b0', ['ours', 'ours with_cp', 'timm', 'transformers']),
    ('pvt_v2_b2_li', ['ours', 'timm', 'transformers']),
    ('pvt_v2_b2', ['ours', 'mmdet']),
    ('pvt_tiny', ['ours', 'mmdet']),
    ('mpvit_tiny', ['ours', 'official structure', 'ours fused']),
]


@pytest.mark.parametrize(('name', 'models'), MODELS)
def test_models_have_equal_maps(name, models):
    assert list(build_equal(name, models, 'cpu')) == models  # which checks it


def test_unequal_maps_are_refused():
    maps = [torch.ones(1, 2, 3, 3)]
    check_equal('a', maps, [maps[0] + 1e-6])
    with pytest.raises(UsageError, match='the maps of a are off by 5.0e-01'):
        check_equal('a', maps, [maps[0] + 1])
    with pytest.raises(UsageError, match='off by nan'):
        check_equal('a', [maps[0] * torch.nan], maps)


def test_the_baseline_has_not_our_fast_layers():
    models = build_equal('mpvit_tiny', ['ours', 'official structure'], 'cpu')
    kinds = {type(m) for m in models['official structure'].modules()}
    homes = {k.__module__ for k in kinds if issubclass(k, nn.Linear)}
    assert homes == {'torch.nn.modules.linear'}
    own = {type(m) for m in models['ours'].modules()}
    homes = {k.__module__ for k in own if issubclass(k, nn.Linear)}
    assert all(home.startswith('pvt_mm.models.layers.') for home in homes)


@pytest.mark.parametrize('name', ['pvt_tiny', 'pvt_v2_b0'])
def test_the_official_structure_is_that_of_mpvit_only(name):
    with pytest.raises(UsageError, match='no official structure of pvt_'):
        build_equal(name, ['ours', 'official structure'], 'cpu')


def test_precision_is_restored():
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [library.allow_tf32 for library in libraries]
    with pytest.raises(KeyError), precision('tf32', 'cpu'):
        assert all(library.allow_tf32 for library in libraries)
        raise KeyError
    assert [library.allow_tf32 for library in libraries] == before
    with precision('bf16', 'cpu'):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16


def test_a_finished_call_has_no_gradients():
    x, made = torch.ones(2, requires_grad=True), []
    finish(lambda: made.append(2 * x), 'cpu')
    assert made[0].tolist() == [2, 2] and not made[0].requires_grad


def test_saved_bytes_counts_each_storage_once():
    made = []

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 1))

        def forward(self, x):
            hidden = (x @ self.weight).exp()  # keeps x and the result
            made.append(weakref.ref(hidden))
            return [hidden * hidden.view(4, 1)]  # the same storage

    assert saved_bytes(Twice(), torch.ones(4, 8)) == 4 * (4 * 8 + 4)
    assert made[0]() is None  # the graph is freed


def test_checkpointing_keeps_less():
    image = torch.randn(1, 3, 64, 64)
    whole, blocks = (
        saved_bytes(build_backbone('pvt_v2_b0', with_cp=cp), image)
        for cp in (False, True)
    )
    assert 0 < blocks < whole / 4


def test_peak_bytes_sees_a_tensor_come_and_go():
    def call():
        torch.ones(16 * MIB)  # 64 MiB

    peak = peak_bytes(call, cuda=False)
    known = os.path.exists('/proc/self/clear_refs')
    assert peak == (pytest.approx(64 * MIB, rel=0.2) if known else None)


def test_calls_are_interleaved():
    order = []
    calls = {name: lambda n=name: order.append(n) for name in 'ab'}
    seconds = interleave(calls, rounds=2)
    assert order == list('ababab')
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_stages_are_told_apart(monkeypatch):
    """By a clock that counts blocks."""
    model, done = build_backbone('pvt_v2_b2').eval(), []
    for module in model.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda *_: done.append(1))
    clock = SimpleNamespace(perf_counter=lambda: len(done))
    monkeypatch.setattr('pvt_mm.benchmark.measure.time', clock)
    assert stage_seconds(model, torch.randn(1, 3, 64, 64), 3) == [3, 4, 6, 3]


def rows():
    """Two models that were measured, and a line of three sizes."""
    shared = ('pvt_v2_b2', 800, 1344, 1, 'training', 'float32')
    line = []
    for side in (200, 400, 800):
        seconds = round(0.1 + side / 1000, 3)
        line.append(
            Row(
                *('pvt_v2_b2_li', side, 500, 1, 'inference', 'float32'),
                *('ours', seconds, seconds, seconds, None, 3.0),
                '0.1000 0.2000',
            )
        )
    return [
        Row(*shared, 'ours', 2.0, 1.5, 2.5, 1000.0, 3000.0, ''),
        Row(*shared, 'timm', 3.0, 2.5, 3.5, 4000.0, None, ''),
        Row(*shared, 'ours unoptimized', 1.9, 1.8, 2.0, 2e3, None, ''),
        Row(*shared, 'ours with_cp', 2.2, 2.1, 2.3, 500.0, None, ''),
        *line,
    ]


def test_rows_come_back(tmp_path):
    file = tmp_path / 'a.csv'
    write_rows(file, rows(), Row, 'abacus')
    assert read_rows(file, Row) == {'abacus': rows()}
    write_rows(file, rows()[:2], Row, 'a, b')
    write_rows(file, rows()[1:], Row, 'abacus')  # measured again
    assert read_rows(file, Row) == {'a, b': rows()[:2], 'abacus': rows()[1:]}


@pytest.mark.parametrize(
    ('field', 'model', 'bound', 'value', 'met'),
    [
        ('speed', 'timm', 1.5, 1.5, True),
        ('speed', 'timm', 1.6, 1.5, False),
        ('share', 'timm', 0.125, 0.125, True),
        ('share', 'timm', 0.1, 0.125, False),
    ],
)
def test_goals(field, model, bound, value, met):
    goal = Goal('', 'pvt_v2_b2', (800, 1344), 'training', field, model, bound)
    assert goal.measured(rows()) == value
    assert goal.met(value) is met


def test_a_goal_of_what_was_not_measured():
    case = 'pvt_v2_b2', (800, 1344), 'training', 'speed', 'mmdet', 2.8
    assert Goal('AMD', *case).measured(rows()) is None
    table = page.goals_table({'AMD x': rows(), 'Intel y': rows()})
    assert '| AMD >= 2.1 times, timm | 1.50 **gap** |  |' in table
    assert '| Intel >= 1.7 times, timm |  | 1.50 **gap** |' in table
    assert 'mmdet' not in table
    assert table.endswith('ours unoptimized | 0.95 | 0.95 |')


def test_slope_of_a_straight_line():
    assert page.slope(rows(), 'pvt_v2_b2_li') == pytest.approx((2.0, 1.0))


def test_goals_name_models():
    assert {goal.model for goal in GOALS} <= {*VARIANTS, *BASELINES}
    assert tuple(BUILDERS) == BASELINES


def test_page_and_readme_are_written(tmp_path):
    for folder in ('results', 'docs'):
        (tmp_path / folder).mkdir()
    write_rows(tmp_path / ROWS, rows(), Row, 'AMD abacus')
    limits = [Fact('product limit', '7 GFLOP/s'), Fact('memory limit', '1')]
    write_rows(tmp_path / FACTS, limits, Fact, 'AMD abacus')
    write_rows(tmp_path / SHARES, [], Share, 'AMD abacus')
    (tmp_path / page.NOTES).write_text('Why.')
    readme = tmp_path / 'README.md'
    readme.write_text('a\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nb\n')
    page.main(tmp_path)
    text = (tmp_path / page.PAGE).read_text()
    assert 'AMD abacus' in text
    assert '\nWhy.\n' in text
    assert '2.000 s per million pixels' in text
    assert 'old' not in readme.read_text()
    assert (
        readme.read_text().startswith('a\n') and 'timm' in readme.read_text()
    )


def test_kept_results_and_page_agree():
    found = read_rows(HOME / ROWS, Row)
    text = (HOME / page.PAGE).read_text()
    assert page.goals_table(found) in text
    assert page.goals_table(found) in (HOME / 'README.md').read_text()
    shares = read_rows(HOME / SHARES, Share)
    for machine, rows in found.items():
        assert f'## {machine}\n' in text
        assert rows_table(rows) in text
        assert shares_table(shares[machine]) in text


def test_kinds_of_operations():
    assert kind_of('aten::addmm') == kind_of('aten::mm') == 'products'
    assert kind_of('aten::add_') == 'sums, scalings'
    assert kind_of('aten::convolution_backward') == 'convolutions'
    assert kind_of('autograd::engine') == OTHER


def test_shares_of_a_call(tmp_path):
    found = profile_case(Case('pvt_v2_b0', (64, 64), 'training'))
    assert sum(s.share for s in found) == pytest.approx(1)
    rate = {s.kind: s.gflops for s in found}
    assert rate['products'] > 0 and rate['attention'] > 0
    assert rate['norms'] == 0
    write_rows(tmp_path / 'a.csv', found, Share, 'abacus')
    kept = read_rows(tmp_path / 'a.csv', Share)['abacus']
    assert [s.kind for s in kept] == [s.kind for s in found]
    assert kept[0].seconds == pytest.approx(found[0].seconds, rel=1e-3)
    table = shares_table(kept)
    assert table.count('\n') == 2 and 'GFLOP/s' in table


def test_measure_a_case():
    case = Case('pvt_v2_b0', (64, 64), 'inference', ('timm',), rounds=1)
    ours, timm = measure(case, 'cpu')
    assert (ours.model, timm.model) == ('ours', 'timm')
    assert 0 < ours.low <= ours.seconds <= ours.high
    assert len(ours.stages.split()) == 4
    case = case._replace(task='training', against=('ours with_cp',))
    ours, leaner = measure(case, 'cpu')
    assert leaner.saved < ours.saved


def test_command_line(capsys):
    threads = str(torch.get_num_threads())
    argv = ['pvt_v2_b0', '--size', '64', '96', '--rounds', '1']
    cli.main([*argv, '--threads', threads])
    said = capsys.readouterr().out
    assert 'product limit' in said
    assert 'pvt_v2_b0, 64x96: 3.410 M parameters' in said
    assert '| pvt_v2_b0 | 1 x 64 x 96 | inference | ours |' in said
    config = 'configs/retinanet_pvt_v2_b0_shapes.py'
    cli.main([config, *argv[1:], '--threads', threads])
    said = capsys.readouterr().out
    assert 'model: ' in said and 'backbone: ' in said


@pytest.mark.parametrize(
    ('argv', 'part'),
    [
        (['swin'], 'there is no config file swin; nearest: '),
        (['pvt_v2_b9'], "no arch 'b9'"),
        (['configs/none.py'], 'there is no config file'),
        (['pvt_v2_b0', '--size', '8', '64'], '--size'),
        (['configs/a.py', '--train'], 'are for backbones'),
    ],
)
def test_refusals(argv, part):
    with pytest.raises(UsageError, match=part):
        cli.main([*argv, '--threads', str(torch.get_num_threads())])


@pytest.mark.parametrize('option', ['--rounds', '--batch', '--threads'])
def test_numbers_begin_at_one(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(['pvt_v2_b0', option, '0'])
    assert f'argument {option}: 0 is not 1 or more' in capsys.readouterr().err


def test_a_name_of_a_config_is_a_target(capsys):
    argv = ['--size', '64', '64', '--rounds', '1', '--threads', '1']
    cli.main(['retinanet_pvt_v2_b0_shapes', *argv])
    assert 'retinanet_pvt_v2_b0_shapes, 64x64: ' in capsys.readouterr().out


def test_no_target_is_an_error(capsys):
    with pytest.raises(SystemExit):
        cli.main(['--threads', '1'])
    assert 'required: targets' in capsys.readouterr().err


def test_baselines_need_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr('pvt_mm.config.paths.HOME', tmp_path / '.mim')
    with pytest.raises(UsageError, match="--against 'timm' needs a checkout"):
        build_equal('pvt_v2_b0', ['ours', 'timm'], 'cpu')


def test_no_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UsageError, match='finds no GPU'):
        cli.main(['pvt_v2_b0', '--device', 'cuda'])

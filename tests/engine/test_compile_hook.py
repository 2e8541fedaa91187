"""torch.compile: one graph per backbone, for images of all sizes."""

from copy import deepcopy
from types import SimpleNamespace

import golden
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch._dynamo import lookup_backend
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from pvt_mm.engine.hooks import compile_hook

# Wide enough for every map to hold more than the 20480 numbers from which on
# PyTorch gives a convolution to oneDNN: it compiles again at that border.
WIDE = dict(dims=(64, 128, 160, 384), depths=(1, 1, 1, 1))
SLIM = dict(dims=(16, 32, 40, 64), depths=(1, 1, 1, 1))
EVEN = dict(mlp_ratios=(4, 4, 4, 4))
FAMILIES = {
    'pvt_': {},
    'pvt_v2_': EVEN,
    'pvt_v2_linear': {**EVEN, 'linear': True},
    'mpvit_': {**EVEN, 'paths': (1, 2, 2, 1)},
}
SIZES = [(288 + 5 * i, 288 + 3 * (7 * i % 20)) for i in range(20)]


def build(family, arch):
    """A small backbone of a family."""
    name = family.removesuffix('linear').removesuffix('_')
    kind = golden.FAMILIES[name].backbone
    torch.manual_seed(0)
    return golden.MODELS.build(
        {'type': kind, 'arch': {**arch, **FAMILIES[family]}}
    ).eval()


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    'family',
    [
        'pvt_v2_',
        *(
            pytest.param(family, marks=pytest.mark.slow)
            for family in FAMILIES
            if family != 'pvt_v2_'
        ),
    ],
)
def test_one_graph_for_twenty_sizes(family):
    model = build(family, WIDE)
    counter = CompileCounterWithBackend('eager')
    compiled = torch.compile(
        model, fullgraph=True, dynamic=True, backend=counter
    )
    with torch.no_grad():
        for size in SIZES:
            image = torch.randn(1, 3, *size)
            maps = compiled(image)
        torch.testing.assert_close(maps, model(image))
    assert len(set(SIZES)) == 20
    assert 1 <= counter.frame_count <= 3  # two recompilations at most


@pytest.mark.parametrize('family', FAMILIES)
def test_compiled_gradients_are_the_same(family):
    model = build(family, SLIM)
    image = torch.randn(1, 3, 64, 96)

    def gradients(call):
        model.zero_grad()
        sum(m.square().mean() for m in call(image)).backward()
        return [p.grad.clone() for p in model.parameters()]

    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    pairs = zip(gradients(compiled), gradients(model), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


class Detector(BaseModel):
    """A backbone and a loss that no compiler could take as one graph."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, mode='tensor'):
        loss = sum(m.square().mean() for m in self.backbone(inputs))
        torch._dynamo.graph_break()
        return {'loss': loss}


@pytest.mark.parametrize(
    'backend',
    ['aot_eager', pytest.param('inductor', marks=pytest.mark.slow)],
)
def test_hook_compiles_the_backbone_of_a_training_step(monkeypatch, backend):
    """With inductor it is 14 files of C++, about a minute.

    Square images: one symbol is height and width.
    """
    if backend != 'inductor':
        monkeypatch.setattr(
            compile_hook, 'inductor_backend', lookup_backend(backend)
        )
    arch = dict(dims=(8,), depths=(1,), mlp_ratios=(1,), heads=(1,))
    backbone = golden.MODELS.build(
        {
            'type': 'PVTv2',
            'arch': {**arch, 'sr_ratios': (8,)},
            'out_indices': (0,),
        }
    )
    model = Detector(backbone)
    plain = deepcopy(model)
    HOOKS.build({'type': 'CompileHook'}).before_run(
        SimpleNamespace(model=model)
    )
    image = torch.randn(2, 3, 96, 96)
    losses = []
    for each in (model, plain):
        wrapper = OptimWrapper(torch.optim.SGD(each.parameters(), lr=1e-2))
        losses += [
            each.train_step({'inputs': image}, wrapper)['loss']
            for _ in range(2)
        ]
    torch.testing.assert_close(losses[:2], losses[2:])
    assert losses[1] < losses[0]
    assert counters['stats']['unique_graphs'] == 1
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_statistics_of_all_processes_divide_the_graph(monkeypatch):
    """SyncBN needs a GPU: a batch norm with a break stands for it."""

    def forward(norm, x):
        torch._dynamo.graph_break()
        return torch.nn.BatchNorm2d.forward(norm, x)

    monkeypatch.setattr(torch.nn.SyncBatchNorm, 'forward', forward)
    monkeypatch.setattr(
        torch.nn.SyncBatchNorm,
        '_check_input_dim',
        torch.nn.BatchNorm2d._check_input_dim,
    )
    monkeypatch.setattr(
        compile_hook, 'inductor_backend', lookup_backend('aot_eager')
    )
    arch = dict(dims=(8,), depths=(1,), mlp_ratios=(1,), paths=(1,))
    options = {'type': 'MPViT', 'arch': arch, 'out_indices': (0,)}
    model = golden.MODELS.build({**options, 'norm_cfg': {'type': 'SyncBN'}})
    plain = deepcopy(model)
    compile_hook.compile_backbone(model)
    image = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(model(image), plain(image))
    assert counters['stats']['unique_graphs'] > 1
    for a, b in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b)

"""mmcv's operators: a GPU gives what the CPU gives, gradients too."""

import pytest
import torch
from mmcv.ops import (
    MultiScaleDeformableAttention,
    RoIAlign,
    batched_nms,
    nms,
)
from mmdet.models.losses import FocalLoss

pytestmark = pytest.mark.gpu


def boxes(count):
    """(count, 4): x1, y1, x2, y2, half of them close to the other half."""
    torch.manual_seed(0)
    corners = torch.rand(count // 2, 2) * 80
    sizes = 4 + torch.rand(count // 2, 2) * 30
    first = torch.cat([corners, corners + sizes], 1)
    return torch.cat([first, first + torch.rand(count // 2, 4)])


def gradients(module, inputs, device, others=()):
    """The result of a module on a device, and its inputs' gradients."""
    module = module.to(device)
    inputs = [x.to(device).requires_grad_() for x in inputs]
    result = module(*inputs, *(x.to(device) for x in others))
    weights = torch.linspace(0, 1, result.numel(), device=device)
    (result.flatten() * weights).sum().backward()
    return [result.detach().cpu(), *(x.grad.cpu() for x in inputs)]


def check(module, inputs, device, others=()):
    both = [gradients(module, inputs, d, others) for d in ('cpu', device)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


def test_nms(device):
    given, scores = boxes(200), torch.rand(200)
    expected = nms(given, scores, 0.5)
    found = nms(given.to(device), scores.to(device), 0.5)
    assert 50 < len(expected[1]) < 150
    assert torch.equal(found[1].cpu(), expected[1])
    torch.testing.assert_close(found[0].cpu(), expected[0])


def test_batched_nms(device):
    given, scores, classes = boxes(200), torch.rand(200), torch.arange(200) % 3
    options = dict(type='nms', iou_threshold=0.5)
    expected = batched_nms(given, scores, classes, options)
    there = [x.to(device) for x in (given, scores, classes)]
    found = batched_nms(*there, options)
    assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(device, ratio):
    maps = torch.randn(2, 8, 32, 40)
    rois = torch.cat([torch.arange(20)[:, None] % 2, boxes(20)], 1)
    check(RoIAlign(7, 0.25, ratio), [maps], device, [rois])


def test_focal_loss(device):
    """mmdet takes mmcv's operator on a GPU, its own formula elsewhere."""
    torch.manual_seed(0)
    labels = torch.randint(0, 9, (50,))  # 8 is the background
    loss = FocalLoss(reduction='none')
    check(loss, [torch.randn(50, 8)], device, [labels])


def test_deformable_attention(device):
    """mmcv has an operator for a GPU, and a formula for the CPU."""
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(32, 4, 2, 3, batch_first=True)
    layer.init_weights()
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
    sizes = torch.tensor([[8, 10], [4, 5]])
    starts = torch.tensor([0, 80])
    points = torch.rand(2, 6, 2, 2)

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer.eval()

        def forward(self, query, value, *others):
            names = ('reference_points', 'spatial_shapes', 'level_start_index')
            named = dict(zip(names, others, strict=True))
            return self.layer(query, value=value, **named)

    inputs = [torch.randn(2, 6, 32), torch.randn(2, 100, 32)]
    check(Attention(), inputs, device, [points, sizes, starts])

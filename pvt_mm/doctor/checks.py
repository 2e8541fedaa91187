"""The checks of the doctor: each is a program for a new process."""

# RoIAlign of a ramp along x gives the mean of each column. Two of the three
# boxes have an IoU of 0.81.
OPERATORS = """
import os, torch
from mmcv.ops import nms, roi_align
if os.environ.get('PVT_MM_CUDA') == '1':  # set-up is to bring them
    from mmcv.ops import get_compiling_cuda_version as cuda
    assert cuda() != 'not available', 'mmcv is not compiled with CUDA'
boxes = [[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]]
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    kept = nms(torch.tensor(boxes, device=device).float(), scores, 0.5)[1]
    assert kept.tolist() == [0, 2], f'nms on {device} keeps {kept.tolist()}'
    ramp = torch.arange(8.0, device=device).repeat(1, 1, 8, 1)
    box = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]], device=device)
    out = roi_align(ramp, box, (2, 2), 1.0, 2).flatten().tolist()
    assert out == [2.5, 4.5, 2.5, 4.5], f'roi_align on {device} gives {out}'
"""

# (1 - p)^2 = 1/4 and -log p = log 2 at logit 0; weight 1/4 for the object,
# 3/4 for the background.
FOCAL_LOSS = """
import math, torch
from mmdet.models.losses import FocalLoss
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    logits = torch.zeros(2, 1, device=device)
    labels = torch.tensor([0, 1], device=device)
    loss = FocalLoss(reduction='sum')(logits, labels).item()
    assert math.isclose(loss, math.log(2) / 4, rel_tol=1e-5), f'loss {loss}'
"""

# By mmengine's own loader: the onedl fork allows its classes itself.
CHECKPOINT = """
import tempfile, torch, pvt_mm
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
losses = HistoryBuffer()
losses.update(0.5)
with tempfile.NamedTemporaryFile(suffix='.pth') as file:
    torch.save({'message_hub': {'log_scalars': {'loss': losses}}}, file.name)
    hub = CheckpointLoader.load_checkpoint(file.name)['message_hub']
assert hub['log_scalars']['loss'].current() == 0.5
"""

BACKBONES = """
import torch, pvt_mm
from mmengine.registry import MODELS
maps = MODELS.build(dict(type='PVTv2', arch='b0'))(torch.zeros(1, 3, 64, 64))
assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]
"""

CHECKS = {
    'torch': 'import torch; assert torch.ones(2).sum() == 2',
    'numpy': 'import numpy, torch; torch.from_numpy(numpy.ones(2)).numpy()',
    'opencv': 'import cv2',
    'setuptools': 'import pkg_resources',
    'mmengine': 'import mmengine.runner',
    'mmcv': 'import mmcv',
    'operators': OPERATORS,
    'mmdet': 'import mmdet.models',
    'focal_loss': FOCAL_LOSS,
    'mmseg': 'import mmseg.models',
    'backbones': BACKBONES,
    'checkpoint': CHECKPOINT,
}
# Detection needs the one, segmentation the other: either may be absent.
NEEDS = {'mmdet': 'mmdet', 'focal_loss': 'mmdet', 'mmseg': 'mmseg'}

"""The table of make benchmark-gpu, with the CPU in the GPU's place."""

import csv

import pytest
import small_detectors
import torch
from baselines import gpu

from pvt_mm.benchmark import cli
from pvt_mm.benchmark.rows import Case, measure
from pvt_mm.benchmark.variants import OURS


@pytest.fixture
def small(monkeypatch):
    """One narrow detector, and no backbone."""
    model = small_detectors.build('mask_rcnn_pvt_v2_b0_coco', width=32)

    def detectors(batch, size, device):
        data = gpu.batch_of(batch, size, device)
        call = gpu.partial(gpu.detect, data)
        yield gpu.Network('mask_rcnn', OURS, model, call, 1e6)

    monkeypatch.setattr(gpu, 'detectors', detectors)
    monkeypatch.setattr(gpu, 'backbones', lambda *_: ())
    monkeypatch.setattr(cli, 'describe', lambda device: {'GPU': 'none'})
    return model


def test_each_way_has_a_row(small, monkeypatch, tmp_path):
    ways = [way for way in gpu.ways(OURS, 'cpu') if not way[2]]
    monkeypatch.setattr(gpu, 'ways', lambda *_: ways)
    out = tmp_path / 'table.csv'
    argv = ['--device', 'cpu', '--size', '96', '128', '--rounds', '1']
    gpu.main([*argv, '--batch', '2', '--threads', '1', '--out', str(out)])
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    found = {(r['task'], r['precision'], r['weights']) for r in rows}
    assert len(rows) == len(found) == 8  # tasks, precisions, layouts
    assert all(float(row['images']) > 0 for row in rows)
    assert 'mask_rcnn' in out.with_suffix('.md').read_text()
    assert small.backbone.map_layout == torch.contiguous_format  # a copy is


def test_every_way_on_a_gpu():
    found = list(gpu.ways(OURS, 'cuda'))
    assert len(set(found)) == len(found) == 2 * 4 * 2 * 2
    assert len(list(gpu.ways('timm', 'cuda'))) == 2 * 4 * 2


def test_too_little_memory_is_a_row(monkeypatch):
    def call(model, task):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(
        gpu, 'ways', lambda *_: [('training', 'float32', False, '')]
    )
    network = gpu.Network('a', 'timm', torch.nn.Identity(), call, 1.0)
    (row,) = gpu.measure(network, 2, 1, 'cpu')
    assert row.seconds is None
    assert 'out of memory' in gpu.rendered([row])


def test_maps_are_compared_without_tf32(monkeypatch):
    seen = []

    def build_equal(*_):
        seen.append(torch.backends.cudnn.allow_tf32)
        raise StopIteration

    monkeypatch.setattr('pvt_mm.benchmark.rows.build_equal', build_equal)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    with pytest.raises(StopIteration):
        measure(Case('pvt_v2_b0', (64, 64), 'inference'), 'cpu')
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32

"""The curves of trainings, drawn from logs of several code bases."""

import json

import cv2
import pytest
from small_runs import one_error, say

from pvt_mm.reproduction.training_log import read_log
from pvt_mm.visualization import logs_cli
from pvt_mm.visualization.curves import draw_runs, expect, summary


def log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return str(path)


def started(folder, when, first, last):
    """The log of one start of a run: iterations and their epochs of 10."""
    rows = []
    for i in range(first, last + 1):
        row = dict(loss=1 / i, lr=0.1, epoch=(i + 9) // 10, step=i)
        rows.append({**row, 'iter': i})
        if i % 10 == 0:
            rows.append({'coco/bbox_mAP': i / 100, 'step': i // 10})
    log(folder / f'{when}/vis_data/scalars.json', rows)


def test_a_resumed_run_is_one_curve(tmp_path):
    folder = tmp_path / 'run'
    started(folder, 1, 1, 24)
    started(folder, 2, 21, 30)
    (folder / 'mask_rcnn_pvt_v2_b0_coco.py').write_text('')
    seen = read_log(str(folder))
    assert [x for x, _ in seen.losses] == list(range(1, 31))
    assert seen.curves() == {'box_AP': [(1, 10.0), (2, 20.0), (3, 30.0)]}
    assert seen.by_epoch and seen.config == 'mask_rcnn_pvt_v2_b0_coco'
    # one that began anew is its own curve only
    started(folder, 3, 1, 10)
    seen = read_log(str(folder))
    assert len(seen.losses) == 10 and len(seen.rates) == 10
    assert seen.curves() == {'box_AP': [(1, 10.0)]}
    assert summary(seen) == [
        f'{folder}: box_AP 10.0, best 10.0 at 1; official 38.2, -28.2',
        f'{folder}: loss 1.000 at iteration 1, 0.100 at 10',
    ]


def test_published_logs_are_read(tmp_path):
    old = [
        dict(mode='train', epoch=e, iter=i, loss=1.0, lr=0.1)
        for e in (1, 2)
        for i in (50, 100)
    ]
    val = [dict(mode='val', epoch=2, iter=9, bbox_mAP=0.25)]
    seen = read_log(log(tmp_path / 'a.log.json', [{'seed': 0}, *old, *val]))
    assert [x for x, _ in seen.losses] == [50, 100, 150, 200]
    assert seen.curves() == {'box_AP': [(2, 25.0)]}
    rows = [{'iteration': 19, 'total_loss': 2.0, 'lr': 0.1}]
    seen = read_log(log(tmp_path / 'metrics.json', rows))
    assert (seen.losses, seen.rates) == ([(19, 2.0)], [(19, 0.1)])


def test_curves_stand_beside_what_was_published(tmp_path, capsys, monkeypatch):
    for name, when in (('a', 1), ('b', 2)):
        started(tmp_path / name, when, 1, 30)
    (tmp_path / 'a/retinanet_pvt_v2_b0_coco.py').write_text('')
    lines = []
    monkeypatch.setattr(
        'pvt_mm.visualization.curves.expect',
        lambda axes, *rest: (expect(axes, *rest), lines.extend(axes.lines)),
    )
    out = tmp_path / 'new/curves.png'
    argv = [tmp_path / 'a', tmp_path / 'b', '--out', out]
    status, text, _ = say(capsys, logs_cli.main, *argv)
    assert status == 0
    assert 'official 37.2, -7.2' in text
    assert cv2.imread(str(out)).shape == (720, 1100, 3)
    labels = [line.get_label() for line in lines]
    assert labels[-1] == 'retinanet_pvt_v2_b0_coco: 37.2 (official)'
    assert lines[-1].get_ydata()[0] == 37.2
    assert not list(out.parent.glob('.part-*'))
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        draw_runs(tmp_path / 'file/x.png', [read_log(str(tmp_path / 'a'))])


def test_logs_that_are_none_are_one_sentence(tmp_path, capsys):
    (tmp_path / 'text').write_text('text')
    (tmp_path / 'empty.json').write_text('{}')
    (tmp_path / 'no_step.json').write_text('{"bbox_mAP": 0.3}')
    for name, out, text in (
        ('nothing', 'x.png', 'has no */vis_data/scalars.json'),
        ('text', 'x.png', 'is no training log'),
        ('empty.json', 'x.png', 'neither a loss nor a score'),
        ('no_step.json', 'x.png', 'neither a loss nor a score'),
        ('text', 'x.txt', 'the name must end with .png'),
    ):
        argv = [tmp_path / name, '--out', tmp_path / out]
        status, _, said = say(capsys, logs_cli.main, *argv)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / out).exists()

"""Runs read annotation files faster than pycocotools, and read the same."""

import gc
import json

import pytest
from mmengine.runner import Runner
from pycocotools import coco as theirs
from small_runs import RETINANET, draw, load, run_config, small, write

from pvt_mm.compat import decode_json
from pvt_mm.engine.runner import FaultTolerantRunner


@pytest.mark.parametrize(
    'text',
    [
        '{"a": [1, -2.5e3, true, null, "\\u00e9é"], "a": {"b": 1e-320}}',
        f'[{2**64 + 1}, {-(2**63) - 1}, 0.1, 1.0, 12345678901234567890.0]',
        '[NaN, Infinity]',
    ],
)
def test_every_file_is_read_as_json_load_does(tmp_path, text):
    file = tmp_path / 'x.json'
    file.write_text(text, encoding='utf-8')
    assert repr(decode_json(str(file))) == repr(json.loads(text))


def test_loaders_and_metrics_of_a_run(tmp_path, monkeypatch):
    draw(tmp_path)
    path = write(small(load(RETINANET), tmp_path, 'coco'), tmp_path / 'x.py')
    cfg = run_config([path, '--work-dir', str(tmp_path / 'w')])
    runner = FaultTolerantRunner.from_cfg(cfg)
    want = list(Runner.build_dataloader(cfg.train_dataloader).dataset)
    scored = Runner.build_evaluator(runner, cfg.val_evaluator)

    def refuse(*args, **kwargs):
        raise AssertionError('slow')

    monkeypatch.setattr(theirs.json, 'load', refuse)
    frozen = gc.get_freeze_count()  # Python 3.12 and later begin with some
    loader = runner.build_dataloader(cfg.train_dataloader)
    built = runner.build_evaluator(cfg.val_evaluator)
    assert len(loader.dataset) == len(want)
    infos = [loader.dataset.get_data_info(i) for i in range(len(want))]
    samples = [item['data_samples'].img_path for item in want]
    assert [info['img_path'] for info in infos] == samples
    apis = [x.metrics[0]._coco_api.dataset for x in (built, scored)]
    assert apis[0] == apis[1]
    assert gc.isenabled() and gc.get_freeze_count() == frozen
    assert theirs.json is json
    gc.disable()
    try:
        runner.build_dataloader(cfg.train_dataloader)
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()

"""The config in a checkpoint is read as data."""

import pytest
from small_runs import load

from pvt_mm.config.saved import literals, saved_config
from pvt_mm.config.schema import bare


@pytest.mark.parametrize(
    'name', ['retinanet_pvt_v2_b2_coco', 'semantic_fpn_pvt_v2_b2_ade20k']
)
def test_the_text_of_a_config_is_its_data(name):
    cfg = load(f'configs/{name}.py')
    assert bare(literals(cfg.pretty_text)) == bare(cfg.to_dict())


def test_nothing_is_run(tmp_path):
    marker = tmp_path / 'marker'
    text = f"""
model = __import__('pathlib').Path({str(marker)!r}).touch()
train_cfg = dict(a=[-1, 1e-3, None, float('inf'), (1, {{'b.c': True}})])
"""
    assert saved_config(dict(cfg=text)) == {
        'train_cfg': {'a': [-1, 1e-3, None, float('inf'), [1, {'b.c': True}]]}
    }
    assert not marker.exists()


@pytest.mark.parametrize('meta', [{}, dict(cfg='model = <object>')])
def test_a_checkpoint_without_a_config(meta):
    assert saved_config(meta) == {}

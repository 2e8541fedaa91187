"""Config files that import what earlier versions had elsewhere."""

import pytest

from pvt_mm.config.loading import load_config
from pvt_mm.errors import UsageError
from pvt_mm.reproduction.hub import get_model


@pytest.mark.parametrize(
    ('module', 'fix'),
    [
        ('pvt_mm.heads', 'since pvt_mm 0.2 it is pvt_mm.models.decode_heads'),
        ('pvt_mm.backbones', 'it is pvt_mm.models.backbones, and CHANGELOG'),
        ('pvt_mm.layers', 'it is pvt_mm.models.layers, and CHANGELOG.md'),
        ('pvt_mm.classifier', 'it is pvt_mm.models.classifiers, and CHANGE'),
        ('pvt_mm.classification', 'it is pvt_mm.datasets, pvt_mm.evaluation '),
        ('pvt_mm.engine.hooks.saving', 'a run of pvt_mm 0.1 wrote this file'),
        ('pvt_mm.data_check.skipped', 'give the config that it was made from'),
        ('nowhere', 'install it, or put its folder on PYTHONPATH'),
    ],
)
def test_modules_that_moved_are_named_in_one_sentence(tmp_path, module, fix):
    file = tmp_path / 'old.py'
    file.write_text(f"custom_imports = dict(imports=['{module}'])\n")
    with pytest.raises(UsageError) as said:
        load_config(file)
    text = str(said.value)
    assert text.startswith(f'{file}: ') and '\n' not in text
    assert module in text and fix in text


def test_an_error_inside_a_module_is_told(tmp_path, monkeypatch):
    """No moved module, whatever the name of the one that fails."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'own.py').write_text('from pvt_mm.engine.train import none\n')
    file = tmp_path / 'new.py'
    file.write_text("custom_imports = dict(imports=['own'])\n")
    with pytest.raises(UsageError) as said:
        load_config(file)
    text = str(said.value)
    assert "Failed to import own: cannot import name 'none' from" in text
    assert text.endswith('; pvt_mm doctor says what is missing')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('pvt_v2_b2', "pvt_mm.build_backbone('pvt_v2_b2') is a backbone"),
        ('mpvit_tiny', "pvt_mm.build_backbone('mpvit_tiny') is a backbone"),
        ('retinanet_pvt_v2_b9', 'nearest: configs/retinanet_pvt_v2_b'),
        (3, 'there is no config file 3; nearest: none'),
    ],
)
def test_no_config_of_this_name(name, words):
    with pytest.raises(UsageError) as said:
        get_model(name)
    assert words in str(said.value)
    assert ('build_backbone' in str(said.value)) is ('build' in words)

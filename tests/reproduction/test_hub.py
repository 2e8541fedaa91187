"""Configs and models by name."""

import pytest

from pvt_mm.errors import UsageError
from pvt_mm.reproduction.hub import get_model

NAME = 'classifier_pvt_v2_b0_imagenet'


def test_options_replace_what_the_config_says():
    model = get_model(NAME, num_classes=10, backbone=dict(frozen_stages=2))
    assert model.head.weight.shape == (10, 256)
    assert model.backbone.frozen_stages == 2
    assert model.backbone.out_channels == (256,)
    assert get_model(NAME).head.weight.shape == (1000, 256)


def test_a_config_of_which_nothing_is_published_is_refused():
    name = 'concat_fusion_pvt_v2_b1_cityscapes'
    with pytest.raises(UsageError, match=f'nothing is published .* {name}'):
        get_model(name, pretrained=True)

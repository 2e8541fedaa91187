"""Drawn images, and configs that read them, for all tests of this folder."""

import pytest
from small_runs import RETINANET, SEGMENTOR, draw, load, small, write


@pytest.fixture(scope='session')
def drawn(tmp_path_factory):
    """A few images in both layouts."""
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(scope='session')
def configs(drawn, tmp_path_factory):
    """Files of a detector and a segmentor that read the drawn images."""
    folder = tmp_path_factory.mktemp('configs')
    return {
        name: write(small(load(config), drawn, part), folder / f'{name}.py')
        for name, config, part in (
            ('det', RETINANET, 'coco'),
            ('seg', SEGMENTOR, 'ade20k'),
        )
    }

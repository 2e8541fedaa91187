"""Names of files that are written for each image of a data set."""

import pytest

from pvt_mm.datasets.image_names import label_map_names, relative_names


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['/d/0.jpg'], ['0.jpg']),
        (['/d/0.jpg', '/d/1.jpg'], ['0.jpg', '1.jpg']),
        (['/d/a/0.jpg', '/d/b/0.jpg'], ['a/0.jpg', 'b/0.jpg']),
        (['/d/0.jpg', '/d/a/b/0.jpg'], ['0.jpg', 'a/b/0.jpg']),
        (['/d/x/../0.jpg', '/d/../e/0.jpg'], ['d/0.jpg', 'e/0.jpg']),
        (['/d/../../0.jpg', '/d/0.jpg'], ['0.jpg', 'd/0.jpg']),
        (['//etc/0.jpg', '/d/./0.jpg'], ['etc/0.jpg', 'd/0.jpg']),
        (['d/0.jpg', '../0.jpg'], ['tmp/d/0.jpg', '0.jpg']),
        (['/d/a 1/0.jpg', '/d/叶/0.jpg'], ['a 1/0.jpg', '叶/0.jpg']),
    ],
)
def test_a_name_is_below_the_folder_of_all(
    tmp_path, monkeypatch, paths, names
):
    (tmp_path / 'tmp').mkdir()
    monkeypatch.chdir(tmp_path / 'tmp')
    assert relative_names(paths) == dict(zip(paths, names, strict=True))


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['/d/a/0.jpg', '/d/b/0.jpg'], ['a/0.png', 'b/0.png']),
        (['/d/0.jpg', '/d/0.bmp'], ['0.jpg.png', '0.bmp.png']),
        (['/d/0.jpg', '/d/1.png'], ['0.png', '1.png']),
        (['/d/v1.0.jpg', '/d/v1.1.jpg'], ['v1.0.png', 'v1.1.png']),
        (['/d/0', '/d/1.JPG'], ['0.png', '1.png']),
    ],
)
def test_label_maps_are_png_and_none_replaces_another(paths, names):
    assert label_map_names(paths) == dict(zip(paths, names, strict=True))

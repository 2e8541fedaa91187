"""Checks of data sets with many classes compare each name a few times."""

import pytest
from mmdet.datasets.api_wrappers import COCO

from pvt_mm.compat import coco_parser
from pvt_mm.datasets.checks.coco import check_coco
from pvt_mm.datasets.checks.coco_format import (
    Annotation,
    Category,
    Content,
    Image,
)
from pvt_mm.datasets.checks.report import Use


class Name(str):
    """A name that counts its comparisons; lists compare, sets hardly do."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)


NAMES = [Name(f'class {i}') for i in range(1000)]


@pytest.fixture(autouse=True)
def few_comparisons():
    Name.compared = 0
    yield
    assert Name.compared < 10 * len(NAMES)  # a list: 500 for each


def test_annotation_file():
    content = Content(
        images=[Image(1, 'a.png', 64, 64)],
        annotations=[
            Annotation(
                id=1, image_id=1, category_id=1, bbox=(1, 1, 9, 9), area=81
            )
        ],
        categories=[Category(i, name) for i, name in enumerate(NAMES)],
    )
    use = Use('x.json', tuple(NAMES), False, False)
    assert list(check_coco(content, use)) == []


def test_categories_of_mmdet(tmp_path):
    file = tmp_path / 'x.json'
    file.write_text('{}')
    kinds = [dict(id=i, name=name) for i, name in enumerate(NAMES)]
    content = dict(images=[], annotations=[], categories=kinds)
    with coco_parser(lambda path: content):
        api = COCO(str(file))
        assert api.get_cat_ids(cat_names=NAMES) == list(range(len(NAMES)))
        assert api.get_cat_ids('class 7') == [7]
        assert len(api.get_cat_ids()) == len(NAMES)

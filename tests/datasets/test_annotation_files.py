"""Annotation files of COCO's format: what is wrong with them."""

import codecs
import gzip
import json
import math
import re

import numpy as np
import pytest
from pycocotools import mask as rle

from pvt_mm.datasets.checks.coco import check_coco
from pvt_mm.datasets.checks.coco_format import read_coco
from pvt_mm.datasets.checks.report import Use
from pvt_mm.errors import UsageError

HEIGHT, WIDTH = 48, 64
CLASSES = ('moss', 'stone')


def drawn():
    """Three images with two boxes each."""
    corners = [(4, 5), (20, 9)]
    return {
        'images': [
            {'id': i, 'file_name': f'{i}.jpg', 'height': 48, 'width': 64}
            for i in (1, 2, 3)
        ],
        'annotations': [
            {
                'id': 2 * i + k - 1,
                'image_id': i,
                'category_id': k + 1,
                'bbox': [x, y, 16, 18],
                'area': 16 * 18,
                'iscrowd': 0,
                'segmentation': [[x, y, x + 16, y, x + 16, y + 18]],
            }
            for i in (1, 2, 3)
            for k, (x, y) in enumerate(corners)
        ],
        'categories': [{'id': 1, 'name': 'moss'}, {'id': 2, 'name': 'stone'}],
    }


def findings(file, *, scored=False, masks=False, classes=CLASSES):
    content, found = read_coco(str(file), masks=masks, scored=scored)
    if content:
        found = check_coco(content, Use(str(file), classes, masks, scored))
    return [f'{"error" if f.error else "warning"}: {f.text}' for f in found]


def first(**values):
    """Change the first annotation; None takes a key away."""

    def edit(content):
        annotation = content['annotations'][0]
        annotation.update(values)
        for key in [k for k, v in values.items() if v is None]:
            del annotation[key]

    return edit


def each(part, **values):
    """Change all entries of a list; a function gets the entry."""

    def edit(content):
        for entry in content[part]:
            for key, value in values.items():
                entry[key] = value(entry) if callable(value) else value

    return edit


def corners(entry):
    x, y, width, height = entry['bbox']
    return [x, y, x + width, y + height]


def in_image(entry):
    """A corner far from the origin: two corners reach beyond the image."""
    return [34, 26, 25, 20] if entry['id'] % 2 else [30, 28, 20, 19]


def two_corners(content):
    each('annotations', bbox=in_image)(content)
    each('annotations', bbox=corners)(content)


def fractions(entry):
    x, y, width, height = entry['bbox']
    return [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]


def image(**values):
    return lambda content: content['images'][0].update(values)


def append(part, value):
    return lambda content: content[part].append(value)


def all_twice(content):
    more = [{**a, 'id': a['id'] + 99} for a in content['annotations']]
    content['annotations'] += more


def same_file(content):
    content['images'][1]['file_name'] = '1.jpg'


# what is done to the file, whether it is scored, verdict, words
TRAIN, VAL, BOTH = (False,), (True,), (False, True)
FILES = {
    'clean': (lambda c: None, BOTH, None, ''),
    # types of keys
    'image_id a list': (
        *(first(image_id=[1]), BOTH, 'error'),
        r'annotations\[0\] \(id 1\): image_id is \[1\], but expected '
        r'`float \| str`, got `array`$',
    ),
    'image_id null': (
        *(each('annotations', image_id=lambda a: math.nan), BOTH, 'json'),
        'JSON has no NaN',
    ),
    'bbox a dict': (
        *(first(bbox={'x': 1}), BOTH, 'error'),
        r'bbox is {"x": 1}, but expected `array`, got `object`',
    ),
    'file_name a number': (
        *(each('images', file_name=lambda i: i['id']), BOTH, 'error'),
        r'images\[0\] \(id 1\): file_name is 1, but expected `str`, got '
        '`int`; 3 of 3 are like this',
    ),
    'annotation a number': (
        *(append('annotations', 5), BOTH, 'error'),
        r'annotations\[6\]: it is 5, but expected `object`, got `int`',
    ),
    'image a list': (
        *(append('images', [1]), BOTH, 'error'),
        r'images\[3\]: it is \[1\], but expected `object`, got `array`',
    ),
    'image null': (
        *(
            append('images', None),
            BOTH,
            'error',
            'it is null, but expected `object`, got `null`',
        ),
    ),
    'height a text': (
        *(
            image(height='48'),
            BOTH,
            'error',
            'height is "48", but expected `int`',
        ),
    ),
    'height 0': (
        image(height=0),
        BOTH,
        'error',
        'height is 0, but expected `int` >= 1',
    ),
    'category a text': (
        *(append('categories', 'moss'), BOTH, 'error'),
        r'categories\[2\]: it is "moss", but expected `object`, got `str`',
    ),
    'area a text': (
        *(first(area='9'), BOTH, 'error', 'area is "9", but expected `float`'),
    ),
    'bbox of words': (
        *(first(bbox=['5', 5, 9, 9]), BOTH, 'error'),
        r'bbox\[0\] is "5", but expected `float`, got `str`',
    ),
    'bbox of three': (
        first(bbox=[5, 5, 9]),
        BOTH,
        'error',
        'but expected `array` of length 4',
    ),
    'iscrowd a text': (
        *(
            first(iscrowd='0'),
            BOTH,
            'error',
            'iscrowd is "0", but expected `bool',
        ),
    ),
    'no area': (first(area=None), BOTH, 'error', r'\(id 1\): it has no area'),
    'no crowd, train': (first(iscrowd=None), TRAIN, None, ''),
    'no crowd, val': (
        first(iscrowd=None),
        VAL,
        'error',
        'has no iscrowd',
    ),
    'nan': (first(bbox=[math.nan, 5, 9, 9]), BOTH, 'json', 'has no NaN and'),
    'infinity': (first(area=-math.inf), BOTH, 'json', 'no NaN and no Inf'),
    # other tasks
    'no list': (
        *(lambda c: c.pop('annotations'), BOTH, 'error'),
        'no list of annotations: is it of another task',
    ),
    'captions': (
        *(lambda c: c.update(annotations=[{'caption': 'x'}]), BOTH, 'error'),
        'file for captions; give one of object detection',
    ),
    'panoptic': (
        *(lambda c: c.update(annotations=[{'segments_info': []}]), BOTH),
        *('error', 'file for panoptic segmentation'),
    ),
    # ids
    'ids as floats': (
        each('images', id=lambda i: float(i['id'])),
        BOTH,
        None,
        '',
    ),
    'unknown category': (
        *(first(category_id=99), BOTH, 'warning', 'the category_id 99'),
    ),
    'unknown images': (
        *(each('annotations', image_id=lambda a: 1 + a['image_id']), BOTH),
        *('warning', 'the image_id 4.*2 annotations with an unknown image_id'),
    ),
    'same image id': (
        *(image(id=2), BOTH, 'error', 'images have the id 2 more than once'),
    ),
    'same ids': (
        *(each('annotations', id=7), BOTH, 'error', 'the id 7 more than once'),
    ),
    'id 0, train': (first(id=0), TRAIN, None, ''),
    'id 0, val': (
        *(first(id=0), VAL, 'error'),
        'an annotation of image 1 is 0, and pycocotools',
    ),
    'id false, val': (first(id=0.0), VAL, 'error', 'is 0, and pycocotools'),
    'id a text, val': (
        *(each('annotations', id=lambda a: f'a{a["id"]}'), VAL, 'error'),
        'is a text, and pycocotools',
    ),
    'ids of two types': (
        *(image(id='1'), BOTH, 'error'),
        'some images have a number as id and some a text',
    ),
    'ignored, train': (
        *(first(ignore=1), TRAIN, 'warning'),
        'leaves out 1 of 6 objects, whose key ignore is true, .* nothing lea',
    ),
    'ignored, val': (
        *(first(ignore=1), VAL, 'warning'),
        '1 of 6 objects.* pycocotools scores them all the same',
    ),
    'all ignored': (
        *(each('annotations', ignore=True), TRAIN, 'error'),
        '6 of 6 objects.* nothing is left to learn from',
    ),
    'ignored as a text': (
        *(each('annotations', ignore='false'), BOTH, 'error'),
        'ignore is "false", but expected',
    ),
    'objects twice': (
        *(all_twice, BOTH, 'warning'),
        '6 of 12 objects have the class and box of another one .* 2 of image',
    ),
    'file twice': (
        *(same_file, BOTH, 'warning'),
        r'1\.jpg is listed under the ids 1 and 2 \(1 file like this\)',
    ),
    # classes
    'empty': (
        *(lambda c: c.update(annotations=[]), BOTH, 'error'),
        'no annotation of any class',
    ),
    'missing class': (
        *(lambda c: c['categories'].pop(), BOTH, 'error'),
        r"no category named stone \(1 of 2 classes\).* file: 'moss'$",
    ),
    'class with a blank': (
        *(lambda c: c['categories'][0].update(name='moss '), BOTH, 'error'),
        r"no category named moss \(1 of 2 .* file: 'moss ', 'stone'$",
    ),
    'image ids as texts': (
        *(each('images', id=lambda i: str(i['id'])), BOTH, 'warning'),
        r"the image_id 1, which the file does not describe \(it has '1', '2'",
    ),
    'order': (
        *(lambda c: c['categories'].reverse(), BOTH, 'error'),
        'in another order',
    ),
    'name twice': (
        *(append('categories', {'id': 9, 'name': 'moss'}), BOTH, 'error'),
        r'two categories have the name moss \(ids 1 and \d+\): remove',
    ),
    # boxes and areas
    'outside': (
        *(first(bbox=[500, 5, 9, 9]), TRAIN, 'warning'),
        '1 of 6 boxes are outside their image; they are left out of training; '
        'for example annotation 1 of image 1 of 64x48 pixels',
    ),
    'outside, val': (
        first(bbox=[500, 5, 9, 9]),
        VAL,
        'warning',
        'nothing can find them',
    ),
    'beyond': (
        first(bbox=[-9, 5, 90, 9]),
        BOTH,
        'warning',
        '1 of 6 boxes reach bey',
    ),
    'no width': (first(bbox=[5, 5, 0, 9]), BOTH, 'warning', 'have no area'),
    'negative': (first(bbox=[25, 25, -9, -9]), BOTH, 'warning', 'no area'),
    'area 0': (
        *(first(area=0), TRAIN, 'warning'),
        '1 of 6 boxes have no area; they are left out .* and the area 0$',
    ),
    'all areas 0': (
        *(each('annotations', area=0), TRAIN, 'error'),
        'nothing is left to learn from; for example annotation 1',
    ),
    'all outside': (
        *(each('annotations', bbox=[100, 5, 9, 9]), VAL, 'error'),
        'no box has an area of a pixel inside its image, so nothing is left '
        'to score; for',
    ),
    'fractions': (
        *(each('annotations', bbox=fractions), BOTH, 'error'),
        'they look like fractions of the image',
    ),
    'two corners': (
        *(two_corners, BOTH, 'warning'),
        '6 of 6 boxes reach beyond .* all look like two corners',
    ),
    'two corners in a large image': (
        lambda c: (two_corners(c), each('images', height=999, width=999)(c)),
        *(BOTH, None, ''),
    ),
    'all crowd': (
        *(each('annotations', iscrowd=1), TRAIN, 'error'),
        'all 6 objects are crowd: nothing is left to learn from',
    ),
    'all crowd, val': (
        *(each('annotations', iscrowd=True), VAL, 'error'),
        'all 6 objects are crowd: nothing is left to score',
    ),
}


@pytest.mark.parametrize('name', FILES)
def test_file(tmp_path, name):
    edit, uses, verdict, words = FILES[name]
    judge(tmp_path, edit, uses, verdict, words)


def judge(tmp_path, edit, uses, verdict, words, **options):
    """Compare what is found with the one sentence that should be."""
    content = drawn()
    edit(content)
    file = tmp_path / 'x.json'
    file.write_text(json.dumps(content))
    for scored in uses:
        if verdict == 'json':
            with pytest.raises(UsageError, match=words) as caught:
                findings(file, scored=scored, **options)
            assert str(caught.value).startswith(f'{file} is not JSON: ')
            continue
        found = findings(file, scored=scored, **options)
        if verdict is None:
            assert not found
            continue
        (said,) = [line for line in found if line.startswith(verdict)]
        assert said.startswith(f'{verdict}: {file}')
        assert re.search(words, said), said
        assert '\n' not in said


def run_lengths(missed=0, **values):
    """Run lengths that miss some pixels."""
    counts = [9, 9, HEIGHT * WIDTH - 18 - missed]
    mask = {'size': [HEIGHT, WIDTH], 'counts': counts, **values}
    return first(segmentation=mask)


def compressed(crowd):
    code = rle.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype='u1')))
    mask = {'size': [HEIGHT, WIDTH], 'counts': code['counts'].decode()}
    return first(segmentation=mask, iscrowd=crowd)


def unit(entry):
    (polygon,) = entry['segmentation']
    return [[n / 64 for n in polygon]]


def in_space(entry):
    (polygon,) = entry['segmentation']
    points = zip(polygon[::2], polygon[1::2], strict=True)
    return [[n for x, y in points for n in (x, y, 60)] + [60]]


FORM = 'not a list of polygons or an object with size and counts: '
MASKS = {
    'clean': (lambda c: None, BOTH, None, ''),
    'none': (first(segmentation=None), BOTH, 'error', 'has no segmentation'),
    'empty': (first(segmentation=[]), BOTH, 'error', 'has no segmentation'),
    'fractions': (
        *(each('annotations', segmentation=unit), BOTH, 'error'),
        'the polygons of 6 of 6 objects do not fit their bbox',
    ),
    'x, y, z': (
        *(each('annotations', segmentation=in_space), BOTH, 'warning'),
        'the polygons of 6 of 6 objects do not fit .* of annotation 1 of ima',
    ),
    'one elsewhere': (
        *(first(segmentation=[[0, 0, 2, 0, 2, 2]]), BOTH, None, ''),
    ),
    'null in all': (
        *(each('annotations', segmentation=[[5, 5, None, 9, 9, 9]]), BOTH),
        *('error', rf'1 of image 1 .*{FORM}\[0\]\[2\] is null'),
    ),
    'null for a polygon': (
        first(segmentation=[None]),
        BOTH,
        'error',
        rf'{FORM}\[0\] is null',
    ),
    'null': (
        lambda c: c['annotations'][0].update(segmentation=None),
        *(BOTH, 'error', f'{FORM}it is null'),
    ),
    'nan': (
        *(first(segmentation=[[5, 5, math.nan, 9, 9, 9]]), BOTH, 'json'),
        'has no NaN and no Infinity',
    ),
    'text in a polygon': (
        *(first(segmentation=[[5, 5, 9, 'x', 9, 9]]), BOTH, 'error'),
        rf'{FORM}\[0\]\[3\] is "x", but expected `float`, got `str`',
    ),
    'two points': (
        *(first(segmentation=[[5, 5, 20, 20]]), TRAIN, 'warning'),
        'polygon of 2 points; it is left out',
    ),
    'two points, val': (
        *(first(segmentation=[[5, 5, 20, 20]]), VAL, 'error'),
        'polygon of 2 points; pycocotools cannot',
    ),
    'flat': (first(segmentation=[5, 5, 20, 20, 5, 9]), BOTH, 'error', FORM),
    'pairs': (
        *(first(segmentation=[[[5, 5], [20, 20], [5, 9]]]), BOTH, 'error'),
        rf'{FORM}\[0\]\[0\] is \[5, 5\], but expected `float`, got',
    ),
    'text': (first(segmentation='abc'), BOTH, 'error', FORM),
    'run lengths': (run_lengths(), BOTH, None, ''),
    'short': (run_lengths(7), BOTH, 'error', 'run lengths of 3065 pixels'),
    'other size': (
        *(run_lengths(size=[9, 9]), BOTH, 'error'),
        r'run lengths of size \(9, 9\), not \(48, 64\)',
    ),
    'no counts': (
        *(first(segmentation={'size': [9, 9]}), BOTH, 'error', 'no counts'),
    ),
    'counts below 0': (run_lengths(counts=[-5]), BOTH, 'error', 'is -5, but'),
    'null in counts': (
        *(run_lengths(counts=[9, None]), BOTH, 'error'),
        r'counts\[1\] is null',
    ),
    'compressed': (compressed(0), BOTH, None, ''),
    'crowd': (compressed(1), BOTH, None, ''),
}


@pytest.mark.parametrize('name', MASKS)
def test_masks(tmp_path, name):
    edit, uses, verdict, words = MASKS[name]
    judge(tmp_path, edit, uses, verdict, words, masks=True)


@pytest.mark.parametrize('name', ['null in all', 'none', 'text', 'flat'])
def test_boxes_need_no_masks(tmp_path, name):
    judge(tmp_path, MASKS[name][0], BOTH, None, '')


TEXT = json.dumps(drawn())
GERMAN = TEXT.replace('moss', 'Größe')
BYTES = {
    'byte order mark': (codecs.BOM_UTF8 + TEXT.encode(), 'byte order mark'),
    'UTF-16': (TEXT.encode('utf-16'), 'is in UTF-16: convert'),
    'latin-1': (GERMAN.encode('latin-1'), r'not in UTF-8 \(byte \d+\)'),
    'latin-1 in a key that nothing reads': (
        TEXT.replace('{', '{"info": "Größe", ', 1).encode('latin-1'),
        r'not in UTF-8 \(byte 12\)',
    ),
    'gzip': (gzip.compress(TEXT.encode()), r'compressed \(gzip\): unpack'),
    'zip': (b'PK\x03\x04', 'a zip archive: unpack'),
    'web page': (b'<!DOCTYPE html>', 'a web page or XML'),
    'Git LFS': (b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
    'empty': (b'', 'is empty'),
    'blank': (b' \n', 'is empty'),
    'cut': (TEXT.encode()[:-99], 'truncated: was its download cut short'),
    'comma': (
        TEXT.replace('"}]', '"},]').encode(),
        r'trailing comma in array \(byte \d+: \.\.\..*stone',
    ),
    'quotes': (TEXT.replace('"', "'").encode(), r"\(byte 1: \.\.\.{'images"),
    'two': (TEXT.encode() * 2, 'trailing characters'),
    'a list': (b'[]', 'has no list of images'),
    'a text': (b'"x"', 'has no list of images'),
}


@pytest.mark.parametrize('name', BYTES)
def test_bytes(tmp_path, name):
    content, words = BYTES[name]
    file = tmp_path / 'x.json'
    file.write_bytes(content)
    try:
        (said,) = findings(file)
    except UsageError as error:
        said = str(error)
    assert re.search(f'{file} .*{words}', said), said
    assert '\n' not in said


def test_utf8_needs_no_ascii(tmp_path):
    file = tmp_path / 'x.json'
    file.write_text(GERMAN, encoding='utf-8')
    assert not findings(file, classes=('Größe', 'stone'))

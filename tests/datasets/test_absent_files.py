"""Files that are not there, and why."""

import os
import unicodedata

import pytest

from pvt_mm.datasets.checks.files import absent

CAFE = unicodedata.normalize('NFC', 'café.jpg')
# the file that exists, the name that is looked for, the reason
NAMES = {
    'upper case': ('0.jpg', '0.JPG', 'differ in upper and lower case'),
    'a capital': ('moss.jpg', 'Moss.jpg', 'differ in upper and lower case'),
    'lower case': ('IMG_1.JPG', 'img_1.jpg', 'differ in upper and lower case'),
    'back-slashes': ('0.jpg', r'.\0.jpg', 'have back-slashes'),
    'back-slashes of a folder': ('a/0.jpg', r'a\0.jpg', 'have back-slashes'),
    'suffix': ('0.png', '0.jpg', 'have another suffix'),
    'no suffix': ('0.jpg', '0', 'have another suffix'),
    'dots': ('a.b.jpeg', 'a.b.jpg', 'have another suffix'),
    'blank': ('0.jpg', '0.jpg ', 'have blanks at an end'),
    'line end': ('0.jpg', '0.jpg\n', 'have blanks at an end'),
    'URL code': ('a b.jpg', 'a%20b.jpg', 'are written as in a URL'),
    'accents': (
        *(CAFE, unicodedata.normalize('NFD', CAFE)),
        'have accents in another Unicode form',
    ),
    'a folder too many': ('0.jpg', 'train/0.jpg', 'have other folders'),
    'a folder too few': ('train/0.jpg', '0.jpg', 'have other folders'),
    'another machine': ('0.jpg', '/mnt/c/x/0.jpg', 'have other folders'),
    'case and suffix': (
        *('moss.png', 'MOSS.jpg'),
        'differ in upper and lower case and have another suffix',
    ),
    'Windows path': (
        *('0.jpg', r'C:\x\0.jpg', 'have back-slashes and have other folders'),
    ),
}


@pytest.fixture
def folder(tmp_path):
    """A function that makes empty files."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    return make


@pytest.mark.parametrize('case', NAMES)
def test_reason(folder, case):
    there, name, reason = NAMES[case]
    root = folder(there, 'other.jpg')
    assert absent(['other.jpg', name], root) == (
        [name],
        [
            f'1 of 2 files are not in {root}: their names {reason}, for '
            f'example {name}; the folder has {there}'
        ],
    )


def test_one_sentence_for_each_reason(folder):
    root = folder('0.jpg', '1.jpg', '2.png')
    names = ['0.JPG', '1.JPG', '2.jpg', 'x.jpg', 'https://a.b/0.jpg']
    gone, said = absent(names, root)
    assert gone == names
    assert said == [
        f'{root}/x.jpg is not there',
        f'2 of 5 files are not in {root}: their names differ in upper and '
        'lower case, for example 0.JPG; the folder has 0.jpg',
        f'1 of 5 files are not in {root}: their names have another suffix, '
        'for example 2.jpg; the folder has 2.png',
        f'1 of 5 files are not in {root}: their names are URLs, for example '
        'https://a.b/0.jpg; the folder has 0.jpg',
    ]


def test_nothing_is_missing(folder, monkeypatch):
    """Each folder is listed once; an address is not listed."""
    root = folder('a/0.jpg', 'a/1.jpg', '2.jpg')
    listed, plain = [], os.listdir
    monkeypatch.setattr(
        os, 'listdir', lambda path: listed.append(path) or plain(path)
    )
    assert absent(['a/0.jpg', 'a/1.jpg', '2.jpg'], root) == ([], [])
    assert sorted(listed) == [f'{root}/', f'{root}/a']
    assert absent(['far/away.jpg'], 's3://bucket') == ([], [])
    assert absent(['0.jpg'], 'nowhere') == (
        *(['0.jpg'], ['nowhere/0.jpg is not there']),
    )

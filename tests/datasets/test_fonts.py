"""Fonts for class names in any script."""

import warnings

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, pyplot

from pvt_mm.datasets import fonts


def write_font(path, name, text):
    """A font whose letters are boxes."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = {ord(c): f'g{ord(c)}' for c in text}
    order = ['.notdef', *names.values()]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(order)
    font.setupCharacterMap(names)
    font.setupGlyf({glyph: pen.glyph() for glyph in order})
    font.setupHorizontalMetrics(dict.fromkeys(order, (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({'familyName': name, 'styleName': 'Regular'})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return str(path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with two fonts more; and what is logged."""
    latin = ''.join(map(chr, range(33, 127)))
    files = [
        write_font(tmp_path / 'han.ttf', 'Han Test', f'{latin}叶子石头'),
        write_font(tmp_path / 'thai.ttf', 'Thai Test', 'ใบไม้'),
    ]
    (tmp_path / 'broken.ttf').write_text('no font')
    files.append(str(tmp_path / 'broken.ttf'))
    said = []
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: files)
    monkeypatch.setattr(fonts, 'print_log', lambda text, *_: said.append(text))
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, 'ttflist', [*manager.ttflist])
    with matplotlib.rc_context(), warnings.catch_warnings():
        yield said


def glyph_warnings(texts, **style):
    """How many warnings drawing gives."""
    figure = pyplot.figure()
    for text in texts:
        figure.text(0.1, 0.1, text, **style)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        figure.canvas.draw()
    pyplot.close(figure)
    return len([w for w in found if 'Glyph' in str(w.message)])


@pytest.mark.parametrize(
    ('names', 'first'),
    [
        (['moss', 'stone'], None),
        (['камень', 'λίθος', 'pièce 1'], None),
        (['叶子', 'stone'], 'Han Test'),
        (['ใบไม้'], 'Thai Test'),
        (['石头', '1'], 'Han Test'),
    ],
)
def test_names_are_legible_in_plots_and_pictures(machine, names, first):
    before = matplotlib.rcParams['font.sans-serif'][0]
    fonts.use_font_for(names)
    assert matplotlib.rcParams['font.sans-serif'][0] == first or before
    assert machine == []
    assert glyph_warnings(names) == 0
    assert glyph_warnings(names, family='sans-serif') == 0  # mmengine's


@pytest.mark.parametrize(
    ('names', 'letter', 'package'),
    [
        (['夜', 'moss'], '夜', 'fonts-noto-cjk'),
        (['돌'], '돌', 'fonts-noto-cjk'),
        (['पत्ता'], None, 'fonts-noto-core'),
        (['叶', 'ใบ'], '叶', 'fonts-noto-cjk'),
        (['叶', 'камень', '夜'], None, ''),
    ],
)
def test_a_script_without_a_font_is_one_sentence(
    machine, names, letter, package
):
    fonts.use_font_for(names)
    (said,) = machine
    assert f'apt-get install {package}' in said
    assert letter is None or f'{letter} for example' in said
    figure = pyplot.figure()
    figure.text(0.1, 0.1, names[0])
    with warnings.catch_warnings(record=True) as found:
        figure.canvas.draw()
    pyplot.close(figure)
    assert not found

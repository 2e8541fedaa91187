"""Let matplotlib draw class names in any script that a font here has."""

import unicodedata
import warnings
from collections.abc import Iterable
from logging import WARNING

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from mmengine.logging import print_log

PLACEHOLDER = 'Last Resort'  # matplotlib's own font of boxes for all letters
EAST_ASIAN = ('CJK', 'HIRAGANA', 'KATAKANA', 'HANGUL', 'BOPOMOFO')


def use_font_for(texts: Iterable[str]) -> None:
    """Set matplotlib's font so that texts are legible; or say what to do.

    One font for all letters: mmengine's visualizers take no second one.
    """
    wanted = {ord(c) for text in texts for c in text if not c.isspace()}
    default = font_manager.findfont(font_manager.FontProperties())
    missing = wanted - letters(default)
    if not missing:
        return
    fonts = installed()
    best = min(fonts, key=lambda name: len(wanted - fonts[name]))
    if len(wanted - fonts[best]) < len(missing):
        missing = wanted - fonts[best]
        others = matplotlib.rcParams['font.sans-serif']
        matplotlib.rcParams['font.sans-serif'] = [best, *others]
    if missing:
        letter = chr(max(missing))
        script = unicodedata.name(letter, '').split(' ')[0]
        package = 'cjk' if script in EAST_ASIAN else 'core'
        print_log(
            f'No font here has all letters of the class names, {letter} for '
            'example, so pictures have boxes: install a Noto Sans font '
            f'(Debian, Ubuntu: apt-get install fonts-noto-{package})',
            'current',
            WARNING,
        )
        warnings.filterwarnings('ignore', 'Glyph .* missing from')


def installed() -> dict[str, set[int]]:
    """The letters of each font, by its name; also of new fonts."""
    manager = font_manager.fontManager
    known = {font.fname for font in manager.ttflist}
    for path in {*font_manager.findSystemFonts()} - known:
        try:
            manager.addfont(path)
        except (OSError, RuntimeError):  # of a kind that FreeType refuses
            continue
    return {
        font.name: letters(font.fname)
        for font in manager.ttflist
        if not font.name.startswith(PLACEHOLDER)
    }


def letters(path: str) -> set[int]:
    """The code points that a font file has."""
    return {*FT2Font(path).get_charmap()}

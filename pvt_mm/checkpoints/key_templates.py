"""The language of the tables: 'block{i+1}.{j}.{rest}' is read and written."""

import re
from functools import cache
from typing import NamedTuple

HOLE = re.compile(r'\{(?P<name>\w+)(?:\+(?P<offset>\d+))?\}')
WORDS = {'leaf': r'[^.]+', 'rest': r'.+'}  # every other hole is a number
NUMBER = '0|[1-9][0-9]{0,3}'  # in one way of writing only

Values = dict[str, str | int]


class Template(NamedTuple):
    """A key with holes.

    A hole ``{i}`` is a number, ``{i+1}`` one that is written 1 higher,
    ``{leaf}`` a name without dots, ``{rest}`` anything.
    """

    text: str
    pattern: re.Pattern

    def read(self, key: str) -> Values | None:
        """What fills the holes in key, or None if it does not fit."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        values = dict(match.groupdict())
        for hole in HOLE.finditer(self.text):
            name = hole['name']
            if name not in WORDS:
                values[name] = int(values[name]) - int(hole['offset'] or 0)
                if values[name] < 0:
                    return None
        return values

    def write(self, values: Values) -> str:
        """The key with these values in its holes."""

        def fill(hole: re.Match) -> str:
            value = values[hole['name']]
            if hole['name'] in WORDS:
                return value
            return str(value + int(hole['offset'] or 0))

        return HOLE.sub(fill, self.text)


@cache
def template(text: str) -> Template:
    """Read the text of a template."""
    pattern, end = '', 0
    for hole in HOLE.finditer(text):
        word = WORDS.get(hole['name'], NUMBER)
        pattern += re.escape(text[end : hole.start()])
        pattern += f'(?P<{hole["name"]}>{word})'
        end = hole.end()
    return Template(text, re.compile(pattern + re.escape(text[end:])))


class Rule(NamedTuple):
    """One row of a table: a foreign key beside ours.

    A tuple holds the parts of one tensor, concatenated along their first
    axis; ``shares`` are their relative lengths. A key that begins with '/'
    stands outside the backbone. ``change`` names what happens to the values
    (changes.py). ``alias`` marks one more foreign name of a tensor that an
    earlier row has brought; it is written once per key of ours that fits
    ``alias``.
    """

    foreign: str | tuple[str, ...]
    ours: str | tuple[str, ...]
    shares: tuple[int, ...] = ()
    change: str = ''
    alias: str = ''


class Dialect(NamedTuple):
    """How one code base names the weights of one family.

    Args:
        name: of the code base.
        family: the backbone that we build for it.
        marks: keys that only this dialect has; what stands before the first
            one is the prefix of the backbone.
        rules: the table; the first row that fits a key counts.
        classifier: prefix of the backbone beside a classification head.
        model: prefix of the backbone in a detector or segmentor.
        container: entry of the file that holds the weights, if any.
    """

    name: str
    family: str
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    classifier: str = ''
    model: str = 'backbone.'
    container: str = ''


def parts(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    """The templates of one side of a row."""
    return (keys,) if isinstance(keys, str) else keys

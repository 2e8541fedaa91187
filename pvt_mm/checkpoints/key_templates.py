"""Templates of keys, and the rows of the tables that map keys with them."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from torch import Tensor

FIELD = re.compile(r'\{(?P<name>\w+)(?:\+(?P<offset>\d+))?\}')
WORDS = {'name': r'[^.]+', 'rest': r'.+'}  # every other field is a number
NUMBER = '0|[1-9][0-9]{0,3}'  # no leading zeros: one spelling per number

State = Mapping[str, Tensor]
Values = dict[str, str | int]


class Template(NamedTuple):
    """A key with fields, such as ``block{i+1}.{j}.{rest}``.

    A field ``{i}`` is a number, ``{i+1}`` one that is written 1 higher,
    ``{name}`` a name without dots, ``{rest}`` anything.
    """

    text: str
    pattern: re.Pattern

    def read(self, key: str) -> Values | None:
        """The values of the fields in a key, or None if it does not match."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        values = dict(match.groupdict())
        for field in FIELD.finditer(self.text):
            name = field['name']
            if name not in WORDS:
                values[name] = int(values[name]) - int(field['offset'] or 0)
                if values[name] < 0:
                    return None
        return values

    def write(self, values: Values) -> str:
        """The key with these values in its fields."""

        def fill(field: re.Match) -> str:
            value = values[field['name']]
            if field['name'] in WORDS:
                return value
            return str(value + int(field['offset'] or 0))

        return FIELD.sub(fill, self.text)


@cache
def template(text: str) -> Template:
    """Parse the text of a template."""
    pattern, end = '', 0
    for field in FIELD.finditer(text):
        word = WORDS.get(field['name'], NUMBER)
        pattern += re.escape(text[end : field.start()])
        pattern += f'(?P<{field["name"]}>{word})'
        end = field.end()
    return Template(text, re.compile(pattern + re.escape(text[end:])))


class ValueMapping(NamedTuple):
    """What happens to the values of a tensor, in both directions.

    Args:
        to_ours: their tensor -> ours.
        from_ours: our tensor -> theirs.
        text: what ``to_ours`` does, for the report of a conversion.
    """

    to_ours: Callable[[Tensor], Tensor]
    from_ours: Callable[[Tensor], Tensor]
    text: str


class Row(NamedTuple):
    """One row of a table: a key of another format beside ours.

    Args:
        theirs: template of their key; a tuple for the parts of one tensor,
            concatenated along their first axis. A key outside the backbone
            begins with '/'.
        ours: template of our key, likewise.
        shares: relative lengths of the parts of a tuple.
        values: what happens to the values; None for nothing.
        alias: for a tensor stored under several names (MPViT's shared
            encodings): a template of our keys; one further name is written
            per match.
    """

    theirs: str | tuple[str, ...]
    ours: str | tuple[str, ...]
    shares: tuple[int, ...] = ()
    values: ValueMapping | None = None
    alias: str = ''


# Ends of our own keys, for the patterns in ``CheckpointFormat.keys``.
WEIGHTS = r'\.(weight|bias)'
BATCH_NORM = r'bn\.(weight|bias|running_mean|running_var|num_batches_tracked)'


class CheckpointFormat(NamedTuple):
    """How one code base names the weights of one family.

    Args:
        name: of the code base; pvt_mm for our own names.
        family: the backbone that we build for it.
        signature: keys that only this format has; what stands before the
            first one is the prefix of the backbone.
        table: its keys beside ours; the first row that matches counts.
            Empty for our own names.
        classifier: prefix of the backbone beside a classification head.
        model: prefix of the backbone in a detector or segmentor.
        container: entry of the file that holds the weights, if any.
        keys: of our own names, patterns of every key that a backbone can
            have, without prefix.
    """

    name: str
    family: str
    signature: tuple[str, ...]
    table: tuple[Row, ...] = ()
    classifier: str = ''
    model: str = 'backbone.'
    container: str = ''
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.name} {self.family}'


def parts(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    """The templates of one side of a row."""
    return (keys,) if isinstance(keys, str) else keys

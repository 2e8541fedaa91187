"""docs/api.md: the public names, from their signatures and docstrings.

A public name is one in ``__all__`` of a package below. Docstrings are plain
text with the sections Args, Attributes, Shape, Returns, Yields and Raises.
"""

import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from types import GenericAlias

from pvt_mm.config.paths import HOME

PAGE = Path('docs/api.md')
PACKAGES = (
    'pvt_mm',
    'pvt_mm.models.backbones',
    'pvt_mm.models.layers',
    'pvt_mm.models.classifiers',
    'pvt_mm.models.decode_heads',
    'pvt_mm.checkpoints',
    'pvt_mm.datasets',
    'pvt_mm.datasets.synthetic',
    'pvt_mm.evaluation',
    'pvt_mm.inference',
    'pvt_mm.demo',
)
HEAD = """# Reference

Written by `tools/render_pages.py api` from the signatures and docstrings of
the public names. Everything else may change.
"""
SECTION = re.compile(r'^(Args|Attributes|Shape|Returns|Yields|Raises):$')
ENTRY = re.compile(r'^    ([\w.]+): (.*)$')
ROLE = re.compile(r':\w+:`([^`]+)`')
# Addresses and defaults that are objects are shown by their names.
OBJECT = re.compile(r'<(?:class|function) \'?([\w.]+)\'?(?: at 0x\w+)?>')
# Where a name in a signature comes from.
PLACE = re.compile(r'\b(?:[a-z_]\w*\.)+(?=[A-Z])')
LONG = 75  # characters of a signature on one line


def render() -> str:
    """The page; a name that several packages give is where it is first."""
    seen: set[int] = set()
    parts = [HEAD]
    for name in PACKAGES:
        package = import_module(name)
        names = sorted(package.__all__, key=str.lower)
        public = [(key, getattr(package, key)) for key in names]
        fresh = [
            (key, value) for key, value in public if id(value) not in seen
        ]
        seen |= {id(value) for _, value in fresh}
        if fresh:
            parts.append(f'## {name}\n\n{text(inspect.getdoc(package))}\n')
            parts += [describe(key, value) for key, value in fresh]
    return '\n'.join(parts)


def describe(name: str, value: object) -> str:
    """A heading, the signature, and the docstring; methods below a class."""
    if not callable(value) or isinstance(value, GenericAlias):
        return f'### {name}\n\n```text\n{name} = {value!r}\n```\n'
    parts = [f'### {name}', signature(name, value), text(doc_of(value))]
    if inspect.isclass(value):
        for key, method in sorted(vars(value).items()):
            if is_public_method(key, method):
                function = getattr(value, key)
                heading = signature(f'{name}.{key}', function)
                parts += [heading, text(inspect.getdoc(function))]
    return '\n\n'.join(filter(None, parts)) + '\n'


def doc_of(value: object) -> str:
    """Its docstring, unless Python made that one up."""
    doc = inspect.getdoc(value) or ''
    made_up = inspect.isclass(value) and 'Create new instance of' in doc
    return '' if made_up or isinstance(value, partial) else doc


def is_public_method(key: str, method: object) -> bool:
    """Whether a method is documented and not Python's or PyTorch's own."""
    plain = inspect.isfunction(method) or isinstance(
        method, classmethod | staticmethod
    )
    return plain and not key.startswith('_') and bool(method.__doc__)


def signature(name: str, value: object) -> str:
    """How it is called, a parameter per line if it is long."""
    try:
        call = inspect.signature(value)
    except (TypeError, ValueError):
        return ''
    parameters = [p for p in call.parameters.values() if p.name != 'self']
    if inspect.isclass(value):
        call = call.replace(return_annotation=inspect.Signature.empty)
    plain = without_modules(call.replace(parameters=parameters))
    if len(name + plain) > LONG:
        rows = [f'    {without_modules(p)},' for p in parameters]
        kinds = [parameter.kind for parameter in parameters]
        keyword = inspect.Parameter.KEYWORD_ONLY
        variable = inspect.Parameter.VAR_POSITIONAL
        if keyword in kinds and variable not in kinds:
            rows.insert(kinds.index(keyword), '    *,')
        result = plain.rpartition(')')[2]
        plain = '\n'.join(['(', *rows, f'){result}'])
    return f'```text\n{name}{plain}\n```'


def without_modules(value: object) -> str:
    """A signature or a parameter, its types without their modules."""
    return PLACE.sub('', OBJECT.sub(r'\1', str(value)))


def text(doc: str | None) -> str:
    """A docstring as markdown: sections are bold, their entries a list."""
    lines = ROLE.sub(r'`\1`', doc or '').replace('``', '`').splitlines()
    shown, inside = [], ''
    for line in lines:
        if match := SECTION.match(line):
            inside = match[1]
            shown += [f'**{inside}**', '']
        elif line and not line.startswith(' '):
            inside = ''
            shown.append(line)
        elif inside and (match := ENTRY.match(line)):
            shown.append(f'- `{match[1]}`: {match[2]}')
        elif inside and line.strip():
            deep = line.startswith(' ' * 8)
            shown.append('  ' + line.strip() if deep else line.strip())
        else:
            shown.append(line)
    return '\n'.join(shown).strip()


def main() -> None:
    """Write the page if it is not as it should be."""
    path = HOME / PAGE
    content = render()
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
        print(PAGE)

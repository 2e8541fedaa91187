"""Find the commands of a page and give them to the commands' own parsers."""

import argparse
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pvt_mm import cli

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r'^(<!-- run -->\n+)?```(\w+)\n(.*?)^```$', re.M | re.S)
FILE = re.compile(r'# (\w+\.py)\n')
# What code in the text must begin with to be a command of ours.
INLINE = re.compile(
    r'`((?:[A-Z_]+=\S* )*'
    r'(?:pvt_mm(?= [a-z-])|(?:make|python|pip|torchrun|tools/\S+)\b)[^`]*)`'
)
# Programs of others, which a page may name as they are.
OTHERS = {'sed', 'sh', 'source', 'git', 'cd', 'pre-commit', 'rm', 'mkdir'}
OTHERS |= {'apt-get'}


class Parsed(Exception):
    """A parser accepted its command line."""


def blocks(page, language):
    """(whether marked to be run, code) of each block of a language."""
    for marked, name, code in BLOCK.findall(page.read_text()):
        if name == language:
            yield bool(marked), code


def files(page):
    """Files that a page tells to save: name -> content."""
    found = {}
    for _, code in blocks(page, 'python'):
        if match := FILE.match(code):
            found[match[1]] = code
    return found


def commands(page):
    """The words of each command of a page, in blocks and in the text."""
    text = page.read_text()
    lines = [
        line
        for _, code in blocks(page, 'bash')
        for line in code.replace('\\\n', ' ').splitlines()
    ]
    lines += INLINE.findall(re.sub(r'```.*?```', '', text, flags=re.S))
    for line in lines:
        words = shlex.split(line, comments=True)
        for part in ' '.join(map(shlex.quote, words)).split(" '&&' "):
            words = shlex.split(part)
            while words and re.match(r'[A-Z_]+=', words[0]):
                words.pop(0)
            if words:
                yield words


def resolve(words, page):
    """Words -> (command of pvt_mm, arguments); None if it is checked here.

    Raises:
        AssertionError: there is no such command, file, target or extra.
    """
    program, *rest = words
    if program == 'torchrun':
        starts = [i for i, w in enumerate(rest) if w.startswith('tools/')]
        at = starts[0] if starts else rest.index('-m')
        return resolve(['python', *rest[at:]], page)
    if program == 'python':
        if rest[0] == '-m':
            return resolve_module(*rest[1:])
        return None if rest[0] in files(page) else resolve(rest, page)
    if program == 'pvt_mm':
        return (rest[0], rest[1:]) if rest else None
    if program == 'make':
        return check_make(rest)
    if program == 'pip':
        return check_extra(rest)
    if program in OTHERS:
        return None
    assert program.startswith('tools/'), f'unknown command: {words}'
    assert (ROOT / program).is_file(), words
    name = Path(program).stem
    if program.endswith('.sh'):
        return resolve_shell(name, rest)
    if name in ('train', 'test'):
        return name, rest
    if name == 'render_pages':
        assert all((ROOT / f'tools/render/{x}.py').is_file() for x in rest)
        return None
    assert not rest, f'{program} takes no arguments: {words}'
    return None


def resolve_module(module, *words):
    """What ``python -m module`` starts, as :func:`resolve`."""
    if module == 'pvt_mm':
        return (words[0], words[1:]) if words else None
    if module == 'pvt_mm.doctor':
        return 'doctor', words
    if module not in ('pytest', 'ruff', 'pip'):
        assert find_spec(module) and not words, module
    return None


def resolve_shell(name, words):
    """What a script for several processes gives to its command."""
    if not words:
        return None
    launcher, command = name.split('_')
    if launcher == 'bare':
        return None
    if launcher == 'slurm':
        return command, words[2:]
    config, *rest = words
    inner = [config, rest.pop(0)] if command == 'test' else [config]
    assert rest[0].isdigit() or rest[0].isupper(), words
    return command, [*inner, *rest[1:]]


def check_make(words):
    """Stop unless the Makefile has these targets."""
    targets = re.findall(
        r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.M
    )
    for word in words:
        assert '=' in word or word in targets, f'make {word}'


def check_extra(words):
    """Stop at an extra that setup.py does not have."""
    for extra in re.findall(r'pvt_mm\[(\w+)\]', ' '.join(words)):
        assert f"'{extra}': [" in (ROOT / 'setup.py').read_text(), words


def parse(command, words, monkeypatch):
    """Stop unless the command's own parser accepts these words."""
    option = command.startswith('-')
    assert option or command in cli.COMMANDS, f'no command {command}'
    words = [word for word in words if word != '...']
    if option or '--help' in words or not words:
        return
    plain = argparse.ArgumentParser.parse_args

    def read(self, args=None, namespace=None):
        if words[0].startswith('--'):  # the text speaks of an option alone
            assert words[0] in self._option_string_actions, words
        else:
            plain(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', read)
    monkeypatch.setattr(sys, 'argv', [command, *words])
    try:
        with pytest.raises(Parsed):
            cli.start(command)
    except SystemExit as stop:
        raise AssertionError(f'{command} {words}') from stop
    finally:
        monkeypatch.undo()

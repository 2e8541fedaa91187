"""The table of SECURITY.md has every argument that names a file to read."""

import argparse
import re
import sys
from pathlib import Path

import pytest

from pvt_mm import cli

TABLE = (Path(__file__).parents[1] / 'SECURITY.md').read_text()
LISTED = set(re.findall(r'`([a-z-]+ [a-z-]+)`', TABLE))
# Arguments that are texts and name no file to read: what is written, devices,
# names, and folders of data sets, whose files a config lists.
OTHERS = {
    *('--out', '--show-dir', '--picture', 'target', '--device', '--host'),
    *('names', '--data-root', '--set', '--local-rank'),
}
READ = {'export target', 'reproduce --out'}  # in spite of their names


class Found(Exception):
    """A parser was asked to parse."""


def arguments(command, monkeypatch):
    """The arguments of a command that are texts."""

    def stop(self, *_):
        raise Found(self)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', stop)
    monkeypatch.setattr(sys, 'argv', [command])
    with pytest.raises(Found) as found:
        cli.load(command)()
    for action in found.value.args[0]._actions:
        text = action.type in (None, Path) and action.choices is None
        if text and action.nargs != 0:
            yield (action.option_strings or [action.dest])[0]


@pytest.mark.parametrize('command', sorted({*cli.COMMANDS} - {'doctor'}))
def test_every_file_that_a_command_reads_is_in_the_table(command, monkeypatch):
    names = {f'{command} {name}' for name in arguments(command, monkeypatch)}
    others = {f'{command} {name}' for name in OTHERS} - READ
    listed = {name for name in LISTED if name.split()[0] == command}
    assert listed == names - others

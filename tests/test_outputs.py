"""What remains of every command that writes to a disk with a fault.

The table of docs/reliability.md is what these tests see.
"""

import io
import json
import shutil
import sys
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from disks import can_mount, files, start
from small_runs import draw_with_models, outcome

from pvt_mm import cli

PAGE = Path(__file__).parents[1] / 'docs/reliability.md'
# What is run, in words of the table -> its command line; {out} is what it
# writes, with a suffix if it is a file.
DET, SEG = 'det.py det.pth', 'seg.py seg.pth'
COMMANDS = {
    'train': 'train det.py --no-sanity-check --work-dir {out}',
    'test': f'test {DET} --work-dir {{out}}',
    'test --out F.pkl': f'test {DET} --out {{out}}.pkl',
    'test --out FOLDER': f'test {SEG} --out {{out}}',
    'test --show-dir, objects': f'test {DET} --show-dir {{out}}',
    'test --show-dir, label maps': f'test {SEG} --show-dir {{out}}',
    'infer, objects': f'infer {DET} coco/val2017 --out {{out}}',
    'infer, label maps': f'infer {SEG} coco/val2017 --out {{out}}',
    'infer, video': f'infer {DET} x.mp4 --out {{out}}',
    'analyze-log': 'analyze-log scalars.json --out {out}.png',
    'analyze-results': 'analyze-results seg.py maps --out {out}',
    'visualize-features': 'visualize-features pvt_v2_b0 x.png --out {out}.png',
    'convert': 'convert backbone.pth {out}.pth',
    'convert --force': 'convert backbone.pth {out}.safetensors --force',
    'export': 'export det.py --out {out}.pt2',
    'export --force': 'export det.py --force --out {out}.pt2',
    'check-dataset --out': 'check-dataset det.py --out {out}.json',
    'check-dataset --picture': 'check-dataset det.py --picture {out}.png',
    'browse-dataset': 'browse-dataset det.py --number 2 --out {out}',
    'draw-data': 'draw-data --images 4 --out {out}',
    'reproduce': 'reproduce --results published.csv --out {out}',
}
COLUMNS = (
    *('full disk', 'read-only', 'file for a folder'),
    *('symlink', 'used folder', 'two at once'),
)
WRITES = ('--out', '--work-dir', '--show-dir', '--picture', 'target')


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """What the commands read."""
    folder = draw_with_models(tmp_path_factory.mktemp('inputs'))
    whole = torch.load(folder / 'det.pth')
    mark = 'backbone.'
    backbone = {
        key.removeprefix(mark): value
        for key, value in whole.items()
        if key.startswith(mark)
    }
    torch.save(backbone, folder / 'backbone.pth')
    image = np.full((64, 64, 3), 90, np.uint8)
    cv2.imwrite(str(folder / 'x.png'), image)
    code = cv2.VideoWriter_fourcc(*'mp4v')
    video = cv2.VideoWriter(str(folder / 'x.mp4'), code, 5, (64, 64))
    for _ in range(4):
        video.write(image)
    video.release()
    lines = [{'loss': 1 / n, 'lr': 0.1, 'iter': n} for n in range(1, 9)]
    text = '\n'.join(map(json.dumps, lines))
    (folder / 'scalars.json').write_text(text)
    return folder


class Runs:
    """The runs of one command, each in folders of its own."""

    def __init__(self, name, inputs, folder):
        self.name, self.inputs, self.folder = name, inputs, folder
        self.number, self.out = 0, 'out'

    def run(self, fault='', older=None, number=1):
        """Statuses, the files before and after, and what was printed."""
        self.number += 1
        base = self.folder / str(self.number)
        self.place = base / 'place'
        self.place.mkdir(parents=True)
        if older and not fault:
            shutil.copytree(
                older, self.place, symlinks=True, dirs_exist_ok=True
            )
            older = None
        words = COMMANDS[self.name].format(out=self.place / self.out).split()
        logs = [base / f'{i}.log' for i in range(number)]
        running = [
            start(words, log, self.inputs, self.place, fault, older)
            for log in logs
        ]
        for process in running:
            assert outcome(process, 300) == 0, logs[0].read_text()
        seen = [json.loads(x.with_suffix('.json').read_text()) for x in logs]
        said = [log.read_text(errors='replace') for log in logs]
        for text in said:
            assert 'Traceback' not in text, text
        # of two at once, when both have ended
        after = seen[0]['after'] if fault else files(self.place)
        assert not [name for name in after if '.part' in name]
        statuses = [one['status'] for one in seen]
        for status, text in zip(statuses, said, strict=True):
            errors = [x for x in text.splitlines() if x.startswith('error: ')]
            assert len(errors) == (status == 1), text
        return statuses, seen[0]['before'], after, said


def is_log(name):
    """Whether a file belongs to the logs of a work dir."""
    ends = ('.log', '.lock', '.py', 'last_checkpoint', 'last_evaluation')
    return '/vis_data/' in name or name.endswith(ends)


def left(before, after):
    """What is left, in words of the table."""
    old = {k: v for k, v in before.items() if not is_log(k)}
    now = {k: v for k, v in after.items() if not is_log(k)}
    if not set(old.values()) <= set(now.values()):
        return 'new files'
    if now == old:
        return 'what was there'
    return 'what was there, new files'


def whole(path):
    """Read a file as who needs it would; an error if it is not complete."""
    kind = path.suffix
    if kind in ('.png', '.jpg'):
        assert cv2.imread(str(path)) is not None, path
    elif kind == '.json' and 'vis_data' not in path.parts:
        text = path.read_text()
        assert text and json.loads(text) is not None
    elif kind == '.pth':
        torch.load(path, weights_only=False)
    elif kind == '.pt2':
        assert zipfile.ZipFile(path).testzip() is None
    elif kind == '.mp4':
        assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 4


def all_whole(folder):
    for path in folder.rglob('*'):
        if path.is_file() and not is_log(str(path)):
            whole(path)


def observe(name, inputs, folder):
    """The row of the table of a command."""
    runs = Runs(name, inputs, folder)
    statuses, _, first, said = runs.run()
    assert statuses == [0], said
    all_whole(runs.place)
    older = folder / 'older'
    shutil.copytree(runs.place, older, symlinks=True)
    for path in older.rglob('*'):
        if path.is_file():  # else an equal file could take its place
            path.write_bytes(path.read_bytes() + b'\n')
    row = []
    for fault in ('full', 'read-only'):
        # what is drawn already is not drawn again
        there = None if name == 'draw-data' else older
        statuses, before, after, said = runs.run(fault, there)
        reason = {'full': 'no space left on device', 'read-only': 'read-only'}
        if statuses != [0] and 'there already' not in said[0]:
            assert reason[fault] in said[0], said[0]
            assert str(runs.place) in said[0]
        row.append(f'{statuses[0]}: {left(before, after)}')
    blocked = folder / 'blocked'
    blocked.mkdir()
    (blocked / 'out').write_text('a file')
    runs.out = 'out/x' if '{out}.' in COMMANDS[name] else 'out'
    statuses, before, after, said = runs.run('', blocked)
    runs.out = 'out'
    assert str(runs.place / 'out') in said[0]
    row.append(f'{statuses[0]}: {left(before, after)}')
    linked = folder / 'linked'
    shutil.copytree(older, linked, symlinks=True)
    (linked / 'victim').write_text('of somebody else')
    names = [k for k in first if not is_log(k)]
    for link in names:
        path = linked / link
        path.unlink()
        up = '../' * (len(Path(link).parts) - 1)
        path.symlink_to(f'{up}victim')
    statuses, before, after, _ = runs.run('', linked)
    assert after.pop('victim') == before.pop('victim')
    row.append(f'{statuses[0]}: {left(before, after)}')
    statuses, before, after, _ = runs.run('', older)
    all_whole(runs.place)
    row.append(f'{statuses[0]}: {left(before, after)}')
    statuses, before, after, _ = runs.run(number=2)
    all_whole(runs.place)
    row.append(' and '.join(map(str, sorted(statuses))))
    return row


def line(name, row):
    return f'| `{name}` | ' + ' | '.join(row) + ' |'


@pytest.mark.slow
@pytest.mark.skipif(
    not can_mount(),
    reason='needs root, or user namespaces, for mounts of its own',
)
@pytest.mark.parametrize('name', COMMANDS)
def test_what_remains_of_a_command(name, inputs, tmp_path):
    row = observe(name, inputs, tmp_path)
    print(line(name, row))
    assert line(name, row) in PAGE.read_text().splitlines()


@pytest.mark.parametrize('command', cli.COMMANDS)
def test_every_command_that_writes_has_a_row(command, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [command, '--help'])
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        cli.start(command)
    writes = any(f'  {option} ' in text.getvalue() for option in WRITES)
    assert writes == any(
        words.split()[0] == command for words in COMMANDS.values()
    )

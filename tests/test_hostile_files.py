"""Hostile and damaged files, given to every command that reads their kind.

Each is an error of one sentence or is left out; it is never a traceback,
runs nothing, and writes no control character to the terminal.
"""

import gzip
import io
import json
import pickle
import re
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hostile_images import png
from small_runs import draw_with_models
from weight_files import Evil, rezipped, saved

from pvt_mm import cli

PAGE = Path(__file__).parents[1] / 'docs/reliability.md'
DEEP = 2_000_000
TITLE = '\x1b]0;title\x07\nerror: all is well'
CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f]')


def coco(**changes):
    """An annotation file of one image, with changes."""
    image = dict(id=1, file_name='000000000001.png', height=64, width=64)
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9], area=81)
    names = ('disc', 'square', 'triangle', 'star', 'ring')
    kinds = [dict(id=n, name=name) for n, name in enumerate(names, 1)]
    content = dict(
        images=[image], annotations=[box | dict(iscrowd=0)], categories=kinds
    )
    for key, values in changes.items():
        content[key][0] |= values
    return json.dumps(content).encode()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def zipped(name):
    """An archive of one entry."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, b'3')
    return file.getvalue()


def packed():
    """An archive that would unpack to a thousand times its size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(10_000_000))
    return file.getvalue()


ANY = {
    'empty': b'',
    'text': b'hello',
    'zeros': bytes(4096),
    'web page': b'<!DOCTYPE html><title>404</title>',
    'gzip': gzip.compress(b'hello'),
    'every byte': bytes(range(256)) * 64,
    'control characters': TITLE.encode(),
}
FILES = {
    'weights': ANY
    | {
        'pickle that runs a command': pickle.dumps(Evil()),
        'archive that runs a command': rezipped(pickle.dumps(Evil())),
        'checkpoint that runs a command': saved({'state_dict': Evil()}),
        'TorchScript': scripted(),
        'zip bomb': packed(),
        'key with control characters': saved({TITLE: torch.ones(2)}),
        'numbers': saved(3),
        'NaN': saved({'stages.0.x': torch.full((2,), float('nan'))}),
        'cut': saved({'a': torch.ones(999)})[:1000],
        'old format, cut': saved(
            {'a': torch.ones(999)}, _use_new_zipfile_serialization=False
        )[:1000],
        'pickle that asks for memory': (
            b'cbuiltins\nbytearray\n(I1000000000000\ntR.'
        ),
        'archive that asks for memory': rezipped(
            b'cbuiltins\nbytearray\n(I1000000000000\ntR.'
        ),
        'deep pickle': b'\x80\x04' + b']' * DEEP + b'a' * (DEEP - 1) + b'.',
        'pickle that never stops': b'\x80\x04' + b'N' * 9999,
        'archive without a pickle': zipped('archive/version'),
        'archive with a path out of it': zipped('../../data.pkl'),
        'function': saved({'a': print}),
        'nothing': saved(None),
        'no tensors': saved({}),
        'list': saved([torch.ones(2)]),
        'texts': saved({'a': 'x', 'b': 'y'}),
        'keys that are numbers': saved({1: torch.ones(2)}),
        'whole numbers': saved({'stages.0.x': torch.ones(2).long()}),
        'complex numbers': saved({'a': torch.ones(2, dtype=torch.cfloat)}),
        'sparse': saved({'a': torch.eye(3).to_sparse()}),
        'key of a megabyte': saved({'x' * 10**6: torch.ones(2)}),
        'one number as a billion': saved({'a': torch.ones(1).expand(10**9)}),
    },
    'annotations': ANY
    | {
        'deep list': b'[' * DEEP,
        'deep value': b'{"images": ' + b'[' * DEEP,
        'deep, complete': b'[' * DEEP + b']' * DEEP,
        'deep segmentation': coco().replace(
            b'"iscrowd": 0',
            b'"iscrowd": 0, "segmentation": ' + b'[' * DEEP + b']' * DEEP,
        ),
        'number': b'1',
        'numbers': b'{"images": [1], "annotations": [2], "categories": [3]}',
        'NaN': b'{"images": NaN}',
        'UTF-16': '{"images": []}'.encode('utf-16'),
        'NUL in a file name': coco(images=dict(file_name='a\0b.png')),
        'NUL in a folder': coco(images=dict(file_name='a\0/b.png')),
        'name of a terminal title': coco(images=dict(file_name=TITLE)),
        'class of a terminal title': coco(categories=dict(name=TITLE)),
        'absolute file name': coco(images=dict(file_name='/etc/passwd')),
        'path out of the folder': coco(images=dict(file_name='../' * 9 + 'x')),
        'long file name': coco(images=dict(file_name='x' * 5000)),
        'huge image': coco(images=dict(height=10**18)),
        'huge number': coco(images=dict(id=10**400)),
        'huge box': coco(annotations=dict(bbox=[0, 0, 1e308, 1e308])),
    },
    'image': ANY
    | {
        'cut': png(64, 64)[:60],
        'more pixels than allowed': png(15000, 15000),
        'says 30000x30000': png(30000, 30000, rows=1),
        'says 2147483647x2147483647': png(2**31 - 1, 2**31 - 1, rows=0),
        'no pixels': png(0, 0),
        'SVG': b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        'GIF': b'GIF89a' + struct.pack('<HH', 65535, 65535) + bytes(3) + b';',
        'BMP': b'BM' + struct.pack('<IHHIIii', 54, 0, 0, 54, 40, 1 << 20, -9),
    },
    'predictions': ANY
    | {
        'pickle that runs a command': pickle.dumps([Evil()]),
        'deep': b'\x80\x04' + b']' * DEEP + b'a' * (DEEP - 1) + b'.',
        'list of numbers': pickle.dumps([1, 2]),
        'entries of other kinds': pickle.dumps(
            [dict(img_id=None, ori_shape=1, pred_instances=2)]
        ),
    },
    'log': ANY
    | {
        'deep': b'[' * DEEP,
        'list': b'[1]',
        'texts': b'{"iter": "x", "loss": "y"}',
        'NaN': b'{"iter": NaN, "loss": 1}',
        'huge': b'{"iter": 1, "loss": 1' + b'0' * 400 + b'}',
        'only a step': b'{"iter": 1}',
    },
    'csv': ANY | {'long field': b'x' * 200_000, 'columns': b'a,b\n1,2\n'},
    'video': ANY | {'header': b'\x00\x00\x00\x18ftypmp42' + bytes(100)},
}
DET, SEG = 'det.py det.pth', 'seg.py seg.pth'
RUN = '--work-dir out'
# Kind of a file -> the commands that read it; it has the name in the braces.
READERS = {
    'weights': [
        'convert {x.pth} out.pth',
        'test det.py {x.pth} --work-dir out',
        'infer det.py {x.pth} images --out out',
        'train det.py --work-dir out --resume {x.pth}',
        'train det.py --work-dir out --cfg-options load_from={x.pth}',
        'train det.py --work-dir out '
        '--cfg-options model.backbone.init_cfg.type=Pretrained '
        'model.backbone.init_cfg.checkpoint={x.pth}',
        'visualize-features pvt_v2_b0 images/a.png --weights {x.pth} '
        '--out out.png',
        'export pvt_v2_b0 {x.pth} --out out.pt2',
        'demo --config det.py --weights {x.pth}',
    ],
    'annotations': [
        'check-dataset det.py --workers 0',
        'train det.py --work-dir out',
        'test det.py det.pth --work-dir out',
        'test det.py det.pth --work-dir out --no-data-check',
        'browse-dataset det.py --split val --out out',
        'infer det.py det.pth images --out out --annotations {val.json}',
        'analyze-results det.py det.pkl --out out',
    ],
    'image': [
        'infer det.py det.pth {images/b.png} --out out',
        'infer seg.py seg.pth images --out out',
        'visualize-features pvt_v2_b0 {images/b.png} --out out.png',
        'check-dataset det.py --workers 0',
        'check-dataset seg.py --workers 0',
        'test det.py det.pth --work-dir out --no-data-check',
        'test seg.py seg.pth --work-dir out --show-dir out',
        'browse-dataset seg.py --split val --out out',
        'analyze-results seg.py maps --out out',
    ],
    'predictions': ['analyze-results det.py {x.pkl} --out out'],
    'log': [
        'analyze-log {x.json} --out out.png',
        'analyze-log log.json --expected {x.json} --out out.png',
        'reproduce retinanet_pvt_v2_b0_shapes --log {x.json}',
        'reproduce retinanet_pvt_v2_b0_shapes --log log.json '
        '--expected {x.json}',
    ],
    'csv': [
        'reproduce --dry-run --results {x.csv}',
        'reproduce --results published.csv --out {out/verdicts.csv}',
    ],
    'video': ['infer det.py det.pth {x.mp4} --out out'],
}
CELLS = [
    (kind, reader) for kind, readers in READERS.items() for reader in readers
]


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """What the commands read beside the hostile file."""
    folder = draw_with_models(tmp_path_factory.mktemp('inputs'))
    (folder / 'images').mkdir()
    image = np.full((64, 64, 3), 90, np.uint8)
    cv2.imwrite(str(folder / 'images/a.png'), image)
    (folder / 'log.json').write_text(
        '{"iter": 1, "loss": 1, "coco/bbox_mAP": 0.3}'
    )
    return folder


@pytest.fixture
def place(inputs, tmp_path, monkeypatch):
    """A copy of the inputs, as the current folder."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(place, kind, reader, content):
    """Write the hostile file where the command reads it -> its words."""
    if name := re.search('{(.*)}', reader):
        targets = [name[1]]
    elif kind == 'annotations':
        targets = [
            f'coco/annotations/instances_{s}2017.json'
            for s in ('train', 'val')
        ]
    else:
        targets = []
    if kind == 'image':
        targets += ['images/b.png'] if 'images' in reader else []
        for folder in (
            'coco/val2017',
            'ade20k/images/validation',
            'maps',
            'ade20k/annotations/validation',
        ):
            targets.append(sorted((place / folder).iterdir())[-1])
    for target in targets:
        (place / target).parent.mkdir(exist_ok=True)
        (place / target).write_bytes(content)
    words = re.sub('{(.*)}', r'\1', reader).split()
    if words[-1] == 'out/verdicts.csv':
        words[-1] = 'out'
    return words


def row(kind):
    """The row of a kind in docs/reliability.md."""
    commands = dict.fromkeys(reader.split()[0] for reader in READERS[kind])
    shown = ', '.join(f'`{command}`' for command in commands)
    return f'| {kind} | {len(FILES[kind])} | {shown} |'


@pytest.mark.parametrize('kind', FILES)
def test_every_kind_of_file_has_a_row(kind):
    assert row(kind) in PAGE.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'reader'), CELLS, ids=lambda x: x[:60])
def test_hostile_files(kind, reader, place, capsys, monkeypatch):
    monkeypatch.setattr(cli, 'ignore_dead_workers', lambda: None)
    if 'det.pkl' in reader:
        (place / 'det.pkl').write_bytes(pickle.dumps([]))
    wrong = []
    for name, content in FILES[kind].items():
        shutil.rmtree(place / 'out', ignore_errors=True)
        words = put(place, kind, reader, content)
        monkeypatch.setattr(sys, 'argv', ['pvt_mm', *words])
        try:
            status = cli.main()
        except BaseException as error:
            status = f'{type(error).__name__}: {error}'
        said = ''.join(capsys.readouterr())
        lines = said.splitlines()
        if (
            status not in (0, 1)
            or CONTROL.search(said.replace('\r', ''))
            or 'error: all is well' in lines
            or status == 1 != any(x.startswith('error: ') for x in lines)
        ):
            wrong.append((name, status, said[-2000:]))
        if (place / 'ran').exists():
            wrong.append((name, 'code was run'))
    assert not wrong, '\n'.join(f'{n}: {s}' for n, s, *_ in wrong)

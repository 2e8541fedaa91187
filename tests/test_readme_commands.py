"""The README's commands, as they are printed and in their order."""

import os
import re
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import set_up
from commands import ROOT, blocks

README = ROOT / 'README.md'
# What needs COCO, ADE20K or a cluster; and what runs this test.
OTHERS = re.compile(r'_coco\b|_ade20k\b|PARTITION|^make test\b')
PAGE = 'http://127.0.0.1:7860'
pytestmark = [
    pytest.mark.slow,
    # or the copy would be installed into this environment
    pytest.mark.skipif(not set_up.ready(), reason='make setup'),
]


def printed():
    """The commands that need nothing else, with their comments."""
    lines = [
        x for _, code in blocks(README, 'bash') for x in code.splitlines()
    ]
    return [x for x in lines if not OTHERS.search(x.split('#')[0])]


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of the files under version control, with this environment."""
    folder = tmp_path_factory.mktemp('checkout')
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split('\0')):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    (folder / '.venv').symlink_to(ROOT / '.venv')
    return folder


def run(checkout, script):
    """A process group that runs lines of bash, without other variables."""
    keep = ('HOME', 'PATH', 'LANG', 'TMPDIR', 'OMP_NUM_THREADS')
    return subprocess.Popen(
        ['bash', '-euo', 'pipefail', '-c', script],
        env={k: v for k, v in os.environ.items() if k in keep},
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_commands_are_there():
    assert [x.split('#')[0].strip() for x in printed()] == [
        'make train',
        'source .venv/bin/activate',
        'make demo',
        'pvt_mm --help',
    ]


def test_commands_before_and_after_the_page(checkout):
    lines = [x for x in printed() if not x.startswith('make demo')]
    process = run(checkout, '\n'.join(lines))
    said, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    assert re.search(r'AP   0\.\d+ -> 0\.[67]', said), said
    assert 'usage: pvt_mm COMMAND' in said
    for name in ('curves.png', 'predictions.png'):
        assert (checkout / 'work_dirs/demo' / name).is_file()


@pytest.mark.skipif(
    find_spec('gradio') is None, reason='make demo, which installs gradio'
)
def test_page_opens_with_the_trained_model(checkout):
    assert (checkout / 'work_dirs/demo').is_dir()  # of the test above
    process = run(checkout, 'make demo')
    try:
        for _ in range(120):
            time.sleep(1)
            assert process.poll() is None, process.communicate()[0]
            try:
                page = urlopen(PAGE).read().decode()
            except URLError:
                continue
            assert 'pyramid vision transformers' in page
            return
        pytest.fail('no page')
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()

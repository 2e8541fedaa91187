"""Set-up: errors of one sentence, nothing done twice, repair of a break."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from urllib.parse import quote
from zipfile import ZipFile

import pytest

from pvt_mm.doctor.examine import installed as there

ROOT = Path(__file__).parents[2]
TOOLS = str(ROOT / 'tools')


# A sitecustomize module: Python ends where it would start or ask anything.
WATCH = """
import os, sys
SLOW = ('subprocess.Popen', 'os.posix_spawn', 'os.fork', 'os.exec',
        'os.system', 'socket.connect', 'time.sleep')
sys.addaudithook(lambda event, _: event in SLOW and os._exit(9))
"""


@pytest.fixture
def tools(monkeypatch):
    """The modules set_up and build_mmcv, imported as the script does."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.delenv('PVT_MM_STACK', raising=False)
    import build_mmcv
    import set_up

    return set_up, build_mmcv


@pytest.fixture
def project(tmp_path):
    """A copy of the files that set-up reads, with nothing set up."""
    shutil.copytree(TOOLS, tmp_path / 'tools')
    for name in (
        *('constraints.txt', 'constraints-onedl.txt'),
        *('setup.py', 'Makefile'),
    ):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def call(project, *command, **variables):
    """Run a command without the variables of the make that runs the tests."""
    return subprocess.run(
        command,
        env={'PATH': os.environ['PATH'], **variables},
        cwd=project,
        capture_output=True,
        text=True,
    )


def make_set_up(project, python):
    return call(project, 'make', 'setup', f'PYTHON={python}')


def refused(project, **variables):
    """Error message of a set-up in the project: one sentence."""
    done = call(project, sys.executable, 'tools/set_up.py', **variables)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def executable(path, text):
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return str(path)


@contextmanager
def served(folder, handler=SimpleHTTPRequestHandler):
    """A web server of a folder on this machine -> its address."""
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(handler, directory=folder)
    )
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def write_torch(folder, version):
    """A package index with one wheel, called torch -> its name."""
    tag = '{0}-{0}-{1}'.format(
        f'cp{sys.version_info[0]}{sys.version_info[1]}',
        sysconfig.get_platform().replace('-', '_'),
    )
    name = f'torch-{version}-{tag}.whl'
    (folder / 'torch').mkdir()
    info = f'torch-{version}.dist-info'
    with ZipFile(folder / 'torch' / name, 'w') as wheel:
        wheel.writestr('torch.py', f'__version__ = "{version}"')
        head = f'Metadata-Version: 2.1\nName: torch\nVersion: {version}\n'
        wheel.writestr(f'{info}/METADATA', head)
        wheel.writestr(f'{info}/WHEEL', f'Wheel-Version: 1.0\nTag: {tag}\n')
        wheel.writestr(f'{info}/RECORD', '')
    link = f'<a href="{quote(name)}">{name}</a>'
    (folder / 'torch/index.html').write_text(link)
    return name


@pytest.fixture
def torch_index(tools, monkeypatch):
    """Nobody is asked but who is named."""
    set_up, _ = tools
    for name in ('PVT_MM_TORCH_INDEX', 'PVT_MM_CUDA'):
        monkeypatch.delenv(name, raising=False)
    for name in ('CPU_INDEX', 'CUDA_12_INDEX'):
        monkeypatch.setattr(set_up, name, 'http://127.0.0.1:9')  # nobody
    return set_up


def test_torch_for_the_cpu_comes_from_its_index(
    torch_index, monkeypatch, tmp_path, capsys
):
    """pip takes the build of the index that is served here."""
    set_up = torch_index
    version = pins('constraints.txt')['torch'] + '+cpu'
    size = (tmp_path / 'torch' / write_torch(tmp_path, version)).stat().st_size
    monkeypatch.setattr(set_up, 'driver_version', lambda: 0)
    with served(tmp_path) as url:
        pip = f'exec {sys.executable} "$@" --no-deps --index-url {url}/none'
        pip = executable(tmp_path / 'pip', f'{pip} --target {tmp_path}/site')
        monkeypatch.setattr(set_up, 'PYTHON', pip)
        monkeypatch.setattr(set_up, 'CPU_INDEX', url)
        set_up.pip_torch()
    said = capsys.readouterr().out
    assert f'torch {version} ({size / 1e6:.0f} MB) of {url}' in said
    assert version in (tmp_path / 'site/torch.py').read_text()


def test_torch_of_pypi_if_the_index_does_not_answer(
    torch_index, monkeypatch, tmp_path
):
    set_up = torch_index
    asked = []

    class Silent(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(1)

    monkeypatch.setattr(set_up, 'PATIENCE', 0.2)
    with served(tmp_path, Silent) as url:
        monkeypatch.setenv('PVT_MM_TORCH_INDEX', url)
        index, what = set_up.choose_torch(0)
    assert asked == ['/torch/'] and index == ''
    assert what.startswith('of PyPI, for CUDA 13 (about 3 GB')
    assert 'no answer in 0 s' in what or 'timed out' in what
    monkeypatch.delenv('PVT_MM_TORCH_INDEX')
    assert 'refused' in set_up.choose_torch(0)[1]


def test_torch_of_pypi_if_the_index_has_another(
    torch_index, monkeypatch, tmp_path
):
    write_torch(tmp_path, '2.1.0+cpu')
    with served(tmp_path) as url:
        monkeypatch.setattr(torch_index, 'CPU_INDEX', url)
        index, what = torch_index.choose_torch(0)
    assert index == '' and f'{url} has none (no torch 2.' in what


def test_torch_for_the_driver(torch_index, monkeypatch, tmp_path):
    set_up = torch_index
    assert set_up.choose_torch(13000)[0] == ''
    with pytest.raises(set_up.Stop, match=r'CUDA up to 12\.4.*update the dri'):
        set_up.choose_torch(12040)
    version = pins('constraints.txt')['torch'] + '+cu126'
    write_torch(tmp_path, version)
    with served(tmp_path) as url:
        monkeypatch.setattr(set_up, 'CUDA_12_INDEX', url)
        index, what = set_up.choose_torch(12040)
        assert index == url and what.startswith(version)
        # one that is named is taken whatever the driver
        monkeypatch.setenv('PVT_MM_TORCH_INDEX', url)
        assert set_up.choose_torch(13000)[0] == url
    monkeypatch.delenv('PVT_MM_TORCH_INDEX')
    monkeypatch.setenv('PVT_MM_CUDA', '1')
    assert set_up.choose_torch(0)[0] == ''


def test_set_up_is_eight_lines(tools, monkeypatch, tmp_path, capfd):
    """Those of pip and of the doctor are printed only if they fail."""
    set_up, _ = tools
    move(set_up, monkeypatch, tmp_path)
    wheel = tmp_path / 'wheels/cp311/mmcv-2.1.0-cp311-any.whl'
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    python = executable(
        tmp_path / 'python',
        'case "$*" in *-qq* | *--key) ;; *) echo "much" ;; esac\n'
        f'case "$*" in *operators*) test -f {tmp_path}/tried\n;; '
        f'*{wheel.name}*) touch {tmp_path}/tried ;; *--key) echo cp311\nesac',
    )
    monkeypatch.delenv('PVT_MM_WHEELS', raising=False)
    monkeypatch.setattr(set_up, 'PYTHON', Path(python))
    monkeypatch.setattr(set_up, 'make_venv', set_up.VENV.mkdir)
    monkeypatch.setattr(set_up, 'choose_torch', lambda driver: ('', 'x'))
    set_up.set_up()
    said = capfd.readouterr()
    assert said.err == ''
    assert len(said.out.splitlines()) <= 8, said.out
    assert all(x.startswith('set-up: ') for x in said.out.splitlines())
    assert set_up.ready()


def move(set_up, monkeypatch, folder):
    """Let the module use the environment and cache of another folder."""
    venv = folder / '.venv'
    monkeypatch.setattr(set_up, 'VENV', venv)
    monkeypatch.setattr(set_up, 'PYTHON', venv / 'bin/python')
    monkeypatch.setattr(set_up, 'MARK', venv / 'made_by_pvt_mm')
    monkeypatch.setattr(set_up, 'CACHE', folder)


def test_make_names_a_missing_python(project):
    old = executable(project / 'python3.6', 'exit 1')
    done = make_set_up(project, old)
    assert done.returncode == 2
    assert 'No Python 3.11 to 3.13' in done.stderr
    assert 'apt-get install python3 python3-venv' in done.stderr
    assert not (project / '.venv').exists()


@pytest.mark.parametrize(
    ('limit', 'value', 'side'),
    [('OLDEST', (9, 0), 'old'), ('NEWEST', (3, 10), 'new')],
)
def test_python_that_does_not_fit(tools, monkeypatch, limit, value, side):
    set_up, _ = tools
    monkeypatch.setattr(set_up, limit, value)
    with pytest.raises(set_up.Stop, match=f'is too {side}: install Python 3'):
        set_up.main()


def test_missing_compiler_is_refused(project):
    empty = project / 'bin'
    empty.mkdir()
    text = refused(project, PATH=str(empty))
    assert 'apt-get install g++' in text
    assert not (project / '.venv').exists()


def test_missing_headers_of_python_are_refused(project):
    name = executable(project / 'g++', '! grep -q Python.h')
    text = refused(project, CXX=name)
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    assert f'apt-get install python{version}-dev' in text
    assert not (project / '.venv').exists()


def test_wheel_folder_must_exist(project):
    text = refused(project, PVT_MM_WHEELS='/no/such/folder')
    assert text.startswith('PVT_MM_WHEELS=/no/such/folder is no folder')


def test_environment_of_others_is_left_alone(project):
    name = executable(project / 'g++', 'exit 0')
    file = project / '.venv/file'
    file.parent.mkdir()
    file.write_text('mine')
    assert 'mv .venv .venv.old' in refused(project, CXX=name)
    assert file.read_text() == 'mine'


def test_missing_venv_module_is_refused(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    move(set_up, monkeypatch, tmp_path)
    monkeypatch.setattr(set_up, 'run', lambda *command, **_: 1)
    with pytest.raises(set_up.Stop, match=r'apt-get install python3\S+-venv'):
        set_up.make_venv()


def test_second_call_does_nothing(project, tools):
    set_up, _ = tools
    mark = project / '.venv/made_by_pvt_mm'
    python = project / '.venv/bin/python'
    python.parent.mkdir(parents=True)
    executable(python, 'exit 1')
    mark.write_text(set_up.digest())
    (project / 'sitecustomize.py').write_text(WATCH)
    before = contents(project)
    done = call(
        project,
        *('make', 'setup', f'PYTHON={sys.executable}'),
        PYTHONPATH=str(project),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    after = contents(project)
    assert after.pop(project / '.cache/set_up.lock') == b''
    assert after == before


def contents(folder):
    """Every file of a folder, but for compiled Python."""
    files = (path for path in folder.rglob('*') if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix != '.pyc'}


def test_change_of_a_pin_asks_for_set_up(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    pins = tmp_path / 'constraints.txt'
    pins.write_text('numpy==1\n')
    monkeypatch.setattr(set_up, 'SOURCES', (pins,))
    before = set_up.digest()
    pins.write_text('numpy==2\n')
    assert set_up.digest() != before


def test_interrupted_environment_is_made_afresh(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    move(set_up, monkeypatch, tmp_path)
    half = set_up.VENV / 'lib/half_installed.py'
    half.parent.mkdir(parents=True)
    half.write_text('')
    set_up.MARK.write_text('')
    set_up.make_venv()
    assert not half.exists()
    assert set_up.MARK.read_text() == ''
    assert set_up.run(set_up.PYTHON, '-m', 'pip', '--version') == 0


def test_complete_environment_is_kept(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    move(set_up, monkeypatch, tmp_path)
    set_up.PYTHON.parent.mkdir(parents=True)
    executable(set_up.PYTHON, 'exit 0')
    set_up.MARK.write_text('made from older pins')
    set_up.make_venv()
    assert set_up.PYTHON.exists()


def test_own_torch_is_kept(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    move(set_up, monkeypatch, tmp_path)
    site = set_up.VENV / 'lib/python3.11/site-packages'
    site.mkdir(parents=True)
    set_up.PYTHON.parent.mkdir()
    executable(set_up.PYTHON, 'echo 2.9.1')
    monkeypatch.setenv('PVT_MM_TORCH', 'keep')
    set_up.own_torch()
    linked = (site / set_up.KEPT).read_text().strip()
    assert Path(linked, 'torch').is_dir()
    monkeypatch.delenv('PVT_MM_TORCH')
    (pins,) = [path.read_text() for path in set_up.pins()]
    assert 'numpy==' in pins and 'torch==' not in pins
    executable(set_up.PYTHON, 'exit 1')
    with pytest.raises(set_up.Stop, match='has no working torch'):
        set_up.own_torch()


def test_given_wheels_come_first(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    key = 'cp311-torch2.13.0+cpu-cpu-linux_x86_64'
    given, kept = tmp_path / 'given', tmp_path / 'wheels' / key
    for folder, tag in ((given, 'cp311'), (given, 'cp312'), (kept, 'cp311')):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'mmcv-2.1.0-{tag}-{tag}-linux_x86_64.whl').touch()
    (kept / 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl.part').touch()
    monkeypatch.setattr(set_up, 'CACHE', tmp_path)
    monkeypatch.setenv('PVT_MM_WHEELS', str(given))
    name = 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
    assert set_up.wheels(key) == [given / name, kept / name]


def test_wheel_that_does_not_run_is_not_used(tools, monkeypatch, tmp_path):
    set_up, _ = tools
    paths = [Path('old.whl'), Path('broken.whl'), Path('good.whl')]
    tried = []
    monkeypatch.setattr(set_up, 'CACHE', tmp_path)
    monkeypatch.setattr(set_up, 'PYTHON', 'true')
    monkeypatch.setattr(set_up, 'check', lambda name, quiet=False: 1)
    monkeypatch.setattr(set_up, 'wheels', lambda key: [*paths, *paths])
    monkeypatch.setattr(
        set_up, 'try_wheel', lambda x: tried.append(x) or x == paths[-1]
    )
    set_up.install_mmcv()
    assert tried == paths


def test_build_that_fails_leaves_no_wheel(tools, monkeypatch, tmp_path):
    set_up, build_mmcv = tools
    monkeypatch.setattr(build_mmcv, 'CACHE', tmp_path)
    monkeypatch.setattr(build_mmcv, 'key', lambda: 'key')
    monkeypatch.setattr(build_mmcv, 'environment', lambda folder: {})
    sources = tmp_path / 'build/key/mmcv-2.1.0'
    sources.mkdir(parents=True)
    (sources / 'setup.py').write_text('raise ValueError("error: no ops")')
    with pytest.raises(build_mmcv.Stop, match='error: no ops'):
        build_mmcv.build(tmp_path / 'wheels')
    assert not list(tmp_path.glob('**/*.whl*'))


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    found = dict(x.split('==') for x in lines if not x.startswith('#'))
    assert list(found) == sorted(found, key=str.lower)
    return found


def test_wheels_for_another_environment(tools, monkeypatch, tmp_path, capsys):
    set_up, build_mmcv = tools
    import gather_wheels

    mmcv = f'{build_mmcv.FILE}-cp{sys.version_info[0]}{sys.version_info[1]}'
    (tmp_path / f'{mmcv}-any.whl').write_text('operators')
    monkeypatch.setenv('PVT_MM_WHEELS', str(tmp_path))
    monkeypatch.setattr(set_up, 'CACHE', tmp_path / 'cache')
    dist = tmp_path / 'dist'
    monkeypatch.setattr(gather_wheels, 'DIST', dist)

    def run(*command):
        assert 'wheel' in command and command[-1] == ROOT
        (dist / 'pvt_mm-9-any.whl').touch()
        return 0

    monkeypatch.setattr(gather_wheels, 'run', run)
    gather_wheels.main()
    assert (dist / f'{mmcv}-any.whl').read_text() == 'operators'
    assert (dist / 'constraints.txt').is_file()
    assert (
        f'pip install -c dist/constraints.txt dist/{mmcv}-any.whl '
        "'dist/pvt_mm-9-any.whl[upstream]'"
    ) in capsys.readouterr().out
    monkeypatch.setattr(gather_wheels, 'run', lambda *command: 1)
    with pytest.raises(set_up.Stop, match='could not build the wheel'):
        gather_wheels.main()


def test_pins_are_complete_and_installed():
    installed = pins('constraints.txt')
    names = ['mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'setuptools']
    if there(['onedl-mmcv']):  # make test STACK=onedl
        installed |= pins('constraints-onedl.txt')
        names[:4] = [name for name in installed if name.startswith('onedl-')]
    for name in names:
        assert metadata.version(name) == installed[name]


def test_versions_agree_with_the_pins(tools):
    _, build_mmcv = tools
    text = (ROOT / 'setup.py').read_text()
    for file, kind, stack in (
        ('constraints.txt', r'mm\w+', 'upstream'),
        ('constraints-onedl.txt', r'onedl-mm\w+', 'onedl'),
    ):
        lines = (ROOT / file).read_text().splitlines()
        asked = re.findall(rf"'({kind}==[\d.]+)'", text)
        assert len(asked) == 4 and set(asked) <= set(lines)
        assert '=='.join(build_mmcv.STACKS[stack]) in lines


def test_version_of_mmcv_is_written_into_its_sources(tools, tmp_path):
    """Python 3.13 gives exec() a copy of the local names."""
    _, build_mmcv = tools
    setup = tmp_path / 'setup.py'
    setup.write_text(
        "def version():\n    exec('')\n    return locals()['__version__']\n"
    )
    build_mmcv.write_version(setup)
    names = {}
    exec(setup.read_text(), names)
    assert names['version']() == build_mmcv.VERSION


def test_sources_that_pip_does_not_find(tools, tmp_path, monkeypatch):
    _, build_mmcv = tools
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    said = 'pip says: ERROR: Could not find a version'
    with pytest.raises(build_mmcv.Stop, match=said):
        build_mmcv.fetch_sources(tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_stack_is_refused(project):
    text = refused(project, PVT_MM_STACK='offdl')
    assert text.startswith('STACK=offdl is none of upstream, onedl: name')
    assert not (project / '.cache').exists()


def test_other_stack_has_its_own_environment_pins_and_wheels(project):
    code = """
import set_up, build_mmcv
from pathlib import Path
print(set_up.VENV.name, *(path.name for path in set_up.pins()))
build_mmcv.uses_cuda = lambda: False
print(build_mmcv.key().split('-')[-1])
print(*(path.name for path in set_up.wheels('cp311-x')))
"""
    for name in ('mmcv-2.1.0', 'onedl_mmcv-2.3.6', 'onedl_mmcv-2.3.5'):
        (project / f'{name}-cp311-cp311-linux_x86_64.whl').touch()
    variables = {'PVT_MM_WHEELS': str(project), 'PYTHONPATH': TOOLS}
    for stack, expected in (
        (
            'onedl',
            '.venv-onedl constraints.txt constraints-onedl.txt\nonedl\n'
            'onedl_mmcv-2.3.6',
        ),
        ('upstream', '.venv constraints.txt\nlinux_x86_64\nmmcv-2.1.0'),
    ):
        done = call(
            project,
            *(sys.executable, '-c', code),
            PVT_MM_STACK=stack,
            **variables,
        )
        tag = '-cp311-cp311-linux_x86_64.whl'
        assert done.stdout.strip() == expected + tag, done.stderr

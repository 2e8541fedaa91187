"""Weight files, the zoo, downloads and strict loading."""

import argparse
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import golden
import pytest
import safetensors.torch
import torch
from mmengine.runner import CheckpointLoader

from pvt_mm.checkpoints import (
    convert,
    download,
    load_pretrained,
    read_weights,
    strict_load,
    write_weights,
    zoo,
)
from pvt_mm.checkpoints.atomic import replacing
from pvt_mm.checkpoints.formats import (
    detect_format,
    from_ours,
    unexpected_keys,
)
from pvt_mm.errors import CheckpointError

CONVERT = [sys.executable, '-m', 'pvt_mm', 'convert']


@pytest.fixture(scope='module')
def weights():
    """Official classification weights of pvt_v2_b0."""
    torch.manual_seed(0)
    state = golden.random_state(golden.build('cls_pvt_v2_b0'))
    return from_ours(state, 'official').state


@pytest.fixture
def official(tmp_path, weights):
    """The same as a file."""
    path = tmp_path / 'pvt_v2_b0.pth'
    torch.save(weights, path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of downloads, and no folder of the user's."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.delenv(download.FOLDER, raising=False)
    return tmp_path / 'hub' / 'checkpoints'


# Files


class Evil:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def bad_file(kind: str, folder: Path, weights: dict) -> Path:
    """A file that must not be loaded."""
    path = folder / f'{kind}.pth'
    evil = {'model': Evil(folder / 'ran')}
    if kind == 'malicious_zip':
        torch.save(evil, path)
    elif kind == 'malicious_pickle':
        path.write_bytes(pickle.dumps(evil, protocol=2))
    elif kind == 'malicious_legacy':
        torch.save(evil, path, _use_new_zipfile_serialization=False)
    elif kind == 'truncated':
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        path.write_bytes(buffer.getvalue()[:-5000])
    elif kind == 'truncated_legacy':
        buffer = io.BytesIO()
        torch.save(weights, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue()[:-5000])
    elif kind == 'truncated_safetensors':
        safetensors.torch.save_file(weights, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == 'huge_header':
        path.write_bytes(struct.pack('<Q', 1 << 60) + b'{"a": 1}')
    elif kind == 'page':
        path.write_text('\n<!DOCTYPE html><html>404</html>')
    elif kind == 'text':
        path.write_text('version https://git-lfs.github.com/spec/v1\n')
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'noise':
        path.write_bytes(bytes(range(256)) * 9)
    elif kind == 'bomb':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('archive/data.pkl', bytes(1 << 26))
    elif kind == 'expanded':
        torch.save({'a': torch.zeros(1).expand(1 << 30)}, path)
    elif kind == 'no_tensors':
        torch.save({'state_dict': {'epoch': 3}}, path)
    elif kind == 'folder':
        path.mkdir()
    return path


BAD = {
    'malicious_zip': 'refused: it asks for',
    'malicious_pickle': 'refused: it asks for',
    'malicious_legacy': 'refused: it asks for',
    'truncated': 'cut short or damaged',
    'truncated_legacy': 'cut short or damaged',
    'truncated_safetensors': 'cut short or damaged',
    'huge_header': 'cut short or damaged',
    'page': 'is a web page',
    'text': 'is a text file',
    'empty': 'is empty',
    'noise': 'is not a weight file',
    'bomb': 'refused: it unpacks to 67108864 bytes',
    'expanded': 'refused: a claims 4294967296 bytes',
    'no_tensors': 'holds no tensors',
    'folder': 'is a folder',
    'missing': 'is not there',
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_files_are_refused_in_one_sentence(kind, tmp_path, weights):
    path = bad_file(kind, tmp_path, weights)
    with pytest.raises(CheckpointError) as error:
        read_weights(path)
    assert BAD[kind] in str(error.value)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()


def test_the_malicious_files_do_run_elsewhere(tmp_path, weights):
    path = bad_file('malicious_zip', tmp_path, weights)
    torch.load(path, weights_only=False)
    assert (tmp_path / 'ran').is_dir()


@pytest.mark.parametrize('kind', ['malicious_zip', 'truncated', 'page'])
def test_command_refuses_bad_files(kind, tmp_path, weights):
    path = bad_file(kind, tmp_path, weights)
    before = set(tmp_path.iterdir())
    command = [*CONVERT, path, tmp_path / 'out.pth']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert BAD[kind] in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_written_weights_read_back(ending, tmp_path):
    whole = torch.arange(100.0)
    state = {
        'a': whole[:10],
        'b': whole[10:].view(9, 10).T,
        'c': torch.ones(2),
    }
    path = tmp_path / f'w{ending}'
    write_weights(path, state)
    back = read_weights(path)
    assert set(back) == set(state)
    assert all(torch.equal(back[k], state[k]) for k in state)
    assert path.stat().st_size < 4000
    with pytest.raises(CheckpointError, match='is there already: use --force'):
        write_weights(path, {'a': torch.zeros(1)})
    assert len(read_weights(path)) == 3
    write_weights(path, {'a': torch.zeros(1)}, force=True)
    assert len(read_weights(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'w.pth'
    write_weights(path, {'a': torch.ones(3)})

    def full(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left on device'):
        write_weights(path, {'a': torch.zeros(3)}, force=True)
    monkeypatch.undo()
    assert torch.equal(read_weights(path)['a'], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_the_zoo_needs_no_scheme(tmp_path, monkeypatch):
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(tmp_path))
    torch.save({}, tmp_path / 'pvt_v2_b0.pth')
    for address in ('pvt_v2_b0', 'pvt://pvt_v2_b0'):
        assert download.locate(address) == tmp_path / 'pvt_v2_b0.pth'


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'w.pth'
    with replacing(path) as part:
        part.write_bytes(b'old')
        assert not path.exists()
    with pytest.raises(KeyError), replacing(path) as part:
        part.write_bytes(b'half')
        raise KeyError
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_bad_targets(tmp_path):
    with pytest.raises(CheckpointError, match='must end with .pth'):
        write_weights(tmp_path / 'w.bin', {})
    with pytest.raises(CheckpointError, match='is not a folder'):
        write_weights(tmp_path / 'no' / 'w.pth', {})


def test_containers_and_prefixes_are_opened(tmp_path, weights):
    path = tmp_path / 'w.pth'
    inner = {f'module.{k}': v for k, v in weights.items()}
    for entry in ('state_dict', 'model'):
        extra = argparse.Namespace(lr=1e-3)
        torch.save({entry: inner, 'args': extra, 'epoch': 3}, path)
        assert set(read_weights(path)) == set(weights)


# The command


def test_command_converts_there_and_back(tmp_path, official, weights):
    ours, back = tmp_path / 'ours.safetensors', tmp_path / 'back.pth'
    result = subprocess.run(
        [*CONVERT, official, ours], capture_output=True, text=True, check=True
    )
    assert 'official PVTv2, 178 tensors' in result.stdout
    assert '178 renamed' in result.stdout
    model = golden.build('cls_pvt_v2_b0')
    model.load_state_dict(read_weights(ours), strict=True)
    subprocess.run([*CONVERT, ours, back, '--to', 'official'], check=True)
    state = torch.load(back, weights_only=True)
    assert set(state) == set(weights)
    assert all(torch.equal(state[k], weights[k]) for k in weights)
    again = subprocess.run(
        [*CONVERT, ours, back], capture_output=True, text=True
    )
    assert again.returncode == 1
    assert 'is there already: use --force' in again.stderr


def test_no_such_form(tmp_path, official):
    with pytest.raises(CheckpointError, match='PVTv2 is known to official'):
        convert(str(official), str(tmp_path / 'w.pth'), 'detectron2')


@pytest.mark.parametrize('variant', golden.DENSE)
def test_every_name_of_ours_is_known(variant):
    with torch.device('meta'):
        model = golden.build(variant)
    keys = model.state_dict()
    ours, prefix = detect_format(keys)
    assert (ours.name, ours.family) == ('pvt_mm', type(model).__name__)
    assert prefix == ''
    assert unexpected_keys(ours, keys) == []
    assert unexpected_keys(ours, [f'{key}x' for key in keys]) == [
        f'{key}x' for key in keys
    ]


@pytest.mark.parametrize(
    ('key', 'name'),
    [
        ('block1.0.attn.foo.bar', 'stages.0.blocks.0.attn.foo.bar'),
        ('block1.0.norm3.weight', 'stages.0.blocks.0.norm3.weight'),
        ('patch_embed2.proj.gamma', 'stages.1.patch_embed.proj.gamma'),
    ],
)
def test_keys_that_a_backbone_never_has(key, name, tmp_path, weights):
    path, target = tmp_path / 'w.pth', tmp_path / 'copy.pth'
    torch.save({**weights, key: torch.ones(1)}, path)
    with pytest.raises(CheckpointError) as error:
        convert(str(path), str(target))
    said = f'w.pth: 1 keys belong to no PVTv2: {name} (in our names)'
    assert str(error.value).endswith(said)
    assert not target.exists()
    with pytest.raises(CheckpointError, match=r'unexpected \(1\)'):
        load_pretrained(golden.build('pvt_v2_b0'), str(path))


def test_numbers_have_one_way_of_writing(tmp_path, weights):
    path = tmp_path / 'w.pth'
    norm = weights['block1.0.norm1.weight']
    for number in ('01', '1' * 5000, '\u0661'):  # the last one is a 1 too
        torch.save({**weights, f'block{number}.0.norm1.weight': norm}, path)
        with pytest.raises(CheckpointError):
            convert(str(path), str(tmp_path / 'copy.pth'))
    torch.save({**weights, 'block1.0.mlp.dwconv.weight': norm}, path)
    key = 'stages.0.blocks.0.mlp.dwconv.weight'
    with pytest.raises(CheckpointError, match=f'two keys .* mean {key}'):
        convert(str(path), str(tmp_path / 'copy.pth'))


@pytest.mark.parametrize(
    ('value', 'words'),
    [(torch.nan, 'holds NaN or infinity'), (torch.inf, 'holds NaN or inf')],
)
def test_nan_and_infinity_are_refused(value, words, tmp_path, weights):
    path, key = tmp_path / 'w.pth', 'block1.0.norm1.weight'
    torch.save({**weights, key: weights[key] + value}, path)
    with pytest.raises(CheckpointError, match=f'norm1.weight {words}'):
        load_pretrained(golden.build('pvt_v2_b0'), str(path))


def test_integers_are_refused(tmp_path, weights):
    path, key = tmp_path / 'w.pth', 'block1.0.norm1.weight'
    torch.save({**weights, key: weights[key].char()}, path)
    with pytest.raises(CheckpointError, match='is torch.int8 and must be fl'):
        load_pretrained(golden.build('pvt_v2_b0'), str(path))


# Strict loading


def pretrained(model, path, **options):
    load_pretrained(model, str(path), **options)
    return model.state_dict()


def test_a_classifier_file_is_loaded(official, weights):
    state = pretrained(golden.build('pvt_v2_b0'), official)
    key = 'stages.3.blocks.1.attn.kv.weight'
    assert torch.equal(state[key], weights['block4.1.attn.kv.weight'])


@pytest.fixture
def logged(monkeypatch):
    """What strict loading writes into the log."""
    lines = []
    monkeypatch.setattr(
        strict_load, 'print_log', lambda text, *rest: lines.append(text)
    )
    return lines


def test_log_says_how_much_was_loaded(official, logged):
    pretrained(golden.build('pvt_v2_b0'), official)
    assert logged == [
        f'loaded 100 % of 3,409,760 parameters from {official} '
        '(official PVTv2)'
    ]


@pytest.mark.parametrize('variant', ['pvt_tiny', 'mpvit_tiny'])
def test_every_family_is_loaded(variant, tmp_path):
    state = golden.random_state(golden.build(f'cls_{variant}'))
    path = tmp_path / 'w.pth'
    torch.save(from_ours(state, 'official').state, path)
    got = pretrained(golden.build(variant, out_indices=(0, 1)), path)
    for key, value in got.items():
        assert torch.equal(value, state[f'backbone.{key}']), key


def test_a_missing_tensor_is_an_error(tmp_path, weights):
    path = tmp_path / 'w.pth'
    torch.save(
        {k: v for k, v in weights.items() if 'block2.0.' not in k}, path
    )
    with pytest.raises(CheckpointError) as error:
        pretrained(golden.build('pvt_v2_b0'), path)
    text = str(error.value)
    assert 'missing (20)' in text
    assert 'stages.1.blocks.0.norm1.weight' in text
    assert 'depths 2, 1, 2, 2' in text


def test_another_arch_is_an_error(official):
    with pytest.raises(CheckpointError) as error:
        pretrained(golden.build('pvt_v2_b1'), official)
    text = str(error.value)
    assert 'the file holds official PVTv2 with depths 2, 2, 2, 2' in text
    assert 'dims 32, 64, 160, 256' in text
    assert 'shape (' in text
    assert '(32, 3, 7, 7) in the file, (64, 3, 7, 7) here' in text


def test_unexpected_tensors_are_an_error(tmp_path):
    state = golden.random_state(golden.build('pvt_v2_b2'))
    path = tmp_path / 'w.pth'
    torch.save(state, path)
    arch = {
        'dims': (64, 128, 320, 512),
        'depths': (3, 4, 6, 2),
        'mlp_ratios': (8, 8, 4, 4),
    }
    model = golden.MODELS.build({'type': 'PVTv2', 'arch': arch})
    with pytest.raises(CheckpointError, match=r'unexpected \(16\)'):
        pretrained(model, path)


def test_other_image_channels_are_an_error(official):
    with pytest.raises(CheckpointError, match=r'\(32, 4, 7, 7\) here'):
        pretrained(golden.build('pvt_v2_b0', in_channels=4), official)


def test_partial_weights_are_loaded_on_demand(official, logged):
    model = golden.build('pvt_v2_b0', in_channels=4)
    before = model.state_dict()['stages.0.patch_embed.proj.weight'].clone()
    state = pretrained(model, official, allow_partial=True)
    assert torch.equal(state['stages.0.patch_embed.proj.weight'], before)
    assert '(32, 4, 7, 7) here' in logged[0]
    assert 'loaded only 99.8%' in logged[1]


def test_a_file_of_no_known_format_is_named(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'layer1.0.conv1.weight': torch.ones(2)}, path)
    with pytest.raises(
        CheckpointError, match='no known checkpoint format .* nearest: '
    ):
        pretrained(golden.build('pvt_v2_b0'), path)


def test_init_cfg_is_loaded_strictly(official):
    cfg = {'type': 'Pretrained', 'checkpoint': str(official)}
    for init_cfg in (cfg, [cfg]):
        with pytest.raises(CheckpointError, match='does not fit'):
            golden.build('pvt_v2_b1', init_cfg=init_cfg).init_weights()
    model = golden.build('pvt_v2_b0', init_cfg=cfg)
    before = model.stages[0].norm.weight.clone()
    model.init_weights()
    assert not torch.equal(model.stages[0].norm.weight, before)
    with pytest.raises(CheckpointError, match='map_location'):
        load_pretrained(model, str(official), map_location='cpu')
    with pytest.raises(CheckpointError, match='no checkpoint'):
        load_pretrained(model)


# The zoo and downloads


def test_every_arch_has_weights_in_the_zoo():
    assert set(golden.DENSE) <= set(zoo.ZOO)


def test_addresses_cannot_be_changed_on_the_way():
    urls = [url for row in zoo.ZOO.values() for url in row.urls]
    assert urls
    assert all(url.startswith('https://') for url in urls)


def test_names_near_a_wrong_one():
    with pytest.raises(CheckpointError, match='nearest: .*pvt_v2_b2'):
        download.locate('pvt://pvtv2_b2')


def test_folder_of_the_user_comes_first(cache, official, monkeypatch):
    monkeypatch.setenv(download.FOLDER, str(official.parent))
    assert download.locate('pvt://pvt_v2_b0') == official
    state = CheckpointLoader.load_checkpoint('pvt://pvt_v2_b0')
    assert 'backbone.stages.0.norm.weight' in state['state_dict']
    monkeypatch.setenv(download.FOLDER, str(official))
    with pytest.raises(CheckpointError, match='is not a folder'):
        download.locate('pvt://pvt_v2_b0')


def test_dead_links_say_what_to_do(cache):
    with pytest.raises(CheckpointError) as error:
        download.locate('pvt://mpvit_small')
    for words in (
        'dropbox.com',
        'is dead',
        'mpvit_small.pth',
        download.FOLDER,
    ):
        assert words in str(error.value)


class Server(ThreadingHTTPServer):
    """Serves one file, badly if told to."""

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), Answer)
        self.content = content
        self.tag = '"1"'
        self.status = 200
        self.cut = 0  # stop after so many bytes
        self.hang = threading.Event()
        self.hang.set()
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *args):
        """A client that hangs up is what one test is about."""

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/pvt_v2_b0.pth'


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.asked.append(self.headers.get('Range'))
        server.hang.wait(5)
        if server.status != 200:
            return self.send_error(server.status)
        if self.headers.get('If-Range') == server.tag:
            start = int(self.headers['Range'][6:-1])
        body = server.content[start:]
        if start >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('ETag', server.tag)
        self.end_headers()
        self.wfile.write(body[: server.cut or None])
        return None

    def log_message(self, *args):
        """Nothing on the screen."""


@pytest.fixture
def server(official):
    server = Server(official.read_bytes())
    yield server
    server.shutdown()
    server.server_close()


def test_download(cache, server, official):
    path = download.locate(server.url)
    assert path == cache / 'pvt_v2_b0.pth'
    assert path.read_bytes() == official.read_bytes()
    assert download.locate(server.url) == path
    assert len(server.asked) == 1


def test_download_continues_after_a_cut(cache, server, official):
    server.cut = 1000000
    with pytest.raises(CheckpointError, match='stopped after 1000000 of'):
        download.locate(server.url)
    assert not (cache / 'pvt_v2_b0.pth').exists()
    server.cut = 0
    path = download.locate(server.url)
    assert server.asked == [None, 'bytes=1000000-']
    assert path.read_bytes() == official.read_bytes()
    assert sorted(p.suffix for p in cache.iterdir()) == ['.lock', '.pth']


def test_download_starts_over_when_the_file_changed(cache, server, official):
    server.cut = 1000000
    with pytest.raises(CheckpointError):
        download.locate(server.url)
    server.cut, server.tag = 0, '"2"'
    assert download.locate(server.url).read_bytes() == official.read_bytes()


def test_download_that_ended_before_it_was_kept(cache, server, official):
    cache.mkdir(parents=True)
    part = cache / 'pvt_v2_b0.pth.part'
    part.write_bytes(official.read_bytes())
    part.with_name(part.name + '.tag').write_text(server.tag)
    assert download.locate(server.url).read_bytes() == official.read_bytes()


def test_wrong_hash_is_not_kept(cache, server):
    with pytest.raises(CheckpointError, match='its sha256 is .* not 00ff'):
        download.download(server.url, cache / 'w.pth', '00ff')
    assert [p.name for p in cache.iterdir()] == ['w.pth.lock']
    digest = download.hash_of(download.locate(server.url))
    path = download.download(server.url, cache / 'w.pth', digest[:8])
    assert download.hash_of(path) == digest


def test_hash_in_the_name_is_checked(cache, server):
    url = server.url.replace('.pth', '-0123abcd.pth')
    with pytest.raises(CheckpointError, match='not 0123abcd'):
        download.locate(url)


def test_page_instead_of_a_file_is_not_kept(cache, server):
    server.content = b'<html>log in first</html>'
    with pytest.raises(CheckpointError, match='gave a bad file: .* web page'):
        download.locate(server.url)
    assert not (cache / 'pvt_v2_b0.pth').exists()
    assert not (cache / 'pvt_v2_b0.pth.part').exists()


def test_server_that_does_not_give_it(cache, server, monkeypatch):
    server.status = 404
    row = zoo.Source((server.url, server.url.replace('.pth', '.safetensors')))
    monkeypatch.setitem(zoo.ZOO, 'pvt_v2_b0', row)
    with pytest.raises(CheckpointError) as error:
        download.locate('pvt://pvt_v2_b0')
    text = str(error.value)
    assert text.count('the server answers 404') == 2
    assert server.url in text
    assert str(cache / 'pvt_v2_b0.pth') in text
    assert download.FOLDER in text


def test_mirror_takes_over(cache, server, monkeypatch):
    dead = 'http://127.0.0.1:9/pvt_v2_b0.pth'
    monkeypatch.setitem(zoo.ZOO, 'pvt_v2_b0', zoo.Source((dead, server.url)))
    assert download.locate('pvt://pvt_v2_b0').exists()


def test_silent_server(cache, server, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.3)
    server.hang.clear()
    with pytest.raises(CheckpointError, match='no answer within 0.3 seconds'):
        download.locate(server.url)
    server.hang.set()


def test_two_processes_fetch_once(cache, server):
    found = []

    def go():
        found.append(download.locate(server.url))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / 'pvt_v2_b0.pth'] * 4
    assert len(server.asked) == 1

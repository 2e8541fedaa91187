"""The demo page over HTTP, as a browser and as an attacker."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from small_runs import free_port, write_detector

try:
    import gradio  # noqa: F401
    import httpx  # which gradio brings
except ImportError:
    httpx = None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not httpx, reason='make demo, which installs gradio'),
]
API = '/gradio_api'


class Page:
    """A demo in a process of its own."""

    def __init__(self, folder, *more):
        self.folder, self.port = folder, free_port()
        self.uploads = folder / 'tmp'
        self.uploads.mkdir(exist_ok=True)
        self.log = folder / 'log.txt'
        command = [
            *(sys.executable, '-m', 'pvt_mm', 'demo', '--device', 'cpu'),
            *('--config', 'det.py', '--weights', 'det.pth'),
            *('--port', self.port, *more),
        ]
        environment = dict(os.environ, TMPDIR=str(self.uploads))
        environment['PYTHONUNBUFFERED'] = '1'
        with open(self.log, 'w') as file:
            self.process = subprocess.Popen(
                *(command,),
                **dict(cwd=folder, stdout=file, stderr=file),
                env=environment,
            )
        self.client = httpx.Client(
            base_url=f'http://127.0.0.1:{self.port}', timeout=60
        )
        for _ in range(240):
            try:
                self.client.get('/')
                break
            except httpx.TransportError:
                assert self.process.poll() is None, self.said()
                time.sleep(0.5)

    def said(self):
        return self.log.read_text()

    def upload(self, content, name='x.png'):
        return self.client.post(
            f'{API}/upload', files={'files': (name, content)}
        )

    def show(self, content, name='x.png'):
        """(event, data) that the page gets for an uploaded file."""
        (path,) = self.upload(content, name).json()
        file = {'path': path, 'meta': {'_type': 'gradio.FileData'}}
        return self.call([{**file, 'orig_name': name}, 'det: det.pth', 0.3])

    def call(self, data):
        answer = self.client.post(f'{API}/call/show', json={'data': data})
        event = answer.json()['event_id']
        with self.client.stream('GET', f'{API}/call/show/{event}') as stream:
            lines = [line for line in stream.iter_lines() if line]
        kind, data = lines[-2:]
        return kind.removeprefix('event: '), json.loads(
            data.removeprefix('data: ')
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 143


def image(height, width):
    content = cv2.imencode('.png', np.zeros((height, width, 3), np.uint8))[1]
    return content.tobytes()


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    return write_detector(folder)


@pytest.fixture
def page(work):
    page = Page(work)
    yield page
    if page.process.poll() is None:
        page.process.kill()
        page.process.wait()


def test_an_image_is_shown_and_nothing_of_it_stays(page):
    kind, (picture, table) = page.show(image(64, 96))
    assert kind == 'complete'
    assert page.client.get(picture['url']).status_code == 200
    assert table['headers'] == ['class', 'score, or share of the image']
    assert [p for p in page.uploads.rglob('*') if p.is_file()]
    page.stop()
    assert not [p for p in page.uploads.rglob('*') if p.is_file()]
    assert 'Traceback' not in page.said()


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'the uploaded image is empty'),
        (b'hello', 'the uploaded image is no image, or is cut short'),
        (image(64, 64)[:60], 'is no image, or is cut short'),
        (image(12000, 12000), 'has 12000x12000 pixels, more than 25,000,000'),
        (image(1, 64), 'the uploaded image: '),
    ],
    ids=['empty', 'text', 'cut', 'pixels', 'thin'],
)
def test_what_cannot_be_shown_is_a_sentence_on_the_page(page, content, said):
    kind, data = page.show(content)
    if said != 'the uploaded image: ' or kind == 'error':
        assert kind == 'error'
        assert said in data['error']
    assert 'Traceback' not in page.said()


def test_large_uploads_are_refused(page):
    answer = page.upload(bytes(200 << 20))
    assert answer.status_code == 413
    assert 'Traceback' not in page.said()
    files = [p for p in page.uploads.rglob('*') if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1 << 20


def test_requests_of_other_pages_are_refused(page):
    own = f'http://127.0.0.1:{page.port}'
    for headers, status in (
        ({'Origin': own}, 200),
        ({'Host': f'localhost:{page.port}'}, 200),
        ({'Origin': 'http://evil.example'}, 403),
        ({'Origin': 'null'}, 403),
        ({'Host': 'evil.example'}, 403),
        ({'Host': 'evil.example', 'Origin': 'http://evil.example'}, 403),
    ):
        got = page.client.get('/config', headers=headers).status_code
        assert got == status, headers


def test_files_of_the_machine_are_not_read(page):
    file = {
        'path': str(page.folder / 'det.py'),
        'meta': {'_type': 'gradio.FileData'},
    }
    kind, _ = page.call([file, 'det: det.pth', 0.3])
    assert kind == 'error'
    answer = page.client.get(f'{API}/file={page.folder}/det.py')
    assert answer.status_code == 403


def test_other_machines_need_the_password(work):
    page = Page(work, '--host', '0.0.0.0')
    try:
        assert page.client.get('/config').status_code == 401
        line = next(x for x in page.said().splitlines() if 'password' in x)
        form = {'username': 'pvt_mm', 'password': line.split()[-1]}
        assert page.client.post('/login', data=form).status_code == 200
        assert page.client.get('/config').status_code == 200
        headers = {'Origin': 'http://evil.example'}
        answer = page.client.get('/config', headers=headers)
        assert answer.status_code == 403
    finally:
        page.process.kill()
        page.process.wait()

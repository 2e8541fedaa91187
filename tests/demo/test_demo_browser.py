"""The demo page in a real browser: an image, its boxes, a broken file."""

import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from commands import ROOT
from small_runs import RETINANET, free_port, load, write_detector

try:
    import gradio  # noqa: F401
    from selenium import webdriver
    from selenium.common import exceptions
except ImportError:
    webdriver = None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not webdriver,
        reason='make demo, which installs gradio; pip install selenium',
    ),
    pytest.mark.skipif(
        not (shutil.which('chromium') and shutil.which('chromedriver')),
        reason='apt-get install chromium chromium-driver',
    ),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A detector that finds something everywhere, an image, a broken one."""
    folder = write_detector(tmp_path_factory.mktemp('demo'))
    cv2.imwrite(str(folder / 'image.png'), np.zeros((320, 480, 3), np.uint8))
    (folder / 'broken.png').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def address(folder):
    """The page, served by the command."""
    port = free_port()
    command = [sys.executable, '-m', 'pvt_mm', 'demo', '--device', 'cpu']
    command += ['--config', 'det.py', '--weights', 'det.pth', '--port', port]
    with (folder / 'log').open('w') as log:
        server = subprocess.Popen(
            *(command,),
            **dict(cwd=folder, stdout=log, stderr=log),
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
    yield f'http://127.0.0.1:{port}'
    server.terminate()
    server.wait(60)


@pytest.fixture
def browser(address):
    """A browser that shows the page."""
    options = webdriver.ChromeOptions()
    for word in ('headless=new', 'no-sandbox', 'disable-dev-shm-usage'):
        options.add_argument(f'--{word}')
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    browser = webdriver.Chrome(options, service)
    browser.set_window_size(1200, 900)
    until(lambda: opened(browser, address), 120)
    yield browser
    browser.quit()


def opened(browser, address):
    """Whether the server answers already."""
    try:
        browser.get(address)
    except exceptions.WebDriverException:
        return False
    return all_of(browser, 'input[type=file]')


def until(true, seconds=60):
    """The first true value of a function."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.5)
    raise AssertionError('the page does not show it')


def all_of(browser, selector):
    return browser.find_elements('css selector', selector)


def rows(browser):
    """The texts of the table's cells, row by row."""
    cells = all_of(browser, '[data-editable]')
    return [cell.text for cell in cells if cell.text][2:]  # the head


def show(browser, file):
    """Choose a file and press Show."""
    all_of(browser, 'input[type=file]')[0].send_keys(str(file))
    time.sleep(3)  # it is sent to the server
    (button,) = [b for b in all_of(browser, 'button') if b.text == 'Show']
    button.click()


def test_boxes_and_table_of_an_image(browser, folder):
    show(browser, folder / 'image.png')
    cells = until(lambda: rows(browser))
    assert cells[0] in load(RETINANET).metainfo.classes
    assert 0.3 <= float(cells[1]) <= 1
    # the uploaded image and the result
    _, picture = all_of(browser, 'img[src*="/file="]')
    drawn = browser.execute_async_script(
        """
        const [source, done] = arguments, image = new Image()
        image.onload = () => {
            const canvas = document.createElement('canvas')
            const [w, h] = [canvas.width, canvas.height] =
                [image.width, image.height]
            const context = canvas.getContext('2d')
            context.drawImage(image, 0, 0)
            const pixels = context.getImageData(0, 0, w, h).data
            done([w, h, pixels.filter((x, i) => i % 4 < 3 && x > 60).length])
        }
        image.src = source
        """,
        picture.get_attribute('src'),
    )
    assert drawn[:2] == [480, 320]
    assert drawn[2] > 1000  # boxes on a black image


def test_a_broken_file_is_a_sentence_on_the_page(browser, folder):
    show(browser, folder / 'broken.png')
    said = 'the uploaded image is no image, or is cut short'
    until(lambda: said in all_of(browser, 'body')[0].text)
    assert not rows(browser)

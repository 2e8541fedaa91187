"""The demo page: its models, its function and its errors."""

import argparse
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from hostile_images import png
from small_runs import RETINANET, SEGMENTOR, TINY, WIDTHS, load, write

from pvt_mm.cli import main
from pvt_mm.demo import Models, cli, find_runs
from pvt_mm.demo.models import Run
from pvt_mm.errors import UsageError
from pvt_mm.inference import Predictor


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """work_dirs with a detector and a segmentor, as trainings leave them."""
    root = tmp_path_factory.mktemp('work_dirs')
    for name, config in (('det', RETINANET), ('seg', SEGMENTOR)):
        cfg = load(config)
        cfg.model.backbone.arch = TINY
        cfg.model.neck.in_channels = WIDTHS
        (root / name).mkdir()
        file = write(cfg, root / name / f'{name}.py')
        torch.manual_seed(0)
        state = small_model(file).state_dict()
        torch.save(state, root / name / 'epoch_1.pth')
        # a folder that was moved names the old place
        (root / name / 'last_checkpoint').write_text('/old/place/epoch_1.pth')
    return root


def small_model(file):
    """The model of a config with random weights."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    cfg = Config.fromfile(file)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    """A file whose left half is red."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48, 2] = 200
    file = str(tmp_path_factory.mktemp('image') / 'x.png')
    cv2.imwrite(file, picture)
    return file


def test_runs_are_found_by_what_a_training_leaves(work, tmp_path):
    runs = find_runs(work)
    assert list(runs) == ['det', 'seg']
    assert runs['det'] == Run(
        str(work / 'det/det.py'), str(work / 'det/epoch_1.pth')
    )
    shutil.copytree(work / 'det', tmp_path / 'det')
    (tmp_path / 'det/epoch_1.pth').unlink()
    assert find_runs(tmp_path) == {}


def test_label_map_is_drawn_and_listed(work, image):
    picture, rows = Models(find_runs(work), 'cpu').show(image, 'seg', 0.3)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert sum(share for _, share in rows) == pytest.approx(1, abs=0.01)
    assert rows == sorted(rows, key=lambda row: -row[1])


def test_objects_are_those_of_the_predictor(work, image):
    models = Models(find_runs(work), 'cpu')
    picture, rows = models.show(image, 'det', 0.0)
    predictor = Predictor(*models.runs['det'], 'cpu')
    (sample,) = predictor.predict([predictor.prepare(cv2.imread(image))])
    scores = sample.pred_instances.scores
    expected = sorted(scores.tolist(), reverse=True)
    assert [score for _, score in rows] == [round(s, 3) for s in expected]
    plain, none = models.show(image, 'det', 1.0)
    assert none == []
    assert bool(rows) == (picture != plain).any()
    # colours come back as they went in: red, not blue
    assert plain[50, 50].tolist() == [200, 0, 0]


def test_one_model_stays_in_memory(work, image):
    models = Models(find_runs(work), 'cpu')
    first = models.predictor('seg')
    assert models.predictor('seg') is first
    models.predictor('det')
    assert models.loaded[0] == 'det'


def test_what_cannot_be_shown_is_one_sentence(work, image, tmp_path):
    models = Models(find_runs(work), 'cpu')
    with pytest.raises(UsageError, match='choose an image first'):
        models.show(None, 'seg', 0.3)
    wrong = Run(models.runs['det'].config, models.runs['seg'].weights)
    with pytest.raises(UsageError, match='does not fit this model'):
        Models({'wrong': wrong}, 'cpu').show(image, 'wrong', 0.3)
    bad = tmp_path / 'x.png'
    for content, said in (
        (b'', 'the uploaded image is empty'),
        (b'x', 'the uploaded image is no image, or is cut short'),
        (png(6000, 5000), 'the uploaded image has 6000x5000 pixels, more'),
    ):
        bad.write_bytes(content)
        with pytest.raises(UsageError, match=said):
            models.show(str(bad), 'seg', 0.3)


def test_models_of_the_command_line(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def chosen(*words):
        return cli.choose(cli.parser().parse_args(words))

    assert chosen('--config', 'a.py', 'b.py', '--weights', 'x', 'y') == {
        'a: x': Run('a.py', 'x'),
        'b: y': Run('b.py', 'y'),
    }
    with pytest.raises(UsageError, match='1 --config and 0 --weights'):
        chosen('--config', 'a.py')
    with pytest.raises(UsageError, match='no trained model in .*make train'):
        chosen()
    shutil.copytree(work, tmp_path / 'work_dirs')
    assert list(chosen()) == ['det', 'seg']


def test_without_gradio_it_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    monkeypatch.setattr(cli, 'find_spec', lambda name: None)
    monkeypatch.setattr(sys, 'argv', ['pvt_mm', 'demo'])
    assert main() == 1
    assert capsys.readouterr().err == (
        "error: gradio is not installed: pip install 'gradio>=6' (the extra "
        'pvt_mm[demo])\n'
    )


def test_port_is_a_number():
    with pytest.raises(SystemExit):
        cli.parser().parse_args(['--port', 'x'])
    assert isinstance(cli.parser(), argparse.ArgumentParser)
    assert cli.parser().parse_args([]).host == '127.0.0.1'

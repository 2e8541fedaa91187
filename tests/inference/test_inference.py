"""Trained models on images, folders and videos: results, pictures, errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from pycocotools.coco import COCO
from pycocotools.mask import decode
from small_detectors import BACKBONE, DIMS
from small_runs import RETINANET, SEGMENTOR, TINY, WIDTHS, draw, load, write

from pvt_mm.cli import run
from pvt_mm.errors import UsageError
from pvt_mm.inference import Predictor, infer
from pvt_mm.inference.cli import main
from pvt_mm.inference.output import VideoFile, label_name
from pvt_mm.inference.predictor import BadImage
from pvt_mm.inference.results import infer_items, label_map
from pvt_mm.inference.sources import Files, Video, open_source

CLASSES = ('disc', 'square', 'triangle', 'star', 'ring')


def masked():
    """A small Mask R-CNN for the drawn shapes."""
    cfg = load('configs/mask_rcnn_pvt_v2_b0_coco.py')
    cfg.model.backbone = BACKBONE
    cfg.model.neck.in_channels = list(DIMS)
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = len(CLASSES)
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    return cfg


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Config and weights of a detector, a segmentor and a Mask R-CNN."""
    folder, made = tmp_path_factory.mktemp('models'), {}
    for name, config in (('det', RETINANET), ('seg', SEGMENTOR), ('mask', '')):
        cfg = load(config) if config else masked()
        if config:
            cfg.model.backbone.arch = TINY
            cfg.model.neck.in_channels = WIDTHS
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        if name == 'det':  # scores that differ, above and below 0.3
            model.bbox_head.retina_cls.bias.data.zero_()
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
        file = write(cfg, folder / f'{name}.py')
        made[name] = (file, str(folder / f'{name}.pth'))
    return made


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(scope='module')
def predictors(models):
    """The detector and the segmentor, ready."""
    return {kind: Predictor(*models[kind], 'cpu') for kind in ('det', 'seg')}


def make_video(path, frames, codec):
    """A video of drawn noise."""
    rng = np.random.default_rng(0)
    code = cv2.VideoWriter_fourcc(*codec)
    writer = cv2.VideoWriter(str(path), code, 5, (64, 48))
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def say(capsys, *argv):
    """Status and output of the command."""
    status = run(lambda: main([*map(str, argv), '--device', 'cpu']))
    said = capsys.readouterr()
    return status, said.out, said.err


def read(path):
    return json.loads(Path(path).read_text())


def test_objects_of_a_folder_are_results_of_coco(
    models, drawn, tmp_path, capsys
):
    truth = drawn / 'coco/annotations/instances_val2017.json'
    images = drawn / 'coco/val2017'
    argv = [*models['det'], images, '--out', tmp_path, '--batch-size', 3]
    status, out, _ = say(capsys, *argv, '--annotations', truth)
    assert status == 0
    assert out.startswith('4 images, ') or '\n4 images, ' in out
    found = COCO(str(truth)).loadRes(str(tmp_path / 'results.json'))
    own = COCO(str(tmp_path / 'images.json'))
    assert own.getImgIds() == COCO(str(truth)).getImgIds()
    assert [c['name'] for c in own.loadCats(own.getCatIds())] == [*CLASSES]
    assert len(found.anns) > 0
    for one in found.anns.values():
        assert 0.3 <= one['score'] <= 1
        assert one['bbox'][2] > 0 and one['bbox'][3] > 0
    for path in images.iterdir():
        picture = cv2.imread(str(tmp_path / 'pictures' / path.name))
        assert max(picture.shape) >= 480
    assert not list(tmp_path.rglob('.part-*'))


def test_masks_are_run_lengths_of_the_image(models, drawn, tmp_path, capsys):
    image = next((drawn / 'coco/val2017').iterdir())
    argv = [*models['mask'], image, '--out', tmp_path, '--score', 0]
    assert say(capsys, *argv)[0] == 0
    results = read(tmp_path / 'results.json')
    (known,) = read(tmp_path / 'images.json')['images']
    assert len(results) == 5
    for one in results:
        mask = decode(one['segmentation'])
        assert mask.shape == (known['height'], known['width'])


def test_label_maps_hold_classes(models, drawn, tmp_path, capsys, predictors):
    images = drawn / 'ade20k/images/validation'
    argv = [*models['seg'], images, '--out', tmp_path]
    assert say(capsys, *argv)[0] == 0
    results = read(tmp_path / 'results.json')
    names = [c['name'] for c in read(tmp_path / 'images.json')['categories']]
    assert names == ['ground', *CLASSES]
    for one, path in zip(results, sorted(images.iterdir()), strict=True):
        labels = cv2.imread(str(tmp_path / one['file']), -1)
        (result,) = infer_items(predictors['seg'], Files(path), 0.3, 1)
        expected = result.sample.pred_sem_seg.data[0].numpy()
        assert (labels == expected).all()
        shape = labels.shape
        assert cv2.imread(str(path)).shape[:2] == shape
        assert sum(one['pixels'].values()) == labels.size
        assert set(one['pixels']) == {names[i] for i in np.unique(labels)}


@pytest.mark.parametrize('kind', [torch.float32, torch.float16, torch.bool])
def test_labels_of_one_output_channel_are_whole_numbers(kind):
    """mmseg compares it with a threshold, and keeps the type of the logits."""
    labels = torch.tensor([[[0, 1], [1, 1]]])
    sample = SegDataSample(pred_sem_seg=PixelData(data=labels.to(kind)))
    found = label_map(sample)
    assert found.dtype == np.int64
    assert found.tolist() == labels[0].tolist()


def test_a_batch_gives_what_single_images_give(predictors, drawn):
    source = Files(drawn / 'coco/train2017')
    single = infer_items(predictors['det'], source, 0.3, 1)
    batch = infer_items(predictors['det'], source, 0.3, 4)
    for a, b in zip(single, batch, strict=True):
        assert a.item == b.item
        found, same = a.sample.pred_instances, b.sample.pred_instances
        assert len(found) == len(same)
        assert torch.allclose(found.scores, same.scores, atol=1e-5)
        assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize(('kind', 'codec'), [('mp4', 'mp4v'), ('avi', 'MJPG')])
def test_videos_become_videos(
    models, tmp_path, capsys, kind, codec, predictors
):
    video = make_video(tmp_path / f'clip.{kind}', 3, codec)
    out = tmp_path / 'out'
    status, text, _ = say(capsys, *models['det'], video, '--out', out)
    assert (status, '3 images' in text) == (0, True)
    made = cv2.VideoCapture(str(out / f'clip.{kind}'))
    assert (made.get(cv2.CAP_PROP_FRAME_COUNT), made.get(5)) == (3, 5)
    known = read(out / 'images.json')['images']
    assert [i['frame_id'] for i in known] == [0, 1, 2]
    results = read(out / 'results.json')
    assert {r['frame_id'] + 1 - r['image_id'] for r in results} == {0}
    assert not list(out.glob('.*'))


def test_frames_of_label_maps_have_one_size(models, tmp_path, capsys):
    video = make_video(tmp_path / 'clip.mkv', 2, 'MJPG')
    out = tmp_path / 'out'
    assert say(capsys, *models['seg'], video, '--out', out)[0] == 0
    made = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    names = sorted(p.name for p in (out / 'label_maps').iterdir())
    assert names == ['clip_000001.png', 'clip_000002.png']


def test_a_bad_image_is_named_and_the_rest_goes_on(
    models, drawn, tmp_path, capsys
):
    folder, out = tmp_path / 'images', tmp_path / 'images/out'
    (folder / 'more').mkdir(parents=True)
    good = sorted((drawn / 'coco/val2017').iterdir())
    for path in good[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / 'more/last.png').write_bytes(good[2].read_bytes())
    (folder / '0.jpg').write_text('text')
    (folder / '1.png').write_bytes(b'')
    argv = [*models['det'], folder, '--out', out, '--batch-size', 8]
    for _ in range(2):  # what the first run wrote is no image of the second
        status, _, said = say(capsys, *argv)
        assert status == 1
        assert said.splitlines() == [
            f'error: {folder}/0.jpg is no image, or is cut short',
            f'error: {folder}/1.png is empty',
            'error: 2 of 5 images could not be used',
        ]
        assert (out / 'pictures/more/last.png').is_file()
        assert len(read(out / 'images.json')['images']) == 3


class UserTransform(BaseTransform):
    """A transform of the user, with a bug."""

    def transform(self, results):
        return results | dict(img=results['img'] + None)


class UserLoader(UserTransform):
    """A bug in what reads the file."""

    @staticmethod
    def from_file(results):
        return UserTransform().transform(dict(img=np.zeros(1)))


def test_an_image_that_the_pipeline_refuses_is_bad(predictors):
    with pytest.raises(BadImage, match=r'in the test pipeline \(error: '):
        predictors['det'].prepare(np.zeros((20, 20000, 3), np.uint8))


@pytest.mark.parametrize('kind', [UserTransform, UserLoader])
def test_a_bug_of_a_transform_is_no_bad_image(
    predictors, drawn, monkeypatch, kind
):
    pipeline = predictors['det'].inferencer.pipeline
    first, *rest = pipeline.transforms
    steps = [first, kind(), *rest] if kind is UserTransform else [kind()]
    monkeypatch.setattr(pipeline, 'transforms', steps)
    with pytest.raises(TypeError) as caught:
        list(infer_items(predictors['det'], Files(drawn / 'coco'), 0.3, 1))
    assert caught.traceback[-1].name == 'transform'


@pytest.mark.parametrize('place', [1, 2, -1])
def test_an_image_that_a_transform_leaves_out_is_bad(
    predictors, drawn, monkeypatch, place
):
    pipeline = predictors['det'].inferencer.pipeline
    steps = [*pipeline.transforms]
    steps.insert(place, lambda results: None)
    monkeypatch.setattr(pipeline, 'transforms', steps)
    images = Files(drawn / 'coco/val2017')
    found = list(infer_items(predictors['det'], images, 0.3, 2))
    assert len(found) == len(images)
    for result in found:
        assert result.fault == (
            f'{result.item.path}: a transform of the test pipeline drops it'
        )


def test_what_was_found_before_a_stop_is_kept(
    models, drawn, tmp_path, monkeypatch
):
    plain, calls = Predictor.predict, []

    def predict(self, prepared):
        calls.append(prepared)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, prepared)

    monkeypatch.setattr(Predictor, 'predict', predict)
    argv = [*models['det'], drawn / 'coco/val2017', '--out', tmp_path]
    assert run(lambda: main(list(map(str, argv)))) == 130
    assert len(read(tmp_path / 'images.json')['images']) == 2
    assert len(list((tmp_path / 'pictures').iterdir())) == 2


def test_a_stopped_video_leaves_no_half_of_one(
    models, tmp_path, monkeypatch, capsys
):
    video = make_video(tmp_path / 'clip.avi', 3, 'MJPG')
    monkeypatch.setattr(VideoFile, 'written', lambda self: 1 / 0)
    out = tmp_path / 'out'
    with pytest.raises(ZeroDivisionError):
        say(capsys, *models['det'], video, '--out', out)
    assert {p.name for p in out.iterdir()} == {'images.json', 'results.json'}


def test_pictures_of_an_earlier_run_are_counted(
    models, drawn, tmp_path, capsys
):
    images = sorted((drawn / 'coco/val2017').iterdir())
    for source, said in ((images[0].parent, ''), (images[0], '3 more files')):
        argv = [*models['det'], source, '--out', tmp_path]
        status, out, _ = say(capsys, *argv)
        assert status == 0
        assert ('more files' in out) == bool(said) and said in out


def test_the_function_yields_results(models, drawn):
    image = next((drawn / 'coco/val2017').iterdir())
    (result,) = infer(*models['det'], image, score=0.5, device='cpu')
    assert (result.item.name, result.fault) == (image.name, '')
    found = result.sample.pred_instances
    assert (found.scores >= 0.5).all()
    assert found.bboxes.shape == (len(found), 4)


def test_wrong_input_is_one_sentence(models, drawn, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad.mp4').write_text('text')
    (tmp_path / 'truth.json').write_text('{"images": []}')
    image = next((drawn / 'coco/val2017').iterdir())
    config, weights = models['det']
    other = models['seg'][1]
    truth = ['--annotations', tmp_path / 'truth.json']
    for argv, text in (
        ([config, weights, tmp_path / 'no'], f'{tmp_path}/no is not there'),
        ([config, weights, tmp_path / 'empty'], 'has no images (.jpg'),
        ([config, weights, tmp_path / 'bad.mp4'], 'is no video that OpenCV'),
        ([config, other, image], 'does not fit this model: of'),
        ([config, tmp_path / 'no.pth', image], 'no.pth'),
        ([config, weights, image, *truth], "it has no 'categories'"),
        (
            ['configs/classifier_pvt_v2_b0_imagenet.py', weights, image],
            "default_scope is 'mmengine'",
        ),
        (
            [config, weights, image, '--cfg-options']
            + ['test_dataloader.dataset.metainfo.classes=[a,b]'],
            'the data set has 2 classes, but the model has',
        ),
    ):
        out = ['--out', tmp_path / 'out']
        status, _, said = say(capsys, *argv[:3], *out, *argv[3:])
        assert status == 1
        error = [x for x in said.splitlines() if x.startswith('error: ')]
        assert len(error) == 1 and text in error[0]
        assert not (tmp_path / 'out').exists()


def test_no_gpu_is_one_sentence(models, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UsageError, match='--device cuda: there is no GPU'):
        Predictor(*models['det'], 'cuda')
    with pytest.raises(UsageError, match='--device gpu: give cpu, cuda or'):
        Predictor(*models['det'], 'gpu')


def test_label_maps_of_two_images_do_not_meet(models, drawn, tmp_path, capsys):
    image = next((drawn / 'coco/val2017').iterdir())
    for name in ('a.png', 'a.jpg'):
        (tmp_path / name).write_bytes(image.read_bytes())
    argv = [*models['seg'], tmp_path, '--out', tmp_path / 'out']
    status, _, said = say(capsys, *argv)
    assert status == 1
    assert 'a.jpg and a.png would both give a.png: rename one' in said
    assert label_name('more/b.tar.jpeg') == 'more/b.tar.png'
    assert label_name('clip_000001') == 'clip_000001.png'


def test_a_damaged_video_says_how_much_of_it_was_read(tmp_path, monkeypatch):
    video = open_source(make_video(tmp_path / 'clip.avi', 4, 'MJPG'))
    assert isinstance(video, Video)
    monkeypatch.setattr(Video, '__len__', lambda self: 9)
    assert len(list(video)) == 4
    assert video.fault.endswith(
        'clip.avi has 9 frames, but only 4 could be read: it is damaged'
    )


@pytest.mark.parametrize(
    ('others', 'said'),
    [
        (['a.gif', 'b.GIF'], '2 of 3 files in {} are left out'),
        (['a.gif', 'b/notes.txt', 'b/x'], '3 of 4 files in {} are left out'),
        (['out/0.txt'], ''),
        ([], ''),
    ],
)
def test_files_that_are_no_images_are_counted(tmp_path, capsys, others, said):
    for name in ['0.jpg', *others]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    (item,) = open_source(tmp_path, tmp_path / 'out')
    assert item.name == '0.jpg'
    out = capsys.readouterr().out
    assert out.startswith(said.format(tmp_path)) and bool(out) == bool(said)
    assert all(part in out for part in ('.gif',) if 'a.gif' in others)

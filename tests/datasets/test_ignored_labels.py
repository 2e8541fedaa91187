"""Labels that are no classes: ignored by all that read them, or refused."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from small_runs import SEGMENTOR, draw, load, say, small, write

from pvt_mm.engine import train as training
from pvt_mm.visualization import dataset_cli as checker

DATA = 'train_dataloader.dataset'
HEAD = 'model.decode_head.ignore_index'
PADDED = {'model.data_preprocessor.size': (160, 160)}
PAD = 'model.data_preprocessor.seg_pad_val'
VOID = 11  # of 6 classes, 0 to 5


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Drawn images with a ground of no class, the label VOID; one of class 0.

    reduce_zero_label takes 1 away from what is written.
    """
    root = draw(tmp_path_factory.mktemp('drawn'))
    shutil.copytree(root / 'ade20k', root / 'plain/ade20k')
    for folder, ground in ((root / 'plain', 1), (root / 'ade20k', VOID + 1)):
        for file in folder.rglob('*.png'):
            labels = np.array(Image.open(file))
            labels[labels < 2] = ground
            Image.fromarray(labels).save(file)
    return root


def config(root, *transforms, **options):
    """The config of a run of two iterations, and transforms before the last.

    Args:
        root: of the drawn images; those of `root`/plain have classes only.
        transforms: configs.
        options: as on the command line.
    """
    cfg = small(load(SEGMENTOR), root, 'ade20k')
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.model.data_preprocessor.size = (64, 64)  # as large as the images
    cfg.train_dataloader.dataset.pipeline[2].keep_ratio = False
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.model.decode_head.loss_decode = dict(type='CrossEntropyLoss')
    cfg.train_dataloader.dataset.pipeline[-1:-1] = transforms
    cfg.merge_from_dict(options)
    return cfg


def train(capsys, cfg, folder, *argv):
    """The exit status of a training, and what it said."""
    argv = (
        write(cfg, folder / 'config.py'),
        '--work-dir',
        folder / 'w',
        *argv,
    )
    status, out, err = say(capsys, training.train, *argv)
    return status, out + err


ROTATE = dict(type='RandomRotate', prob=1.0, degree=20)
GROW = dict(type='Pad', size=(160, 160))
LOSS = (
    'a training pass fails in model.decode_head.loss_decode, a '
    r'CrossEntropyLoss that gets .*: IndexError: Target \d+ is out of bounds'
)
REFUSED = [
    # where the images have VOID, or only classes; transforms; options; words
    (
        'plain',
        [],
        {f'{DATA}.ignore_index': VOID, HEAD: VOID, **PADDED},
        f'error: .*{LOSS}',
    ),
    (
        '',
        [ROTATE],
        {f'{DATA}.ignore_index': VOID, HEAD: VOID, PAD: VOID},
        f'has the label 255 after its transforms, .* and {HEAD}=11',
    ),
    (
        'plain',
        [GROW],
        {f'{DATA}.ignore_index': VOID, HEAD: VOID, PAD: VOID},
        f'has the label 255 after its transforms, .* and {HEAD}=11',
    ),
    (
        '',
        [],
        {
            f'{DATA}.ignore_index': VOID,
            'val_dataloader.dataset.ignore_index': VOID,
            'val_evaluator.ignore_index': VOID,
        },
        f'has the label 11 after its transforms, .* and {HEAD}=255',
    ),
    (
        '',
        [],
        {},
        f'has the label 11 .* 6 classes .0 to 5. and {HEAD}=255',
    ),
]


@pytest.mark.parametrize(('root', 'transforms', 'options', 'words'), REFUSED)
def test_label_that_a_loss_cannot_read(
    capsys, drawn, tmp_path, root, transforms, options, words
):
    cfg = config(drawn / root, *transforms, **options)
    status, said = train(capsys, cfg, tmp_path)
    assert status == 1
    assert re.search(words, said), said
    if LOSS not in words:  # of the padding: the data themselves are fine
        status, out, err = say(capsys, checker.main, tmp_path / 'config.py')
        assert status == 1
        assert re.search(words, out + err)


def test_without_the_checks_the_loss_fails(drawn, tmp_path):
    """As in MMSegmentation's own training."""
    options = {f'{DATA}.ignore_index': VOID, HEAD: VOID, **PADDED}
    cfg = config(drawn / 'plain', **options)
    file = write(cfg, tmp_path / 'config.py')
    argv = [file, '--work-dir', str(tmp_path / 'w'), '--no-sanity-check']
    with pytest.raises(IndexError, match='Target 255 is out of bounds'):
        training.train(argv)


TRAINS = [
    # nothing has a label beside the classes, whatever is written
    ('plain', [], {HEAD: VOID}),
    ('plain', [], {f'{DATA}.ignore_index': 77, HEAD: VOID, PAD: 99}),
    # the data set's ignore_index, 255, is read by nothing
    ('', [], {HEAD: VOID, 'val_evaluator.ignore_index': VOID}),
    # a border of label 0, which is a class
    (
        '',
        [dict(ROTATE, seg_pad_val=0)],
        {HEAD: VOID, PAD: 0, **PADDED, 'val_evaluator.ignore_index': VOID},
    ),
    # a loss that takes any label
    (
        'plain',
        [],
        {
            HEAD: VOID,
            **PADDED,
            'model.decode_head.loss_decode': dict(type='DiceLoss'),
        },
    ),
]


@pytest.mark.parametrize(('root', 'transforms', 'options'), TRAINS)
def test_what_mmseg_trains_is_not_refused(
    capsys, drawn, tmp_path, root, transforms, options
):
    cfg = config(drawn / root, *transforms, **options)
    status, said = train(capsys, cfg, tmp_path)
    assert status == 0, said
    assert 'skip' not in said
    assert (tmp_path / 'w/iter_2.pth').is_file()


def test_score_that_counts_what_is_ignored_in_training(
    capsys, drawn, tmp_path
):
    options = {
        f'{mode}_dataloader.dataset.ignore_index': VOID
        for mode in ('train', 'val')
    }
    cfg = config(drawn, **options, **{HEAD: VOID, PAD: VOID})
    status, said = train(capsys, cfg, tmp_path)
    assert status == 1
    assert re.search(
        'validation/.* has the label 11 .* val_evaluator.ignore_index=255',
        said,
    )

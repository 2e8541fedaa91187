"""Find the files and folders that the data sets of a config read."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from mmengine.config import Config

from ..errors import UsageError

# Folder of a data set in our configs -> how to get it.
SOURCES = {
    'data/coco/': (
        'get COCO 2017 from https://cocodataset.org/#download '
        '(train2017.zip, val2017.zip, annotations_trainval2017.zip) and '
        'unpack all three in data/coco'
    ),
    'data/ade/': (
        'get ADE20K from http://data.csail.mit.edu/places/ADEchallenge/'
        'ADEChallengeData2016.zip and unpack it in data/ade'
    ),
    'data/cityscapes/': (
        'get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from '
        'https://www.cityscapes-dataset.com/downloads, unpack both in '
        'data/cityscapes and make the label maps with csCreateTrainIdLabelImgs'
        ' of cityscapesscripts'
    ),
    'data/imagenet/': (
        'get ImageNet 2012 from https://image-net.org and unpack train and '
        'val in data/imagenet, with one folder per class in both'
    ),
    'data/shapes/': 'draw it: pvt_mm draw-data --out data/shapes',
    'data/cifar10/': (
        'get the binary version of CIFAR-10 from '
        'https://www.cs.toronto.edu/~kriz/cifar.html and put its *.bin files '
        'in data/cifar10'
    ),
}
ELSEWHERE = 'or name the folder that has it: --cfg-options data_root=FOLDER'
# First bytes of what is no JSON in UTF-8 -> what it is.
STARTS = {
    b'\xef\xbb\xbf': 'begins with a byte order mark: save it as UTF-8 without',
    b'\xff\xfe': 'is in UTF-16: convert it to UTF-8',
    b'\xfe\xff': 'is in UTF-16: convert it to UTF-8',
    b'\x1f\x8b': 'is compressed (gzip): unpack it',
    b'PK': 'is a zip archive: unpack it',
    b'<': 'is a web page or XML: was it downloaded from its page?',
    b'version https://git-lfs': 'is a pointer of Git LFS: run git lfs pull',
}
# Of a data set, what decides which images it has.
CHOOSE = ('data_root', 'ann_file', 'data_prefix', 'filter_cfg', 'times')
DEMO = 'to see a model learn from synthetic images first: make train'


def check_paths(cfg: Config, modes: tuple[str, ...]) -> None:
    """Stop if a file or folder that the run reads is missing or empty.

    Args:
        cfg: the config of the run.
        modes: which of 'train', 'val' and 'test' the run goes through.
    """
    for path in read_paths(cfg, modes):
        check_path(path)


def read_paths(cfg: Config, modes: tuple[str, ...]) -> Iterator[str]:
    """The annotation files and image folders of some modes of a run."""
    for mode in modes:
        loader = cfg.get(f'{mode}_dataloader') or {}
        for dataset in dataset_configs(loader.get('dataset') or {}):
            prefixes = dataset.get('data_prefix')
            parts = [dataset.get('ann_file')]
            if isinstance(prefixes, Mapping):
                parts += prefixes.values()
            for part in parts:
                if part and isinstance(part, str):
                    yield os.path.join(dataset.get('data_root') or '', part)
        yield from metric_files(cfg.get(f'{mode}_evaluator'))


def dataset_configs(cfg: Mapping) -> Iterator[Mapping]:
    """The data sets inside wrappers such as RepeatDataset."""
    if 'datasets' in cfg:
        for part in cfg['datasets']:
            yield from dataset_configs(part)
    elif 'dataset' in cfg:
        yield from dataset_configs(cfg['dataset'])
    else:
        yield cfg


def metric_files(evaluator: Any) -> Iterator[str]:
    """The annotation files of the metrics."""
    metrics = evaluator if isinstance(evaluator, list) else [evaluator]
    for metric in filter(None, metrics):
        if metric.get('ann_file'):
            yield metric['ann_file']


def check_path(path: str) -> None:
    """Stop at a path that is missing, or a folder with nothing in it."""
    if '://' in path:
        return
    if not os.path.exists(path):
        state = 'is not there'
    elif os.path.isdir(path) and not os.listdir(path):
        state = 'is an empty folder'
    else:
        return
    sources = [how for root, how in SOURCES.items() if path.startswith(root)]
    fixes = [*sources, ELSEWHERE, DEMO] if sources else [ELSEWHERE]
    raise UsageError(
        f'{path} {state} (looked for in {os.getcwd()}); {"; ".join(fixes)}.'
    )


def no_images(dataset: Mapping) -> str:
    """Message for a data set without images, by its config."""
    given = [f'{k}={dataset[k]!r}' for k in CHOOSE if k in dataset]
    return (
        f'no image of the data set is left ({", ".join(given)}): compare '
        'metainfo.classes with the names in the annotation file, img_suffix '
        'of label maps with the names of the images, and filter_cfg with both'
    )


def check_json_files(cfg: Config) -> None:
    """Name the annotation file that is not JSON, after something failed."""
    for path in read_paths(cfg, ('train', 'val', 'test')):
        if path.endswith('.json') and os.path.isfile(path):
            read_json(path, msgspec.Raw)


def read_json(path: str, kind: Any = Any) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        kind: as msgspec takes it; Any gives dicts and lists.

    Raises:
        UsageError: it cannot be read, or is not JSON in UTF-8.
        msgspec.ValidationError: it is of another kind.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
        if what := other_kind(content):
            raise UsageError(f'{path} {what}')
        if not content.isascii():  # msgspec does not look at what it skips
            content.decode()
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f'{path} is not in UTF-8 (byte {error.start}): convert it to UTF-8'
        ) from error
    except RecursionError as error:
        raise UsageError(
            f'{path} nests lists or objects deeper than any annotation does'
        ) from error
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        raise UsageError(
            f'{path} is not JSON: {json_error(content, str(error))}'
        ) from error


def other_kind(content: bytes) -> str:
    """What a file is that should be another one, by its first bytes, or ''."""
    if not content.strip():
        return 'is empty'
    return next((STARTS[s] for s in STARTS if content.startswith(s)), '')


def json_error(content: bytes, said: str) -> str:
    """What is wrong with a text that is no JSON, and after what.

    Args:
        content: the text.
        said: msgspec's message.
    """
    found = re.search(r'(?:malformed: )?(.*) \(byte (\d+)\)', said)
    if not found:
        return f'{said}: was its download cut short?'
    place = int(found[2])
    if content[place : place + 1] in (b'N', b'I'):
        found = ['', 'JSON has no NaN and no Infinity']
    before = content[max(0, place - 60) : place + 10].decode(errors='ignore')
    return f'{found[1].split("malformed: ")[-1]} (byte {place}: ...{before})'

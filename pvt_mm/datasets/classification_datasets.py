"""Data sets of image classification: CIFAR-10, and a folder per class."""

from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..errors import UsageError, printable

IMAGES = ('.jpg', '.jpeg', '.png')
CIFAR10 = (
    'airplane',
    'automobile',
    'bird',
    'cat',
    'deer',
    'dog',
    'frog',
    'horse',
    'ship',
    'truck',
)
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the image (3, 32, 32)


@DATASETS.register_module()
class Cifar10(BaseDataset):
    """CIFAR-10 in its binary version, which needs no unpickling.

    Args:
        split: 'train' (data_batch_1.bin, ...) or 'test' (test_batch.bin).
        kwargs: see mmengine's BaseDataset; data_prefix.img is the folder.
    """

    METAINFO = {'classes': CIFAR10}

    def __init__(self, split: str, **kwargs) -> None:
        self.pattern = {
            'train': 'data_batch_*.bin',
            'test': 'test_batch.bin',
        }[split]
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Images and labels, all in memory.

        Raises:
            UsageError: a file is missing or cut short.
        """
        folder = Path(self.data_prefix['img'])
        files = sorted(folder.glob(self.pattern))
        if not files:
            raise UsageError(
                f'{folder} has no {self.pattern}: get the binary version of '
                'CIFAR-10 and unpack cifar-10-batches-bin there'
            )
        return [item for file in files for item in read_records(file)]


def read_records(file: Path) -> list[dict]:
    """Images (32, 32, 3) uint8, BGR, and labels of one file.

    Raises:
        UsageError: it is cut short or of another format.
    """
    data = np.fromfile(file, np.uint8)
    if not data.size or data.size % RECORD:
        raise UsageError(
            f'{file} has {data.size} bytes, not a multiple of {RECORD}: '
            'it is cut short or no file of CIFAR-10'
        )
    records = data.reshape(-1, RECORD)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)[:, ::-1]
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return [
        {'img': image, 'img_shape': (32, 32), 'gt_label': int(label)}
        for image, label in zip(images, records[:, 0], strict=True)
    ]


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """A folder of images per class, as ImageNet is usually unpacked.

    The classes are the names of the folders in alphabetical order; hidden
    folders and files (.NAME) are left out.

    Args:
        kwargs: see mmengine's BaseDataset; data_prefix.img_path is the
            folder of the folders.
    """

    def load_data_list(self) -> list[dict]:
        """Paths and labels; sets the classes of the metainfo.

        Raises:
            UsageError: no class has an image.
        """
        root = Path(self.data_prefix['img_path'])
        folders = [path for path in visible(root) if path.is_dir()]
        self._metainfo['classes'] = tuple(
            printable(path.name) for path in folders
        )
        items = [
            {'img_path': str(file), 'gt_label': label}
            for label, folder in enumerate(folders)
            for file in visible(folder)
            if file.suffix.lower() in IMAGES
        ]
        if not items:
            raise UsageError(
                f'{root} has no images in folders of classes, such as '
                'n01440764/n01440764_18.JPEG'
            )
        return items


def visible(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in alphabetical order."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith('.'))

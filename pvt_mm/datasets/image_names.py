"""Name files after the images of a data set, each below one folder."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .checks.fault_tolerant_pipeline import inner


def image_paths(dataset: Any) -> list[str]:
    """The image file of each sample of a built data set."""
    return [
        part.get_data_info(i)['img_path']
        for part in inner(dataset)
        for i in range(len(part))
    ]


def relative_names(paths: Iterable[str]) -> dict[str, str]:
    """The name of each image below the folder that all have in common.

    None of them leads out of a folder, whatever is in the paths.

    Args:
        paths: of images; if two differ, so do their names.
    """
    places = {path: os.path.abspath(path) for path in paths}
    top = os.path.commonpath([os.path.dirname(p) for p in places.values()])
    return {path: os.path.relpath(p, top) for path, p in places.items()}


def label_map_names(paths: Iterable[str]) -> dict[str, str]:
    """As :func:`relative_names`, for label maps: a/b.jpg -> a/b.png

    Where there is another image a/b.bmp, it is a/b.jpg.png.
    """
    names = relative_names(paths)
    short = {path: Path(name).with_suffix('') for path, name in names.items()}
    count = Counter(short.values())
    return {
        path: f'{names[path] if count[stem] > 1 else stem}.png'
        for path, stem in short.items()
    }

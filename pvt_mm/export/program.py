"""A model -> a program -> the bytes of a file."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from .prepare import exportable

# Below it a map or the keys of an attention have one cell at a side, for
# which PyTorch's exporter wants a program of its own.
SMALLEST = 64  # pixels: two cells of stride 32
ABOUT = 'about.json'  # entry of a .pt2 file; ONNX has a field per name
AXES = {0: 'batch', 2: 'height', 3: 'width'}


def trace(
    model: nn.Module,
    channels: int,
    size: tuple[int, int] | None,
    smallest: int = SMALLEST,
) -> ExportedProgram:
    """The program of a model.

    Args:
        model: for images (B, channels, H, W), in evaluation mode.
        channels: of the image.
        size: the only height and width, for batches of one; None for any
            batch and any size from the smallest on.
        smallest: height and width.
    """
    # any size from the smallest on gives the same program
    traced = (smallest * 3 // 2, smallest * 5 // 2)
    image = torch.zeros(1 if size else 2, channels, *(size or traced))
    side = Dim.DYNAMIC(min=smallest)
    shapes = None if size else ({0: Dim.DYNAMIC, 2: side, 3: side},)
    with torch.no_grad(), quiet():
        program = torch.export.export(
            exportable(model), (image,), dynamic_shapes=shapes
        )
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # paths of this machine
    return program


def to_pt2(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """The content of a .pt2 file, for torch.export.load."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(
            program, file, extra_files={ABOUT: json.dumps(about)}
        )
    return file.getvalue()


def to_onnx(
    program: ExportedProgram, about: Mapping[str, Any], names: Sequence[str]
) -> bytes:
    """The content of an .onnx file; lists are JSON in its metadata."""
    dynamic = bool(program.range_constraints)
    with quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=['image'],
            output_names=list(names),
            dynamic_shapes=({**AXES},) if dynamic else None,
        )
    for node in made.model.graph:
        node.metadata_props.clear()
    made.model.metadata_props.update(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in about.items()
        }
    )
    return made.model_proto.SerializeToString()


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say of their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)

"""Trace a model with torch.export and write the program as a file."""

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

from .replacements import AnySize, exportable

# Pixels of a side, two cells of stride 32: PyTorch's exporter specializes a
# program to maps and keys of one cell.
SMALLEST = 64
ABOUT = 'about.json'  # entry of a .pt2 file; ONNX has a field per name
AXES = {0: 'batch', 2: 'height', 3: 'width'}


def trace(
    model: nn.Module,
    channels: int,
    size: tuple[int, int] | None,
    smallest: int = SMALLEST,
) -> ExportedProgram:
    """Trace a model for inference.

    Args:
        model: for images (B, channels, H, W), in evaluation mode.
        channels: of the image.
        size: fixed height and width, for batches of one; None for any
            batch and any size from `smallest` on.
        smallest: height and width in pixels.
    """
    # which size is traced makes no difference to a dynamic program
    traced = (smallest * 3 // 2, smallest * 5 // 2)
    image = torch.zeros(1 if size else 2, channels, *(size or traced))
    side = Dim.DYNAMIC(min=smallest)
    shapes = None if size else ({0: Dim.DYNAMIC, 2: side, 3: side},)
    with torch.no_grad(), quiet(), AnySize():
        program = torch.export.export(
            exportable(model), (image,), dynamic_shapes=shapes
        )
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # paths of this machine
    return program


def to_pt2(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """The content of a .pt2 file; `about` is its entry about.json."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(
            program, file, extra_files={ABOUT: json.dumps(about)}
        )
    return file.getvalue()


def to_onnx(
    program: ExportedProgram, about: Mapping[str, Any], names: Sequence[str]
) -> bytes:
    """The content of an .onnx file; `about` is its metadata, lists as JSON.

    Args:
        program: of trace.
        about: what the file says of the model.
        names: of the outputs.
    """
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
    """Without the exporters' warnings about their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)

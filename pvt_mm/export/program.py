"""Trace a model with torch.export and write the program as a file."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from .operators import onnx_operators
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
    raw: bool = False,
) -> ExportedProgram:
    """Trace a model for inference.

    Args:
        model: for images (B, channels, H, W), in evaluation mode.
        channels: of the image.
        size: fixed height and width, for batches of one; None for any
            batch and any size from `smallest` on.
        smallest: height and width in pixels.
        raw: images are uint8.
    """
    # which size is traced makes no difference to a dynamic program
    traced = (smallest * 3 // 2, smallest * 5 // 2)
    image = torch.zeros(
        *(1 if size else 2, channels, *(size or traced)),
        dtype=torch.uint8 if raw else torch.float32,
    )
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
    program: ExportedProgram,
    about: Mapping[str, Any],
    names: Sequence[str],
    half: bool = False,
    smallest: int = 0,
) -> bytes:
    """The content of an .onnx file; `about` is its metadata, lists as JSON.

    Args:
        program: of trace.
        about: what the file says of the model.
        names: of the outputs.
        half: keep weights that float16 has as float16.
        smallest: height and width below which running the file is an error;
            0 for none.
    """
    from onnxscript import optimizer

    dynamic = bool(program.range_constraints)
    with quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=['image'],
            output_names=list(names),
            dynamic_shapes=({**AXES},) if dynamic else None,
            custom_translation_table=onnx_operators(),
            optimize=False,
        )
        # Not its rewriting (onnxscript 0.7), whose time grows with the square
        # of the graph and which loses one of the constants of two clamps of
        # one tensor, as in box refinement; ONNX Runtime has its own.
        optimizer.inline(made.model)
        optimizer.fold_constants(made.model)
        optimizer.remove_unused_nodes(made.model)
    for node in made.model.graph:
        node.metadata_props.clear()
    made.model.metadata_props.update(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in about.items()
        }
    )
    proto = made.model_proto
    if smallest:
        refuse_smaller(proto.graph, smallest)
    if half:
        halve(proto.graph)
    return proto.SerializeToString()


def refuse_smaller(graph: Any, smallest: int) -> None:
    """Let a graph fail at images that it was not made for.

    ONNX has no assertion. A node takes element 0 of one, or element 1 where
    the image is too small: an error of the runtime that has the node's name.
    """
    from onnx import helper, numpy_helper

    def constant(name: str, *values: int) -> str:
        array = np.array(values, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == 'image':
                node.input[i] = 'checked'
    least = constant('least', 1, 1, smallest, smallest)
    node = helper.make_node
    checks = [
        node('Shape', ['image'], ['sides']),
        node('Less', ['sides', least], ['are_less']),
        node('Cast', ['are_less'], ['less'], to=7),  # int64
        node('ReduceMax', ['less'], ['refused'], keepdims=1),
        node(
            'Gather',
            [constant('zero', 0), 'refused'],
            ['nothing'],
            name=f'image of no batch or below {smallest} x {smallest} pixels',
        ),
        node('Add', ['sides', 'nothing'], ['shape']),
        node('Reshape', ['image', 'shape'], ['checked']),
    ]
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*checks, *nodes])


def halve(graph: Any) -> None:
    """Keep the weights of a graph as float16; it computes in float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != 'float32' or values.size < 256:
            continue
        short = values.astype('float16')
        if (short == values).all():
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(short, f'{name}.half'))
            casts.append(
                helper.make_node(
                    'Cast', [weight.name], [name], to=TensorProto.FLOAT
                )
            )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


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

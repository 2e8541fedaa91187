"""Private names and patches of mmengine, mmdet, mmcv, mmseg and torch.

Nothing else in this package touches an underscore of theirs. Each function
says why it is needed, for which version and, where there is one, in which
upstream thread; it imports inside, so that the layers need torch alone. A
patch is a context manager, or its docstring says why it cannot be one.
"""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

# Private methods and attributes of base classes that a subclass of ours
# overrides or uses: (class, name) -> why, and for which version.
OVERRIDES = {
    ('AtomicCheckpointHook', '_save_checkpoint_with_step'): (
        'mmengine 0.10 removes old checkpoints before the new one is whole'
    ),
    ('AtomicCheckpointHook', '_save_best_checkpoint'): (
        'mmengine 0.10 removes the best checkpoint before its successor is '
        'whole'
    ),
    ('WholeNormFSDP', '_init_state_dict_cfg'): (
        'mmengine 0.10 offloads to the CPU what is there, and torch 2.13 '
        'crashes'
    ),
    ('Accumulation', '_iter'): (
        'mmengine 0.10: its train loops count iterations there'
    ),
    ('ImageFolder', '_metainfo'): (
        'mmengine 0.10 has no other way to set the classes that were read'
    ),
    ('ConcatFusionHead', '_transform_inputs'): (
        'mmseg 1.2: how each of its decode heads selects its feature maps'
    ),
}
# Attributes under which wrappers of mmengine 0.10, mmdet 3.3 and mmseg 1.2
# keep the data sets that they wrap; a part of one (indices=...) has no public
# name for it.
INNER_DATASETS = ('datasets', 'dataset', '_dataset')
# Environment variable of OpenCV: the most pixels of an image; and its value
# in our commands where the user gives none.
PIXELS = 'OPENCV_IO_MAX_IMAGE_PIXELS'
MOST = 200_000_000


def config_dict(cfg: Any) -> Any:
    """The Config's own ConfigDict: changing it changes the Config.

    mmengine 0.10: ``Config.to_dict`` gives a copy, iteration gives values
    without their marks of inheritance.
    """
    return cfg._cfg_dict


@contextmanager
def config_finder(find: Callable) -> Iterator[None]:
    """Resolve the names in ``_base_`` by a function, while a config is read.

    mmengine 0.10 knows ``PACKAGE::NAME`` for the packages on a list of its
    own only, by distribution name, and asks pkg_resources, which setuptools
    82 has no more (open-mmlab/mmengine#1410, open-mmlab/mmcv#3325).

    Args:
        find: (name, file that inherits, mmengine's own function) -> path of
            the file, and its scope or None.
    """
    from mmengine.config import Config

    theirs = Config._get_cfg_path
    Config._get_cfg_path = staticmethod(
        lambda name, file: find(name, file, theirs)
    )
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(theirs)


def dataset_metainfo(dataset: type, given: Any) -> dict:
    """The metainfo that a dataset class would have; no file is read.

    mmengine 0.10 has it as a private class method of BaseDataset only.
    """
    return dataset._load_metainfo(given)


@contextmanager
def coco_parser(parse: Callable[[str], Any]) -> Iterator[None]:
    """Context in which pycocotools reads JSON files with a function.

    pycocotools 2.0 calls json.load, which takes 20 s for COCO's training
    file, and looks for each category in a list of all names.

    Args:
        parse: path of a file -> its content; nothing leaves it to json.
    """
    from types import SimpleNamespace

    if find_spec('pycocotools') is None:  # a segmentor's environment
        yield
        return
    from pycocotools import coco

    theirs, find = coco.json, coco.COCO.getCatIds

    def find_categories(self: Any, names: Any = (), *more: Any) -> list:
        names = [names] if isinstance(names, str) else names
        return find(self, frozenset(names), *more)

    coco.json = SimpleNamespace(
        load=lambda file: parse(file.name) or theirs.load(file)
    )
    coco.COCO.getCatIds = find_categories
    try:
        yield
    finally:
        coco.json, coco.COCO.getCatIds = theirs, find


def decode_json(path: str) -> Any:
    """The content of a JSON file, as json.load has it, in less time."""
    import json

    import msgspec

    text = Path(path).read_bytes()
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:  # NaN, a byte order mark
        return json.loads(text)


def use_faster_coco_eval() -> str:
    """Let mmdet's CocoMetric compute by faster-coco-eval, if it is installed.

    The scores are the same, if ids are whole numbers: of others pycocotools
    computes. mmdet 3.3 has no option for it: its module's name COCOeval is
    replaced, where the module is loaded.

    Returns:
        the version in use, or an empty text.
    """
    metric = sys.modules.get('mmdet.evaluation.metrics.coco_metric')
    if metric is None or find_spec('faster_coco_eval') is None:
        return ''
    from faster_coco_eval import COCOeval_faster
    from mmengine.logging import print_log
    from pycocotools.cocoeval import COCOeval

    class FasterEval(COCOeval_faster):
        """Matches boxes faster; its own AP is of the last maxDets, 1000."""

        summarize = COCOeval.summarize

    def evaluator(truth: Any, *args: Any, **kwargs: Any) -> Any:
        ids = chain(truth.anns, truth.imgs, truth.cats)
        if all(type(i) is int and 0 <= i < 2**53 for i in ids):
            return FasterEval(truth, *args, **kwargs)
        text = 'COCO scores: pycocotools, because an id is no whole number'
        print_log(f'{text} from 0 to 2**53', 'current')
        return COCOeval(truth, *args, **kwargs)

    metric.COCOeval = evaluator
    return version('faster-coco-eval')


def limit_pixels() -> None:
    """Let OpenCV and Pillow refuse too large images by their header.

    For the whole process, because mmcv decodes them. OpenCV 5 reads the
    environment variable PIXELS when it is first imported only, and allows a
    billion without; Pillow 12 refuses twice the number of its limit.
    """
    import cv2
    from PIL import Image

    given = os.environ.get(PIXELS, '')
    Image.MAX_IMAGE_PIXELS = int(given if given.isdigit() else MOST) // 2
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    theirs = cv2.imdecode
    if theirs.__module__ == __name__:
        return

    def imdecode(content: Any, *args: Any, **kwargs: Any) -> Any:
        with suppress(OSError, ValueError, SyntaxError):  # of no image
            Image.open(BytesIO(content)).close()
        return theirs(content, *args, **kwargs)

    cv2.imdecode = imdecode


def is_resuming(runner: Any) -> bool:
    """Whether a run resumes a checkpoint (mmengine 0.10: no property)."""
    return runner._resume


def seeds_differ_by_rank(runner: Any) -> bool:
    """Whether randomness.diff_rank_seed is set (mmengine 0.10: private)."""
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def has_train_loop(runner: Any) -> bool:
    """Whether the training loop is built, and not a dict as in a test run.

    mmengine 0.10: the property ``train_loop`` would build it.
    """
    return not isinstance(runner._train_loop, dict)


def val_interval(loop: Any) -> int:
    """Epochs or iterations between two evaluations, at this point of a run.

    mmengine 0.10 computes ``dynamic_intervals`` in a private method.
    """
    loop._decide_current_val_interval()
    return loop.val_interval


def rewind_sampler(sampler: Any) -> None:
    """Restart an InfiniteSampler at its first index.

    mmengine 0.10 keeps one generator for all iterators, which goes on where
    the last iterator stopped, prefetched or not.
    """
    sampler.indices = sampler._indices_of_rank()


def skipping_iterator(loader: Any, behind: int, epoch: int) -> Any:
    """Iterator for IterBasedTrainLoop that skips batches without reading them.

    mmengine 0.10's loop reads as many batches as have been trained on and
    drops them; onedl-mmengine's calls ``skip_iter``.

    Args:
        loader: begins with the next batch to train on.
        behind: number of batches that have been trained on.
        epoch: number of finished passes through the data.
    """
    from mmengine.runner.loops import _InfiniteDataloaderIterator

    class SkippingIterator(_InfiniteDataloaderIterator):
        def __init__(self) -> None:
            super().__init__(loader)
            self.behind = behind
            self._epoch = epoch

        def __next__(self) -> Any:
            if self.behind:
                self.behind -= 1
                return None
            return super().__next__()

        def skip_iter(self, num_iters: int) -> None:
            self.behind -= num_iters

    return SkippingIterator()


def set_accumulation(
    wrapper: Any, model: Any, counts: int, done: int, total: int
) -> None:
    """Apply gradients after several batches, and after the last one.

    mmengine 0.10 takes the number at construction only, and counts from the
    start of the run; it warns that gradients are lost where the count begins
    in between.

    Args:
        wrapper: an optimizer's wrapper, or an OptimWrapperDict.
        model: for mmengine's warning about batch norms.
        counts: batches of a step of the optimizer.
        done: batches before.
        total: batches after which the gradients are applied anyway.
    """
    from mmengine.optim import OptimWrapperDict

    several = isinstance(wrapper, OptimWrapperDict)
    for each in wrapper.values() if several else [wrapper]:
        each._accumulative_counts = counts
        each.initialize_count_status(model, done - done % counts, total)
        each._inner_count = done


def loop_without_hooks(
    loop: Any, model: Any, batches: list, evaluator: Any
) -> Any:
    """A copy of a validation loop that runs some batches without hooks.

    mmengine 0.10 keeps a loop's runner, and its hooks, in private names.

    Args:
        loop: inherits mmengine's ValLoop; it stays as it is.
        model: of the copy.
        batches: of the copy, from the data set of the loop.
        evaluator: of the copy.
    """
    from copy import copy

    class Batches(list):
        dataset = loop.dataloader.dataset

    runner, trial = copy(loop.runner), copy(loop)
    runner._hooks, runner.model = [], model
    trial._runner, trial.evaluator = runner, evaluator
    trial.dataloader = Batches(batches)
    return trial


def scores_by_id(metric: Any) -> bool:
    """Whether a metric is of COCO's kind, which knows images by their ids."""
    return hasattr(metric, '_coco_api')


def scored_image(metric: Any, number: Any) -> dict | None:
    """The image of an id in the annotation file of a metric.

    mmdet 3.3 keeps the file's content in a private name.

    Returns:
        empty if the file has no such id; None if the metric has no file.
    """
    api = metric._coco_api
    return None if api is None else api.imgs.get(number, {})


def mark_initialized(model: Any) -> None:
    """Make init_weights do nothing (mmengine 0.10: no public switch)."""
    model._is_init = True


def copy_without_waiting(model: Any) -> None:
    """Let a model's data_preprocessor copy images while the GPU works.

    mmengine 0.10 has an argument for it (``non_blocking``), which mmseg
    1.2's does not take.
    """
    if hasattr(model, 'data_preprocessor'):
        model.data_preprocessor._non_blocking = True


def fsdp_strategy() -> type:
    """mmengine's FSDPStrategy: all its strategies are private (0.10)."""
    from mmengine._strategy import FSDPStrategy

    return FSDPStrategy


def in_functorch_transform() -> bool:
    """Whether code runs inside torch.func (vmap, grad).

    There checkpoints fail; torch 2.6 to 2.13 has no public test for it.
    """
    import torch

    return torch._C._functorch.peek_interpreter_stack() is not None


def inductor_backend(graph: Any, inputs: Sequence) -> Callable:
    """torch.compile's inductor backend, compiling in :func:`ordered_strides`.

    torch 2.13 fails on a channels-last view that the backward pass needs,
    because it compares strides without what it knows of sizes
    (pytorch/pytorch#185510, fixed in this way by #185871).
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    def compile_one(*args: Any, **kwargs: Any) -> Any:
        with ordered_strides():
            return compile_fx_inner(*args, **kwargs)

    return compile_fx(graph, inputs, inner_compile=compile_one)


@contextmanager
def ordered_strides() -> Iterator[None]:
    """Context: inductor compares strides with what it knows of sizes.

    torch 2.13: pytorch/pytorch#185510, and of square images it asks whether
    one stride divides another, which ends in a ValueRangeError. All sizes
    have an example here, so that comparing the strides is enough.
    """
    from sympy import Ge
    from torch._inductor import ir
    from torch._inductor.virtualized import V

    theirs = ir.get_fill_order
    name = '_stride_expr_ge_or_false'
    compare = vars(ir.Layout).get(name)

    def get_fill_order(strides: Sequence, shape_env: Any = None) -> Sequence:
        if shape_env is None:
            sizes = getattr(V.graph, 'sizevars', None)
            shape_env = getattr(sizes, 'shape_env', None)
        return theirs(strides, shape_env)

    def at_least(left: Any, right: Any) -> bool:
        return V.graph.sizevars.guard_or_false(Ge(left, right))

    ir.get_fill_order = get_fill_order
    if compare:
        setattr(ir.Layout, name, staticmethod(at_least))
    try:
        yield
    finally:
        ir.get_fill_order = theirs
        if compare:
            setattr(ir.Layout, name, compare)


def replace_writers(write: Callable, write_image: Callable) -> None:
    """Let mmengine write configs and pictures by functions of ours.

    mmengine 0.10 writes both in place, and does not look whether cv2.imwrite
    could. For the whole process, because the calls are mmengine's.

    Args:
        write: (path, bytes).
        write_image: (path, image, OpenCV's parameters).
    """
    import cv2
    from mmengine.config import Config

    theirs = Config.dump
    if theirs.__module__ == __name__:
        return

    def dump(self: Config, file: Any = None) -> str | None:
        if not str(file).endswith('.py'):
            return theirs(self, file)
        return write(file, self.pretty_text.encode())

    def imwrite(filename: str, img: Any, params: Sequence[int] = ()) -> bool:
        write_image(filename, img, params)
        return True

    Config.dump, cv2.imwrite = dump, imwrite


def ignore_dead_workers() -> None:
    """Stop raising an error when a data loader's worker dies.

    torch 2.6 to 2.13: its handler of SIGCHLD raises in the middle of
    whatever the process does. For the rest of the process, which is about
    to end: a handler, and not SIG_DFL, because Python reports a signal that
    came before its handler was taken away.
    """
    signal.signal(signal.SIGCHLD, lambda *_: None)


def receives_batch(error: BaseException) -> bool:
    """Whether a connection to a worker broke while a batch came from it.

    torch 2.6 to 2.13: nothing but the DataLoader's private method in the
    traceback tells.
    """
    frames = traceback.walk_tb(error.__traceback__)
    inside = any(f.f_code.co_name == '_try_get_data' for f, _ in frames)
    return inside and isinstance(error, OSError | EOFError)


def statistic(owner: type, name: str) -> Callable:
    """Replacement for builtins.getattr in a checkpoint.

    It gives public methods of HistoryBuffer, which mmengine 0.10 writes by
    name.

    Raises:
        ValueError: anything else is asked for.
    """
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'a checkpoint asks for {name!r} of {owner!r}')
    return getattr(owner, name)


def checkpoint_globals() -> list:
    """Classes and functions in mmengine 0.10's checkpoints beside tensors.

    Containers of the optimizer's, scheduler's and dataset's state, and
    numbers in the message hub. All of them only store what they are given.
    """
    from collections import Counter, OrderedDict, defaultdict

    import numpy as np
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    try:
        from numpy._core import multiarray  # numpy >= 2
    except ImportError:
        from numpy.core import multiarray
    kinds = ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', bool)
    return [
        *(Counter, OrderedDict, defaultdict, ConfigDict, HistoryBuffer),
        *(np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in kinds)),
        # numpy renamed the module between 1 and 2: a file may hold either
        *(
            (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        ),
        (statistic, 'builtins.getattr'),
    ]


def add_safe_globals() -> None:
    """Make torch load mmengine's checkpoints with ``weights_only=True``.

    Since torch 2.6 ``torch.load`` refuses every class that it was not told
    about, and mmengine 0.10.7 tells it nothing (open-mmlab/mmengine#1655).
    For the whole process, because the calls are mmengine's. onedl-mmengine
    has a list of its own for each load, and is left alone.
    """
    import torch
    from mmengine.runner import checkpoint

    if not hasattr(checkpoint, 'get_torch_safe_globals'):
        torch.serialization.add_safe_globals(checkpoint_globals())


@contextmanager
def checkpoint_reading(*more: type) -> Iterator[None]:
    """Context in which torch.load accepts checkpoint_globals() and `more`.

    torch 2.13's own context manager also forgets at its end what was
    allowed before it.

    Args:
        more: further classes that only store what they are given.
    """
    import torch

    there = torch.serialization.get_safe_globals()
    wanted = [*checkpoint_globals(), *more]
    with torch.serialization.safe_globals(
        [item for item in wanted if item not in there]
    ):
        yield


@cache
def plain_pickle_names() -> dict[tuple[str, str], Any]:
    """What a pickle of tensors and arrays calls, by module and name.

    torch and numpy give these private functions to pickle. torch's reads the
    bytes of a tensor as a pickle of its own: here as weights only.
    """
    import codecs
    import collections
    import io

    import numpy as np
    import torch

    def load_from_bytes(content: bytes) -> Any:
        return torch.load(io.BytesIO(content), weights_only=True)

    names = {
        ('collections', 'OrderedDict'): collections.OrderedDict,
        ('builtins', 'set'): set,
        ('__builtin__', 'set'): set,  # protocol 2, which mmengine writes
        ('_codecs', 'encode'): codecs.encode,  # bytes in it
        ('torch', 'Size'): torch.Size,
        ('torch', 'device'): torch.device,
        ('torch._utils', '_rebuild_tensor_v2'): (
            torch._utils._rebuild_tensor_v2
        ),
        ('torch.storage', '_load_from_bytes'): load_from_bytes,
        ('numpy', 'ndarray'): np.ndarray,
        ('numpy', 'dtype'): np.dtype,
    }
    multiarray = getattr(np, '_core', None) or np.core  # numpy 2, 1
    for home in ('numpy.core', 'numpy._core'):
        for name in ('_reconstruct', 'scalar'):
            found = getattr(multiarray.multiarray, name)
            names[f'{home}.multiarray', name] = found
        found = getattr(multiarray.numeric, '_frombuffer', None)
        names[f'{home}.numeric', '_frombuffer'] = found
    return names

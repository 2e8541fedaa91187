"""The commands of ``pvt_mm COMMAND``, their errors and exit statuses."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module

from .compat import ignore_dead_workers
from .errors import Preempted, Record, UsageError, system_error

# Command -> its function, module:name below pvt_mm, and what it does.
COMMANDS = {
    'train': ('engine.train:train', 'train a model by its config'),
    'test': ('engine.test:test', 'evaluate a trained model'),
    'infer': ('inference.cli:main', 'run a model on images or a video'),
    'demo': ('demo.cli:main', 'show models in the browser'),
    'analyze-log': (
        'visualization.logs_cli:main',
        'draw the curves of trainings',
    ),
    'analyze-results': (
        'visualization.results_cli:main',
        'scores per class and the confusion matrix',
    ),
    'reproduce': ('reproduction.cli:main', 'check published numbers'),
    'visualize-features': (
        'visualization.features_cli:main',
        'draw the feature maps and the attention of a backbone',
    ),
    'benchmark': ('benchmark.cli:main', 'measure speed and memory'),
    'flops': ('benchmark.flops_cli:main', 'count parameters and FLOPs'),
    'convert': (
        'checkpoints.convert:main',
        'convert weights to another checkpoint format',
    ),
    'export': ('export.cli:main', 'write a model as ONNX or .pt2'),
    'check-dataset': (
        'visualization.dataset_cli:main',
        'find what is wrong with a data set',
    ),
    'browse-dataset': (
        'visualization.browse_cli:main',
        'draw what the network gets of a data set',
    ),
    'draw-data': (
        'datasets.synthetic.cli:main',
        'draw a synthetic data set to try a training with',
    ),
    'doctor': (
        'doctor.__main__:main',
        'find what is wrong with the installed libraries',
    ),
}


def main() -> int:
    """Run ``pvt_mm COMMAND ...`` -> exit status."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(usage())
        return 0
    if name not in COMMANDS:
        near = ', '.join(get_close_matches(name, COMMANDS, cutoff=0))
        print(f'error: no command {name}; nearest: {near}', file=sys.stderr)
        return 2
    sys.argv[:2] = [f'pvt_mm {name}']
    return start(name)


def usage() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [
        f'  {name:{width}}  {what}' for name, (_, what) in COMMANDS.items()
    ]
    head = 'usage: pvt_mm COMMAND ...; COMMAND --help lists its options\n'
    return '\n'.join([head, *lines])


def start(name: str) -> int:
    """Run a command on the rest of the command line -> exit status."""
    if name == 'doctor':  # it runs where mmengine cannot be imported
        return load(name)()

    def command() -> None:
        from .models.layers.cpu import keep_freed_memory

        keep_freed_memory()
        load(name)()

    return run(command)


def load(name: str) -> Callable[[], int | None]:
    """The function of a command."""
    module, function = COMMANDS[name][0].split(':')
    return getattr(import_module(f'pvt_mm.{module}'), function)


def run(command: Callable[[], object]) -> int:
    """Run a function -> exit status; a user's mistake is one sentence.

    A bug is raised again. The traceback of a sentence is shown with
    ``--debug``. Both go into the log file of the run, where it exists.
    """
    logging.setLogRecordFactory(Record)
    try:
        from .checkpoints.atomic import write_all_whole
        from .compat import limit_pixels

        limit_pixels()
        write_all_whole()
        command()
        sys.stdout.flush()
    except Preempted as stop:
        say(str(stop), shared=True)  # when the first has saved
        return stop.status
    except KeyboardInterrupt:
        print('stopped by Ctrl-C', file=sys.stderr)
        return 130
    except Exception as error:
        ignore_dead_workers()
        if isinstance(error, BrokenPipeError) and is_stdout_closed():
            return 141  # as after SIGPIPE
        message = message_of(error)
        log_traceback(error)
        if message is None:
            raise
        if '--debug' in sys.argv:
            traceback.print_exception(error)
        shared = getattr(error, 'shared', isinstance(error, ImportError))
        say(f'error: {message}', shared=shared)
        return 1
    return 0


def is_stdout_closed() -> bool:
    """Whether nobody reads stdout any more, as in ``pvt_mm flops | head``."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def message_of(error: Exception) -> str | None:
    """What to tell the user in one sentence; None for a bug."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, ImportError):
        from .doctor.examine import known_conflict

        return known_conflict(str(error))
    from .engine.process_errors import explain

    return explain(error) or system_error(error)


def say(text: str, *, shared: bool) -> None:
    """Print to stderr why this process ends, with its rank above 0.

    Args:
        text: a sentence.
        shared: other processes may say it too; then the first prints it.
    """
    rank = os.environ.get('RANK', '0')
    if rank == '0':
        print(text, file=sys.stderr, flush=True)
    if shared and os.environ.get('WORLD_SIZE', '1') != '1':
        with suppress(ImportError):  # torch may be what is wrong
            from .engine.process_errors import said_by_first

            if said_by_first(text):
                return
    if rank != '0':
        print(f'rank {rank}: {text}', file=sys.stderr, flush=True)


def log_traceback(error: Exception) -> None:
    """Write a traceback into the log file of the run, if this process has it.

    mmengine's Runner makes the file, in the first process.
    """
    if 'mmengine.logging' not in sys.modules:
        return
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    record = logger.makeRecord(
        *(logger.name, logging.ERROR, __file__, 0),
        *('the run ended with an error', (), None),
    )
    text = ''.join(traceback.format_exception(error))
    record.msg = f'{record.msg}\n{text}'
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError):  # it may be what ended the run
                handler.handle(record)

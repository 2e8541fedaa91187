"""How every verb ends: a status, and one sentence if something is wrong."""

import os
import sys
from collections.abc import Callable

from ..backbones import InputError
from ..checkpoints import CheckpointError
from ..doctor.examine import diagnose
from .errors import SampleError, UsageError
from .hooks.stopping import Stopped
from .outside import explain


def run(main: Callable[[], None]) -> int:
    """Run a verb; one sentence and status 1 if the input is at fault."""
    try:
        main()
    except SampleError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except (UsageError, CheckpointError, InputError) as error:
        say(f'error: {error}')
        return 1
    except ImportError as error:
        wrong, remedy = diagnose(str(error))
        say(f'error: {wrong}; mend: {remedy}')
        return 1
    except Stopped as stop:
        say(str(stop))
        return stop.status
    except Exception as error:
        fault = explain(error)
        if fault is None:
            raise
        print(f'error: {fault}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped by Ctrl-C', file=sys.stderr)
        return 130
    return 0


def say(text: str) -> None:
    """Print once, however many processes say the same."""
    if os.environ.get('LOCAL_RANK', '0') == '0':
        print(text, file=sys.stderr)

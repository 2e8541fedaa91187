"""Read a pickle of plain data, such as predictions, without executing it."""

import pickle
from os import PathLike
from typing import Any

from ..compat import plain_pickle_names
from ..errors import UsageError


class PlainUnpickler(pickle.Unpickler):
    """Reads tensors, arrays and plain values; calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for.

        Raises:
            UnpicklingError: it is neither a tensor's nor an array's.
        """
        known = plain_pickle_names()
        if (module, name) not in known:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return known[module, name]


def read_plain_pickle(path: str | PathLike) -> Any:
    """The content of a pickle of tensors, arrays and plain values.

    Raises:
        UsageError: it cannot be read, is damaged, or asks for anything else.
    """
    try:
        with open(path, 'rb') as file:
            return PlainUnpickler(file).load()
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    except Exception as error:  # a damaged pickle raises any
        raise UsageError(
            f'{path} is no pickle of tensors and plain values: {error}'
        ) from error

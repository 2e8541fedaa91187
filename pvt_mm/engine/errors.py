"""Mistakes that one sentence explains."""


class UsageError(ValueError):
    """What the user gave cannot be used; the message says what to do."""


class SampleError(UsageError):
    """A sample of the data cannot be used; maybe one process alone knows."""

    def __init__(self, message: str) -> None:
        # a data loader's worker sends its whole traceback, the sentence last
        super().__init__(message.rsplit('SampleError: ')[-1].strip())

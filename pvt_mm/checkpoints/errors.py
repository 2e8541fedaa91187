"""The one error of this room."""


class CheckpointError(ValueError):
    """A weight file or name that cannot be used; one full sentence."""

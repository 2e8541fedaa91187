"""Mistakes that one sentence explains."""


class UsageError(ValueError):
    """What the user gave cannot be used; the message says what to do."""

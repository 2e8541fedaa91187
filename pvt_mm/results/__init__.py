"""Scores somebody published or we measured: read, shown, compared."""

from .table import FAMILIES, Row, read_results

__all__ = ['FAMILIES', 'Row', 'read_results']

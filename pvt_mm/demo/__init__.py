"""A page in the browser: choose a model and an image, see the result."""

from .models import Models, find_runs

__all__ = ['Models', 'find_runs']

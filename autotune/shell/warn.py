"""Warnings that point at the user's line, however many functions of this library lie between."""

import contextlib
import functools
import sys
import warnings
from pathlib import Path

OURS = str(Path(__file__).parents[1])
"""The directory of this library: no warning points there unless nothing else called it."""

BETWEEN = (OURS, contextlib.__file__, functools.__file__)
"""Files that are passed over: contexts and wrappers of the standard library lie between functions of ours."""


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is not of this library."""
    level, frame = 1, sys._getframe()  # whose file is this one
    while frame.f_code.co_filename.startswith(BETWEEN) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)

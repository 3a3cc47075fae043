"""Python executes this file when it starts a program of `autotune run`. It must not fail, nor hide a file of its name
that stands further back on the path."""

import os
import sys
from contextlib import suppress

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _execute_next() -> None:
    """Import the `sitecustomize` that Python would have found without this one."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
    this = sys.modules.pop(__name__, None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if this is not None:
            sys.modules.setdefault(__name__, this)


try:
    _execute_next()
finally:
    with suppress(ImportError):  # an interpreter without autotune, which the program has started
        __import__("autotune")  # it reads AUTOTUNE_TRITON_INSTALL

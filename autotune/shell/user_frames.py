"""The line of the user's own code that an error comes from: not a line of this library, nor of one below it."""

import linecache
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from autotune.core.formatting import LONGEST_MESSAGE, describe_error
from autotune.shell.warn import OURS

LONGEST_LINE = 80
"""Characters of the line of source in a message."""

LIBRARIES = (
    OURS,
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")),
)
"""Directories whose code is not the user's."""

DYNAMIC = "<dynamic-code>"
"""The file of code that cloudpickle has brought from another process; its globals still name the true one."""

INSTALLED = ("site-packages", "dist-packages")
"""Names of directories of installed libraries, in any environment that this one builds on."""


def describe_with_line(error: BaseException) -> str:
    """An exception on one line, as `describe_error`, and the line of the user's code that it comes from, if any."""
    said, line = describe_error(error), find_user_line(error)
    if line is None:
        return said
    place = f" (at {line})"
    return said[: LONGEST_MESSAGE - len(place)] + place


def find_user_line(error: BaseException) -> str | None:
    """The innermost line of the user's code in the traceback, such as "kernels.py:12: x = load(p)"; that of the
    exception which caused this one, if it has one. None where all frames are of libraries."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and all(current is not known for known in chain):
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    for one in reversed(chain):
        lines = [found for found in _frames(one.__traceback__) if _of_user(found[0])]
        if lines:
            path, number = lines[-1]
            source = linecache.getline(path, number).strip()[:LONGEST_LINE]
            return f"{Path(path).name}:{number}" + (f": {source}" if source else "")
    return None


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    """File and line of each frame, the outermost first."""
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if path == DYNAMIC:
            path = str(traceback.tb_frame.f_globals.get("__file__", path))
        yield path, traceback.tb_lineno
        traceback = traceback.tb_next


def _of_user(path: str) -> bool:
    return not path.startswith(("<", *LIBRARIES)) and not any(name in Path(path).parts for name in INSTALLED)

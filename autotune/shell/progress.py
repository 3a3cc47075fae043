"""A progress line on stderr, where someone can see it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autotune.core.search.messages import Event
from autotune.core.search.state import Search


@contextmanager
def watching(search: Search, progress: bool | None | Callable[[Search, Event], None]) -> Iterator[Callable[[Search, Event], None]]:
    """What to tell of every event: the caller's own function, a progress line, or nothing."""
    if callable(progress):
        yield progress
    else:
        yield lambda search, event: None

"""Cancellation: long work in the core passes checkpoints, at which the caller may give it up.

The core has no clock. Whoever waits for it says within `cancellable` what is to be asked at each checkpoint; the check
raises `Cancelled` to end the work. Pure functions have no effect that could be left half done, and no result depends
on a check that does not raise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]


class Cancelled(BaseException):
    """The work was given up. No Exception, so that nobody who handles errors on the way takes it for one."""


def _never() -> None:
    """Where nobody waits."""


_check: ContextVar[Check] = ContextVar("check", default=_never)


@contextmanager
def cancellable(check: Check) -> Iterator[None]:
    """Have `check` called at the checkpoints of all that is computed within the block, in this thread."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def checkpoint() -> None:
    """A place between two steps that take a fraction of a second each, where work may be given up."""
    _check.get()()

"""Cancellation: long work in the core passes checkpoints, at which its caller may end it.

The core has no clock. A caller passes `cancellable` a check, which every checkpoint calls; the check raises `Cancelled`
to end the work. Pure functions leave no effect half done, and no result depends on a check that does not raise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]


class Cancelled(BaseException):
    """The work was given up. It is no Exception, so that no handler of errors on the way catches it."""


def _never() -> None:
    """The check where no caller has passed one."""


_check: ContextVar[Check] = ContextVar("check", default=_never)


@contextmanager
def cancellable(check: Check) -> Iterator[None]:
    """Every checkpoint that this thread passes within the block calls `check`."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def checkpoint() -> None:
    """Call the check: between two steps of work that take a fraction of a second each."""
    _check.get()()

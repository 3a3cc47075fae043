"""Models run on one BLAS thread, whatever the environment and the number of cores.

The matrices of a search are small: a second thread saves little where cores are idle, and costs several times as much
where they are busy, as they are whenever kernels compile. And sums in another order can differ in their last bits. So
the number of BLAS threads is lowered while a strategy is asked, and then restored. It is a setting of the
process, not of a thread, hence the lock and the count; this and the memoisation of pure functions are the only effects
in the core, and no result depends on either.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple


class BlasLibrary(NamedTuple):
    """A loaded BLAS. of_thread: whether its number of threads is a setting of the calling thread (OpenMP)."""

    threads: Callable[[], int]
    use: Callable[[int], object]
    of_thread: bool


class _Callers:
    """The number of callers inside `one_thread`, and the number of threads of each library before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before: list[int] = []

    def enter(self) -> None:
        """The first caller sets one thread."""
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = [library.threads() for library in _process_wide()]
                _set_threads([1] * len(self.before))

    def leave(self) -> None:
        """The last caller sets the former numbers again."""
        with self.lock:
            self.inside -= 1
            if not self.inside:
                _set_threads(self.before)


_callers = _Callers()


@contextmanager
def one_thread() -> Iterator[None]:
    """Numpy's BLAS uses one thread until the end of the block, or of the last of several overlapping blocks."""
    own = [(library, library.threads()) for library in blas_libraries() if library.of_thread]
    for library, _ in own:
        library.use(1)
    _callers.enter()
    try:
        yield
    finally:
        _callers.leave()
        for library, before in own:
            library.use(before)


def _process_wide() -> list[BlasLibrary]:
    return [library for library in blas_libraries() if not library.of_thread]


def _set_threads(threads: list[int]) -> None:
    for library, count in zip(_process_wide(), threads, strict=True):
        if library.threads() != count:
            library.use(count)


@lru_cache(maxsize=1)
def blas_libraries() -> tuple[BlasLibrary, ...]:
    """The BLAS libraries that are loaded when a strategy is first asked; numpy's is among them."""
    from threadpoolctl import ThreadpoolController  # imported late: it takes longer than all of the core

    found = []
    for one in ThreadpoolController().select(user_api="blas").lib_controllers:
        # Newer versions of threadpoolctl let only one thread of a process set it; calls of others do nothing.
        use = getattr(one, "_real_set_num_threads", one.set_num_threads)
        found.append(BlasLibrary(one.get_num_threads, use, getattr(one, "threading_layer", "") == "openmp"))
    return tuple(found)


def _reset_after_fork() -> None:
    """A child has none of its parent's other threads, which would have to release the lock and end their blocks."""
    global _callers
    inside, before, _callers = _callers.inside, _callers.before, _Callers()
    if inside:
        _set_threads(before)


os.register_at_fork(after_in_child=_reset_after_fork)

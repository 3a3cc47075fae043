"""Compiles side by side, each in a fork of this process, as Helion's provider prepares it."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from helion.autotuner.base_search import PopulationMember
from helion.autotuner.precompile_future import PrecompileFuture

from autotune.core.outcomes import Failed, Trial
from autotune.core.search.limits import straggler_timeout
from autotune.core.search.messages import Limits
from autotune.shell.processes.supervisor import fork_supervised

NICENESS = 5
"""By how much compilers lower their priority: the search and the launches of kernels must not wait for a core."""


@dataclass(eq=False)
class CompileJob:
    """A config from its code to its binary. trials: several if their points mean the same config.

    member: of Helion's search. fn: the kernel with its generated module. future: Helion's record of the compile.
    """

    config: Any
    member: PopulationMember
    trials: list[Trial]
    limits: Limits
    fn: Any = None
    future: PrecompileFuture | None = None

    @property
    def compile_s(self) -> float:
        """Seconds that the compiler took; 0 if there was nothing to compile."""
        return self.future.elapsed if self.future is not None and self.future.process is not None else 0.0


class CompilePool:
    """The compiles in progress. adaptive: whether the durations of the others shorten the timeout of a compile."""

    def __init__(self, adaptive: bool) -> None:
        self._running: list[CompileJob] = []
        self._adaptive = adaptive
        self._took: list[float] = []

    def __len__(self) -> int:
        return len(self._running)

    @property
    def sentinels(self) -> list[int]:
        """The sentinels that become readable when a compiler ends."""
        return [work.future.process.sentinel for work in self._running if work.future.process is not None]  # type: ignore[union-attr]

    @property
    def seconds_left(self) -> float:
        """Seconds until the first timeout."""
        return min((work.future.seconds_left() for work in self._running), default=float("inf"))  # type: ignore[union-attr]

    def begin(self, work: CompileJob) -> None:
        future = work.future
        assert future is not None
        if work.limits.compile_timeout_s is not None:
            future.timeout = min(future.timeout, work.limits.compile_timeout_s)
        if self._adaptive:
            future.timeout = straggler_timeout(self._took, future.timeout)
        if future.ok is None:
            process = future.process
            process._target = partial(_compile_supervised, process._target, os.getpid())
            future.start()
        self._running.append(work)

    def poll(self) -> list[tuple[CompileJob, Failed | None]]:
        """The jobs that are over, each with its failure."""
        over = [work for work in self._running if _is_over(work.future)]
        self._running = [work for work in self._running if work not in over]
        found = [(work, _verdict(work)) for work in over]
        self._took += [work.compile_s for work, failed in found if failed is None and work.compile_s]
        return found

    def cancel(self) -> list[CompileJob]:
        """End all compilers. Returns their jobs."""
        dropped, self._running = self._running, []
        for work in dropped:
            _end(work.future)
        PrecompileFuture._cancel_all([work.future for work in dropped])
        return dropped


def _compile_supervised(compile_: Callable[..., None], program: int, *args: Any) -> None:
    """Compile in a process behind a supervisor, so that neither it nor its children outlive the program."""
    fork_supervised(program, keep_files=True)
    with suppress(OSError):
        os.nice(NICENESS)
    compile_(*args)


def _end(future: Any) -> None:
    """End a compiler and its children, by its supervisor; Helion would end the supervisor alone."""
    if future.process is not None and future.started:
        with suppress(Exception):
            future.process.terminate()
            future.process.join(1.0)


def _is_over(future: Any) -> bool:
    """Whether a compile has ended, or has run out of time."""
    return future.ok is not None or not future.is_alive() or future.seconds_left() <= 0


def _verdict(work: CompileJob) -> Failed | None:
    """The failure of a compile that is over; None if it worked. Helion's record of it is corrected as well.

    A compiler that takes too long is killed at once; Helion would wait ten seconds for it to end by itself. Helion
    takes a compiler that fails for a success, and would compile the config again while the GPU waits.
    """
    future = work.future
    assert future is not None
    if future.ok is None and future.is_alive():
        _end(future)
        future.end_time, future.ok, future.failure_reason = time.time(), False, "timeout"
        future._consume_result(raise_on_raise=False)
        return Failed("compile_timeout", f"the compiler had not ended after {future.timeout:.0f} s", work.compile_s)
    if future.ok is None:
        future._mark_complete()
    error = future.remote_error
    if error is not None:
        future.ok, future.failure_reason = False, "error"
        said = " ".join(map(str, error.exc_args)) if error.exc_type != "EOFError" else ""
        return Failed("compile_error", f"{error.exc_type}: {said}" if said else _describe_exit(future), work.compile_s)
    return None if future.ok else Failed("compile_error", _describe_exit(future), work.compile_s)


def _describe_exit(future: PrecompileFuture) -> str:
    code = None if future.process is None else future.process.exitcode
    if code is not None and code < 0:
        return f"the compiler was ended by {signal.Signals(-code).name}"
    return "Helion's compiler refused it; its log has the details"

"""The process that runs configs on the GPU, one after the other, and a spare one that replaces it when it must end.

A process takes some ten seconds to import torch and Helion and to load the arguments: too long to wait for after each
kernel that hangs. So a spare one is started while the first one works, if the arguments fit on the device twice. After
`prestart.prepare` each process has been started before it is needed.
"""

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from helion.autotuner.benchmark_worker import BenchmarkSubprocessError, BenchmarkWorker
from helion.autotuner.process_utils import signal_process_tree

from autotune.backends.helion.prestart import SLOW, PrestartedProcess, take_worker
from autotune.shell.timeline import GPU, SPARE, JobTimes, PhaseTimeline

_START_TIMEOUT_S = 180.0
"""Seconds that a process may take to start and to load: imports from a slow file system take a minute."""

Job = Callable[[], Any]


class GpuProcess:
    """The GPU process: `send` queues a job, `poll` returns the answers; `wake` is readable as long as there are any.

    first: the first job of the first process, before the arguments are known. timeline: receives the spans of the
    processes. warn: called with a text if a prestarted process is of no use.
    """

    def __init__(self, first: Job, timeline: PhaseTimeline | None = None, warn: Callable[[str], Any] = str) -> None:
        self._first_job, self._wants_spare = first, False
        self._timeline, self._warn = timeline or PhaseTimeline(), warn
        self._orders: queue.SimpleQueue[tuple[Any, Job, float] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[Any, Any]] = deque()
        self.wake, self._bell = os.pipe()
        self._ended = False
        self._current: Any = None
        self._spare: tuple[Any, threading.Thread] | None = None
        # Helion's processes die with the thread that started them, so one thread starts them all.
        self._thread = threading.Thread(target=self._serve, name="helion-station", daemon=True)
        self._thread.start()

    def prepare(self, load: Job, spare: bool) -> None:
        """Give this process, and every later one, its first job; say whether a spare process is kept."""
        self._first_job, self._wants_spare = load, spare
        self.send(None, load, _START_TIMEOUT_S)

    def send(self, key: Any, job: Job, timeout_s: float) -> None:
        """Queue a job. Its answer is its result, or the exception with which it, or its process, ended."""
        self._orders.put((key, job, timeout_s))

    def poll(self) -> list[tuple[Any, Any]]:
        """The answers since the last call, by the keys of their jobs."""
        found = []
        while self._answers:
            os.read(self.wake, 1)
            found.append(self._answers.popleft())
        return [(key, answer) for key, answer in found if key is not None]

    def cancel_queued(self) -> list[Any]:
        """Cancel the jobs that have not begun. Returns their keys."""
        keys = []
        with suppress(queue.Empty):
            while order := self._orders.get_nowait():
                keys.append(order[0])
        return [key for key in keys if key is not None]

    def kill(self) -> None:
        """Kill the process, hanging or not; the answer of its job is that the process died."""
        process = getattr(self._current, "_process", None)
        if process is not None:
            signal_process_tree(process, signal.SIGKILL)

    def close(self) -> None:
        """End both processes. A second call does nothing."""
        if self._ended:
            return
        self._ended = True
        self.cancel_queued()
        self._orders.put(None)
        self.kill()
        self._thread.join()
        os.close(self.wake)
        os.close(self._bell)

    def _serve(self) -> None:
        try:
            self._start()
            while (order := self._orders.get()) is not None:
                key, job, timeout_s = order
                self._answers.append((key, self._answer(key, job, timeout_s)))
                os.write(self._bell, b".")
        finally:
            self._end()

    def _start(self) -> None:
        asked = time.perf_counter()
        self._current = take_worker(self._warn) or BenchmarkWorker(device=None)
        self._run_first_job(self._current, self._first_job, GPU, asked)

    def _answer(self, key: Any, job: Job, timeout_s: float) -> Any:
        if not self._current.alive() and not self._ended:
            self._replace()
        if self._spare is None and self._wants_spare and not self._ended:
            self._spare = self._start_spare()
        if self._ended:
            return BenchmarkSubprocessError("the search is over")
        try:
            found = self._current.run(job, timeout_s) if key is not None else self._do_first_job(self._current, job)
        except Exception as error:
            return error
        if isinstance(found, JobTimes):
            self._timeline.add_span(GPU, found.what, found.began, found.ended)
        return found

    def _replace(self) -> None:
        """Replace the process by the spare one, once it has loaded; by a new one if there is no spare."""
        if self._spare is None:
            self._start()
            return
        self._current, thread = self._spare
        self._spare = None
        thread.join()

    def _start_spare(self) -> tuple[Any, threading.Thread]:
        asked = time.perf_counter()
        worker = take_worker(self._warn)
        if worker is None:
            worker = BenchmarkWorker(device=None)
            worker._start()
        wanted = (worker, self._first_job, SPARE, asked)
        thread = threading.Thread(target=self._run_first_job, args=wanted, name="helion-spare", daemon=True)
        thread.start()
        return worker, thread

    def _run_first_job(self, worker: Any, job: Job, lane: str, asked: float) -> None:
        """Let a process do its first job, and record when it was started and when it had initialised the GPU."""
        found = self._do_first_job(worker, job)
        if isinstance(found, JobTimes):
            self._timeline.add_span(lane, "start", asked, found.began)
            self._timeline.add_span(lane, found.what, found.began, found.ended)

    def _end(self) -> None:
        workers = [self._current, *([self._spare[0]] if self._spare else [])]
        for worker in workers:
            if worker is not None:
                with suppress(Exception):
                    worker._kill()
        if self._spare is not None:
            self._spare[1].join()

    def _do_first_job(self, worker: Any, job: Job) -> Any:
        """Let a process do its first job. A prestarted process that cannot is killed, and started as Helion does."""
        prepared = isinstance(worker._process, PrestartedProcess)
        try:
            return worker.run(job, _START_TIMEOUT_S)
        except Exception as error:  # a process that cannot do it fails at the first config, too
            if not prepared or self._ended:  # at the end the process was killed by us
                return None
            self._warn(f"The process that prepare() started is of no use ({type(error).__name__}: {error}); {SLOW}.")
            worker._kill()
            return self._do_first_job(worker, job)

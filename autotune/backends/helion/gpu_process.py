"""The process that runs configs on the GPU, one after the other, and a second one that takes over when it must end.

A process with torch, Helion and the arguments in it takes some ten seconds to start: too long to wait for after each
kernel that hangs. So the next one is made while the first one works, where the arguments fit on the device twice. Where
`prepare` was called, each has been started before it is asked for.
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

START_TIMEOUT_S = 180.0

Job = Callable[[], Any]


class GpuProcess:
    """Orders go in with `give`, answers come out with `taken`; `wake` is readable as long as there are any.

    first: what the first process does at once, before it is known what it will need. record: is told when processes
    began what. warn: is told what did not go as it should.
    """

    def __init__(self, first: Job, record: PhaseTimeline | None = None, warn: Callable[[str], Any] = str) -> None:
        self._warm_up, self._wants_spare = first, False
        self._record, self._warn = record or PhaseTimeline(), warn
        self._orders: queue.SimpleQueue[tuple[Any, Job, float] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[Any, Any]] = deque()
        self.wake, self._bell = os.pipe()
        self._ended = False
        self._current: Any = None
        self._spare: tuple[Any, threading.Thread] | None = None
        # Helion's processes die with the thread that has started them, so one thread starts them all.
        self._thread = threading.Thread(target=self._serve, name="helion-station", daemon=True)
        self._thread.start()

    def prepare(self, warm_up: Job, spare: bool) -> None:
        """What a process does before anything else from now on, and whether a second one is kept ready."""
        self._warm_up, self._wants_spare = warm_up, spare
        self.give(None, warm_up, START_TIMEOUT_S)

    def give(self, key: Any, job: Job, timeout_s: float) -> None:
        """Queue a job. Its answer is what it returns, or the exception that it, or its process, ended with."""
        self._orders.put((key, job, timeout_s))

    def taken(self) -> list[tuple[Any, Any]]:
        """The answers so far, each once."""
        found = []
        while self._answers:
            os.read(self.wake, 1)
            found.append(self._answers.popleft())
        return [(key, answer) for key, answer in found if key is not None]

    def withdraw(self) -> list[Any]:
        """Take back what has not begun; the keys of it."""
        keys = []
        with suppress(queue.Empty):
            while order := self._orders.get_nowait():
                keys.append(order[0])
        return [key for key in keys if key is not None]

    def kill(self) -> None:
        """End what runs now, hanging or not; the job's answer is that its process died."""
        process = getattr(self._current, "_process", None)
        if process is not None:
            signal_process_tree(process, signal.SIGKILL)

    def close(self) -> None:
        """End both processes; again does nothing."""
        if self._ended:
            return
        self._ended = True
        self.withdraw()
        self._orders.put(None)
        self.kill()
        self._thread.join()
        os.close(self.wake)
        os.close(self._bell)

    def _serve(self) -> None:
        try:
            self._begin()
            while (order := self._orders.get()) is not None:
                key, job, timeout_s = order
                self._answers.append((key, self._answer(key, job, timeout_s)))
                os.write(self._bell, b".")
        finally:
            self._end()

    def _begin(self) -> None:
        asked = time.perf_counter()
        self._current = take_worker(self._warn) or BenchmarkWorker(device=None)
        self._warmed(self._current, self._warm_up, GPU, asked)

    def _answer(self, key: Any, job: Job, timeout_s: float) -> Any:
        if not self._current.alive() and not self._ended:
            self._replace()
        if self._spare is None and self._wants_spare and not self._ended:
            self._spare = self._started()
        if self._ended:
            return BenchmarkSubprocessError("nobody waits for it any more")
        try:
            found = self._current.run(job, timeout_s) if key is not None else self._warm(self._current, job)
        except Exception as error:
            return error
        if isinstance(found, JobTimes):
            self._record.note(GPU, found.what, found.began, found.ended)
        return found

    def _replace(self) -> None:
        """The spare process takes over, once it is warm; a new one where there is none."""
        if self._spare is None:
            self._begin()
            return
        self._current, thread = self._spare
        self._spare = None
        thread.join()

    def _started(self) -> tuple[Any, threading.Thread]:
        asked = time.perf_counter()
        worker = take_worker(self._warn)
        if worker is None:
            worker = BenchmarkWorker(device=None)
            worker._start()
        wanted = (worker, self._warm_up, SPARE, asked)
        thread = threading.Thread(target=self._warmed, args=wanted, name="helion-spare", daemon=True)
        thread.start()
        return worker, thread

    def _warmed(self, worker: Any, job: Job, lane: str, asked: float) -> None:
        """Let a process do its first job, which tells when it was there and when it had taken hold of the GPU."""
        found = self._warm(worker, job)
        if isinstance(found, JobTimes):
            self._record.note(lane, "start", asked, found.began)
            self._record.note(lane, found.what, found.began, found.ended)

    def _end(self) -> None:
        workers = [self._current, *([self._spare[0]] if self._spare else [])]
        for worker in workers:
            if worker is not None:
                with suppress(Exception):
                    worker._kill()
        if self._spare is not None:
            self._spare[1].join()

    def _warm(self, worker: Any, job: Job) -> Any:
        """Let it do its first job. One that `prepare` started and cannot is ended, and started as Helion does."""
        prepared = isinstance(worker._process, PrestartedProcess)
        try:
            return worker.run(job, START_TIMEOUT_S)
        except Exception as error:  # who cannot warm up will say so when it is to run something
            if not prepared or self._ended:  # the end of all is not the process's fault
                return None
            self._warn(f"The process that prepare() started is of no use ({type(error).__name__}: {error}); {SLOW}.")
            worker._kill()
            return self._warm(worker, job)

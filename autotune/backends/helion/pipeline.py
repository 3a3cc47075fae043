"""Configs compile side by side while the GPU times what is compiled already; nothing waits for the slowest of a batch.

Helion prepares every compile and keeps the books; its benchmark process checks and times. What is ours is that these
overlap, and that code is generated beside: a search is asked for more as soon as a compiler is free.
"""

import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection
from types import TracebackType
from typing import Any, Self

from helion.autotuner.benchmark_job import CompiledFunctionLoadError
from helion.autotuner.benchmark_worker import BenchmarkSubprocessError, BenchmarkTimeout, BenchmarkWorkerUnkillable
from threadpoolctl import ThreadpoolController

from autotune.backends.helion.benchmarks import UNUSABLE, BenchmarkRecord
from autotune.backends.helion.codegen_pool import (
    CodegenPool,
    GeneratedSource,
    generates_same_source,
    make_codegen_pool,
    with_source,
)
from autotune.backends.helion.compile_pool import CompileJob, CompilePool
from autotune.backends.helion.gpu_jobs import JobResult
from autotune.backends.helion.gpu_process import GpuProcess
from autotune.core.outcomes import Failed, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.evaluators.protocol import WorkerSession
from autotune.shell.timeline import GENERATOR, GPU, SEARCH, PhaseTimeline

AHEAD = 1
"""Configs that are queued although nothing is free yet to make them."""

PATIENCE_S = 2.0
"""How long a kernel may go on that nobody waits for any more, before its process is ended."""


class PipelineSession(WorkerSession):
    """jobs: at once, of those that generate code or compile it."""

    def __init__(self, bench: BenchmarkRecord, jobs: int) -> None:
        super().__init__(bench.now)
        self._bench, self._jobs = bench, jobs
        self._provider: Any = bench.search.benchmark_provider
        self._record: PhaseTimeline = self._provider.record
        self._queue: deque[CompileJob] = deque()
        self._compiles = CompilePool(bench.search.settings.autotune_adaptive_timeout)
        self._running: dict[int, CompileJob] = {}
        self._under_way: dict[Any, CompileJob] = {}
        self._comparison: Compare | None = None
        self._given = 0
        self._station: GpuProcess | None = None
        self._generators = CodegenPool(str, 0)
        self._agreed = False
        self._limited: Any = None

    @property
    def room(self) -> int:
        """As many as can be begun at once and one ahead; none while enough wait for the GPU, and none while there are
        outcomes to be polled: whoever proposes must know them first.
        """
        if self._comparison is not None or self._news:
            return 0
        to_generate = (self._generators.count or self._jobs) - len(self._generators)
        to_compile = self._jobs - len(self._generators) - len(self._compiles)
        to_run = self._jobs + AHEAD - len(self._running)
        return max(0, min(min(to_generate, to_compile) + AHEAD - len(self._queue), to_run))

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue trials; compiling begins at once."""
        for trial in trials:
            self._enter(trial, limits)
        self._start_works()

    def compare(self, task: Compare) -> None:
        """Queue a comparison, in this process; nothing else is in flight then."""
        self._comparison = task

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """As of any session; a comparison runs in this process, whatever the timeout."""
        if self._comparison is None:
            return super().poll(timeout_s)
        task, self._comparison = self._comparison, None
        self._rest()
        return (Compared(self.now(), self._bench.compare(task)),)

    def abandon(self) -> None:
        """Drop all. Compilers are killed; a kernel that runs may end, for a while."""
        self._queue.clear()
        self._news.clear()
        self._comparison = None
        self._generators.cancel()
        self._compiles.cancel()
        self._under_way.clear()
        if self._station is not None:
            for key in self._station.withdraw():
                self._running.pop(key, None)

    def __enter__(self) -> Self:
        self._limited = ThreadpoolController().limit(limits=1, user_api="blas")  # the compilers have all cores
        self._station = self._provider.station
        search = self._bench.search
        self._generators = make_codegen_pool(search.kernel, self._jobs, search.log.warning)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()
        self._generators.close()
        self._provider.leave_station()
        self._limited.restore_original_limits()

    def _enter(self, trial: Trial, limits: Limits) -> None:
        config = self._bench.config(trial.config)
        outcome = self._bench.known(config)
        if outcome is not None:
            self._report([trial], outcome)
        elif config in self._under_way:
            self._under_way[config].trials.append(trial)
        elif (member := self._bench.enter(trial, config)) is None:
            self._report([trial], UNUSABLE)
        else:
            self._under_way[config] = work = CompileJob(config, member, [trial], limits)
            self._queue.append(work)

    @property
    def _busy(self) -> bool:
        return bool(self._under_way or self._comparison)

    def _dispatch(self) -> None:
        self._take_answers()
        self._take_compiled()
        for work, source in self._generators.taken():
            self._generated(work, source)
            self._take_answers()  # loading takes a while: neither the GPU nor its answers must wait for it
        self._start_works()

    def _take_compiled(self) -> None:
        for work, failed in self._compiles.ended():
            self._compiled(work, failed)

    def _start_works(self) -> None:
        while self._queue and len(self._compiles) + len(self._generators) < self._jobs:
            if self._generators.count and not self._generators.free:
                return
            self._start(self._queue.popleft())
            self._take_answers()  # as does generating code, in this process
            self._take_compiled()

    def _start(self, work: CompileJob) -> None:
        """Let the config's code be generated: elsewhere, where that can be."""
        config = self._wanted(work)
        if config is None or self._bench.over():
            self._settle(work, None)
        elif self._generators.free:
            self._generators.give(work, config)
        else:
            self._compile(work, config, None)

    def _generated(self, work: CompileJob, source: GeneratedSource) -> None:
        """Compile what has been generated elsewhere. What could not be is generated here, so that Helion logs why."""
        config, text = self._wanted(work), source.text
        if source.ended:
            self._record.note(GENERATOR, "generate", source.began, source.ended, work.trials[0].id)
        if text is not None and not self._agreed:  # once: a fork might take the machine for another
            self._agreed = generates_same_source(self._bench.search.kernel, config, text)
            if not self._agreed:
                self._generators.give_up("the code is not the same")
                text = None
        self._compile(work, config, text)
        if text is None and work.fn is not None and self._generators.count:
            self._generators.give_up(source.error)

    def _compile(self, work: CompileJob, config: Any, text: str | None) -> None:
        """Load the config's code, generated here where there is no text, and begin to compile it elsewhere."""
        kernel, began = self._bench.search.kernel, time.perf_counter()
        try:
            with with_source(kernel, text):
                work.fn = kernel.compile_config(config, allow_print=False)
        except Exception as error:  # Helion's own code generation: it is for Helion to log
            self._settle(work, Failed("compile_error", f"{type(error).__name__}: {error}"))
            return
        work.future = self._provider.compile_ahead(config, work.fn)
        self._provider.futures[config] = work.future
        self._compiles.begin(work)
        self._record.note(SEARCH, "generate" if text is None else "load", began, trial=work.trials[0].id)

    def _wanted(self, work: CompileJob) -> Any:
        """The config as Helion's filter leaves it; None where it is dropped."""
        wanted = self._bench.search.settings.autotune_config_filter
        return work.member.config if wanted is None else wanted(work.member.config)

    def _compiled(self, work: CompileJob, failed: Failed | None) -> None:
        if work.compile_s:
            now = time.perf_counter()
            self._record.note("compiler", "compile", now - work.compile_s, now, work.trials[0].id)
        job = None if failed is not None else self._provider.job(work.fn, work.limits.cutoff_ms, self._bench.best_ms)
        if job is None:  # it failed, or Helion must find out in its own way how to run it
            self._settle(work, failed)
            return
        assert self._station is not None
        self._given += 1
        self._running[self._given] = work
        self._station.give(self._given, job, float(self._bench.search.settings.autotune_benchmark_timeout))

    def _take_answers(self) -> None:
        assert self._station is not None
        for key, answer in self._station.taken():
            work = self._running.pop(key, None)
            if isinstance(answer, BenchmarkWorkerUnkillable):
                raise answer
            if work is not None and self._under_way.get(work.config) is work:
                self._measured(work, answer)

    def _measured(self, work: CompileJob, answer: Any) -> None:
        if isinstance(answer, CompiledFunctionLoadError):  # Helion has a way around it, in this process
            self._settle(work, None)
            return
        found = answer if isinstance(answer, JobResult) else _lost(answer)
        if found.began:
            self._record.note(GPU, "run", found.began, found.began + found.run_s, work.trials[0].id)
        self._provider.measured[self._wanted(work)] = found
        if found.failure is None:
            self._settle(work, timed_or_failed(found.times_ms, work.compile_s, found.run_s, found.cut))
        else:
            self._settle(work, Failed(found.failure, found.message, work.compile_s, found.run_s))

    def _settle(self, work: CompileJob, outcome: Outcome | None) -> None:
        trials, began = work.trials, time.perf_counter()
        found = self._bench.settle(work.config, work.member, work.fn, trials[0].generation, outcome)
        self._record.note(SEARCH, "settle", began, trial=trials[0].id)
        del self._under_way[work.config]
        self._report(trials, found)

    def _report(self, trials: Sequence[Trial], outcome: Outcome) -> None:
        self._news += [Observed(self.now(), trial.id, outcome) for trial in trials]

    def _receive(self, seconds: float) -> bool:
        """Wait until a process may have something to say, which `_dispatch` takes in."""
        assert self._station is not None
        sources = [self._station.wake, *self._generators.connections, *self._compiles.sentinels]
        left = min(seconds, self._generators.seconds_left, self._compiles.seconds_left)
        connection.wait(sources, max(0.0, left))
        return True

    def _rest(self) -> None:
        """Wait until the GPU is free; end what does not end by itself."""
        assert self._station is not None
        until = self.now() + PATIENCE_S
        killed = False
        while self._running:
            if self.now() > until and not killed:
                self._station.kill()
                killed = True
            connection.wait([self._station.wake], 0.05)
            for key, _ in self._station.taken():
                self._running.pop(key, None)


def _lost(error: BaseException) -> JobResult:
    """What a job means whose process has ended, or was spoilt, before it answered."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, BenchmarkTimeout):
        return JobResult(failure="run_timeout", message=text)
    return JobResult(failure="crash" if isinstance(error, BenchmarkSubprocessError) else "run_error", message=text)

"""The pipeline: code is generated and configs compile side by side, while the GPU times compiled ones.

Helion prepares every compile, checks, times, counts and logs. This session makes these steps overlap, and asks the
search for more configs as soon as a compiler is free, so that nothing waits for the slowest config of a batch.
"""

import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection
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

_AHEAD = 1
"""Configs that are queued before a process is free for them, so that none waits for the search."""

_PATIENCE_S = 2.0
"""Seconds that a cancelled kernel may go on before its process is killed: a new one takes longer to start."""


class PipelineSession(WorkerSession):
    """jobs: how many configs are generated or compiled at the same time."""

    def __init__(self, records: BenchmarkRecord, jobs: int) -> None:
        super().__init__(records.now)
        self._records, self._jobs = records, jobs
        self._provider: Any = records.search.benchmark_provider
        self._timeline: PhaseTimeline = self._provider.timeline
        self._queue: deque[CompileJob] = deque()
        self._compilers = CompilePool(records.search.settings.autotune_adaptive_timeout)
        self._running: dict[int, CompileJob] = {}
        self._under_way: dict[Any, CompileJob] = {}
        self._comparison: Compare | None = None
        self._sent = 0
        self._gpu_process: GpuProcess | None = None
        self._codegen = CodegenPool(str, 0)
        self._agreed = False
        self._limited: Any = None

    @property
    def room(self) -> int:
        """As many configs as can begin at once and one more; none while enough wait for the GPU, or outcomes for the
        search, which should know them before it proposes more."""
        if self._comparison is not None or self._news:
            return 0
        to_generate = (self._codegen.count or self._jobs) - len(self._codegen)
        to_compile = self._jobs - len(self._codegen) - len(self._compilers)
        to_run = self._jobs + _AHEAD - len(self._running)
        return max(0, min(min(to_generate, to_compile) + _AHEAD - len(self._queue), to_run))

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        for trial in trials:
            self._queue_trial(trial, limits)
        self._start_jobs()

    def compare(self, task: Compare) -> None:
        """Queue a comparison, which runs in this process; nothing else is in flight then."""
        self._comparison = task

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """See `Session`. A comparison runs in this process, and ignores the timeout."""
        if self._comparison is None:
            return super().poll(timeout_s)
        task, self._comparison = self._comparison, None
        self._wait_for_gpu()
        return (Compared(self.now(), self._records.compare(task)),)

    def abandon(self) -> None:
        """Drop everything. Compilers are killed; a running kernel may end, for _PATIENCE_S seconds."""
        self._queue.clear()
        self._news.clear()
        self._comparison = None
        self._codegen.cancel()
        self._compilers.cancel()
        self._under_way.clear()
        if self._gpu_process is not None:
            for key in self._gpu_process.cancel_queued():
                self._running.pop(key, None)

    def __enter__(self) -> Self:
        self._limited = ThreadpoolController().limit(limits=1, user_api="blas")  # the compilers have all cores
        self._gpu_process = self._provider.gpu_process
        search = self._records.search
        self._codegen = make_codegen_pool(search.kernel, self._jobs, search.log.warning)
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()
        self._codegen.close()
        self._provider.close_gpu_process()
        self._limited.restore_original_limits()

    def _queue_trial(self, trial: Trial, limits: Limits) -> None:
        config = self._records.config(trial.config)
        outcome = self._records.known_outcome(config)
        if outcome is not None:
            self._report([trial], outcome)
        elif config in self._under_way:
            self._under_way[config].trials.append(trial)
        elif (member := self._records.enter(trial, config)) is None:
            self._report([trial], UNUSABLE)
        else:
            self._under_way[config] = work = CompileJob(config, member, [trial], limits)
            self._queue.append(work)

    @property
    def _busy(self) -> bool:
        return bool(self._under_way or self._comparison)

    def _dispatch(self) -> None:
        self._take_results()
        self._take_compiled()
        for work, source in self._codegen.poll():
            self._handle_generated(work, source)
            self._take_results()  # loading takes a while, and the GPU must not wait for its next job
        self._start_jobs()

    def _take_compiled(self) -> None:
        for work, failed in self._compilers.poll():
            self._handle_compiled(work, failed)

    def _start_jobs(self) -> None:
        while self._queue and len(self._compilers) + len(self._codegen) < self._jobs:
            if self._codegen.count and not self._codegen.free:
                return
            self._start(self._queue.popleft())
            self._take_results()  # generating code in this process takes a while, too
            self._take_compiled()

    def _start(self, work: CompileJob) -> None:
        """Generate the code of a config, in another process if possible."""
        config = self._filter(work)
        if config is None or self._records.over():
            self._finish_job(work, None)
        elif self._codegen.free:
            self._codegen.send(work, config)
        else:
            self._compile(work, config, None)

    def _handle_generated(self, work: CompileJob, source: GeneratedSource) -> None:
        """Compile a config whose code another process has generated. Code that it could not generate is generated here,
        so that Helion logs the error."""
        config, text = self._filter(work), source.text
        if source.ended:
            self._timeline.add_span(GENERATOR, "generate", source.began, source.ended, work.trials[0].id)
        if text is not None and not self._agreed:  # checked once: a fork might see another machine
            self._agreed = generates_same_source(self._records.search.kernel, config, text)
            if not self._agreed:
                self._codegen.abandon("the code is not the same")
                text = None
        self._compile(work, config, text)
        if text is None and work.fn is not None and self._codegen.count:
            self._codegen.abandon(source.error)

    def _compile(self, work: CompileJob, config: Any, text: str | None) -> None:
        """Load the code of a config (generated here if text is None), and begin to compile it in another process."""
        kernel, began = self._records.search.kernel, time.perf_counter()
        try:
            with with_source(kernel, text):
                work.fn = kernel.compile_config(config, allow_print=False)
        except Exception as error:  # of Helion's code generation, which Helion logs
            self._finish_job(work, Failed("compile_error", f"{type(error).__name__}: {error}"))
            return
        work.future = self._provider.create_compile(config, work.fn)
        self._provider.futures[config] = work.future
        self._compilers.begin(work)
        self._timeline.add_span(SEARCH, "generate" if text is None else "load", began, trial=work.trials[0].id)

    def _filter(self, work: CompileJob) -> Any:
        """The config after Helion's filter; None if the filter drops it."""
        wanted = self._records.search.settings.autotune_config_filter
        return work.member.config if wanted is None else wanted(work.member.config)

    def _handle_compiled(self, work: CompileJob, failed: Failed | None) -> None:
        if work.compile_s:
            now = time.perf_counter()
            self._timeline.add_span("compiler", "compile", now - work.compile_s, now, work.trials[0].id)
        job = None if failed is not None else self._provider.job(work.fn, work.limits.cutoff_ms, work.limits.near_ms)
        if job is None:  # it failed, or cannot be sent, and Helion runs it in its own way
            self._finish_job(work, failed)
            return
        assert self._gpu_process is not None
        self._sent += 1
        self._running[self._sent] = work
        self._gpu_process.send(self._sent, job, float(self._records.search.settings.autotune_benchmark_timeout))

    def _take_results(self) -> None:
        assert self._gpu_process is not None
        for key, answer in self._gpu_process.poll():
            work = self._running.pop(key, None)
            if isinstance(answer, BenchmarkWorkerUnkillable):
                raise answer
            if work is not None and self._under_way.get(work.config) is work:
                self._handle_measured(work, answer)

    def _handle_measured(self, work: CompileJob, answer: Any) -> None:
        if isinstance(answer, CompiledFunctionLoadError):  # Helion can still run it, in this process
            self._finish_job(work, None)
            return
        found = answer if isinstance(answer, JobResult) else _result_of_error(answer)
        if found.began:
            self._timeline.add_span(GPU, "run", found.began, found.began + found.run_s, work.trials[0].id)
        self._provider.results[self._filter(work)] = found
        if found.failure is None:
            self._finish_job(work, timed_or_failed(found.times_ms, work.compile_s, found.run_s, found.cut))
        else:
            self._finish_job(work, Failed(found.failure, found.message, work.compile_s, found.run_s))

    def _finish_job(self, work: CompileJob, outcome: Outcome | None) -> None:
        trials, began = work.trials, time.perf_counter()
        found = self._records.settle(work.config, work.member, work.fn, trials[0].generation, outcome)
        self._timeline.add_span(SEARCH, "settle", began, trial=trials[0].id)
        del self._under_way[work.config]
        self._report(trials, found)

    def _report(self, trials: Sequence[Trial], outcome: Outcome) -> None:
        self._news += [Observed(self.now(), trial.id, outcome) for trial in trials]

    def _receive(self, seconds: float) -> bool:
        """Wait until a process may have answered; `_dispatch` takes its answer in."""
        assert self._gpu_process is not None
        sources = [self._gpu_process.wake, *self._codegen.connections, *self._compilers.sentinels]
        left = min(seconds, self._codegen.seconds_left, self._compilers.seconds_left)
        connection.wait(sources, max(0.0, left))
        return True

    def _wait_for_gpu(self) -> None:
        """Wait until the GPU is free; kill a kernel that does not end in time."""
        assert self._gpu_process is not None
        until = self.now() + _PATIENCE_S
        killed = False
        while self._running:
            if self.now() > until and not killed:
                self._gpu_process.kill()
                killed = True
            connection.wait([self._gpu_process.wake], 0.05)
            for key, _ in self._gpu_process.poll():
                self._running.pop(key, None)


def _result_of_error(error: BaseException) -> JobResult:
    """The result of a job whose process has ended, or became unusable, before it answered."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, BenchmarkTimeout):
        return JobResult(failure="run_timeout", message=text)
    return JobResult(failure="crash" if isinstance(error, BenchmarkSubprocessError) else "run_error", message=text)

"""One comparison on a GPU: all its configs are kept warm in one worker, which takes a sample of each in every round.

The rounds that were asked for are all done. Where the noise then leaves it open which config is the fastest, more
rounds follow (`core/search/rounds.py`, extended).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

from msgspec.structs import replace

from autotune.backends.triton import messages
from autotune.backends.triton.gpu_sources import TritonWorker
from autotune.backends.triton.jobs import SessionRules, require_launches, workload_details
from autotune.backends.triton.processes import CompileWorker, Processes
from autotune.backends.triton.resources import resource_details
from autotune.backends.triton.session_cache import keys_of
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Trial
from autotune.core.search.messages import Compare
from autotune.shell.evaluators.comparison import Comparison, Contender, Step
from autotune.shell.processes.pool import Lost

_GPU = 0
"""The GPU that compares: configs are compared on one device."""


@dataclass(eq=False, kw_only=True)
class _Contender(Contender):
    """compiler: the worker that compiles it now. fresh: it has had a second try, in a new process. each_ms: its times
    on each workload, in every round. keys: of its kernels in Triton's cache.
    """

    trial: Trial
    compiler: CompileWorker | None = None
    fresh: bool = False
    each_ms: list[tuple[float, ...]] = field(default_factory=list)
    gauges: list[dict[str, Detail]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    details: dict[str, Detail] = field(default_factory=dict)
    launches: tuple[messages.RecordedLaunch, ...] = ()


class TritonComparison:
    """combine: one number of the times on each workload, by the objective."""

    def __init__(
        self,
        task: Compare,
        processes: Processes,
        clock: Callable[[], float],
        rules: SessionRules,
        combine: Callable[[Sequence[float]], float],
    ) -> None:
        contenders = [_Contender(trial=trial, place=place) for place, trial in enumerate(task.trials)]
        if processes.compile_pool is None:
            for contender in contenders:
                contender.stage = "built"
        self._state = Comparison.of(task, contenders, clock, extend=rules.extends)
        self._processes = processes
        self._rules = rules
        self._combine = combine
        self._turn: tuple[_Contender, Step] | None = None
        self._acting: tuple[_Contender, Step] | None = None
        self._gpu_worker: TritonWorker | None = None

    @property
    def keys(self) -> dict[int, set[str]]:
        """The keys of each trial that works."""
        return {contender.trial.id: contender.keys for contender in self._state.alive}

    def advance(self) -> tuple[tuple[int, Outcome], ...] | None:
        """Give the next orders; the outcomes once there are none left, and None before."""
        if self._acting is not None or self._compile_some():
            return None
        self._turn = self._turn or self._state.next()
        if self._turn is None:
            return self._outcomes()
        self._send_order(*self._turn)
        return None

    def receive(self, worker: Any, reply: messages.TritonReply | Lost) -> None:
        """Take in the reply of a worker, or its end."""
        contender = next((one for one in self._state.contenders if one.compiler is worker), None)
        if contender is not None:
            contender.compiler = None
            self._take_compiled(contender, worker, reply)
        elif self._acting is not None and worker is self._gpu_worker:
            (contender, step), self._acting = self._acting, None
            self._take_run(contender, step, worker, reply)

    def _compile_some(self) -> bool:
        """Order compiles as far as there are workers; whether any is still to come. Most are in the cache already."""
        for contender in (one for one in self._state.alive if one.stage == "waiting"):
            worker = self._processes.idle_compiler()
            if worker is None:
                break
            assert self._processes.compile_pool is not None, "there is a compile worker"
            contender.stage, contender.compiler = "building", worker
            order = messages.CompileOrder(contender.trial.config.to_json())
            self._processes.compile_pool.send(worker, order, self._rules.compile_timeout_s)
        self._processes.start_compilers(sum(one.stage == "waiting" for one in self._state.alive))
        return any(one.stage in ("waiting", "building") for one in self._state.alive)

    def _take_compiled(self, contender: _Contender, worker: CompileWorker, reply: messages.TritonReply | Lost) -> None:
        contender.stage = "built"
        contender.launches = require_launches(self._rules, contender.trial.config, reply)
        match reply:
            case messages.Compiled(seconds, kernels):
                contender.compile_s = seconds
                contender.details = resource_details(kernels, self._processes.gpu())
                contender.keys.update(keys_of(kernel.hash for kernel in kernels))
            case messages.NotCompiled(seconds, message, compiler):
                contender.compile_s = seconds
                if compiler:
                    contender.fail(Failed("compile_error", message))
            case Lost("timeout", message):
                contender.fail(Failed("compile_timeout", message, worker.allowed_s))
            case _:
                pass  # the GPU worker will compile it
        if not isinstance(reply, Lost) and self._processes.compile_pool is not None:
            self._processes.compile_pool.release(worker)

    def _send_order(self, contender: _Contender, step: Step) -> None:
        worker = self._processes.gpu_worker(_GPU)
        if worker is None:
            return  # it starts, or another process holds the lock of the GPU
        if worker is not self._gpu_worker:  # another process, in which nothing is prepared
            self._gpu_worker = worker
            for other in self._state.alive:
                other.stage = "built"
        if contender.stage == "built":
            step = "prepare"
        order: messages.TritonOrder
        allowed_s = self._rules.run_timeout_s
        if step == "prepare":
            order = messages.PrepareOrder(
                config=contender.trial.config.to_json(), slot=contender.place, launches=contender.launches
            )
            allowed_s += self._rules.compile_timeout_s
        elif step == "sample":
            order = messages.SampleOrder(contender.place)
        else:
            order = messages.VerifyOrder(contender.place)
        self._turn, self._acting = None, (contender, step)
        self._processes.gpu_pools[_GPU].send(worker, order, allowed_s)

    def _take_run(self, contender: _Contender, step: Step, worker: Any, reply: messages.TritonReply | Lost) -> None:
        match reply:
            case messages.PrepareReply(seconds, keys):
                contender.keys.update(keys)
                contender.finish(step, seconds)
            case messages.SampleReply(times_ms, seconds, gauges):
                contender.finish(step, seconds, self._combine(times_ms))
                contender.each_ms.append(times_ms)
                contender.gauges.append(gauges)
            case messages.Refused():
                self._drop(contender, worker, reply.failed, reply.spoilt)
            case Lost("timeout", message):
                late: FailureKind = "run_timeout"
                self._drop(contender, worker, Failed(late, message), gone=True)
            case Lost(_, message):
                self._drop(contender, worker, Failed("crash", message), gone=True)
            case _:
                self._drop(contender, worker, Failed("crash", "it answered something that was not asked"), gone=True)

    def _drop(self, contender: _Contender, worker: Any, failed: Failed, gone: bool) -> None:
        """A failure that the others may have caused gets one more try, in a new process."""
        if gone:
            self._processes.gpu_pools[_GPU].kill(worker)
            self._gpu_worker = None
        excusable = failed.kind in ("crash", "out_of_memory") and gone and len(self._state.alive) > 1
        if excusable and not contender.fresh:
            contender.fresh = True
        else:
            contender.fail(failed)

    def _outcomes(self) -> tuple[tuple[int, Outcome], ...]:
        pool = self._processes.gpu_pools[_GPU]
        if self._gpu_worker is not None and self._gpu_worker in pool:
            pool.send(self._gpu_worker, messages.ForgetOrder(), self._rules.run_timeout_s)
        return tuple((contender.trial.id, self._outcome(contender)) for contender in self._state.contenders)

    def _outcome(self, contender: _Contender) -> Outcome:
        if contender.failed is not None:
            return contender.failed
        details = {
            **contender.details,
            **workload_details(self._rules.names, list(zip(*contender.each_ms, strict=True))),
            **median_gauges(contender.gauges),
        }
        return replace(contender.outcome(), details=details)


def median_gauges(gauges: Sequence[dict[str, Detail]]) -> dict[str, Detail]:
    """The median of each gauge over the samples at which it was read."""
    shown: dict[str, list[float]] = {}
    for one in gauges:
        for name, value in one.items():
            if isinstance(value, int | float):
                shown.setdefault(name, []).append(value)
    return {name: median_low(values) for name, values in shown.items()}

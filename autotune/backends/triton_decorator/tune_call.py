"""One tuning: the arguments of a call, the candidates and the options become a search, and that a config.

What a tuning says of itself on stderr, and what is remembered of its measurements.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.backends.triton.arguments import ArgumentSet, CheckSpec, PreparedArguments
from autotune.backends.triton.evaluator import TritonEvaluator
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.do_bench_evaluator import DoBenchEvaluator, benchmarker
from autotune.backends.triton_decorator.launcher import Launcher, functions_of, kernel_of, portable
from autotune.backends.triton_decorator.options import Isolation, MeasureOptions, SearchOptions
from autotune.backends.triton_decorator.protected_arguments import (
    WrittenTensors,
    find_written,
    holds_tensor,
    protect,
    restoring,
)
from autotune.backends.triton_decorator.written_arguments import Effects
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError, PlanError
from autotune.core.outcomes import Outcome
from autotune.core.search.messages import Event
from autotune.core.search.result import Result
from autotune.core.search.state import Search
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.driver import Watch
from autotune.shell.evaluators.protocol import Evaluator
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.formatting import describe_error, format_duration, format_milliseconds
from autotune.shell.options import Progress
from autotune.shell.progress import show_progress
from autotune.shell.settings import Environment
from autotune.shell.tuning import tune

if TYPE_CHECKING:
    from autotune.shell.cache.reuse import KeyedCache


class TuningLog:
    """Watches a search. progress: as in `tune`, but that None shows it: whoever waits should know what for."""

    def __init__(self, what: str, progress: Progress, baseline: str = "default") -> None:
        self._what, self._baseline = what, baseline
        self._progress = True if progress is None else progress
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self.last: Search | None = None

    def __call__(self, search: Search, event: Event) -> None:
        if self._watch is None:
            self._watch = self._stack.enter_context(show_progress(search, self._progress))
        self.last = search
        self._watch(search, event)

    def say(self, text: str) -> None:
        """A line, where lines are wanted."""
        if self._progress is True and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"autotune: {self._what}: {text}", file=sys.stderr, flush=True)

    def begin(self, points: int | None, seconds: float | None) -> None:
        """What will be done."""
        among = "" if points is None else f" among {points:,} configs"
        limit = "" if seconds is None else f", for {format_duration(seconds)} at most"
        self.say(f"tuning{among}{limit}")

    def end(self, result: Result) -> None:
        """What was found."""
        faster = "" if result.speedup is None else f", {result.speedup.value:.3g}x over the {self._baseline}"
        tried = "" if self.last is None else f"; {result.evaluations} configs in {format_duration(result.elapsed_s)}"
        kept = "" if result.complete else "; interrupted, and not kept"
        self.say(f"{format_milliseconds(result.best.time_ms)}{faster}{tried}{kept}: {result.best.config}")

    def close(self) -> None:
        """The search is over."""
        self._stack.close()

    def outcomes(self) -> Mapping[Config, Outcome]:
        """The latest outcome of each config; empty where nothing was measured."""
        if self.last is None:
            return {}
        latest: dict[int, Any] = dict(self.last.outcomes)
        return {trial.config: latest[trial.id] for trial in self.last.trials if trial.id in latest}


BENCHED = {"verify_rounds": 5, "confirm_rounds": 3}
"""Settings of the machine where each sample is a whole `do_bench`."""


@dataclass(frozen=True, eq=False)
class Job:
    """A call that is to be tuned. kernel: as decorated. effects: what its source tells of it. grid: of the call.

    named: the arguments by name, defaults included. options: of the launch, given at the call. placed, given: the names
    of arguments that the call gives by position, and all that it gives. device: "cuda", "cpu", … interpreted: whether
    Triton's interpreter runs the kernel. label: kernel and key, for people.
    """

    kernel: Any
    effects: Effects | None
    grid: Any
    named: Mapping[str, Any]
    options: Mapping[str, Any]
    placed: tuple[str, ...]
    given: frozenset[str]
    device: str
    interpreted: bool
    label: str
    candidates: Candidates
    measuring: MeasureOptions

    @property
    def written(self) -> WrittenTensors:
        """The tensors that the kernel writes."""
        of = self.measuring
        declared = (*self._present("outputs", of.outputs), *self.zeroed)
        return find_written(self.effects, self.named, declared, self._present("restore_value", of.restore_value))

    @property
    def zeroed(self) -> tuple[str, ...]:
        """The arguments of this call that begin every run with zeros."""
        return self._present("reset_to_zero", self.measuring.reset_to_zero)

    def launcher(self, named: Mapping[str, Any]) -> Launcher:
        """What launches a config, and travels to other processes. named: the arguments to launch with."""
        held = {name: value for name, value in named.items() if not _travels_as_argument(value)}
        return Launcher(
            self.kernel,
            portable(self.grid),
            {**held, **self.options},
            self.candidates.listed,
            functions_of(self.kernel),
            self.placed,
            self.given,
        )

    def arguments(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """What the launcher is called with."""
        return {name: value for name, value in named.items() if _travels_as_argument(value)}

    def terms(self) -> CheckSpec:
        """What is right, and what every run must find."""
        of, written, zeroed = self.measuring, self.written, self.zeroed
        restored = tuple(name for name in written.restored if name not in zeroed)
        written_names = {*written.outputs, *written.restored}
        outputs = tuple(name for name in self._present("outputs", of.outputs) if is_tensor(self.named[name]))
        outputs = outputs or tuple(name for name in self.named if name in written_names)
        if of.reference is None:
            outputs = tuple(name for name in outputs if name in written.outputs)
        return CheckSpec(
            of.reference,
            outputs,
            restored,
            tuple(name for name in zeroed if is_tensor(self.named[name])),
            of.checker,
            of.tolerance,
            names=self.candidates.space.names,
        )

    def _present(self, what: str, names: Sequence[str]) -> tuple[str, ...]:
        """Those of these arguments that this call has; an optional tensor may be None, or left out.

        Raises PlanError for one that is no tensor and holds none.
        """
        found = tuple(name for name in names if self.named.get(name) is not None)
        for name in found:
            if not is_tensor(self.named[name]) and not holds_tensor(self.named[name]):
                raise PlanError(
                    f"{what} names {name}, and {self.label} has {type(self.named[name]).__name__} there; name arguments"
                    " that are tensors"
                )
        return found


def choose_isolation(job: Job) -> Isolation:
    """Where to time: in a process of its own wherever that is the same thing."""
    of = job.measuring
    if of.isolation is not None:
        return of.isolation
    own = of.do_bench is not None or of.pre_hook is not None or of.post_hook is not None or job.candidates.hooked
    torch = sys.modules.get("torch")
    nvidia = job.device == "cuda" and getattr(getattr(torch, "version", None), "cuda", None) is not None
    odd = any(map(holds_tensor, job.named.values())) or not is_triton_kernel(kernel_of(job.kernel))
    return "in_process" if own or odd or job.interpreted or not nvidia else "process"


def searched(
    job: Job, searching: SearchOptions, env: Environment, memory: "KeyedCache | None", log: TuningLog
) -> tuple[Result, Mapping[Config, Outcome]]:
    """The result of a search, and what was measured. Raises what `tune` raises."""
    isolation = choose_isolation(job)
    try:
        return _searched(job, searching, env, memory, log, isolation)
    except EvaluatorError as error:
        if isolation == "in_process" or job.measuring.isolation is not None:
            raise
        warnings.warn(
            f"{job.label} cannot be tuned in a process of its own ({error}); it is tuned in this one, where nothing"
            " stops a config that hangs",
            stacklevel=2,
        )
        return _searched(job, searching, env, memory, log, "in_process")


def _searched(
    job: Job,
    searching: SearchOptions,
    env: Environment,
    memory: "KeyedCache | None",
    log: TuningLog,
    isolation: Isolation,
) -> tuple[Result, Mapping[Config, Outcome]]:
    candidates, listed = job.candidates, job.candidates.configs is not None
    budget = searching.budget_for(env, listed)
    settings = dict(searching.settings or {})
    if isolation == "in_process":
        settings = BENCHED | settings
    if listed:
        settings.setdefault("simplify_rounds", 0)  # what is not on the list is not wanted
    with protect(job.named, job.written, job.zeroed) as named:
        synchronizer(job.device)()
        evaluator = _evaluator(job, named, isolation)
        log.begin(candidates.space.count() if not listed else len(candidates.configs or ()), budget.seconds)
        try:
            result = tune(
                candidates.space, evaluator, candidates.strategy or searching.strategy,
                effort=searching.effort_for(env), budget=budget, seed=searching.seed, seeds=candidates.seeds,
                journal=searching.journal, settings=settings, progress=log,
                cache=None if memory is None else memory.cache, key=None if memory is None else memory.key,
                cache_use=None if memory is None else memory.use,
            )  # fmt: skip
        finally:
            log.close()
            synchronizer(job.device)()
    log.end(result)
    return result, log.outcomes()


def _evaluator(job: Job, named: Mapping[str, Any], isolation: Isolation) -> Evaluator:
    of, terms, launcher, arguments = job.measuring, job.terms(), job.launcher(named), job.arguments(named)
    if isolation == "in_process":
        device = "cpu" if job.interpreted and job.device == "cpu" else job.device
        timer = of.do_bench or benchmarker(device, of.warmup, of.rep, of.use_cuda_graph)
        synchronize = synchronizer(job.device)
        restore = restoring(named, job.written, job.zeroed)
        return DoBenchEvaluator(
            launcher, arguments, terms, timer, synchronize, of.pre_hook, of.post_hook, restore, not job.interpreted
        )
    tolerance = of.tolerance
    return TritonEvaluator(
        build=launcher, arguments=arguments, reference=terms.reference, outputs=terms.outputs,
        restore_value=terms.restore_value, reset_to_zero=terms.reset_to_zero, checker=terms.checker,
        rtol=tolerance.rtol, atol=tolerance.atol, bitwise=tolerance.bitwise, allowed_mismatch=tolerance.allowed,
        reduction=tolerance.reduction, device="interpreter" if job.interpreted else "cuda",
        warmup_ms=5.0 if of.warmup is None else of.warmup, target_ms=40.0 if of.rep is None else of.rep,
        cuda_graph=of.use_cuda_graph,
    )  # fmt: skip


def fault(job: Job, config: Config) -> str | None:
    """Why a config is not to be used, where a reference can tell; None if it is right."""
    if job.measuring.reference is None:
        return None
    with protect(job.named, job.written, job.zeroed) as named:
        launcher = job.launcher(named)
        stage = PreparedArguments(ArgumentSet(job.arguments(named)), Launch(build=launcher), job.terms(), device="here")
        try:
            stage.clear()
            launcher(config)(**stage.named)
            synchronizer(job.device)()
        except Exception as error:
            return describe_error(error)
        found = stage.verdict(None)
    return None if found is None else found[0]


def synchronizer(device: str) -> Callable[[], Any]:
    """Waits until the device has done all it was given."""
    torch = sys.modules.get("torch")
    backend = getattr(torch, device, None) if device not in ("cpu", "") else None
    return backend.synchronize if backend is not None else _nothing


def _nothing() -> None:
    """There is nothing to wait for."""


def _travels_as_argument(value: Any) -> bool:
    """Whether compile workers can be told what it is; all else is a part of the launch."""
    return is_tensor(value) or value is None or isinstance(value, bool | int | float | str)

"""One tuning: the arguments of a call, the candidates and the options become a search, and the search a config.

The kernel runs on copies of the tensors that it writes, in a process of its own wherever possible. `TuningLog` tells
about it on stderr, and remembers the measurements.
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.backends.triton.arguments import ArgumentSet
from autotune.backends.triton.evaluator import TritonEvaluator
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.do_bench_evaluator import DoBenchEvaluator, default_do_bench, synchronize
from autotune.backends.triton_decorator.launcher import Launcher, jitted_kernel, list_functions, portable_grid
from autotune.backends.triton_decorator.options import Isolation, MeasureOptions, SearchOptions
from autotune.backends.triton_decorator.protected_arguments import (
    WrittenTensors,
    find_written,
    holds_tensor,
    make_restorer,
    protect,
)
from autotune.backends.triton_decorator.written_arguments import Effects
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError, PlanError
from autotune.core.outcomes import Outcome
from autotune.core.search.effort import LONG_SAMPLES
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
    """Watches a search. progress: as in `tune`, but None shows it: the program waits for the first call."""

    def __init__(self, label: str, progress: Progress, baseline: str = "default") -> None:
        self._label, self._baseline = label, baseline
        self._progress = True if progress is None else progress
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self.search: Search | None = None

    def __call__(self, search: Search, event: Event) -> None:
        if self._watch is None:
            self._watch = self._stack.enter_context(show_progress(search, self._progress))
        self.search = search
        self._watch(search, event)

    def say(self, text: str) -> None:
        """Print a line on stderr, if the progress is shown there."""
        if self._progress is True and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"autotune: {self._label}: {text}", file=sys.stderr, flush=True)

    def begin(self, points: int | None, seconds: float | None) -> None:
        """Say that a search begins. points: how many configs there are, None: unknown. seconds: of its budget."""
        among = "" if points is None else f" among {points:,} configs"
        limit = "" if seconds is None else f", for {format_duration(seconds)} at most"
        self.say(f"tuning{among}{limit}")

    def end(self, result: Result) -> None:
        """Print the result of the search."""
        faster = "" if result.speedup is None else f", {result.speedup.value:.3g}x over the {self._baseline}"
        tried = "" if self.search is None else f"; {result.evaluations} configs in {format_duration(result.elapsed_s)}"
        kept = "" if result.complete else "; interrupted, and not kept"
        self.say(f"{format_milliseconds(result.best.time_ms)}{faster}{tried}{kept}: {result.best.config}")

    def close(self) -> None:
        """End the display of the progress."""
        self._stack.close()

    def outcomes(self) -> Mapping[Config, Outcome]:
        """The latest outcome of each config; empty where nothing was measured."""
        if self.search is None:
            return {}
        latest: dict[int, Any] = dict(self.search.outcomes)
        return {trial.config: latest[trial.id] for trial in self.search.trials if trial.id in latest}


@dataclass(frozen=True, eq=False, kw_only=True)
class TuningTask:
    """A call that is to be tuned.

    kernel: as decorated. effects: what its source tells about its arguments. grid: of the call. named: the arguments by
    name, defaults included. options: of the launch, given at the call. placed, given: the names of the arguments that
    the call gives by position, and of all that it gives. device: "cuda", "cpu", … interpreted: whether Triton's
    interpreter runs the kernel. label: kernel and key, for people.
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
        """The arguments of this call that hold zeros at the start of every run."""
        return self._present("reset_to_zero", self.measuring.reset_to_zero)

    def launcher(self, named: Mapping[str, Any]) -> Launcher:
        """A launcher of configs that can be sent to other processes. named: the arguments to launch with."""
        return Launcher(
            kernel=self.kernel,
            grid=portable_grid(self.grid),
            constants={**{n: v for n, v in named.items() if not _is_describable(v)}, **self.options},
            listed=self.candidates.listed,
            functions=list_functions(self.kernel),
            placed=self.placed,
            given=self.given,
        )

    def launcher_arguments(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that the launcher is called with."""
        return {name: value for name, value in named.items() if _is_describable(value)}

    def check_spec(self) -> CheckSpec:
        """How a run is checked, and which tensors it must find as they were."""
        of, written, zeroed = self.measuring, self.written, self.zeroed
        restored = tuple(name for name in written.restored if name not in zeroed)
        written_names = {*written.outputs, *written.restored}
        outputs = tuple(name for name in self._present("outputs", of.outputs) if is_tensor(self.named[name]))
        outputs = outputs or tuple(name for name in self.named if name in written_names)
        if of.reference is None:
            outputs = tuple(name for name in outputs if name in written.outputs)
        return CheckSpec(
            reference=of.reference,
            outputs=outputs,
            restore_value=restored,
            reset_to_zero=tuple(name for name in zeroed if is_tensor(self.named[name])),
            checker=of.checker,
            tolerance=of.tolerance,
            names=self.candidates.space.names,
        )

    def _present(self, option: str, names: Sequence[str]) -> tuple[str, ...]:
        """The arguments of these names that this call has; an optional tensor may be None, or left out.

        Raises PlanError for one that is no tensor and holds none.
        """
        found = tuple(name for name in names if self.named.get(name) is not None)
        for name in found:
            if not is_tensor(self.named[name]) and not holds_tensor(self.named[name]):
                raise PlanError(
                    f"{option} names {name}, and {self.label} has {type(self.named[name]).__name__} there; name"
                    " arguments that are tensors"
                )
        return found


def _is_describable(value: Any) -> bool:
    """Whether an argument can be described to compile workers; other values become a part of the launch."""
    return is_tensor(value) or value is None or isinstance(value, bool | int | float | str)


def tune_call(
    task: TuningTask, searching: SearchOptions, env: Environment, keyed: "KeyedCache | None", log: TuningLog
) -> tuple[Result, Mapping[Config, Outcome]]:
    """The result of a search, and its measurements. Raises the errors of `tune`."""
    isolation = choose_isolation(task)
    try:
        return _search(task, searching, env, keyed, log, isolation)
    except EvaluatorError as error:
        if isolation == "in_process" or task.measuring.isolation is not None:
            raise
        warnings.warn(
            f"{task.label} cannot be tuned in a process of its own ({error}); it is tuned in this one, where nothing"
            " stops a config that hangs",
            stacklevel=2,
        )
        return _search(task, searching, env, keyed, log, "in_process")


def choose_isolation(task: TuningTask) -> Isolation:
    """Where to time: in a process of its own, unless that would not measure the same thing.

    Raises PlanError where the user wants a process that cannot be had.
    """
    of = task.measuring
    if of.isolation == "process" and task.device not in ("cpu", "cuda"):
        raise PlanError(
            f'isolation="process" is for the GPUs of NVIDIA and AMD, and the tensors of {task.label} are on'
            f' {task.device!r}; leave it out, or give "in_process"'
        )
    if of.isolation is not None:
        return of.isolation
    own = of.do_bench is not None or of.pre_hook is not None or of.post_hook is not None or task.candidates.hooked
    torch = sys.modules.get("torch")
    nvidia = task.device == "cuda" and getattr(getattr(torch, "version", None), "cuda", None) is not None
    odd = any(map(holds_tensor, task.named.values())) or not is_triton_kernel(jitted_kernel(task.kernel))
    return "in_process" if own or odd or task.interpreted or not nvidia else "process"


def _search(
    task: TuningTask,
    searching: SearchOptions,
    env: Environment,
    keyed: "KeyedCache | None",
    log: TuningLog,
    isolation: Isolation,
) -> tuple[Result, Mapping[Config, Outcome]]:
    candidates = task.candidates
    budget = searching.budget_for(env, candidates.configs is not None)
    settings = dict(searching.settings or {})
    if isolation == "in_process":
        settings = LONG_SAMPLES | settings
    if candidates.configs is not None:
        settings.setdefault("simplify_rounds", 0)  # only configs of the list are wanted
    with protect(task.named, task.written, task.zeroed) as named:
        synchronize(task.device)
        evaluator = _make_evaluator(task, named, isolation)
        points = candidates.space.count() if candidates.configs is None else len(candidates.configs)
        log.begin(points, budget.seconds)
        try:
            result = tune(
                candidates.space,
                evaluator,
                candidates.strategy or searching.strategy,
                effort=searching.effort_for(env),
                budget=budget,
                seed=searching.seed,
                seeds=candidates.seeds,
                journal=searching.journal,
                settings=settings,
                progress=log,
                cache=None if keyed is None else keyed.cache,
                key=None if keyed is None else keyed.key,
                cache_use=None if keyed is None else keyed.use,
            )
        finally:
            log.close()
            synchronize(task.device)
    log.end(result)
    return result, log.outcomes()


def _make_evaluator(task: TuningTask, named: Mapping[str, Any], isolation: Isolation) -> Evaluator:
    of, spec, launcher, arguments = (
        task.measuring, task.check_spec(), task.launcher(named), task.launcher_arguments(named),
    )  # fmt: skip
    if isolation == "in_process":
        return DoBenchEvaluator(
            launcher=launcher,
            arguments=arguments,
            spec=spec,
            do_bench=of.do_bench or default_do_bench(task.device, of.warmup, of.rep, of.use_cuda_graph),
            device=task.device,
            pre_hook=of.pre_hook,
            post_hook=of.post_hook,
            restore=make_restorer(named, task.written, task.zeroed),
            compiles=not task.interpreted,
        )
    return TritonEvaluator(
        build=launcher,
        arguments=arguments,
        reference=spec.reference,
        outputs=spec.outputs,
        restore_value=spec.restore_value,
        reset_to_zero=spec.reset_to_zero,
        checker=spec.checker,
        rtol=of.tolerance.rtol,
        atol=of.tolerance.atol,
        bitwise=of.tolerance.bitwise,
        allowed_mismatch=of.tolerance.allowed,
        reduction=of.tolerance.reduction,
        device="interpreter" if task.interpreted else "cuda",
        warmup_ms=5.0 if of.warmup is None else of.warmup,
        target_ms=40.0 if of.rep is None else of.rep,
        cuda_graph=of.use_cuda_graph,
    )


def find_fault(task: TuningTask, config: Config) -> str | None:
    """Why a config must not be used, where a reference can tell; None if its output is right."""
    if task.measuring.reference is None:
        return None
    with protect(task.named, task.written, task.zeroed) as named:
        launcher = task.launcher(named)
        workload, launch = ArgumentSet(task.launcher_arguments(named)), Launch(build=launcher)
        prepared = PreparedArguments(workload, launch, task.check_spec(), device="here")
        try:
            prepared.clear()
            launcher(config)(**prepared.named)
            synchronize(task.device)
        except Exception as error:
            return describe_error(error)
        found = prepared.find_fault(None)
    return None if found is None else found[0]

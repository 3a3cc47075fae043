"""One tuning: the arguments of a call, the candidates and the options become a search, and the search a config.

The kernel runs on copies of the tensors that it writes, in a process of its own wherever possible. `TuningLog` tells
about it on stderr, and remembers the measurements.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from autotune.backends.triton.arguments import ArgumentSet
from autotune.backends.triton.gpu_worker import TimingOptions
from autotune.backends.triton.jobs import NotRecorded
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments
from autotune.backends.triton.timing import TimingSchedule
from autotune.backends.triton_decorator.call_evaluator import CallEvaluator, CallGpu, TimedIn, current_gpu
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.do_bench import default_do_bench, synchronize
from autotune.backends.triton_decorator.launcher import Launcher, jitted_kernel
from autotune.backends.triton_decorator.options import MeasureOptions, SearchOptions
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
from autotune.core.formatting import describe_error, format_duration, format_milliseconds
from autotune.core.outcomes import Outcome
from autotune.core.search.effort import FIRST_CALL, LONG_SAMPLES
from autotune.core.search.messages import Event
from autotune.core.search.result import Result, is_undecided
from autotune.core.search.state import Search
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.driver import Watch
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.options import Progress
from autotune.shell.processes.fork_server import ForkFailed
from autotune.shell.processes.os_process import NoProcess
from autotune.shell.progress import show_progress
from autotune.shell.settings import Environment
from autotune.shell.tuning import tune
from autotune.shell.warn import warn_user

if TYPE_CHECKING:
    from autotune.shell.cache.reuse import KeyedCache

_WARMUP_MS = 5.0
_LIST_MS, _SPACE_MS = 20.0, 40.0
_LIST_RUNS, _SPACE_RUNS = 60, 200
"""Milliseconds of timed runs of each config, and the most runs: the program waits for a list, and its near configs are
compared anyway."""

_forks_fail = threading.Event()
"""Set once a fork of this program could do nothing: no later tuning waits for one."""
_launched_here: "WeakSet[Any]" = WeakSet()
"""Kernels whose launches could not be recorded, as where a grid reads a tensor on the GPU."""


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
            self._watch = self._stack.enter_context(show_progress(self._progress))
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
        if result.complete and self.search is not None and is_undecided(self.search):
            kept = "; too few samples to tell whether another is faster, so tuned again next time"
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

    kernel: as decorated. find_effects: reads in its source what it does to its arguments. grid: of the call. named: the
    arguments by name, defaults included. options: of the launch, given at the call. placed, given: the names of the
    arguments that the call gives by position, and of all that it gives. device: "cuda", "cpu", … interpreted: whether
    Triton's interpreter runs the kernel. label: kernel and key, for people.
    """

    kernel: Any
    find_effects: Callable[[], Effects | None]
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
        return find_written(self.find_effects(), self.named, declared, self._present("restore_value", of.restore_value))

    @property
    def gpu(self) -> CallGpu | None:
        """The GPU of the call, None where the kernel is interpreted, or where binaries cannot be compiled ahead."""
        if not self.interpreted and self.device == "cuda":  # torch's name for GPUs of both makes
            with suppress(EvaluatorError):
                return current_gpu()
        return None

    @property
    def zeroed(self) -> tuple[str, ...]:
        """The arguments of this call that hold zeros at the start of every run."""
        return self._present("reset_to_zero", self.measuring.reset_to_zero)

    def launcher(self, named: Mapping[str, Any]) -> Launcher:
        """A launcher of configs. named: the arguments to launch with."""
        return Launcher(
            kernel=self.kernel,
            grid=self.grid,
            constants={**{n: v for n, v in named.items() if not _is_describable(v)}, **self.options},
            listed=self.candidates.listed,
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
    timed_in = choose_worker(task)
    if _forks_fail.is_set() and (timed_in == "here" or task.measuring.isolation is None):
        return _search(task, searching, env, keyed, log, "here", ahead=False)
    try:
        return _search(task, searching, env, keyed, log, timed_in)
    except (NoProcess, ForkFailed) as error:
        if timed_in != "here" and task.measuring.isolation is not None:
            raise
        if isinstance(error, ForkFailed) and error.lasting:
            _forks_fail.set()
        warn_user(
            f"the configs of {task.label} cannot be compiled in forks of this program ({error}); it is tuned in this"
            " process, one config after another",
        )
        return _search(task, searching, env, keyed, log, "here", ahead=False)
    except EvaluatorError as error:
        if timed_in == "here" or task.measuring.isolation is not None:
            raise
        if isinstance(error, NotRecorded):
            _launched_here.add(jitted_kernel(task.kernel))
        warn_user(
            f"{task.label} cannot be tuned in a process of its own ({error}); it is tuned in this one, where nothing"
            " stops a config that hangs",
        )
        return _search(task, searching, env, keyed, log, "here")


def choose_worker(task: TuningTask) -> TimedIn:
    """What times the configs: the program's GPU process, unless that would not measure the same thing.

    Raises PlanError where the user wants a process that cannot be had.
    """
    of = task.measuring
    if of.isolation == "process" and task.device not in ("cpu", "cuda"):
        raise PlanError(
            f'isolation="process" is for the GPUs of NVIDIA and AMD, and the tensors of {task.label} are on'
            f' {task.device!r}; leave it out, or give "in_process"'
        )
    if of.isolation == "in_process":
        return "here"
    if task.interpreted:
        return "fork" if of.isolation == "process" else "here"
    own = of.do_bench is not None or of.pre_hook is not None or of.post_hook is not None or of.checker is not None
    kernel = jitted_kernel(task.kernel)
    hooked = task.candidates.hooked or bool(getattr(kernel, "pre_run_hooks", None))
    odd = _has_odd_arguments(task) or not is_triton_kernel(kernel)
    if of.isolation is None and kernel in _launched_here:
        return "here"
    if own or hooked or odd or (of.isolation is None and not _on_nvidia(task)):
        return "here"
    return "first_ready" if task.candidates.configs is not None and of.isolation is None else "process"


def _has_odd_arguments(task: TuningTask) -> bool:
    """Whether an argument at run time is neither a tensor nor a number, so that a launch cannot be recorded."""
    constants = {one.name for one in getattr(jitted_kernel(task.kernel), "params", ()) if one.is_constexpr}
    at_run_time = [value for name, value in task.named.items() if name not in constants]
    return any(isinstance(value, tuple) or holds_tensor(value) for value in at_run_time)


def _on_nvidia(task: TuningTask) -> bool:
    """Whether memory can be lent, as far as that was ever tried."""
    torch = sys.modules.get("torch")
    return task.device == "cuda" and getattr(getattr(torch, "version", None), "cuda", None) is not None


def _search(
    task: TuningTask,
    searching: SearchOptions,
    env: Environment,
    keyed: "KeyedCache | None",
    log: TuningLog,
    timed_in: TimedIn,
    ahead: bool = True,
) -> tuple[Result, Mapping[Config, Outcome]]:
    """ahead: whether configs are compiled ahead, where that is possible."""
    candidates = task.candidates
    budget = searching.budget_for(env, candidates.configs is not None)
    settings = dict(searching.settings or {})
    if timed_in == "here":
        settings = LONG_SAMPLES | settings
    elif candidates.configs is not None:
        settings = FIRST_CALL | settings
    if candidates.configs is not None:
        settings.setdefault("simplify_rounds", 0)  # only configs of the list are wanted
    with protect(task.named, task.written, task.zeroed) as named:
        synchronize(task.device)
        evaluator = _make_evaluator(task, named, timed_in, ahead)
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


def _make_evaluator(task: TuningTask, named: Mapping[str, Any], timed_in: TimedIn, ahead: bool) -> CallEvaluator:
    of, gpu, listed = task.measuring, task.gpu, task.candidates.configs is not None
    return CallEvaluator(
        launcher=task.launcher(named),
        arguments=task.launcher_arguments(named),
        spec=task.check_spec(),
        timed_in=timed_in,
        device=task.device,
        target=gpu.target if gpu is not None and ahead else None,
        visible="" if gpu is None else gpu.visible,
        timing=TimingOptions(
            TimingSchedule(
                warmup_ms=_WARMUP_MS if of.warmup is None else of.warmup,
                target_ms=(_LIST_MS if listed else _SPACE_MS) if of.rep is None else of.rep,
                max_repeats=_LIST_RUNS if listed and of.rep is None else _SPACE_RUNS,
            ),
            cuda_graph=of.use_cuda_graph,
        ),
        extends=timed_in == "process" and not listed,
        compiles=not task.interpreted,
        do_bench=of.do_bench or default_do_bench(task.device, of.warmup, of.rep, of.use_cuda_graph),
        pre_hook=of.pre_hook,
        post_hook=of.post_hook,
        restore=make_restorer(named, task.written, task.zeroed),
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

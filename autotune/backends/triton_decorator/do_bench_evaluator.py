"""An evaluator in this process that times as Triton's own autotuner does: for `do_bench`, hooks, and the interpreter.

There are no timeouts here, and a kernel that crashes the context of the GPU ends the search.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from heapq import nsmallest
from math import isfinite
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from autotune.backends.triton import session_cache
from autotune.backends.triton.arguments import ArgumentSet
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments
from autotune.backends.triton_decorator.launcher import Launcher
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Timed, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Event, Limits
from autotune.core.space import Space
from autotune.shell.evaluators.bench import find_wrong_call
from autotune.shell.evaluators.comparison import Comparison, Contender, Step, take_turns
from autotune.shell.evaluators.protocol import Evaluator, QueueSession, clock_after
from autotune.shell.formatting import describe_error

DoBench = Callable[..., Any]
"""`do_bench(call, quantiles=(0.5, 0.2, 0.8))` returns milliseconds: the quantiles in this order, or one number."""

_QUANTILES = (0.5, 0.2, 0.8)
"""The quantiles that Triton's autotuner asks for."""
_WALL_CLOCK_MS, _WALL_CLOCK_RUNS = 5.0, 20
"""How long, and how often at most, the interpreter runs a kernel: it takes a thousand times as long as a GPU."""

_COMPILE_ERRORS = ("CompilationError", "CompileTimeAssertionFailure", "UnsupportedLanguageConstruct", "PTXASError")
"""Triton's errors while it compiles, by name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DoBenchEvaluator(Evaluator):
    """arguments: the arguments of the launcher. device: torch's name for the kind of device.

    pre_hook, post_hook: as in `triton.autotune`, around every run; they get config and arguments by name. restore:
    called before every run, for tensors that are no arguments of the launcher. compiles: whether Triton compiles; its
    cache then keeps the kernels of the configs that were compared last.
    """

    launcher: Launcher
    arguments: Mapping[str, Any]
    spec: CheckSpec
    do_bench: DoBench
    device: str
    pre_hook: Callable[..., Any] | None = None
    post_hook: Callable[..., Any] | None = None
    restore: Callable[[], None] | None = None
    compiles: bool = True

    def describe(self) -> dict[str, Detail]:
        """Kind, and the function that times, for the journal's header."""
        return {"kind": "triton_in_process", "do_bench": getattr(self.do_bench, "__qualname__", "given")}

    def open(self, space: Space, past: Sequence[Event] = ()) -> "DoBenchSession":
        """A session; raises EvaluatorError where the reference fails."""
        try:
            launch = Launch(build=self.launcher)
            prepared = PreparedArguments(ArgumentSet(dict(self.arguments)), launch, self.spec, device="here")
        except (Exception, SystemExit) as error:
            raise EvaluatorError(f"the reference cannot be had: {describe_error(error)}") from error
        return DoBenchSession(self, prepared, clock_after(past))


@dataclass(eq=False, kw_only=True)
class _Contender(Contender):
    trial: Trial
    call: Callable[[], None]


class DoBenchSession(QueueSession):
    """Each `poll` measures one config, or carries out one comparison."""

    def __init__(self, evaluator: DoBenchEvaluator, prepared: PreparedArguments, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._evaluator = evaluator
        self._prepared = prepared
        self._stack = ExitStack()
        self._folder = ""
        self._requested_keys: list[str] = []
        self._keys: dict[Config, set[str]] = {}
        self._finalists: list[Config] = []
        self._time_of: dict[Config, float] = {}

    def __enter__(self) -> Self:
        if self._evaluator.compiles:
            with suppress(OSError):  # where nothing can be written, everything goes to Triton's cache
                self._folder = self._stack.enter_context(session_cache.session_folder())
                self._requested_keys = self._stack.enter_context(session_cache.use_folder(self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()
        kept = self._finalists or nsmallest(session_cache.FASTEST, self._time_of, self._time_of.__getitem__)
        if self._folder:
            keys = [key for config in kept for key in self._keys.get(config, ())]
            session_cache.keep_kernels(self._folder, session_cache.lasting_cache(None), keys)
        self._stack.close()

    def _measure(self, trials: Sequence[Trial], limits: Limits) -> Sequence[Outcome]:
        (trial,) = trials
        return [self._measure_config(trial.config)]

    def _measure_config(self, config: Config) -> Outcome:
        """The first run, in which Triton compiles, its check, the times, and another check."""
        start = perf_counter()
        call = self._make_call(config)
        failed = self._attempt(config, lambda: self._check(call))
        compiled = perf_counter()
        if isinstance(failed, Failed):
            return replace(failed, run_s=compiled - start)
        found = self._attempt(config, lambda: self._sample(call))
        again = found if isinstance(found, Failed) else self._attempt(config, lambda: self._check_again(call))
        run_s = perf_counter() - compiled
        if isinstance(again, Failed):
            return replace(again, run_s=run_s)
        outcome = timed_or_failed(found, compiled - start, run_s)
        if isinstance(outcome, Timed):
            self._time_of[config] = outcome.time_ms
        return outcome

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        """One sample of each config in every round, each the median that `do_bench` returns."""
        contenders = [
            _Contender(trial=trial, place=place, stage="prepared", call=self._make_call(trial.config))
            for place, trial in enumerate(task.trials)
        ]
        self._finalists = [trial.config for trial in task.trials]
        take_turns(Comparison.of(task, contenders, self._clock), self._act)
        return tuple((one.trial.id, one.failed or timed_or_failed(one.times_ms)) for one in contenders)

    def _act(self, contender: _Contender, step: Step) -> float | Failed | None:
        if step == "sample":
            found = self._attempt(contender.trial.config, lambda: self._sample(contender.call))
            return found if isinstance(found, Failed) else float(found[0])
        failed = self._attempt(contender.trial.config, lambda: self._check_again(contender.call))
        return failed if isinstance(failed, Failed) else None

    def _make_call(self, config: Config) -> Callable[[], None]:
        """A run of a config: everything is restored, then the hooks and the launch."""
        of, prepared, launch = self._evaluator, self._prepared, self._evaluator.launcher(config)
        by_name = {**prepared.named, **of.launcher.constants, **of.launcher.values(config)}

        def call() -> None:
            prepared.reset()
            if of.restore is not None:
                of.restore()
            if of.pre_hook is not None:
                of.pre_hook(by_name)
            try:
                launch(**prepared.named)
            except Exception as error:
                if of.post_hook is not None:
                    of.post_hook(by_name, exception=error)
                raise
            if of.post_hook is not None:
                of.post_hook(by_name, exception=None)

        return call

    def _check(self, call: Callable[[], None]) -> Failed | None:
        self._prepared.clear()
        call()
        synchronize(self._evaluator.device)
        found = self._prepared.find_fault(None)
        return None if found is None else Failed("wrong_answer", found[0], details=found[1])

    def _check_again(self, call: Callable[[], None]) -> Failed | None:
        """Check a few more runs: a kernel may be right at first and wrong once it has run."""

        def find_fault() -> str | None:
            failed = self._check(call)
            return None if failed is None else failed.message

        wrong = find_wrong_call(find_fault) if self._prepared.compared else None
        if wrong is None:
            return None
        return Failed("wrong_answer", f"it was right at first, and wrong afterwards: {wrong}")

    def _sample(self, call: Callable[[], None]) -> tuple[float, ...]:
        """The quantiles of `do_bench` in milliseconds; the median alone where another one is not finite."""
        found = self._evaluator.do_bench(call, quantiles=_QUANTILES)
        times = tuple(map(float, found)) if isinstance(found, Sequence) else (float(found),)
        return times if all(map(isfinite, times)) else times[:1]

    def _attempt(self, config: Config, action: Callable[[], Any]) -> Any:
        """The result of an action, or the failure that its error means; raises EvaluatorError where nothing works any
        more. Notes which kernels of Triton's cache the config has looked up."""
        self._requested_keys.clear()
        try:
            return action()
        except (Exception, SystemExit) as error:
            try:
                synchronize(self._evaluator.device)
            except Exception as broken:
                raise EvaluatorError(
                    f"the GPU's context did not survive a config ({describe_error(broken)}); start the program again,"
                    ' and use isolation="process", where that costs one config'
                ) from error
            return Failed(_failure_kind(error), describe_error(error))
        finally:
            if self._requested_keys:
                self._keys.setdefault(config, set()).update(self._requested_keys)


def _failure_kind(error: BaseException) -> FailureKind:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError", "OutOfResources"}:
        return "out_of_memory"
    return "compile_error" if names & set(_COMPILE_ERRORS) else "run_error"


def synchronize(device: str) -> None:
    """Wait until the device has finished everything that was launched; device: torch's name for its kind."""
    torch = sys.modules.get("torch")
    backend = getattr(torch, device, None) if device not in ("cpu", "") else None
    if backend is not None:
        backend.synchronize()


def default_do_bench(device: str, warmup: float | None, rep: float | None, cuda_graph: bool) -> DoBench:
    """The function that times where the user gives none: Triton's own, for the device that tensors are on.

    warmup, rep: milliseconds, as in `triton.autotune`. Graphs are those of `torch.cuda`, NVIDIA's and AMD's; elsewhere
    a warning says that launches are timed one by one.
    """
    if device == "cpu":
        return bench_wall_clock
    import triton.testing

    if cuda_graph and device != "cuda":
        warnings.warn(f"use_cuda_graph has no effect: there are no such graphs on {device!r}", stacklevel=2)
    elif cuda_graph:
        return lambda call, quantiles: triton.testing.do_bench_cudagraph(call, rep=rep or 100, quantiles=quantiles)
    if warmup is not None or rep is not None:
        return lambda call, quantiles: triton.testing.do_bench(
            call, warmup=25 if warmup is None else warmup, rep=100 if rep is None else rep, quantiles=quantiles
        )
    from triton.runtime.driver import driver

    found: DoBench = driver.active.get_benchmarker()
    return found


def bench_wall_clock(call: Callable[[], Any], quantiles: Sequence[float] = _QUANTILES) -> list[float]:
    """Triton's `do_bench` where there is no GPU: the quantiles of a few runs by the wall clock, in milliseconds."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < _WALL_CLOCK_MS and len(times) < _WALL_CLOCK_RUNS):
        start = perf_counter()
        call()
        times.append(max((perf_counter() - start) * 1e3, 1e-6))
    ordered = sorted(times)
    return [ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in quantiles]

"""Timing as Triton's own autotuner does it, in this process: for `do_bench`, hooks, and the interpreter."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any

from msgspec.structs import replace

from autotune.backends.triton import messages
from autotune.backends.triton.local_gpu import describe_spoilt_context
from autotune.backends.triton.prepared_arguments import PreparedArguments
from autotune.backends.triton_decorator.launcher import Launcher
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, FailureKind
from autotune.shell.evaluators.bench import find_wrong_call
from autotune.shell.user_frames import describe_with_line
from autotune.shell.warn import warn_user

DoBench = Callable[..., Any]
"""`do_bench(call, quantiles=(0.5, 0.2, 0.8))` returns milliseconds: the quantiles in this order, or one number."""

_QUANTILES = (0.5, 0.2, 0.8)
"""The quantiles that Triton's autotuner asks for."""
_WALL_CLOCK_MS, _WALL_CLOCK_RUNS = 5.0, 20
"""How long, and how often at most, the interpreter runs a kernel: it takes a thousand times as long as a GPU."""

_COMPILE_ERRORS = ("CompilationError", "CompileTimeAssertionFailure", "UnsupportedLanguageConstruct", "PTXASError")
"""Triton's errors while it compiles, by name."""


@dataclass(eq=False, kw_only=True)
class DoBenchBenchmark:
    """Checks and times configs in this process, each time by one call of `do_bench`.

    launcher: of the kernel itself. prepared: its arguments. device: torch's name for the kind of device.
    pre_hook, post_hook: as in `triton.autotune`, around every run; they get config and arguments by name. restore:
    called before every run, for tensors that are no arguments of the launcher. requested_keys: receives the keys of the
    kernels that Triton looks up in its cache.
    """

    launcher: Launcher
    prepared: PreparedArguments
    do_bench: DoBench
    device: str
    pre_hook: Callable[..., Any] | None = None
    post_hook: Callable[..., Any] | None = None
    restore: Callable[[], None] | None = None
    requested_keys: list[str] = field(default_factory=list)
    _kept: dict[int, Callable[[], None]] = field(default_factory=dict, init=False)

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Carry out one order; see `messages.py`."""
        self.requested_keys.clear()
        start = perf_counter()
        found: Any = None
        match order:
            case messages.MeasureOrder():
                found = self._measure(Config.from_json(order.config))
            case messages.PrepareOrder():
                self._kept[order.slot] = self._make_call(Config.from_json(order.config))
                found = self._attempt(lambda: self._check(self._kept[order.slot]))
            case messages.SampleOrder():
                found = self._attempt(lambda: self._sample(self._kept[order.slot]))
            case messages.VerifyOrder():
                found = self._attempt(lambda: self._check_again(self._kept[order.slot]))
            case _:
                self._kept.clear()
        took, keys = perf_counter() - start, tuple(dict.fromkeys(self.requested_keys))
        if isinstance(found, Failed):
            return messages.Refused(failed=found if found.run_s else replace(found, run_s=took))
        if isinstance(found, messages.MeasureReply):
            return replace(found, keys=keys)
        if isinstance(order, messages.SampleOrder | messages.ForgetOrder):
            return messages.SampleReply(() if found is None else (float(found[0]),), took)
        return messages.PrepareReply(took, keys)

    def _measure(self, config: Config) -> messages.MeasureReply | Failed:
        """The first run, in which Triton compiles, its check, the times, and another check."""
        start, began = perf_counter(), time.monotonic()
        call = self._make_call(config)
        failed = self._attempt(lambda: self._check(call))
        compiled = perf_counter()
        if isinstance(failed, Failed):
            return replace(failed, run_s=compiled - start)
        found = self._attempt(lambda: self._sample(call))
        again = found if isinstance(found, Failed) else self._attempt(lambda: self._check_again(call))
        run_s = perf_counter() - compiled
        if isinstance(again, Failed):
            return replace(again, run_s=run_s)
        return messages.MeasureReply(times_ms=(found,), run_s=run_s, compile_s=compiled - start, began=began)

    def _make_call(self, config: Config) -> Callable[[], None]:
        """A run of a config: everything is restored, then the hooks and the launch."""
        prepared, launch = self.prepared, self.launcher(config)
        by_name = {**prepared.named, **self.launcher.constants, **self.launcher.values(config)}

        def call() -> None:
            prepared.reset()
            if self.restore is not None:
                self.restore()
            if self.pre_hook is not None:
                self.pre_hook(by_name)
            try:
                launch(**prepared.named)
            except Exception as error:
                if self.post_hook is not None:
                    self.post_hook(by_name, exception=error)
                raise
            if self.post_hook is not None:
                self.post_hook(by_name, exception=None)

        return call

    def _check(self, call: Callable[[], None]) -> Failed | None:
        self.prepared.clear()
        call()
        synchronize(self.device)
        found = self.prepared.find_fault(None)
        return None if found is None else Failed("wrong_answer", found[0], details=found[1])

    def _check_again(self, call: Callable[[], None]) -> Failed | None:
        """Check a few more runs: a kernel may be right at first and wrong once it has run."""

        def find_fault() -> str | None:
            failed = self._check(call)
            return None if failed is None else failed.message

        wrong = find_wrong_call(find_fault) if self.prepared.compared else None
        if wrong is None:
            return None
        return Failed("wrong_answer", f"it was right at first, and wrong afterwards: {wrong}")

    def _sample(self, call: Callable[[], None]) -> tuple[float, ...]:
        """The quantiles of `do_bench` in milliseconds; the median alone where another one is not finite."""
        found = self.do_bench(call, quantiles=_QUANTILES)
        times = tuple(map(float, found)) if isinstance(found, Sequence) else (float(found),)
        return times if all(map(isfinite, times)) else times[:1]

    def _attempt(self, action: Callable[[], Any]) -> Any:
        """The result of an action, or the failure that its error means; raises EvaluatorError where nothing works any
        more."""
        try:
            return action()
        except (Exception, SystemExit) as error:
            try:
                synchronize(self.device)
            except Exception as broken:
                raise EvaluatorError(describe_spoilt_context(broken)) from error
            return Failed(_failure_kind(error), describe_with_line(error))


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
        warn_user(f"use_cuda_graph has no effect: there are no such graphs on {device!r}")
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

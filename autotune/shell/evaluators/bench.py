"""One workload, set up in this process: builds a config, checks it and times it. Knows nothing of other processes."""

from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import Any

from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, timed_or_failed
from autotune.shell.evaluators import timing
from autotune.shell.evaluators.checking import mismatch
from autotune.shell.evaluators.inputs import Inputs, checksum
from autotune.shell.evaluators.workload import Workload

LONGEST_MESSAGE = 500


class Tainted(Exception):
    """The inputs or the expected output were overwritten from outside: nothing more can be trusted here."""


class Kernel:
    """A built config: the function, and what is learned about it on the way."""

    def __init__(self, function: Callable[..., Any], compile_s: float) -> None:
        self.function = function
        self.compile_s = compile_s
        self.calls = 1
        self.mutates = False


class Bench:
    """Inputs and expected output, made once; raises whatever `make_args` or `reference` raise."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._inputs = Inputs(tuple(work.make_args()) if work.make_args is not None else work.args)
        self._in_place = False
        self._expected = self._expect()
        self._checksum = self._sum()

    def build(self, config: Config) -> Kernel | Failed:
        """Build under no timeout; a failure is an outcome."""
        start = perf_counter()
        try:
            function = self._work.build(config)
        except (Exception, SystemExit) as error:
            return replace(failure("compile_error", error), compile_s=perf_counter() - start)
        seconds = perf_counter() - start
        if not callable(function):
            message = f"build returned {type(function).__name__}; return the function to time"
            return Failed("compile_error", message, compile_s=seconds)
        return Kernel(function, seconds)

    def run(self, kernel: Kernel, cutoff_ms: float | None, budget_s: float) -> Outcome:
        """The first call, its check, warm-up and samples. After `budget_s` seconds no further sample is begun."""
        start = perf_counter_ns()
        try:
            message = self._check_first_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s, _since(start))
            stop = start + int(budget_s * 1e9)
            schedule, timer = self._work.schedule, self._work.timer
            reset = self._inputs.restore_arrays if kernel.mutates else None
            samples = timing.measure(self._caller(kernel), schedule, cutoff_ms, reset, timer, stop)
        except Tainted:
            raise
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s, run_s=_since(start))
        outcome = timed_or_failed(samples.times_ms, kernel.compile_s, _since(start), samples.cut)
        return replace(outcome, details={"calls_per_sample": samples.calls}) if isinstance(outcome, Timed) else outcome

    def prepare(self, kernel: Kernel) -> Failed | None:
        """The first call, its check and warm-up, for `sample` to follow."""
        try:
            message = self._check_first_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s)
            call, reset = self._caller(kernel), self._inputs.restore_arrays if kernel.mutates else None
            if self._work.timer is None:
                first = timing.sample(call, 1, reset)
                kernel.calls = timing.warm_up(call, self._work.schedule, first, reset)
        except Tainted:
            raise
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s)
        return None

    def sample(self, kernel: Kernel) -> float | Failed:
        """One sample in milliseconds, after one untimed call that brings the caches back."""
        try:
            reset = self._inputs.restore_arrays if kernel.mutates else None
            call = self._caller(kernel)
            timing.sample(call, 1, reset)
            return timing.sample(call, kernel.calls, reset, self._work.timer)
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s)

    def _caller(self, kernel: Kernel) -> timing.Call:
        function, args = kernel.function, self._inputs.working
        return lambda: function(*args)

    def _check_first_call(self, kernel: Kernel) -> str | None:
        self._inputs.restore()
        output = kernel.function(*self._inputs.working)
        message = self._verdict(self._inputs.arrays if output is None and self._in_place else output)
        if message is not None and self._sum() != self._checksum:
            raise Tainted("the inputs or the expected output were overwritten")
        kernel.mutates = self._inputs.changed()
        return message

    def _verdict(self, output: Any) -> str | None:
        work = self._work
        if work.checker is None:
            return None if work.reference is None else mismatch(output, self._expected, work.rtol, work.atol)
        try:
            answer = work.checker(output, self._expected)
        except Exception as error:
            return f"the checker raised {describe(error)}"
        if isinstance(answer, str):
            return answer or "the checker refused the output"
        if answer is None:
            return "the checker returned None; return True, False or a message"
        return None if answer else "the checker refused the output"

    def _expect(self) -> Any:
        reference = self._work.reference
        if not callable(reference):
            return reference
        inputs = Inputs(self._inputs.working)
        expected = reference(*inputs.working)
        self._in_place = expected is None
        return inputs.arrays if expected is None else expected

    def _sum(self) -> tuple[int, int]:
        return self._inputs.checksum(), checksum(self._expected)


def failure(kind: FailureKind, error: BaseException) -> Failed:
    """The outcome that an exception means; running out of memory is its own kind wherever it happens."""
    return Failed("out_of_memory" if isinstance(error, MemoryError) else kind, describe(error))


def describe(error: BaseException) -> str:
    """An exception on one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its text cannot be shown)"
    name = type(error).__name__
    return f"{name}: {text}"[:LONGEST_MESSAGE] if text else name


def _since(start_ns: int) -> float:
    return (perf_counter_ns() - start_ns) / 1e9

"""One workload, set up in this process: builds a config, checks it and times it. Knows nothing of other processes."""

from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import Any

from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, timed_or_failed
from autotune.shell.evaluators import timing
from autotune.shell.evaluators.inputs import Inputs, checksum
from autotune.shell.evaluators.outputs import Check, Tolerance
from autotune.shell.evaluators.workload import Workload

LONGEST_MESSAGE = 500

VERIFY_LEAST, VERIFY_MOST, VERIFY_S = 2, 32, 0.01
"""Calls that are checked after the last sample: two in a row whatever they take, more within so many seconds."""

USUAL_RTOL, USUAL_ATOL = 1e-3, 1e-4
"""For floats of 32 bits and more: sums in another order, and products in tf32, stay within it."""


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
    """Inputs and expected output, made once; raises whatever `make_args` or `reference` raise, and EvaluatorError where
    the reference gives nothing that could be compared.

    compared: what of an output is compared with what, in words.
    """

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._inputs = Inputs(tuple(work.make_args()) if work.make_args is not None else work.args)
        self._in_place: tuple[int, ...] = ()
        self._expected = self._expect()
        self._check = self._checks()
        self.compared = "by the checker" if work.checker is not None else self._check.describe() if self._check else ""
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
        """The first call, its check, warm-up, samples, and a last check. After `budget_s` seconds no further sample is
        begun."""
        start = perf_counter_ns()
        try:
            message = self._check_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s, _since(start))
            stop = start + int(budget_s * 1e9)
            schedule, timer = self._work.schedule, self._work.timer
            samples = timing.measure(self._caller(kernel), schedule, cutoff_ms, self._reset(kernel), timer, stop)
            # What is cut off is no pick.
            again = None if samples.cut else self.verify(kernel)
        except Tainted:
            raise
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s, run_s=_since(start))
        if again is not None:
            return replace(again, run_s=_since(start))
        outcome = timed_or_failed(samples.times_ms, kernel.compile_s, _since(start), samples.cut)
        if not isinstance(outcome, Timed):
            return outcome
        checked = {"checked": self.compared} if self.compared else {}
        return replace(outcome, details={"calls_per_sample": samples.calls, **checked})

    def prepare(self, kernel: Kernel) -> Failed | None:
        """The first call, its check and warm-up, for `sample` to follow."""
        try:
            message = self._check_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s)
            call, reset = self._caller(kernel), self._reset(kernel)
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
            reset, call = self._reset(kernel), self._caller(kernel)
            timing.sample(call, 1, reset)
            return timing.sample(call, kernel.calls, reset, self._work.timer)
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s)

    def verify(self, kernel: Kernel) -> Failed | None:
        """Check a few calls more: a kernel may be right at first and wrong once it has run, or now and then."""
        if not self.compared:
            return None
        try:
            message = first_wrong(lambda: self._check_call(kernel))
        except Tainted:
            raise
        except (Exception, SystemExit) as error:
            return replace(failure("run_error", error), compile_s=kernel.compile_s)
        if message is None:
            return None
        why = f"it was right at first, and wrong after it was timed: {message}"
        return Failed("wrong_answer", why, kernel.compile_s)

    def _caller(self, kernel: Kernel) -> timing.Call:
        function, inputs, args = kernel.function, self._inputs, self._inputs.working
        if kernel.mutates and not inputs.in_place:  # what is copied anew before a sample is another object
            return lambda: function(*inputs.working)
        return lambda: function(*args)

    def _reset(self, kernel: Kernel) -> timing.Call | None:
        return self._inputs.restore if kernel.mutates else None

    def _check_call(self, kernel: Kernel) -> str | None:
        self._inputs.restore()
        output = kernel.function(*self._inputs.working)
        message = self._verdict(self._arguments(self._inputs) if self._in_place else output)
        if message is not None and self._sum() != self._checksum:
            raise Tainted("the inputs or the expected output were overwritten")
        kernel.mutates = kernel.mutates or bool(self._inputs.changed())
        return message

    def _verdict(self, output: Any) -> str | None:
        if self._work.checker is not None:
            return checked(self._work.checker, self._plain(output), self._plain(self._expected))
        found = self._check.mismatch(output) if self._check is not None else None
        return None if found is None else found.message

    def _plain(self, value: Any) -> Any:
        """What a checker is given: of a reference that works in place, the arguments as a tuple."""
        return tuple(value.values()) if self._in_place else value

    def _expect(self) -> Any:
        reference = self._work.reference
        if not callable(reference):
            return reference
        inputs = Inputs(self._inputs.working)
        expected = reference(*inputs.working)
        if expected is not None:
            return expected
        if not inputs.changed():
            raise EvaluatorError(
                "the reference returned None and changed no argument; let it return what must come out, or change its"
                " arguments as the kernel must"
            )
        self._in_place = tuple(i for i, value in enumerate(inputs.working) if comparable(value))
        return self._arguments(inputs)

    def _arguments(self, inputs: Inputs) -> dict[str, Any]:
        """What a reference or a kernel that works in place has made of the arguments."""
        return {f"args[{i}]": inputs.working[i] for i in self._in_place}

    def _checks(self) -> Check | None:
        work = self._work
        if work.reference is None or work.checker is not None:
            return None
        tolerance = Tolerance(work.rtol, work.atol, usual=(USUAL_RTOL, USUAL_ATOL), same_type=False)
        return Check(self._expected, tolerance, named=bool(self._in_place)).required()

    def _sum(self) -> tuple[int, int]:
        return self._inputs.checksum(), checksum(self._expected)


def first_wrong(check: Callable[[], str | None]) -> str | None:
    """What is wrong with the first of a few calls that is wrong; None where all are right.

    At least two in a row, so that no kernel passes that is wrong every other time, and more while there is time.
    """
    start = perf_counter()
    for call in range(VERIFY_MOST):
        if call >= VERIFY_LEAST and perf_counter() - start > VERIFY_S:
            break
        if (message := check()) is not None:
            return message
    return None


def comparable(value: Any) -> bool:
    """Whether an argument is something that could be compared: arrays, numbers, texts, and what holds these."""
    try:
        return bool(Check(value, Tolerance(0.0, 0.0)).leaves) and not callable(value)
    except EvaluatorError:
        return False


def checked(checker: Callable[[Any, Any], bool | str], output: Any, expected: Any) -> str | None:
    """What the user's checker says of an output: None, or what is wrong with it."""
    try:
        answer = checker(output, expected)
        if answer is None:
            return "the checker returned None; return True, False or a message"
        if isinstance(answer, str):
            return answer or "the checker refused the output"
        return None if bool(answer) else "the checker refused the output"
    except Exception as error:
        return f"the checker raised {describe(error)}"


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

"""The outcome of a trial: it was timed, or it failed in one of a few named ways. A failure has no time."""

from collections.abc import Iterable
from math import isfinite
from statistics import median
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from autotune.core.config import Config
from autotune.core.errors import OutcomeError

FailureKind = Literal[
    "compile_error",
    "compile_timeout",
    "run_error",
    "run_timeout",
    "crash",
    "out_of_memory",
    "wrong_answer",
    "invalid_time",
    "skipped",
    "unknown",
]
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

Detail = bool | int | float | str


class Timed(Struct, frozen=True, tag="timed", omit_defaults=True):
    """The config ran, and gave the right answer if a reference was given.

    times_ms: the samples, in milliseconds, in the order they were taken; at least one, each finite and above zero.
    compile_s, run_s: seconds spent on building the kernel, and on running and checking it.
    cut: timing stopped early because the config was clearly slower than the best one; the samples are still real.
    details: further facts from the evaluator (registers, shared bytes, …).
    """

    times_ms: tuple[float, ...]
    compile_s: float = 0.0
    run_s: float = 0.0
    cut: bool = False
    details: dict[str, Detail] = {}

    def __post_init__(self) -> None:
        _escape_details(self)
        try:
            fine = len(self.times_ms) > 0 and all(isfinite(t) and t > 0 for t in self.times_ms)
        except TypeError:
            fine = False
        if not fine:
            raise OutcomeError("times_ms must hold at least one sample in milliseconds, each finite and above zero")

    @property
    def time_ms(self) -> float:
        """The median sample, in milliseconds."""
        return min(median(self.times_ms), max(self.times_ms))  # the mean of two huge samples overflows


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True):
    """The config gave no time.

    kind: the kind of failure, to count by. message: the reason, for people. compile_s, run_s: seconds that it took.
    details: further figures of the evaluator.
    """

    kind: FailureKind
    message: str = ""
    compile_s: float = 0.0
    run_s: float = 0.0
    details: dict[str, Detail] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.message, str):
            raise OutcomeError(f"message is of type {type(self.message).__name__}; give a text")
        if not self.message.isascii():
            force_setattr(self, "message", _escape(self.message))
        _escape_details(self)


def _escape(text: str) -> str:
    """The text with characters that UTF-8 cannot hold (half of a surrogate pair) escaped, for a journal."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escape_details(outcome: "Timed | Failed") -> None:
    if not isinstance(outcome.details, dict):
        raise OutcomeError(f"details is of type {type(outcome.details).__name__}; give values by name")
    texts = [text for item in outcome.details.items() for text in item if isinstance(text, str)]
    if not all(text.isascii() for text in texts):
        escaped = {_escape(n): _escape(v) if isinstance(v, str) else v for n, v in outcome.details.items()}
        force_setattr(outcome, "details", escaped)


Outcome = Timed | Failed


def timed_or_failed(
    times_ms: Iterable[float], compile_s: float = 0.0, run_s: float = 0.0, cut: bool = False
) -> Outcome:
    """`Timed` if the samples are usable times, else `Failed("invalid_time")`: for a clock that may be wrong."""
    samples = tuple(float(t) for t in times_ms)
    try:
        return Timed(samples, compile_s, run_s, cut)
    except ValueError:
        shown = ", ".join(map(repr, samples[:3])) or "no sample"
        return Failed("invalid_time", f"the timer returned {shown}", compile_s, run_s)


class Trial(Struct, frozen=True, omit_defaults=True):
    """One config to be measured, and its origin.

    id: 0, 1, 2, … in the order of asking. origin: "default", "seed", "strategy" or "simplify".
    walk: the strategy's number for the walk or member that asked. generation: the strategy's batch.
    """

    id: int
    config: Config
    origin: str = "strategy"
    walk: int = 0
    generation: int = 0

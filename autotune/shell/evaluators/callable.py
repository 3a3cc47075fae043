"""The evaluator for any Python function: `build(config)` makes the function, the wall clock times it."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from autotune.core.arguments import argument_error, short_repr
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.shell.evaluators.checking import require_comparable
from autotune.shell.evaluators.in_process import InProcessSession
from autotune.shell.evaluators.isolated import IsolatedSession, WorkerRules, pool_of
from autotune.shell.evaluators.protocol import Evaluator, Session, clock_after
from autotune.shell.evaluators.settings import Ranges, check_functions, check_ranges, qualified_name
from autotune.shell.evaluators.timing import Schedule, Timer
from autotune.shell.evaluators.workload import Workload
from autotune.shell.settings import timeout_setting

if TYPE_CHECKING:
    from autotune.core.space import Space


# Arguments are often arrays, which have no truth value as a whole: evaluators are equal only to themselves.
@dataclass(frozen=True, eq=False)
class CallableEvaluator(Evaluator):
    """Measure `build(config)(*args)` for each config.

    build: makes the function for a config. Its errors are outcomes of the kind compile_error; errors of the function
        are run_error.
        A kernel compiled at its first call (numba, say) should be called once inside `build`, to count as compiling.
    args, make_args: the arguments, or a function that makes them in each worker (for values that are large or do not
        pickle). Every config gets them as the user gave them: arrays, tensors, lists, dicts, sets and buffers that a
        kernel changes are restored before its checks and before each of its samples, and other objects are copied
        for each config. An argument that cannot be copied is an error.
    reference: the expected output, or a function of the arguments that computes it, once per worker. If it returns
        None it has worked in place: the kernel must then change the arguments in the same way; its result is ignored. A
        reference that gives nothing to compare is an error.
    checker: `checker(output, expected)` returns True, or False or a message if the output is wrong; it replaces the
        comparison by tolerances. Without a reference and a checker nothing is checked.
    rtol, atol: floats may be off by `atol + rtol * |expected|`: 1e-3 and 1e-4, and for types of fewer than 32 bits as
        in `TritonEvaluator`. The first call of a config and one after its last sample are checked.
    isolation: "process": each config is built and run in a worker process, which is killed at its timeout; a crash, a
        hang, a leak or a flood of prints costs that config alone. The functions are sent by cloudpickle, with their
        code where the worker could not import it. Needs POSIX.
        "in_process": everything happens in this process, for notebooks and for functions that do not pickle. There are
        no hard timeouts (a hang hangs the run; run_timeout_s only ends the sampling), a crash ends the process, prints
        are not caught, and memory, threads and global state of one config stay for the next one.
    workers: how many processes build side by side. One kernel at a time is timed, in the process that built it.
    overlap: let builds go on while a kernel is timed. By default they are stopped meanwhile (SIGSTOP; their clock
        stops too), since they would take its cores, caches and memory bandwidth; set it where the kernel runs on
        another device, or where a kernel may wait for a lock that a build holds.
    build_timeout_s, run_timeout_s: seconds for `build`, and for first call, check, warm-up and samples together (each
        sample by itself in a comparison). A kernel too slow for all its samples gets fewer. The defaults are those of
        AUTOTUNE_COMPILE_TIMEOUT and AUTOTUNE_BENCHMARK_TIMEOUT, else 60.
    memory_limit_mb: MiB that a config may allocate (address space, Linux only); beyond, allocations fail and the config
        with them, as out_of_memory or as a crash.
    warmup_ms: milliseconds of untimed calls before the first sample. target_ms: samples are taken until they add up to
        so many milliseconds, but at least `min_repeats` and at most `max_repeats` of them. min_sample_ms: a shorter
        kernel is called several times for each sample, which is the mean of those calls.
    timer: `timer(call)` calls `call` once and returns milliseconds; it replaces the wall clock (by device events, say).
    exact: the timer always gives the same time for the same config.
    """

    build: Callable[[Config], Callable[..., Any]]
    args: tuple[Any, ...] = ()
    _: KW_ONLY
    make_args: Callable[[], Any] | None = None
    reference: Any = None
    checker: Callable[[Any, Any], bool | str] | None = None
    rtol: float | None = None
    atol: float | None = None
    workers: int = 1
    isolation: Literal["process", "in_process"] = "process"
    overlap: bool = False
    build_timeout_s: float = field(default_factory=partial(timeout_setting, "compile_timeout", 60.0))
    run_timeout_s: float = field(default_factory=partial(timeout_setting, "benchmark_timeout", 60.0))
    memory_limit_mb: int | None = None
    warmup_ms: float = 20.0
    target_ms: float = 100.0
    min_repeats: int = 3
    max_repeats: int = 50
    min_sample_ms: float = 1.0
    timer: Timer | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.args, tuple | list):
            raise EvaluatorError(f"args is {qualified_name(self.args)}; give a tuple with one item for each argument")
        object.__setattr__(self, "args", tuple(self.args))
        if self.build is None:
            raise EvaluatorError("build is None; give a function")
        check_functions(self, ("build", "make_args", "checker", "timer"))
        if self.args and self.make_args is not None:
            raise EvaluatorError("args and make_args are both given; give one of them")
        if not isinstance(self.isolation, str) or self.isolation not in ("process", "in_process"):
            raise EvaluatorError(f'isolation is {short_repr(self.isolation)}; use "process" or "in_process"')
        check_ranges(self, _RANGES, optional=("memory_limit_mb", "rtol", "atol"))
        self._check_isolation()
        if self.checker is None:
            require_comparable(self.reference)

    @property
    def takes_one(self) -> bool:
        """True with one worker, which builds and times one config at a time."""
        return self.workers == 1

    def describe(self) -> dict[str, Detail]:
        """Kind and settings: functions by name, arguments by their number, without settings that are None."""
        described: dict[str, Detail] = {"kind": "callable", "build": qualified_name(self.build), "args": len(self.args)}
        functions = ("make_args", "reference", "checker", "timer")
        for name in functions:
            if getattr(self, name) is not None:
                described[name] = qualified_name(getattr(self, name))
        for one in fields(self):
            if one.name not in ("build", "args", *functions) and getattr(self, one.name) is not None:
                described[one.name] = getattr(self, one.name)
        return described

    def open(self, space: "Space", past: Sequence[Event] = ()) -> Session:
        """A session; raises EvaluatorError if the functions or arguments cannot be sent to a worker process."""
        work = Workload(
            build=self.build,
            args=self.args,
            make_args=self.make_args,
            reference=self.reference,
            checker=self.checker,
            rtol=self.rtol,
            atol=self.atol,
            timer=self.timer,
            schedule=Schedule(
                warmup_ms=self.warmup_ms,
                target_ms=self.target_ms,
                min_repeats=self.min_repeats,
                max_repeats=self.max_repeats,
                min_sample_ms=self.min_sample_ms,
            ),
        )
        clock = clock_after(past)
        if self.isolation == "in_process":
            return InProcessSession(work, self.run_timeout_s, clock)
        rules = WorkerRules(self.workers, self.overlap, self.build_timeout_s, self.run_timeout_s)
        return IsolatedSession(pool_of(work, self.memory_limit_mb), rules, clock)

    def _check_isolation(self) -> None:
        if self.isolation == "in_process":
            if self.workers != 1:
                raise EvaluatorError(f'workers is {self.workers}; isolation="in_process" has one, this process')
            if self.memory_limit_mb is not None:
                raise EvaluatorError('memory_limit_mb needs isolation="process"; leave it out')
        elif os.name != "posix":
            raise EvaluatorError('isolation="process" needs a POSIX system; use isolation="in_process"')
        elif self.memory_limit_mb is not None and sys.platform != "linux":
            raise EvaluatorError("memory_limit_mb is known to work on Linux only; leave it out")


_RANGES: Ranges = {
    "workers": (int, 1, 4096),
    "build_timeout_s": (int | float, 1e-3, 1e7),
    "memory_limit_mb": (int, 1, 1e9),
    "min_sample_ms": (int | float, 0, 1e9),
}


def as_evaluator(given: Any) -> Evaluator:
    """An evaluator as it is; a function that builds configs becomes a CallableEvaluator. Else raises EvaluatorError."""
    parts = ("open", "describe", "exact")
    if not isinstance(given, type) and all(hasattr(given, part) for part in parts):
        evaluator: Evaluator = given
        return evaluator
    if callable(given) and not isinstance(given, type):
        return CallableEvaluator(given)
    raise argument_error("evaluator", given, "an evaluator such as CallableEvaluator(build), or the function `build`",
                 EvaluatorError)  # fmt: skip

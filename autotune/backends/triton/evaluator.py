"""The evaluator for Triton kernels, as its users write it down. Neither torch nor Triton is imported for that.

Whether what a user has given to a Triton evaluator makes sense together.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotune.backends.triton.arguments import Arguments, ArgumentSet, passed_tensors, without_data
from autotune.backends.triton.kernel import Grid, Hook, Launch, unknown_names
from autotune.backends.triton.resources import arch_of
from autotune.backends.triton.timing import Cache, Objective
from autotune.core.arguments import short_repr
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.evaluators.checking import require_comparable
from autotune.shell.evaluators.protocol import Session, clock_after
from autotune.shell.settings import timeout_setting

if TYPE_CHECKING:
    from autotune.backends.triton.jobs import Rules
    from autotune.core.space import Space


_CHOICES: dict[str, tuple[Any, ...]] = {
    "objective": ("geomean", "worst"),
    "device": ("cuda", "interpreter"),
    "l2": ("flush", "rotate", "warm"),
}
_RANGES: tuple[tuple[str, Any, float, float], ...] = (
    ("rtol", int | float, 0, 1e30),
    ("atol", int | float, 0, 1e30),
    ("allowed_mismatch", int | float, 0, 0.999999),
    ("reduction", int, 1, 1e12),
    ("compile_workers", int, 1, 4096),
    ("ahead", int, 1, 10**9),
    ("compile_timeout_s", int | float, 1e-3, 1e7),
    ("run_timeout_s", int | float, 1e-3, 1e7),
    ("warmup_ms", int | float, 0, 1e9),
    ("target_ms", int | float, 0, 1e9),
    ("min_repeats", int, 1, 1e6),
    ("max_repeats", int, 1, 1e6),
)


def check(given: "TritonEvaluator") -> None:
    """Raises EvaluatorError, one sentence that names the setting and what to give instead."""
    _check_workloads(given)
    _check_kernel(given)
    for name, allowed in _CHOICES.items():
        if not isinstance(getattr(given, name), str) or getattr(given, name) not in allowed:
            raise EvaluatorError(
                f"{name} is {short_repr(getattr(given, name))}; use one of {', '.join(map(repr, allowed))}"
            )
    for name, kind, least, most in _RANGES:
        value = getattr(given, name)
        if value is not None and not (isinstance(value, kind) and least <= value <= most):
            what = "a whole number" if kind is int else "a number"
            raise EvaluatorError(f"{name} is {value!r}; give {what} from {least:g} to {most:g}")
    if given.max_repeats < given.min_repeats:
        raise EvaluatorError(f"max_repeats is {given.max_repeats}, below min_repeats; raise it or lower that")
    for name in ("outputs", "restore_value", "reset_to_zero"):
        value = getattr(given, name)
        if isinstance(value, str) or not all(isinstance(one, str | int) for one in value):
            raise EvaluatorError(f"{name} is {value!r}; give a tuple of argument names")
    for name in ("build", "pre_hook", "post_hook", "checker"):
        if getattr(given, name) is not None and not callable(getattr(given, name)):
            raise EvaluatorError(f"{name} is {getattr(given, name)!r:.60}; give a function")
    if given.target is not None:
        arch_of(given.target)
    if os.name != "posix":
        raise EvaluatorError("TritonEvaluator needs a POSIX system")


def _check_kernel(given: "TritonEvaluator") -> None:
    if (given.kernel is None) == (given.build is None):
        raise EvaluatorError("give either kernel= with grid=, or build=")
    if given.kernel is not None and not is_triton_kernel(given.kernel):
        raise EvaluatorError(
            f"kernel is {name_of(given.kernel)}, not a @triton.jit function; take the decorators above @triton.jit"
            " away, or use build="
        )
    gridless = not given.workloads or any(one.grid is None for one in given.workloads)
    if given.kernel is not None and given.grid is None and gridless:
        raise EvaluatorError("a kernel needs a grid; give grid= a tuple, or a function of the arguments by name")
    if given.checker is None:
        require_comparable(given.reference)
    produces = callable(given.reference) or given.reference is not None
    if given.kernel is not None and produces and not callable(given.reference) and not given.outputs:
        raise EvaluatorError("say which arguments the kernel writes: outputs=('c',), for example")


def _check_workloads(given: "TritonEvaluator") -> None:
    if given.workloads and given.arguments is not None:
        raise EvaluatorError("arguments and workloads are both given; give one of them")
    for one in given.workloads:
        if not isinstance(one, ArgumentSet):
            raise EvaluatorError(f"workloads has {name_of(one)}; give ArgumentSet(arguments, weight, name)")
        if not (isinstance(one.weight, int | float) and 0 <= one.weight < inf):
            raise EvaluatorError(f"a workload has weight {one.weight!r}; give a number of at least 0")
    if given.workloads and not sum(one.weight for one in given.workloads):
        raise EvaluatorError("all workloads have weight 0; give one of them more")
    names = [one.name for one in given.argument_sets]
    if len(set(names)) < len(names):
        raise EvaluatorError(f"two workloads have the same name, of {', '.join(names)}; name them apart")


def name_of(part: Any) -> str:
    """A function, kernel or class by name; anything else by its type."""
    if callable(part) or is_triton_kernel(part):
        return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', type(part).__name__)}"
    return type(part).__name__


USUALLY_AHEAD = 4
"""Configs queued for the compile workers: as many as strategies that learn propose together."""


# Arguments hold tensors, which have no truth value as a whole: evaluators are equal only to themselves.
@dataclass(frozen=True, eq=False)
class TritonEvaluator:
    """Compile, check and time a Triton kernel for each config.

    kernel: a `@triton.jit` function. A config's names that are its parameters go to the kernel; num_warps, num_stages,
        num_ctas and maxnreg go to the launch. grid: a tuple, or a function of the arguments and config by name.
    build: in place of both, `build(config)` gives a function that is called with the arguments and launches whatever
        it likes.
    arguments: a tuple, a dict by name, or a function that makes one. A function is called in the process of each GPU,
        and should make its tensors there (`device="cuda"`); what is given as it is, is sent there.
    reference: a function that gives what must come out: of the arguments that its parameters name, or of all of them in
        order. Where it returns None, what it changed is what must come out. Or the expected output itself.
    outputs: the arguments that the kernel writes, by name or position. They hold NaN (integers: a pattern) before the
        check, so that what is not written is found. Needed with `kernel` and a reference that returns something.
    restore_value, reset_to_zero: arguments that get their first value back, or zeros, before every run.
    pre_hook, post_hook: called with the arguments by name before and after every run, outside of what is timed.
    checker: `checker(output, expected)` gives True, or False or a message where the output is wrong.
    rtol, atol, bitwise, allowed_mismatch, reduction: see `verdict.Tolerance`. repeatable: run twice, and refuse what
        does not give the same bits.
    workloads: several `ArgumentSet`s in place of `arguments`: one config for all of them. objective: "geomean" of the
        times, weighted, or "worst"; relative: of the times over the default config's.
    options: further options of every launch. target: "sm_90" and the like; by default that of the GPU.
    device: "cuda", or "interpreter": tensors on the CPU, kernels interpreted (TRITON_INTERPRET=1) and timed by the wall
        clock, for checking without a GPU. It compiles only where a target is given.
    devices: numbers of the GPUs to use, one process each; by default all that are visible.
    compile_workers: processes that compile; by default one a core, less one a GPU, as far as memory goes.
    ahead: configs that the search is asked for although no compile worker is free yet; by default 4 at most. Give many
        where nothing is to be learnt from one for the next, as when a space is recorded.
    compile_timeout_s, run_timeout_s: seconds after which a compile is killed, its children too; and the check and
        timing of a config together. What is left out is what AUTOTUNE_COMPILE_TIMEOUT and AUTOTUNE_BENCHMARK_TIMEOUT
        say, else 60 and 30.
    warmup_ms, target_ms, min_repeats, max_repeats: see `sampling.Schedule`. l2: "flush" clears the cache before every
        run, "rotate" goes through copies of small arguments instead, "warm" does neither. cuda_graph: time the replay
        of a captured launch, without the host's part of it.
    cache_dir: Triton's cache; by default Triton's own. timeline: a file that receives what each process did when.
    """

    kernel: Any = None
    arguments: Arguments | Callable[[], Arguments] | None = None
    _: KW_ONLY
    grid: Grid | None = None
    build: Callable[[Config], Callable[..., Any]] | None = None
    reference: Any = None
    outputs: Sequence[str | int] = ()
    restore_value: Sequence[str | int] = ()
    reset_to_zero: Sequence[str | int] = ()
    pre_hook: Hook | None = None
    post_hook: Hook | None = None
    checker: Callable[[Any, Any], bool | str] | None = None
    rtol: float | None = None
    atol: float | None = None
    bitwise: bool = False
    allowed_mismatch: float = 0.0
    reduction: int | None = None
    repeatable: bool = False
    workloads: Sequence[ArgumentSet] = ()
    objective: Literal["geomean", "worst"] = "geomean"
    relative: bool = False
    options: Mapping[str, Any] | None = None
    target: str | None = None
    device: Literal["cuda", "interpreter"] = "cuda"
    devices: Sequence[int] | None = None
    compile_workers: int | None = None
    ahead: int | None = None
    compile_timeout_s: float = field(default_factory=partial(timeout_setting, "compile_timeout", 60.0))
    run_timeout_s: float = field(default_factory=partial(timeout_setting, "benchmark_timeout", 30.0))
    warmup_ms: float = 5.0
    target_ms: float = 40.0
    min_repeats: int = 5
    max_repeats: int = 200
    l2: Cache = "flush"
    cuda_graph: bool = False
    cache_dir: str | os.PathLike[str] | None = None
    timeline: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def exact(self) -> bool:
        """False: a kernel never takes the same time twice."""
        return False

    @property
    def recovers(self) -> bool:
        """False: the driver submits again what a killed run had not finished."""
        return False

    @property
    def rebuilds(self) -> bool:
        """False: binaries are kept in Triton's cache."""
        return False

    @property
    def argument_sets(self) -> tuple[ArgumentSet, ...]:
        """The workloads, each with a name."""
        given = tuple(self.workloads) or (ArgumentSet(self.arguments if self.arguments is not None else ()),)
        return tuple(
            ArgumentSet(one.arguments, one.weight, one.name or str(i), one.grid) for i, one in enumerate(given)
        )

    def describe(self) -> dict[str, Detail]:
        """Kind and settings. Functions appear by name, what is as by default not at all."""
        described: dict[str, Detail] = {"kind": "triton"}
        for name in ("kernel", "build", "reference", "checker", "pre_hook", "post_hook"):
            value = getattr(self, name)
            if value is not None:
                described[name] = name_of(value)
        for name in ("outputs", "restore_value", "reset_to_zero"):
            if getattr(self, name):
                described[name] = ", ".join(map(str, getattr(self, name)))
        usual = {one.name: one.default for one in fields(self)}
        for name in _PLAIN:
            if getattr(self, name) != usual[name]:
                described[name] = getattr(self, name)
        described["workloads"] = ", ".join(one.name for one in self.argument_sets)
        return described

    def open(self, space: "Space", past: Sequence[Event] = ()) -> Session:
        """A session; raises EvaluatorError where the functions cannot be sent to, or loaded by, a worker process."""
        return self._session(space, past, measuring=True)

    def open_compiler(self, space: "Space") -> Session:
        """A session that compiles for `target` and runs nothing: what compiles gets the outcome "skipped"."""
        if self.target is None:
            raise EvaluatorError("there is no target to compile for; give one such as 'sm_90'")
        return self._session(space, (), measuring=False)

    def _session(self, space: "Space", past: Sequence[Event], measuring: bool) -> Session:
        from autotune.backends.triton import processes
        from autotune.backends.triton.processes import ForkServers, Processes, ProcessLayout
        from autotune.backends.triton.session import TritonSession
        from autotune.backends.triton.session_cache import relocate_binaries
        from autotune.shell.timeline import Timeline

        names = tuple(space.names) if space is not None else ()
        if self.kernel is not None and (odd := unknown_names(self.kernel, names, self.options)):
            raise EvaluatorError(
                f"the space has {', '.join(map(repr, odd))}, which the kernel {self.kernel.__name__!r} has no parameter"
                " for and which no launch knows; rename it, or use build="
            )
        for one in self.argument_sets:
            if not callable(one.arguments):
                Launch(self.kernel, self.build).names(one.arguments, names)
        interpreted = self.device == "interpreter"
        compiling = not interpreted or self.target is not None
        clock, timeline = clock_after(past), Timeline(_path(self.timeline))
        cards = None if interpreted else processes.NvidiaSmi()
        if measuring and not interpreted:
            processes.release_cached_memory()
        if self.cache_dir is not None:
            relocate_binaries(self.cache_dir)
        nurseries = ForkServers(
            self._packed(names, True) if compiling else None, self._packed(names, False) if measuring else None,
            self.device, _path(self.cache_dir), not measuring,
        )  # fmt: skip
        try:
            visible = ("",) if cards is None else processes.visible_gpus(self._devices(), cards) if measuring else ()
            if measuring and not visible:
                raise EvaluatorError(
                    'no GPU can be seen; use device="interpreter" to check a kernel without one, or `autotune compile`'
                )
            target = processes.target_of(visible[0], cards) if cards is not None and not self.target else self.target
            workers = self.compile_workers or processes.default_compile_workers(len(visible))
            layout = ProcessLayout(self.device, target, visible if measuring else (), workers)
            hub = Processes(nurseries, layout, passed_tensors(self.argument_sets))
        except BaseException:
            nurseries.close()
            raise
        return TritonSession(hub, self._rules(workers), clock, timeline, past)

    def _rules(self, workers: int) -> "Rules":
        from autotune.backends.triton.jobs import Rules, binary_key_of

        ahead = max(1, min(USUALLY_AHEAD, workers // 2)) if self.ahead is None else self.ahead
        return Rules(
            self.compile_timeout_s, self.run_timeout_s, self._objective, tuple(one.name for one in self.argument_sets),
            binary_key_of(self.kernel), ahead,
        )  # fmt: skip

    @property
    def _objective(self) -> Objective:
        return Objective(self.objective, self.relative, tuple(float(one.weight) for one in self.argument_sets))

    def _devices(self) -> tuple[int, ...] | None:
        """Those asked for; with tensors that live on a GPU already, that one."""
        homes = {tensor.device.index for tensor in passed_tensors(self.argument_sets) if tensor.is_cuda}
        if not homes:
            return None if self.devices is None else tuple(self.devices)
        if len(homes) > 1 or (self.devices is not None and set(self.devices) != homes):
            raise EvaluatorError(
                f"the arguments are on GPU {', '.join(map(str, sorted(homes)))}, and can be used on one, theirs; give"
                " `arguments` as a function to use others"
            )
        return tuple(homes)

    def _packed(self, names: tuple[str, ...], compiling: bool) -> bytes:
        from autotune.backends.triton.arguments import CheckSpec
        from autotune.backends.triton.gpu_worker import TimingOptions
        from autotune.backends.triton.kernel import pack
        from autotune.backends.triton.timing import Schedule
        from autotune.shell.evaluators.checking import Tolerance

        tolerance = Tolerance(self.rtol, self.atol, self.bitwise, self.allowed_mismatch, self.reduction)
        terms = CheckSpec(
            self.reference, tuple(self.outputs), tuple(self.restore_value), tuple(self.reset_to_zero), self.checker,
            tolerance, self.pre_hook, self.post_hook, names,
        )  # fmt: skip
        schedule = Schedule(self.warmup_ms, self.target_ms, self.min_repeats, self.max_repeats)
        # The arguments travel in a pickle of their own: what opens memory of a GPU must not be unpickled in a nursery.
        given = without_data(self.argument_sets) if compiling else self.argument_sets
        sets = pack({"arguments": given})
        objective = self._objective
        if compiling:
            terms, objective = CheckSpec(), Objective()
        return pack(
            {
                "kernel": self.kernel, "build": self.build, "grid": self.grid, "options": dict(self.options or {}),
                "sets": sets, "terms": terms, "objective": objective, "names": names,
                "habits": TimingOptions(schedule, self.l2, self.cuda_graph, self.repeatable),
            }
        )  # fmt: skip


_PLAIN = (
    "rtol", "atol", "bitwise", "allowed_mismatch", "reduction", "repeatable", "objective", "relative", "target",
    "device", "compile_workers", "ahead", "compile_timeout_s", "run_timeout_s", "warmup_ms", "target_ms", "min_repeats",
    "max_repeats", "l2", "cuda_graph",
)  # fmt: skip


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).absolute())

"""The evaluator for Triton kernels, as its users write it down. Neither torch nor Triton is imported for that."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.shell.evaluators.protocol import Session, clock_after
from autotune.shell.evaluators.triton.arguments import Arguments, ArgumentSet, described_sets, given_tensors
from autotune.shell.evaluators.triton.device import Cache
from autotune.shell.evaluators.triton.given import check, name_of
from autotune.shell.evaluators.triton.launching import Grid, Hook, Launch, unknown_names
from autotune.shell.evaluators.triton.objective import Objective
from autotune.shell.settings import timeout

if TYPE_CHECKING:
    from autotune.core.space import Space
    from autotune.shell.evaluators.triton.jobs import Rules

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
    compile_timeout_s: float = field(default_factory=partial(timeout, "compile_timeout", 60.0))
    run_timeout_s: float = field(default_factory=partial(timeout, "benchmark_timeout", 30.0))
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
        from autotune.shell.evaluators.triton import machine
        from autotune.shell.evaluators.triton.ahead import rehome
        from autotune.shell.evaluators.triton.hub import Hub, Layout, Nurseries
        from autotune.shell.evaluators.triton.session import TritonSession
        from autotune.shell.evaluators.triton.timeline import Timeline

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
        cards = None if interpreted else machine.Cards()
        if measuring and not interpreted:
            machine.release_cached_memory()
        if self.cache_dir is not None:
            rehome(self.cache_dir)
        nurseries = Nurseries(
            self._packed(names, True) if compiling else None, self._packed(names, False) if measuring else None,
            self.device, _path(self.cache_dir), not measuring,
        )  # fmt: skip
        try:
            visible = ("",) if cards is None else machine.visible_gpus(self._devices(), cards) if measuring else ()
            if measuring and not visible:
                raise EvaluatorError(
                    'no GPU can be seen; use device="interpreter" to check a kernel without one, or `autotune compile`'
                )
            target = machine.target_of(visible[0], cards) if cards is not None and not self.target else self.target
            workers = self.compile_workers or machine.compile_workers(len(visible))
            layout = Layout(self.device, target, visible if measuring else (), workers)
            hub = Hub(nurseries, layout, given_tensors(self.argument_sets))
        except BaseException:
            nurseries.close()
            raise
        return TritonSession(hub, self._rules(workers), clock, timeline, past)

    def _rules(self, workers: int) -> "Rules":
        from autotune.shell.evaluators.triton.binaries import binary_of
        from autotune.shell.evaluators.triton.jobs import Rules

        ahead = max(1, min(USUALLY_AHEAD, workers // 2)) if self.ahead is None else self.ahead
        return Rules(
            self.compile_timeout_s, self.run_timeout_s, self._objective, tuple(one.name for one in self.argument_sets),
            binary_of(self.kernel), ahead,
        )  # fmt: skip

    @property
    def _objective(self) -> Objective:
        return Objective(self.objective, self.relative, tuple(float(one.weight) for one in self.argument_sets))

    def _devices(self) -> tuple[int, ...] | None:
        """Those asked for; with tensors that live on a GPU already, that one."""
        homes = {tensor.device.index for tensor in given_tensors(self.argument_sets) if tensor.is_cuda}
        if not homes:
            return None if self.devices is None else tuple(self.devices)
        if len(homes) > 1 or (self.devices is not None and set(self.devices) != homes):
            raise EvaluatorError(
                f"the arguments are on GPU {', '.join(map(str, sorted(homes)))}, and can be used on one, theirs; give"
                " `arguments` as a function to use others"
            )
        return tuple(homes)

    def _packed(self, names: tuple[str, ...], compiling: bool) -> bytes:
        from autotune.shell.evaluators.outputs import Tolerance
        from autotune.shell.evaluators.triton.desk import Habits
        from autotune.shell.evaluators.triton.sampling import Schedule
        from autotune.shell.evaluators.triton.shipping import pack
        from autotune.shell.evaluators.triton.stage import Terms

        tolerance = Tolerance(self.rtol, self.atol, self.bitwise, self.allowed_mismatch, self.reduction)
        terms = Terms(
            self.reference, tuple(self.outputs), tuple(self.restore_value), tuple(self.reset_to_zero), self.checker,
            tolerance, self.pre_hook, self.post_hook, names,
        )  # fmt: skip
        schedule = Schedule(self.warmup_ms, self.target_ms, self.min_repeats, self.max_repeats)
        # The arguments travel in a pickle of their own: what opens memory of a GPU must not be unpickled in a nursery.
        given = described_sets(self.argument_sets) if compiling else self.argument_sets
        sets = pack({"arguments": given})
        objective = self._objective
        if compiling:
            terms, objective = Terms(), Objective()
        return pack(
            {
                "kernel": self.kernel, "build": self.build, "grid": self.grid, "options": dict(self.options or {}),
                "sets": sets, "terms": terms, "objective": objective, "names": names,
                "habits": Habits(schedule, self.l2, self.cuda_graph, self.repeatable),
            }
        )  # fmt: skip


_PLAIN = (
    "rtol", "atol", "bitwise", "allowed_mismatch", "reduction", "repeatable", "objective", "relative", "target",
    "device", "compile_workers", "ahead", "compile_timeout_s", "run_timeout_s", "warmup_ms", "target_ms", "min_repeats",
    "max_repeats", "l2", "cuda_graph",
)  # fmt: skip


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).absolute())

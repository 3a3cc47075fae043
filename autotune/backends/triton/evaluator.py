"""The evaluator for Triton kernels as its users write it down, and the checks of their settings.

Neither torch nor Triton is imported before a session opens.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotune.backends.triton.arguments import Arguments, ArgumentSet, passed_tensors, without_data
from autotune.backends.triton.kernel import Grid, Hook, Launch, pack_payload, unknown_names
from autotune.backends.triton.launch_options import require_backend
from autotune.backends.triton.targets import check_target
from autotune.backends.triton.timing import L2Mode, WorkloadObjective
from autotune.core.arguments import short_repr
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.evaluators.checking import require_comparable
from autotune.shell.evaluators.protocol import Session, clock_after
from autotune.shell.evaluators.settings import Ranges, check_functions, check_ranges, qualified_name
from autotune.shell.settings import timeout_setting

if TYPE_CHECKING:
    from autotune.backends.triton.jobs import SessionRules
    from autotune.backends.triton.processes import ProgramParts
    from autotune.core.space import Space

_MOST_AHEAD = 4
"""Configs queued for the compile workers by default: as many as strategies that learn propose together."""


# Arguments hold tensors, which have no truth value as a whole: evaluators are equal only to themselves.
@dataclass(frozen=True, eq=False)
class TritonEvaluator:
    """Compile, check and time a Triton kernel for each config.

    kernel: a `@triton.jit` function. Names of a config that are parameters of the kernel go to the kernel; options of
        Triton's backend go to the launch: num_warps, num_stages, maxnreg (NVIDIA), waves_per_eu (AMD) and so on.
    grid: a tuple, or a function of the arguments and the config by name.
    build: in place of both, `build(config)` returns a function that is called with the arguments and may launch
        several kernels.
    arguments: a tuple, a dict by name, or a function that makes one. A function is called in the process of each GPU,
        and should make its tensors there (`device="cuda"`); other arguments are sent there.
    reference: a function that returns the expected output: of the arguments that its parameters name, or of all of
        them in order. Where it returns None, the arguments that it changed are the expected output. Or the expected
        output itself.
    outputs: the arguments that the kernel writes, by name or position. They hold NaN (integers: a pattern) before the
        check, so that elements that are not written are found. Needed with `kernel` and a reference that returns
        something.
    restore_value, reset_to_zero: arguments that get their first value back, or zeros, before every run.
    pre_hook, post_hook: called with the arguments by name before and after every run, outside of the timing.
    checker: `checker(output, expected)` returns True, or False or a message where the output is wrong.
    rtol, atol: an element may be off by atol + rtol * |expected|. Without them the type decides: it may be off by
        rtol * (|expected| + root mean square of expected), where rtol is 1e-7 for float64 up to 0.15 for eight bits.
    reduction: the number of summed terms; above 1024 it widens that by sqrt(reduction / 1024). bitwise: equal bits.
    allowed_mismatch: the fraction of elements that may be wrong.
    repeatable: run twice, and refuse a kernel whose two outputs differ in a bit.
    workloads: several `ArgumentSet`s in place of `arguments`: one config for all of them. objective: "geomean" of the
        times, weighted, or "worst"; relative: of the times over the default config's.
    options: further options of every launch. target: "sm_90", "gfx942" and the like; by default that of the GPU.
    device: "cuda", or "interpreter": tensors on the CPU, kernels interpreted (TRITON_INTERPRET=1) and timed by the wall
        clock, for checking without a GPU. Kernels are then compiled only where a target is given.
    devices: numbers of the GPUs to use, one process each; by default all that are visible.
    compile_workers: processes that compile; by default one a core, less one a GPU, as far as memory goes.
    ahead: configs that the search is asked for although no compile worker is free yet; by default 4 at most. Give many
        where the search learns nothing from one config for the next, as when a space is recorded.
    compile_timeout_s, run_timeout_s: seconds after which a compile is killed, its children too; and the check and
        timing of a config together. By default AUTOTUNE_COMPILE_TIMEOUT and AUTOTUNE_BENCHMARK_TIMEOUT decide, else 60
        and 30.
    warmup_ms: milliseconds of untimed runs. target_ms: timed runs add up to so many milliseconds, but there are at
        least `min_repeats` and at most `max_repeats` of them.
    l2: "flush" clears the cache before every run, "rotate" goes through copies of small arguments instead, "warm" does
        neither. cuda_graph: time the replay of a captured launch, without the host's part of it.
    cache_dir: Triton's cache; by default Triton's own. timeline: a file that receives the times at which each process
        was at work.

    Raises EvaluatorError for settings that do not fit together.
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
    l2: L2Mode = "flush"
    cuda_graph: bool = False
    cache_dir: str | os.PathLike[str] | None = None
    timeline: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        validate_settings(self)

    @property
    def exact(self) -> bool:
        """False: a kernel never takes the same time twice."""
        return False

    @property
    def recovers(self) -> bool:
        """False: the driver submits again the unfinished trials of a killed run."""
        return False

    @property
    def rebuilds(self) -> bool:
        """False: binaries are kept in Triton's cache."""
        return False

    @property
    def argument_sets(self) -> tuple[ArgumentSet, ...]:
        """The workloads, each with a name."""
        sets = tuple(self.workloads) or (ArgumentSet(self.arguments if self.arguments is not None else ()),)
        return tuple(replace(one, name=one.name or str(i)) for i, one in enumerate(sets))

    def describe(self) -> dict[str, Detail]:
        """Kind and settings, for the journal. Functions appear by name; defaults do not appear."""
        described: dict[str, Detail] = {"kind": "triton"}
        for name in ("kernel", "build", "reference", "checker", "pre_hook", "post_hook"):
            value = getattr(self, name)
            if value is not None:
                described[name] = qualified_name(value)
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
        """A session that compiles for `target` and runs nothing: a config that compiles gets the outcome "skipped"."""
        if self.target is None:
            raise EvaluatorError("there is no target to compile for; give one such as 'sm_90' or 'gfx942'")
        require_backend(self.target)
        return self._session(space, (), measuring=False)

    def _session(self, space: "Space", past: Sequence[Event], measuring: bool) -> Session:
        from autotune.backends.triton import processes
        from autotune.backends.triton.gpu_sources import ForkedGpus
        from autotune.backends.triton.session import TritonSession
        from autotune.backends.triton.session_cache import relocate_binaries
        from autotune.shell.timeline import Timeline

        names = tuple(space.names) if space is not None else ()
        check_names(self, names, self.target)
        for one in self.argument_sets:
            if not callable(one.arguments):
                Launch(self.kernel, self.build).names(one.arguments, names)
        interpreted = self.device == "interpreter"
        compiling = not interpreted or self.target is not None
        clock, timeline = clock_after(past), Timeline(_absolute(self.timeline))
        smi = None if interpreted else processes.NvidiaSmi()
        if measuring and not interpreted:
            processes.release_cached_memory()
        if self.cache_dir is not None:
            relocate_binaries(self.cache_dir)
        owners: list[Any] = []
        servers = processes.ForkServers(
            self._prepare_compiling(names) if compiling else None,
            self._prepare_measuring(names, owners) if measuring else None,
            self.device,
            _absolute(self.cache_dir),
            keep_all=not measuring,
        )
        try:
            visible: tuple[str, ...] = ("",)
            if smi is not None:
                visible = processes.visible_gpus(self._gpu_numbers(), smi) if measuring else ()
            if measuring and not visible:
                raise EvaluatorError(
                    'no GPU of NVIDIA or AMD can be seen; use device="interpreter" to check a kernel without one, or'
                    " `autotune compile`"
                )
            target = processes.target_of(visible[0], smi) if smi is not None and not self.target else self.target
            check_names(self, names, target)
            workers = self.compile_workers or processes.default_compile_workers(len(visible))
            layout = processes.ProcessLayout(
                device=self.device, target=target, visible=visible if measuring else (), compile_workers=workers
            )
            measured = servers.measuring
            started = processes.Processes(
                layout,
                compiling=servers.compiling,
                gpus=None if measured is None else ForkedGpus(measured, self.device, layout.visible),
                servers=servers.started,
                keep=servers.keep,
                owners=owners,
            )
        except BaseException:
            servers.close()
            raise
        return TritonSession(started, self._rules(workers), clock, timeline, past)

    def _rules(self, workers: int) -> "SessionRules":
        from autotune.backends.triton.jobs import SessionRules, binary_key_of

        return SessionRules(
            compile_timeout_s=self.compile_timeout_s,
            run_timeout_s=self.run_timeout_s,
            objective=self._objective,
            names=tuple(one.name for one in self.argument_sets),
            binary_key=binary_key_of(self.kernel),
            ahead=max(1, min(_MOST_AHEAD, workers // 2)) if self.ahead is None else self.ahead,
        )

    @property
    def _objective(self) -> WorkloadObjective:
        return WorkloadObjective(self.objective, self.relative, tuple(float(one.weight) for one in self.argument_sets))

    def _gpu_numbers(self) -> tuple[int, ...] | None:
        """The GPUs that the user asks for; where tensors live on a GPU already, that one."""
        homes = {tensor.device.index for tensor in passed_tensors(self.argument_sets) if tensor.is_cuda}
        if not homes:
            return None if self.devices is None else tuple(self.devices)
        if len(homes) > 1 or (self.devices is not None and set(self.devices) != homes):
            raise EvaluatorError(
                f"the arguments are on GPU {', '.join(map(str, sorted(homes)))}, and can be used on one, theirs; give"
                " `arguments` as a function to use others"
            )
        return tuple(homes)

    def _prepare_compiling(self, names: tuple[str, ...]) -> "ProgramParts | bytes":
        """The workload of compile workers. Where kernels are interpreted in this program, a new process decorates them
        anew: there the target comes first, as the user's files are imported when the parts are unpacked, and may ask
        for it."""
        from autotune.backends.triton.processes import ProgramParts

        sets = without_data(self.argument_sets)
        if interprets() or self.device == "interpreter":
            return pack_payload({"target": self.target, "parts": self._pack(names, sets, [])})
        return ProgramParts(parts={**self._parts(names), "sets": sets}, target=self.target)

    def _prepare_measuring(self, names: tuple[str, ...], owners: list[Any]) -> "ProgramParts | bytes":
        """The workload of GPU workers: forks of the program, unless that has used a GPU, or would interpret the kernels
        and must not, or the other way round."""
        from autotune.backends.triton.processes import ProgramParts, survives_fork

        more = self._measuring_parts(names)

        def pack() -> bytes:
            return self._pack(names, self.argument_sets, owners, **more)

        if interprets() != (self.device == "interpreter") or not survives_fork(self.device):
            return pack()
        return ProgramParts(parts={**self._parts(names), "sets": self.argument_sets, **more}, pack=pack)

    def _measuring_parts(self, names: tuple[str, ...]) -> dict[str, Any]:
        from autotune.backends.triton.gpu_worker import TimingOptions
        from autotune.backends.triton.prepared_arguments import CheckSpec
        from autotune.backends.triton.timing import TimingSchedule
        from autotune.shell.evaluators.checking import Tolerance

        spec = CheckSpec(
            reference=self.reference,
            outputs=tuple(self.outputs),
            restore_value=tuple(self.restore_value),
            reset_to_zero=tuple(self.reset_to_zero),
            checker=self.checker,
            tolerance=Tolerance(
                rtol=self.rtol,
                atol=self.atol,
                bitwise=self.bitwise,
                allowed=self.allowed_mismatch,
                reduction=self.reduction,
            ),
            pre_hook=self.pre_hook,
            post_hook=self.post_hook,
            names=names,
        )
        schedule = TimingSchedule(
            warmup_ms=self.warmup_ms,
            target_ms=self.target_ms,
            min_repeats=self.min_repeats,
            max_repeats=self.max_repeats,
        )
        timing = TimingOptions(schedule, self.l2, self.cuda_graph, self.repeatable)
        return {"spec": spec, "objective": self._objective, "timing": timing}

    def _pack(self, names: tuple[str, ...], sets: Sequence[ArgumentSet], owners: list[Any], **more: Any) -> bytes:
        # A pickle of its own: handles of GPU memory must not be unpickled in a fork server.
        packed = pack_payload({"arguments": sets}, owners)
        return pack_payload({**self._parts(names), "sets": packed, **more}, owners)

    def _parts(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {
            "kernel": self.kernel,
            "build": self.build,
            "grid": self.grid,
            "options": dict(self.options or {}),
            "names": names,
        }


_PLAIN = (
    "rtol", "atol", "bitwise", "allowed_mismatch", "reduction", "repeatable", "objective", "relative", "target",
    "device", "compile_workers", "ahead", "compile_timeout_s", "run_timeout_s", "warmup_ms", "target_ms", "min_repeats",
    "max_repeats", "l2", "cuda_graph",
)  # fmt: skip
"""Settings that `describe` gives as they are."""


def interprets() -> bool:
    """Whether Triton interprets the kernels of this program (TRITON_INTERPRET)."""
    from triton import knobs

    return bool(knobs.runtime.interpret)


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


_CHOICES: dict[str, tuple[str, ...]] = {
    "objective": ("geomean", "worst"),
    "device": ("cuda", "interpreter"),
    "l2": ("flush", "rotate", "warm"),
}
_RANGES: Ranges = {
    "allowed_mismatch": (int | float, 0, 0.999999),
    "reduction": (int, 1, 1e12),
    "compile_workers": (int, 1, 4096),
    "ahead": (int, 1, 10**9),
    "compile_timeout_s": (int | float, 1e-3, 1e7),
}


def check_names(evaluator: TritonEvaluator, names: Sequence[str], target: str | None) -> None:
    """Raises EvaluatorError for a parameter of the space that is none of the kernel's and no option of a launch on the
    target (None: not known yet)."""
    kernel = evaluator.kernel
    if kernel is not None and (odd := unknown_names(kernel, names, evaluator.options, target)):
        where = "which no launch knows" if target is None else f"which no launch on {target} knows"
        raise EvaluatorError(
            f"the space has {', '.join(map(repr, odd))}, which the kernel {kernel.__name__!r} has no parameter for and"
            f" {where}; rename it, or use build="
        )


def validate_settings(evaluator: TritonEvaluator) -> None:
    """Raises EvaluatorError: one sentence that names a setting and the remedy."""
    _check_workloads(evaluator)
    _check_kernel(evaluator)
    for name, allowed in _CHOICES.items():
        value = getattr(evaluator, name)
        if not isinstance(value, str) or value not in allowed:
            raise EvaluatorError(f"{name} is {short_repr(value)}; use one of {', '.join(map(repr, allowed))}")
    check_ranges(evaluator, _RANGES, optional=("rtol", "atol", "reduction", "compile_workers", "ahead"))
    for name in ("outputs", "restore_value", "reset_to_zero"):
        value = getattr(evaluator, name)
        if isinstance(value, str) or not all(isinstance(one, str | int) for one in value):
            raise EvaluatorError(f"{name} is {value!r}; give a tuple of argument names")
    check_functions(evaluator, ("build", "pre_hook", "post_hook", "checker"))
    if evaluator.target is not None:
        check_target(evaluator.target)
    if os.name != "posix":
        raise EvaluatorError("TritonEvaluator needs a POSIX system")


def _check_workloads(evaluator: TritonEvaluator) -> None:
    if evaluator.workloads and evaluator.arguments is not None:
        raise EvaluatorError("arguments and workloads are both given; give one of them")
    for one in evaluator.workloads:
        if not isinstance(one, ArgumentSet):
            raise EvaluatorError(f"workloads has {qualified_name(one)}; give ArgumentSet(arguments, weight, name)")
        if not (isinstance(one.weight, int | float) and 0 <= one.weight < inf):
            raise EvaluatorError(f"a workload has weight {one.weight!r}; give a number of at least 0")
    if evaluator.workloads and not sum(one.weight for one in evaluator.workloads):
        raise EvaluatorError("all workloads have weight 0; give one of them more")
    names = [one.name for one in evaluator.argument_sets]
    if len(set(names)) < len(names):
        raise EvaluatorError(f"two workloads have the same name, of {', '.join(names)}; name them apart")


def _check_kernel(evaluator: TritonEvaluator) -> None:
    kernel, reference = evaluator.kernel, evaluator.reference
    if (kernel is None) == (evaluator.build is None):
        raise EvaluatorError("give either kernel= with grid=, or build=")
    if kernel is not None and not is_triton_kernel(kernel):
        raise EvaluatorError(
            f"kernel is {qualified_name(kernel)}, not a @triton.jit function; take the decorators above @triton.jit"
            " away, or use build="
        )
    gridless = not evaluator.workloads or any(one.grid is None for one in evaluator.workloads)
    if kernel is not None and evaluator.grid is None and gridless:
        raise EvaluatorError("a kernel needs a grid; give grid= a tuple, or a function of the arguments by name")
    if evaluator.checker is None:
        require_comparable(reference)
    if kernel is not None and reference is not None and not callable(reference) and not evaluator.outputs:
        raise EvaluatorError("say which arguments the kernel writes: outputs=('c',), for example")

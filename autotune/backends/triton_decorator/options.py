"""The options of a decorator, checked once; the environment fills in the missing ones at the first call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotune.backends.triton_decorator.call_key import Buckets
from autotune.backends.triton_decorator.configs import Pruning
from autotune.core.errors import PlanError
from autotune.core.search.effort import check_effort
from autotune.core.search.plan import Budget
from autotune.core.strategies.protocol import AnyStrategy
from autotune.shell.evaluators.checking import Tolerance
from autotune.shell.options import PathLike, Progress
from autotune.shell.settings import DECORATOR_MODES, MISSES, DecoratorMode, Environment, Miss, resolve_setting

if TYPE_CHECKING:
    from autotune.shell.cache.cache import Cache

Isolation = Literal["process", "in_process"]
ISOLATIONS: tuple[Isolation, ...] = get_args(Isolation)

_EFFORT, _SECONDS = "quick", 120.0
"""The default search: the program waits for the first call."""
_REGRET, _CONFIDENCE = 0.01, 0.99
"""A config of a list that is surely at most this much faster than another one is not worth a wait for its compiler.
With this confidence one list in a hundred loses a faster config (docs/design/stopping.md)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchOptions:
    """How to search; the fields are the arguments of `tune`."""

    strategy: str | AnyStrategy | None = None
    effort: str | None = None
    budget: Budget | float | None = None
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    journal: PathLike | Literal[False] | None = None
    progress: Progress = None
    cache: "Cache | PathLike | bool" = True

    def __post_init__(self) -> None:
        if self.effort is not None:
            check_effort(self.effort)
        if self.budget is not None and not isinstance(self.budget, Budget):
            Budget(seconds=self.budget)

    def budget_for(self, env: Environment, listed: bool) -> Budget:
        """The budget by the argument, the environment, or the default: a list is tried as a whole, but for the configs
        that the others show to be slow."""
        own = self.budget
        budget = own if isinstance(own, Budget) or own is None else Budget(seconds=float(own))
        from_env = None if env.budget_seconds is None else Budget(seconds=env.budget_seconds)
        return resolve_setting(
            budget, from_env, Budget(regret=_REGRET, confidence=_CONFIDENCE) if listed else Budget(seconds=_SECONDS)
        )

    def effort_for(self, env: Environment) -> str:
        """The effort by the argument, the environment, or the default."""
        return resolve_setting(self.effort, env.effort, _EFFORT)


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasureOptions:
    """How to time and check; the fields are the arguments of the decorator."""

    reset_to_zero: tuple[str, ...] = ()
    restore_value: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    pre_hook: Callable[..., Any] | None = None
    post_hook: Callable[..., Any] | None = None
    warmup: float | None = None
    rep: float | None = None
    use_cuda_graph: bool = False
    do_bench: Callable[..., Any] | None = None
    reference: Any = None
    checker: Callable[[Any, Any], bool | str] | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        if self.isolation is not None and self.isolation not in ISOLATIONS:
            raise PlanError(f"isolation is {self.isolation!r}; use one of {', '.join(ISOLATIONS)}, or leave it out")
        here = [name for name in ("do_bench", "pre_hook", "post_hook") if getattr(self, name) is not None]
        if self.isolation == "process" and here:
            raise PlanError(
                f"{here[0]} is called in this process, and isolation is 'process'; leave out one of the two"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class DecoratorOptions:
    """All options of a decorator but the configs and the key.

    bucket: how key arguments are rounded. heuristics: the functions of `@triton.heuristics` below the decorator.
    """

    searching: SearchOptions
    measuring: MeasureOptions
    pruning: Pruning = field(default_factory=Pruning)
    mode: DecoratorMode | None = None
    miss: Miss | None = None
    bucket: Buckets | None = None
    heuristics: tuple[Any, ...] = ()


def parse_mode(mode: str | None) -> DecoratorMode | None:
    """The mode that an argument names; raises PlanError."""
    if mode is None:
        return None
    for known in DECORATOR_MODES:
        if mode == known:
            return known
    raise PlanError(f"no mode is called {mode!r}; there are {', '.join(DECORATOR_MODES)}")


def mode_for(mode: DecoratorMode | None, env: Environment) -> DecoratorMode:
    """The mode by the argument, the environment, or the default."""
    return resolve_setting(mode, env.mode, "force" if env.force else "tune")


def miss_for(miss: Miss | None, env: Environment, default: Miss = "first") -> Miss:
    """The config of a call that may not be tuned, by the argument, the environment, or the default."""
    return resolve_setting(miss, env.miss, default)


def parse_miss(miss: str | None) -> Miss | None:
    """The argument `miss`; raises PlanError."""
    if miss is None:
        return None
    for known in MISSES:
        if miss == known:
            return known
    raise PlanError(f"miss is {miss!r}; use one of {', '.join(MISSES)}")


def check_names(option: str, names: Sequence[str] | None, parameters: Sequence[str]) -> tuple[str, ...]:
    """The names of arguments that an option lists; raises PlanError for a name that is no parameter."""
    if names is None:
        return ()
    if isinstance(names, str):
        raise PlanError(f"{option} is the text {names!r}; give a list of argument names")
    odd = [name for name in names if name not in parameters]
    if odd:
        raise PlanError(
            f"{option} has {', '.join(map(repr, odd))}, which is no argument of the kernel; those are"
            f" {', '.join(parameters)}"
        )
    return tuple(names)

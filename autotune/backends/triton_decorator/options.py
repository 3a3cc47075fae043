"""What a decorator was told, checked once; what it leaves open is taken from the environment at the first call."""

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
from autotune.shell.settings import DECORATOR_MODES, DecoratorMode, Environment, first_given

if TYPE_CHECKING:
    from autotune.shell.cache.cache import Cache

Isolation = Literal["process", "in_process"]
ISOLATIONS: tuple[Isolation, ...] = get_args(Isolation)

EFFORT, SECONDS = "quick", 120.0
"""Of a search that nobody says more about: somebody waits for the first call."""


@dataclass(frozen=True, eq=False)
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
        """Argument, environment, default; a list is gone through however long that takes."""
        given = self.budget
        budget = given if isinstance(given, Budget) or given is None else Budget(seconds=float(given))
        said = None if env.budget_seconds is None else Budget(seconds=env.budget_seconds)
        return first_given(budget, said, Budget() if listed else Budget(seconds=SECONDS))

    def effort_for(self, env: Environment) -> str:
        """Argument, environment, default."""
        return first_given(self.effort, env.effort, EFFORT)


@dataclass(frozen=True, eq=False)
class MeasureOptions:
    """How to time and check."""

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
        ours = [name for name in ("do_bench", "pre_hook", "post_hook") if getattr(self, name) is not None]
        if self.isolation == "process" and ours:
            raise PlanError(
                f"{ours[0]} is called in this process, and isolation is 'process'; leave out one of the two"
            )


@dataclass(frozen=True, eq=False)
class DecoratorOptions:
    """All that the decorator was told, beside what to choose from and the keys.

    bucket: how key arguments are rounded. heuristics: functions of `@triton.heuristics` below.
    """

    searching: SearchOptions
    measuring: MeasureOptions
    pruning: Pruning = field(default_factory=Pruning)
    mode: DecoratorMode | None = None
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
    """Argument, environment, default."""
    return first_given(mode, env.mode, "force" if env.force else "tune")


def check_names(what: str, given: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """Names of arguments; raises PlanError for what is none."""
    if given is None:
        return ()
    if isinstance(given, str):
        raise PlanError(f"{what} is the text {given!r}; give a list of argument names")
    odd = [name for name in given if name not in names]
    if odd:
        raise PlanError(
            f"{what} has {', '.join(map(repr, odd))}, which is no argument of the kernel; those are {', '.join(names)}"
        )
    return tuple(given)

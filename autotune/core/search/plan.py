"""The plan of a search: everything that determines it before anything is measured."""

from dataclasses import dataclass
from typing import Any, TypeGuard

from msgspec import Struct
from msgspec.structs import force_setattr

from autotune.core.arguments import (
    argument_error,
    check_integer,
    check_items,
    check_kind,
    convert_fields,
    plain,
    short_repr,
)
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy, ListStrategy, is_strategy


class Budget(Struct, frozen=True, omit_defaults=True):
    """Limits on a search; None: no limit. The first limit reached ends the search.

    evaluations: distinct configs, the default and simplification included; re-measurements are free.
    seconds: on the evaluator's clock, everything included. generations: batches of the strategy, the first included.
    regret, confidence: stop when, with this probability, no config that is left is more than `regret` (relative) faster
    than the best: for strategies that try a list. Raises PlanError for a value out of range.
    """

    evaluations: int | None = None
    seconds: float | None = None
    generations: int | None = None
    regret: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("evaluations", "generations"):
            value = plain(getattr(self, name))
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise PlanError(
                    f"the budget has {name} = {short_repr(value)}; use an integer of at least 1, or leave it out"
                )
            force_setattr(self, name, value)
        seconds = plain(self.seconds)
        if seconds is not None and not (_is_number(seconds) and 0 < seconds < float("inf")):
            raise PlanError(f"the budget has seconds = {short_repr(seconds)}; use a number above 0, or leave it out")
        force_setattr(self, "seconds", None if seconds is None else float(seconds))
        regret, confidence = plain(self.regret), plain(self.confidence)
        if regret is not None and not (_is_number(regret) and 0 < regret < 1):
            raise PlanError(
                f"the budget has regret = {short_repr(regret)}; use a share between 0 and 1, such as 0.01, or leave it"
                " out"
            )
        if not (_is_number(confidence) and 0.5 <= confidence < 1):
            raise PlanError(
                f"the budget has confidence = {short_repr(confidence)}; use a probability of at least 0.5 and below 1"
            )
        force_setattr(self, "regret", None if regret is None else float(regret))
        force_setattr(self, "confidence", float(confidence))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_budget(given: Any) -> Budget:
    """A budget from a Budget, a number of evaluations, or None (no limits). Raises PlanError for anything else."""
    if given is None or isinstance(given, Budget):
        return given or Budget()
    number = plain(given)
    if isinstance(number, int) and not isinstance(number, bool):
        return Budget(evaluations=number)
    raise argument_error("budget", given, "Budget(evaluations=…, seconds=…), or a number of evaluations", PlanError)


SHORT = 9
"""Fewer `verify_rounds` than the effort "quick" takes are taken as asked for, whatever the noise."""


LEAST_OF_SETTINGS = {
    "confirm_at_most": 2, "confirm_times": 0, "confirm_rounds": 1, "contenders": 1, "finalists": 1, "verify_rounds": 0,
    "hurried_rounds": 0, "simplify_rounds": 0, "restarts": 0, "processes": 1, "hopeless": 0,
}  # fmt: skip
"""The least value of each whole number in `Settings`."""


class Settings(Struct, frozen=True, omit_defaults=True):
    """Settings of the search machine: how it treats a strategy's proposals. Raises PlanError for values out of range.

    search: False measures the default config alone.
    restarts: how often a strategy that ends by itself starts again, with another key and all measurements so far.
    exact: times are exact, so there is no confirmation, no verification and no tie by noise.
    rebenchmark_threshold: only configs within this factor of the best may be confirmed; below 1: none.
    confirm_at_most: trials in one confirmation. confirm_times: confirmations of any one trial. confirm_rounds: samples.
    contenders: most near-best configs compared at the end (`confirm_rounds` samples) to find the finalists; at most
    `confirm_at_most` where they have to be built again.
    finalists: configs in the final verification, the default not counted. verify_rounds: samples of each; 0: none.
    hurried_rounds: samples of each after an interrupt.
    simplify_rounds: how often to try putting parameters back to their default; 0: never.
    compile_timeout_s: the compile timeout in seconds, which the adaptive one only lowers.
    cutoff_factor: stop timing a config whose first runs take this many times the best; None: never.
    near_factor: give a config whose first runs take this many times the best only a few runs; None: all runs.
    all_samples: where the rounds at the end are too few to decide between the default and another config, all samples
    of the search do; False: the default is the pick, as in journals of earlier versions.
    eps: the verification goes on in comparisons of those that matter until it is certain that no finalist is faster
    than the pick by more than this share; None: one comparison of `verify_rounds`, as in journals of earlier versions
    and wherever `verify_rounds` is below SHORT.
    processes: comparisons that such a verification takes at least, each in a new process where the evaluator can.
    hopeless: end the search where nothing works and so many configs, the default among them, fail alike; 0: never, as
    in journals of earlier versions.
    reserve: the share of the seconds kept for the verification. rebuild: whether a comparison builds its configs again.
    pad: whether from_best_available fills its population up at random.
    """

    search: bool = True
    restarts: int = 0
    exact: bool = False
    rebenchmark_threshold: float = 1.5
    confirm_at_most: int = 5
    confirm_times: int = 2
    confirm_rounds: int = 7
    contenders: int = 32
    finalists: int = 4
    verify_rounds: int = 31
    hurried_rounds: int = 5
    simplify_rounds: int = 0
    compile_timeout_s: float = 60.0
    cutoff_factor: float | None = 3.0
    near_factor: float | None = 1.2
    reserve: float = 0.05
    rebuild: bool = True
    pad: bool = True
    all_samples: bool = False
    eps: float | None = None
    processes: int = 1
    hopeless: int = 0

    def __post_init__(self) -> None:
        convert_fields(self, "settings", PlanError)
        for name, least in LEAST_OF_SETTINGS.items():
            if getattr(self, name) < least:
                raise PlanError(f"the setting {name} = {getattr(self, name)!r} is too low; use at least {least}")
        if not self.compile_timeout_s > 0:
            raise PlanError(f"the setting compile_timeout_s = {self.compile_timeout_s!r} must be above 0 seconds")
        for name in ("cutoff_factor", "near_factor"):
            factor = getattr(self, name)
            if factor is not None and not factor > 1:
                raise PlanError(f"the setting {name} = {factor!r} must be above 1, or None for no such limit")
        if self.eps is not None and not 0 < self.eps < 1:
            raise PlanError(f"the setting eps = {self.eps!r} must be between 0 and 1, such as 0.005, or None")
        if not 0 <= self.reserve < 1:
            raise PlanError(f"the setting reserve = {self.reserve!r} must be at least 0 and below 1")

    @property
    def certifies(self) -> bool:
        """Whether the verification goes on until its claims are certain."""
        return self.eps is not None and self.verify_rounds >= SHORT and not self.exact


@dataclass(frozen=True)
class Plan:
    """A search before it starts. Two equal plans given the same outcomes make the same decisions.

    seed: of all random draws. seeds: the user's configs to try first. best_available: the best configs of earlier runs,
    best first. Raises PlanError for a field of another kind, ConfigError for a config outside of the space.
    """

    space: Space
    strategy: AnyStrategy
    budget: Budget = Budget()
    seed: int = 0
    seeds: tuple[Config, ...] = ()
    best_available: tuple[Config, ...] = ()
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        check_kind(self.space, Space, "space", "a Space", PlanError)
        check_kind(self.budget, Budget, "budget", "a Budget", PlanError)
        check_kind(self.settings, Settings, "settings", "Settings(…)", PlanError)
        if not is_strategy(self.strategy):
            raise argument_error(
                "strategy", self.strategy, "a strategy with its settings, such as PatternSearch()", PlanError
            )
        object.__setattr__(self, "seed", check_integer(self.seed, "seed", PlanError))
        for field, whose in (("seeds", "seed config"), ("best_available", "best available config")):
            given = check_items(getattr(self, field), field, "a list of configs", PlanError)
            configs = tuple(self.space.check(config, f"{whose} {i}") for i, config in enumerate(given))
            object.__setattr__(self, field, configs)
        if self.budget.regret is not None and not isinstance(self.strategy, ListStrategy):
            raise PlanError(
                f"a budget with a regret needs a strategy that knows what is left, such as finite_search, and"
                f" {type(self.strategy).__name__} does not; give evaluations or seconds"
            )
        if not self.settings.search and self.space.default is None:
            raise PlanError("effort 'none' measures the default config, and the space has none; give it default={…}")

"""The strategy protocol: settings as frozen data, with three pure methods; its messages, and the check of settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.arguments import check_settings
from autotune.core.errors import StrategyError
from autotune.core.history import Archive
from autotune.core.keys import Key
from autotune.core.memo import memo
from autotune.core.outcomes import Outcome, Trial
from autotune.core.parameters import Codes
from autotune.core.space import Space

S = TypeVar("S")


# The questions


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Points to begin with, best first: the default of the space (0 or 1 rows), the user's, the best of earlier runs.

    pad: whether a population of the best of earlier runs is filled up with random points.
    restarted: whether the strategy begins again after it ended, so that much is known already.
    trial, generation: the numbers with which it begins, above 0 after a restart.
    """

    default: Codes
    user: Codes
    best: Codes
    pad: bool = True
    restarted: bool = False
    trial: int = 0
    generation: int = 0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """The facts a strategy is told when it is asked for trials.

    room: how many trials can start now. More may be proposed (a whole generation); they wait for their turn.
    proposed: how many of this strategy's proposals have been accepted so far.
    outstanding: how many trials, of the strategy or not, have no outcome yet. `pending`: their points.
    evaluations, seconds, generations: the rest of each budget; None where there is none.
    archive: the observations since the strategy began, or began again. `archive.whole`: all observations, restarts or
    not, from which a model learns.
    fresh: rows [m, columns] to a mask [m] of rows that were never asked for.
    find_pending: looks up `pending`.
    """

    room: int
    proposed: int
    outstanding: int
    evaluations: int | None
    seconds: float | None
    generations: int | None
    archive: Archive
    fresh: Callable[[Codes], NDArray[np.bool_]]
    find_pending: Callable[[], Codes]

    @memo
    def pending(self) -> Codes:
        """The points [n, columns] of the outstanding trials, looked up at the first use."""
        return self.find_pending()


@dataclass(frozen=True)
class Observation:
    """A trial and its outcome."""

    trial: Trial
    outcome: Outcome


# The answers


@dataclass(frozen=True)
class Proposals:
    """Points [n, columns] to measure, best first: valid, fresh and different from one another.

    walk [n]: a number of the strategy's choice for each point, which comes back with the outcome.
    generation: the batch. why: the purpose of the batch in a few words, for people.
    """

    points: Codes
    walk: NDArray[np.int64]
    generation: int = 0
    why: str = ""

    @classmethod
    def of(cls, points: Codes, generation: int = 0, why: str = "") -> "Proposals":
        """Proposals of a strategy without walks."""
        return cls(points, np.zeros(len(points), np.int64), generation, why)


@dataclass(frozen=True)
class AwaitOutcome:
    """The strategy proposes nothing before an outcome arrives."""


@dataclass(frozen=True)
class Done:
    """The strategy proposes nothing any more; `why` says the reason."""

    why: str


def done_with_space(space: Space, ask: Ask) -> Done:
    """The end of a strategy that finds no new point. That none is left is said only where all points are counted."""
    tried = len(ask.archive.whole.asked.rows)
    if space.count() == tried:
        return Done("every valid config was tried")
    return Done(f"no valid config was found besides the {tried:,} that were tried")


# The protocol


@runtime_checkable
class Strategy(Protocol[S]):
    """A search strategy; `S` is its immutable state.

    Implementations are frozen msgspec Structs whose fields are the settings, so that a strategy can be written to a
    journal, compared and fingerprinted. `observe` builds the state from the outcomes: a population, walks. A strategy
    that only learns from all observations needs no state, for they are in `ask.archive`.
    A restart calls `init` again with another key; `ask.archive` then begins anew, and `ask.archive.whole` goes on.
    """

    def init(self, space: Space, seeds: Seeds, key: Key) -> S:
        """The state before anything is known. `key` is the same for the whole search."""

    def propose(self, space: Space, state: S, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        """The points to measure next. A query: it changes nothing, and equal arguments give equal answers."""

    def observe(self, space: Space, state: S, seen: tuple[Observation, ...]) -> S:
        """The state after these outcomes: of any pending trials in any order, of trials that the strategy did not ask
        for (the default, seeds), and of trials measured again, whose latest outcome counts."""


AnyStrategy = Strategy[Any]


@runtime_checkable
class ListStrategy(Protocol):
    """The optional methods of a strategy that measures a fixed list of points: the result is then one of the list."""

    def listed(self, space: Space, state: Any) -> Codes:
        """The points of the list [n, columns], in the order of asking."""

    def allows(self, space: Space, state: Any, points: Codes) -> NDArray[np.bool_]:
        """A mask [n] of the points [n, columns] that may be measured beside the strategy's own proposals."""


def allowed_points(strategy: AnyStrategy, space: Space, state: Any, points: Codes) -> NDArray[np.bool_]:
    """A mask [n] of the points [n, columns] that may be measured beside the strategy's own proposals: for all but a
    `ListStrategy`, every one."""
    if isinstance(strategy, ListStrategy):
        return strategy.allows(space, state, points)
    return np.ones(len(points), bool)


@runtime_checkable
class AdaptsCompileTimeout(Protocol):
    """The optional settings of a strategy whose compile timeout follows the compile times of its first generation: see
    `core.search.limits.compile_timeout`."""

    compile_timeout_lower_bound: float
    compile_timeout_quantile: float


def is_strategy(value: object) -> bool:
    """Whether this is an object with the three methods of a strategy; a class with them is none."""
    return not isinstance(value, type) and isinstance(value, Strategy)


# Settings


class CheckedSettings(Struct, frozen=True, omit_defaults=True):
    """Base of the strategies of this library. Creating one gives its settings their declared types and holds them
    against the bounds of their `msgspec.Meta`; StrategyError, naming the setting and the values allowed, for any other
    value.
    """

    def __post_init__(self) -> None:
        check_settings(self, strategy_tag(type(self)), StrategyError)


class ArchiveStrategy(CheckedSettings, frozen=True, omit_defaults=True):
    """Base of the strategies whose state never changes: they read all outcomes off `ask.archive`."""

    def observe(self, space: Space, state: S, seen: tuple[Observation, ...]) -> S:
        return state


def strategy_tag(kind: type[Struct]) -> str:
    """The name of a strategy in messages: the tag of its class, or the name of a class without one."""
    return str(kind.__struct_config__.tag or kind.__name__)

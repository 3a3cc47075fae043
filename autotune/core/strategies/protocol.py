"""What a strategy is: settings as frozen data, with three pure methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.arguments import take_fields
from autotune.core.errors import StrategyError
from autotune.core.history import Archive
from autotune.core.keys import Key
from autotune.core.memo import memo
from autotune.core.outcomes import Outcome, Trial
from autotune.core.parameters import Codes
from autotune.core.space import Space

S = TypeVar("S")


@dataclass(frozen=True)
class Seeds:
    """Points to begin with, best first: the default (0 or 1 rows), the user's, and the best of earlier runs.

    pad: whether a population of the best available is filled up with random points.
    again: whether the strategy begins again after it ended, so that much is known already.
    trial, generation: the numbers with which it begins: above 0 where it begins again.
    """

    default: Codes
    user: Codes
    best: Codes
    pad: bool = True
    again: bool = False
    trial: int = 0
    generation: int = 0


@dataclass(frozen=True)
class Ask:
    """What the machine tells a strategy when it asks for trials.

    room: how many trials can start now; more may be proposed (a whole generation), and wait their turn.
    proposed: how many of this strategy's proposals have been accepted so far.
    outstanding: how many trials were asked for and have no outcome yet, whoever wanted them; `pending`: their points.
    evaluations, seconds, generations: what is left of each budget; None where there is none.
    archive: what has been measured since the strategy began, for the last time if it was restarted: what it goes by.
    `archive.whole` is all that has been measured, restarts or not: what a model learns from.
    fresh: which of rows [m, columns] were never asked for, as a mask.
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
        """The points [n, columns] of the outstanding trials; looked up only for those who want to know."""
        return self.find_pending()


@dataclass(frozen=True)
class Proposals:
    """Points [n, columns] to measure, best first: valid, fresh and different from one another.

    walk: a number of the strategy's own for each, which comes back with the outcome. generation: the batch.
    why: a few words for people on what this batch is for.
    """

    points: Codes
    walk: NDArray[np.int64]
    generation: int = 0
    why: str = ""


@dataclass(frozen=True)
class Wait:
    """Nothing to propose before an outcome arrives."""


@dataclass(frozen=True)
class Done:
    """Nothing to propose any more, and why."""

    why: str


def nothing_left(space: Space, ask: Ask) -> Done:
    """The end of a strategy that finds nothing new; that there is nothing is said only where all points are counted."""
    tried = len(ask.archive.whole.asked.rows)
    if space.count() == tried:
        return Done("every valid config was tried")
    return Done(f"no valid config was found besides the {tried:,} that were tried")


@dataclass(frozen=True)
class Observation:
    """A trial, and what became of it."""

    trial: Trial
    outcome: Outcome


class Strategy(Protocol[S]):
    """A search strategy; `S` is its immutable state.

    Implementations are frozen msgspec Structs whose fields are the settings, so that a strategy can be written to a
    journal, compared and fingerprinted. The state is what `observe` has made of the outcomes so far: a population,
    walks. A strategy that only learns from all that was measured needs none, for that is in `ask.archive`.
    A restart calls `init` again with another key, and `ask.archive` then begins anew; `ask.archive.whole` goes on.
    """

    def init(self, space: Space, seeds: Seeds, key: Key) -> S:
        """The state before anything is known. `key` is the same for the whole search."""

    def propose(self, space: Space, state: S, ask: Ask, key: Key) -> Proposals | Wait | Done:
        """What to measure next. A query: it changes nothing, and equal arguments give equal answers."""

    def observe(self, space: Space, state: S, seen: tuple[Observation, ...]) -> S:
        """The state after these outcomes: any of the pending trials, in any order; unasked ones (the default, seeds);
        and revisions of earlier ones, of which the latest counts."""


AnyStrategy = Strategy[Any]


def allowed(strategy: AnyStrategy, space: Space, state: Any, points: Codes) -> NDArray[np.bool_]:
    """Which of these points [n, columns] the machine may measure beside the strategy's own proposals, as a mask.

    A strategy that goes by a list says so by a further method, `allows(space, state, points)`, which gives this mask;
    the result is then one of its list. For any other strategy all valid points are allowed.
    """
    allows = getattr(strategy, "allows", None)
    if allows is None:
        return np.ones(len(points), bool)
    mask: NDArray[np.bool_] = allows(space, state, points)
    return mask


def is_strategy(value: object) -> bool:
    """Whether this is an object with the three methods of a strategy; a class with them is none."""
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in ("init", "propose", "observe")
    )


def check_types(strategy: Struct, name: str) -> None:
    """Raises StrategyError, naming the setting, for one of another type than the strategy declares."""
    take_fields(strategy, name, StrategyError)


def require(holds: bool, strategy: str, setting: str, value: object, allowed: str) -> None:
    """Raises StrategyError, naming the setting and what is allowed, unless `holds`."""
    if not holds:
        raise StrategyError(f"{strategy}: {setting} = {value!r} is out of range; use {allowed}")

"""The suite for strategies: an honest one of somebody else passes it, and every planted fault breaks its law."""

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from msgspec import Struct

from autotune import Space
from autotune.core.keys import Key, fold
from autotune.core.points import first_of_each
from autotune.core.strategies.protocol import AnyStrategy, Ask, AwaitOutcome, Done, Proposals, Seeds
from autotune.testing import StrategyLaws
from tests.testing.runner import break_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is torn and was dropped")


class Sweep(Struct, frozen=True):
    """An honest strategy: the seeds, then random new points, a few at a time; it may wait for an outcome."""

    count: int = 20

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        return np.concatenate([seeds.default, seeds.user, seeds.best])

    def propose(self, space: Space, state: Any, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        if ask.proposed >= self.count:
            return Done(f"{self.count} configs were proposed")
        points = self.points(space, state, ask, key)
        if not len(points):
            return AwaitOutcome() if ask.outstanding else Done("no new point was found")
        return Proposals(points, np.zeros(len(points), np.int64))

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        seeds = state[first_of_each(state)]
        seeds = seeds[ask.fresh(seeds)]
        return seeds if len(seeds) else space.sample_distinct(fold(key, "draw"), 3, ask.fresh)

    def observe(self, space: Space, state: Any, seen: Any) -> Any:
        return state


class TestAnHonestStrategy(StrategyLaws):
    def make_strategy(self, space: Space) -> AnyStrategy:
        return Sweep()


class Repeats(Sweep, frozen=True):
    """It proposes points that were proposed before."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample(fold(key, "draw"), 3)


class LeavesTheSpace(Sweep, frozen=True):
    """One code is too large."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        points = super().points(space, state, ask, key)
        return points + 100 * (np.arange(space.columns) == 0)


class IgnoresConstraints(Sweep, frozen=True):
    """It draws each parameter on its own."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        free = Space(dict(space.parameters))
        return free.sample_distinct(fold(key, "draw"), 3, ask.fresh)


class Twice(Sweep, frozen=True):
    """The same point twice in a batch."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return np.repeat(super().points(space, state, ask, key), 2, axis=0)


class Flips(Sweep, frozen=True):
    """Another answer each time it is asked."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample_distinct(fold(key, os.urandom(8).hex()), 3, ask.fresh)


class Hashes(Sweep, frozen=True):
    """What it draws depends on PYTHONHASHSEED."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample_distinct(fold(key, str(hash("draw"))), 3, ask.fresh)


class IgnoresTheSeed(Sweep, frozen=True):
    """It draws with a key of its own."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample_distinct(fold(Key(7), ask.proposed), 3, ask.fresh)


class ByClock(Sweep, frozen=True):
    """A class attribute counts the calls: a restarted process does otherwise."""

    calls: ClassVar[list[int]] = []

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        self.calls.append(1)
        return space.sample_distinct(fold(key, len(self.calls) // 40), 3, ask.fresh)


class ChangesItsState(Sweep, frozen=True):
    """propose writes to the state."""

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        return [super().init(space, seeds, key)]

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        state.append(0)
        return super().points(space, state[0], ask, key)


class RemembersInPlace(Sweep, frozen=True):
    """observe writes to the state that it is given."""

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        return [super().init(space, seeds, key)]

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return super().points(space, state[0], ask, key)

    def observe(self, space: Space, state: Any, seen: Any) -> Any:
        state.append(seen)
        return state


class WaitsForNothing(Sweep, frozen=True):
    """It waits where no trial is in flight."""

    def propose(self, space: Space, state: Any, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        return AwaitOutcome()


class SaysNothing(Sweep, frozen=True):
    """It ends without a reason."""

    def propose(self, space: Space, state: Any, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        return Done("")


class ChokesOnFailures(Sweep, frozen=True):
    """It takes every outcome for a time."""

    def observe(self, space: Space, state: Any, seen: Any) -> Any:
        assert all(observation.outcome.time_ms > 0 for observation in seen)
        return state


class MinusOfHuge(Sweep, frozen=True):
    """It cannot take the largest time there is."""

    def observe(self, space: Space, state: Any, seen: Any) -> Any:
        for observation in seen:
            if hasattr(observation.outcome, "time_ms"):
                int(observation.outcome.time_ms * 10)
        return state


class ChokesOnRevisions(Sweep, frozen=True):
    """It takes every outcome once only."""

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        return super().init(space, seeds, key), frozenset()

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return super().points(space, state[0], ask, key)

    def observe(self, space: Space, state: Any, seen: Any) -> Any:
        known = state[1]
        for observation in seen:
            assert observation.trial.id not in known
            known |= {observation.trial.id}
        return state[0], known


class IgnoresSeeds(Sweep, frozen=True):
    """The user's seeds are not tried."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample_distinct(fold(key, "draw"), 3, ask.fresh)


class FillsTheRoom(Sweep, frozen=True):
    """It calls itself generational and proposes as many as there is room for."""

    def points(self, space: Space, state: Any, ask: Ask, key: Key) -> Any:
        return space.sample_distinct(fold(key, ask.room), ask.room, ask.fresh)


class RefusesRestarts(Sweep, frozen=True):
    """It cannot begin again."""

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        assert not seeds.restarted, "begun already"
        return super().init(space, seeds, key)


class RefusesDefaults(Sweep, frozen=True):
    """It needs a space without a default."""

    def init(self, space: Space, seeds: Seeds, key: Key) -> Any:
        assert not len(seeds.default), "no default, please"
        return super().init(space, seeds, key)


class Mutable(Struct):
    """It is no frozen Struct."""

    count: int = 20
    init, propose, points, observe = Sweep.init, Sweep.propose, Sweep.points, Sweep.observe


class Plain:
    """It is no Struct, so no journal can hold it."""

    count = 20
    init, propose, points, observe = Sweep.init, Sweep.propose, Sweep.points, Sweep.observe


ALONE = "test_proposals_are_valid_new_and_distinct"
WORDS = {
    Repeats: "the same point twice|an evaluated or pending point",
    LeavesTheSpace: "which is not",
    IgnoresConstraints: "breaks the constraint",
    Twice: "the same point twice|invalid, known or repeated",
    Flips: "asked twice",
    IgnoresTheSeed: "the seed has no effect",
    ByClock: "Divergence|does not repeat|asks for|assert <?Result",
    ChangesItsState: "propose changed|asking changed",
    RemembersInPlace: "observe changed|changed an older one",
    SaysNothing: "without saying why",
    ChokesOnFailures: "time_ms",
    MinusOfHuge: "infinity",
    RefusesRestarts: "begun already",
    RefusesDefaults: "no default",
    Mutable: "DID NOT RAISE",
    Plain: "declare it as class",
}
"""What the errors say, where a law has words of its own."""

BROKEN = [
    (Repeats, ALONE),
    (LeavesTheSpace, ALONE),
    (IgnoresConstraints, ALONE),
    (Twice, ALONE),
    (Twice, "test_no_history_breaks_the_search"),
    (Flips, ALONE),
    (Flips, "test_the_same_events_give_the_same_requests"),
    (Flips, "test_the_seed_decides"),
    (Hashes, "test_another_process_searches_the_same"),
    (IgnoresTheSeed, "test_the_seed_decides"),
    (ByClock, "test_a_cut_journal_resumes_to_the_same_search"),
    (ByClock, "test_an_interrupted_search_resumes_to_the_same_search"),
    (ByClock, "test_an_interrupted_journal_cut_anywhere_resumes_to_the_same_search"),
    (ChangesItsState, ALONE),
    (ChangesItsState, "test_no_history_breaks_the_search"),
    (RemembersInPlace, ALONE),
    (RemembersInPlace, "test_observing_again_changes_no_earlier_state"),
    (WaitsForNothing, ALONE),
    (WaitsForNothing, "test_a_small_space_is_tried_and_then_it_ends"),
    (SaysNothing, ALONE),
    (ChokesOnFailures, ALONE),
    (ChokesOnFailures, "test_extreme_outcomes_end_like_any_other"),
    (MinusOfHuge, "test_extreme_outcomes_end_like_any_other"),
    (ChokesOnRevisions, "test_observing_again_changes_no_earlier_state"),
    (ChokesOnRevisions, "test_no_history_breaks_the_search"),
    (IgnoresSeeds, "test_seeds_of_the_user_are_tried_first"),
    (FillsTheRoom, "test_a_generational_strategy_ignores_completion_order"),
    (Mutable, "test_a_strategy_is_data"),
    (Plain, "test_a_strategy_is_data"),
    (ByClock, "test_a_finished_journal_gives_its_result_again"),
    (ByClock, "test_a_search_with_a_deadline_resumes_to_the_same_search"),
    (RefusesRestarts, "test_restarts_are_events_like_any_other"),
    (RefusesRestarts, "test_a_search_with_restarts_begins_like_one_without"),
    (RefusesRestarts, "test_a_restarted_strategy_sees_its_own_round_and_everything"),
    (RefusesDefaults, "test_it_tunes"),
]


@pytest.mark.parametrize(("kind", "law"), BROKEN, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_planted_fault_breaks_its_law(kind: type, law: str, tmp_path: Path) -> None:
    class Suite(StrategyLaws):
        generational = kind is FillsTheRoom

        def make_strategy(self, space: Space) -> AnyStrategy:
            strategy: AnyStrategy = kind()
            return strategy

    error = break_of(Suite, law, tmp_path)
    assert error is not None
    assert re.search(WORDS.get(kind, ""), str(error))


@pytest.mark.parametrize("law", [ALONE, "test_a_strategy_is_data", "test_a_cut_journal_resumes_to_the_same_search"])
def test_an_honest_strategy_breaks_none(law: str, tmp_path: Path) -> None:
    """The runner itself breaks nothing."""
    assert break_of(TestAnHonestStrategy, law, tmp_path) is None

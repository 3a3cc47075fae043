"""Ranges up to 63 bits work everywhere; wider ones are refused in a sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autotune import (
    STRATEGIES,
    Asked,
    Boolean,
    Budget,
    Choice,
    Integer,
    ListOf,
    Measure,
    Observed,
    OptionalOf,
    Permutation,
    PowerOfTwo,
    Space,
    SpaceError,
    Timed,
    advance,
    make_plan,
    request,
    start,
)
from autotune.core.keys import fold, root

LOW, HIGH = -(2**62), 2**62 - 2
WIDE: dict[str, Space] = {
    "a range of 63 bits": Space({"a": Integer(LOW, HIGH)}),
    "two columns": Space({"a": Integer(LOW, HIGH), "b": PowerOfTwo(1, 2**62)}, ["a + b > 0"]),
    "composites": Space({"a": OptionalOf(Integer(LOW, HIGH)), "b": ListOf(Integer(LOW, HIGH), 3)}),
    "steps": Space({"a": Integer(-(2**62), 2**62, step=3), "p": Permutation(40)}),
    "many columns": Space({"a": ListOf(PowerOfTwo(1, 2**62), 40), "c": Choice(range(3000))}, ["a[0] < a[1]"]),
    "large values": Space({"a": Choice((2**70, -(2**70), 2**62)), "b": Boolean()}, ["a > 3 or b"]),
}

REFUSED: dict[str, Callable[[], Any]] = {
    "2**63 + 1 values": lambda: Integer(-(2**62), 2**62),
    "2**63 values": lambda: Integer(-(2**62), 2**62 - 1),
    "a bound past 2**62": lambda: Integer(0, 2**62 + 1),
    "a bound of 100 bits": lambda: Integer(0, 2**100),
    "a low bound": lambda: Integer(-(2**62) - 1, 0),
    "a step of 70 bits": lambda: Integer(0, 1, step=2**70),
    "a power of 2**63": lambda: PowerOfTwo(1, 2**63),
    "a list of a range": lambda: ListOf(Integer(-(2**62), 2**62), 2),
    "an optional range": lambda: OptionalOf(Integer(-(2**62), 2**62)),
    "a list without end": lambda: ListOf(Integer(0, 1), 2**40),
    "a list of lists": lambda: ListOf(ListOf(Integer(0, 1), 2000), 2000),
    "an order without end": lambda: Permutation(2**40),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ranges_that_are_too_wide_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(SpaceError, match=r"(Integer|PowerOfTwo|ListOf|Permutation)"):
        REFUSED[name]()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WIDE)
def test_populations_of_wide_spaces(name: str) -> None:
    space, key = WIDE[name], root(7)
    rows = space.sample(key, 40)
    assert space.valid(rows).all()
    assert (space.encode(space.decode(rows)) == rows).all()
    assert np.isfinite(space.features(rows)).all()
    mixed = space.mutate(rows, np.roll(rows, 1, axis=0), np.roll(rows, 2, axis=0), fold(key, "mutate"))
    assert (space.encode(space.decode(mixed)) == mixed).all()
    assert all(space.valid(space.neighbours(row)).all() for row in rows[:3])
    assert len(space.sample_distinct(fold(key, "distinct"), 5)) == min(5, space.count() or 5)
    if space.size < 2**63:
        assert (space.unrank(space.rank(rows)) == rows).all()
    else:
        with pytest.raises(SpaceError, match="63 bits"):
            space.rank(rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [name for name in WIDE if name != "large values"])
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "finite_search"])
def test_strategies_search_wide_spaces(strategy: str, name: str) -> None:
    search = start(make_plan(WIDE[name], strategy, exact=True, budget=Budget(evaluations=30)))
    while isinstance(task := request(search, 4), Measure):
        search = advance(search, Asked(search.clock, 4, task))
        for trial in task.trials:
            time_ms = 1 + int(trial.config.digest[:4], 16) / 1e4
            search = advance(search, Observed(search.clock + 0.1, trial.id, Timed((time_ms,))))
    assert search.observed == 30

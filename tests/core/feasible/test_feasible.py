"""Feasible sets by example: guards, named conflicts, huge parameters and limits."""

import time

import numpy as np
import pytest

from autotune.core.constraints import Members, as_constraint
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible
from autotune.core.keys import root
from autotune.core.parameters import Boolean, Integer, ListOf, Parameter, PowerOfTwo
from tests.core.feasible_sets import feasible


def test_one_constraint_may_guard_another() -> None:
    guarded = feasible("BLOCK_M % stages == 0", "stages != 0", "fast")
    rows = guarded.rows()
    assert len(rows) == guarded.count()
    assert guarded.valid(guarded.sample(root(0), 50)).all()


def test_members_of_a_huge_space_cost_only_their_rows() -> None:
    parameters: dict[str, Parameter] = {"a": Integer(1, 10**9), "b": Integer(1, 10**9), "free": Integer(1, 10**9)}
    rows = np.stack([np.arange(1000) * 7919, np.arange(1000) ** 2], axis=1)
    made = Feasible(parameters, (Members.of(parameters, ("a", "b"), rows), as_constraint("a % 2 == 0", parameters)))
    assert made.count() == 500 * 10**9
    assert made.uniform
    assert made.valid(made.sample(root(1), 100)).all()


def test_the_constraints_to_blame_are_named_and_no_others() -> None:
    with pytest.raises(SpaceError) as caught:
        feasible("BLOCK_M < 64", "BLOCK_N >= 16", "BLOCK_M * BLOCK_N > 16384", "BLOCK_N < 256", "fast").rows()
    told = str(caught.value)
    assert "'BLOCK_M < 64'" in told
    assert "'BLOCK_M * BLOCK_N > 16384'" in told
    assert "'BLOCK_N >= 16'" not in told
    assert "'fast'" not in told
    assert "relax" in told


def test_an_impossible_constraint_is_an_error_whatever_is_asked() -> None:
    for ask in (Feasible.count, Feasible.rows, lambda each: each.sample(root(0), 1)):
        with pytest.raises(SpaceError, match="no point of the space satisfies 'stages > 9'"):
            ask(feasible("stages > 9"))


def test_huge_parameters_cost_nothing() -> None:
    parameters: dict[str, Parameter] = {
        "a": Integer(1, 10**9),
        "b": ListOf(Integer(0, 2**40), 4),
        "c": Integer(-(2**61), 2**61),
        "d": Integer(0, 9),
    }
    start = time.process_time()
    made = feasible("d % 2 == 0", **parameters)
    assert made.count() == 10**9 * (2**40 + 1) ** 4 * (2**62 + 1) * 5
    assert made.sample(root(0), 100).shape == (100, 7)
    with pytest.raises(SpaceError, match="more than"):
        made.rows()
    wide = feasible("sum(b) > a", "c > 0", **parameters)
    assert wide.valid(wide.sample(root(0), 100)).all()
    assert time.process_time() - start < 10


def test_more_rows_than_the_limit_is_an_error_with_a_remedy() -> None:
    made = feasible("BLOCK_M <= BLOCK_N", BLOCK_M=PowerOfTwo(1, 64), BLOCK_N=PowerOfTwo(1, 64))
    assert len(made.rows(limit=28)) == 28
    with pytest.raises(SpaceError, match=r"more than 27 valid points.*sample it"):
        made.rows(limit=27)


def test_a_space_without_constraints_or_with_one_point() -> None:
    assert feasible(a=Integer(3, 3)).rows().tolist() == [[0]]
    assert feasible(a=Boolean(), b=Boolean()).rows().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert feasible(a=Boolean()).sample(root(0), 0).shape == (0, 1)
    assert feasible("a", a=Boolean()).rows().tolist() == [[1]]
    assert feasible("a", a=Boolean()).valid(np.zeros((0, 1), np.int64)).shape == (0,)

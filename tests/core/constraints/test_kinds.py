"""Kinds of constraint: functions, sets of rows, written constraints, and errors that name the config."""

import json

import msgspec
import numpy as np
import pytest

from autotune.core.config import Config
from autotune.core.constraints import Constraint, Expression, Function, Members, as_constraint
from autotune.core.errors import SpaceError
from autotune.core.keys import root
from autotune.core.parameters import Boolean, Integer, Parameter
from tests.core.feasible_sets import PARAMETERS, feasible


def test_an_expression_that_raises_is_an_error_that_names_the_config_and_the_remedy() -> None:
    with pytest.raises(SpaceError, match=r"'BLOCK_M % stages == 0' fails at .*stages=0.*ZeroDivisionError.*guard it"):
        feasible("BLOCK_M % stages == 0").sample(root(0), 100)
    with pytest.raises(SpaceError, match=r"split=None.*TypeError"):
        feasible("split > 2").rows()


def test_functions_by_name_by_config_and_by_keyword() -> None:
    def even(stages: int) -> bool:
        return stages % 2 == 0

    def whole(config: Config) -> bool:
        return bool(config["fast"]) and isinstance(config, Config)

    def defaulted(stages: int, *, limit: int = 2) -> bool:
        return stages <= limit

    made = [as_constraint(each, PARAMETERS) for each in (even, whole, defaulted)]
    assert [constraint.names for constraint in made] == [("stages",), tuple(PARAMETERS), ("stages",)]
    small: dict[str, Parameter] = {"stages": Integer(0, 4), "fast": Boolean()}
    found = feasible(even, whole, defaulted, **small).rows()
    assert found.tolist() == [[0, 1], [2, 1]]
    first = made[0]
    assert isinstance(first, Function)
    assert "even" in first.describe()
    assert first.identity.portable


def test_a_function_that_cannot_be_a_constraint_is_refused() -> None:
    with pytest.raises(SpaceError, match="stagess"):
        as_constraint(lambda stagess: stagess > 1, PARAMETERS)
    with pytest.raises(SpaceError, match="names no parameter"):
        as_constraint(lambda *args: True, PARAMETERS)
    with pytest.raises(SpaceError, match="not 3"):
        as_constraint(3, PARAMETERS)  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="reads no parameter"):
        as_constraint(lambda: True, PARAMETERS)


def test_a_function_that_raises_is_named_with_the_config() -> None:
    def bad(stages: int) -> bool:
        raise RuntimeError("broken at three") if stages == 3 else ValueError("or elsewhere")

    with pytest.raises(SpaceError, match=r"bad.*stages=0.*or elsewhere"):
        feasible(bad).rows()


def test_constraints_are_written_and_read_as_json() -> None:
    made: list[Constraint] = [Expression("BLOCK_M < 64"), Members(("stages", "fast"), (1, 4, 7))]
    text = msgspec.json.encode(made)
    assert [each["type"] for each in json.loads(text)] == ["expression", "members"]
    assert msgspec.json.decode(text, type=list[Expression | Members]) == made
    with pytest.raises((SpaceError, msgspec.ValidationError), match="not allowed"):
        msgspec.json.decode(b'{"type":"expression","text":"open(1)"}', type=Expression)


def test_members_keep_their_rows_and_know_their_space() -> None:
    rows = np.array([[3, 1], [0, 0], [3, 1]])
    made = Members.of(PARAMETERS, ("stages", "fast"), rows)
    assert made.ranks == (0, 7)
    with pytest.raises(SpaceError, match="another space"):
        as_constraint(Members(("stages", "fast"), (10,)), PARAMETERS)
    with pytest.raises(SpaceError, match="63 bits"):
        Members.of({"a": Integer(0, 2**40), "b": Integer(0, 2**40)}, ("a", "b"), np.zeros((1, 2), np.int64))
    only = feasible(Members(("stages", "fast"), (0, 7)), stages=Integer(0, 4), fast=Boolean())
    assert only.rows().tolist() == [[0, 0], [3, 1]]

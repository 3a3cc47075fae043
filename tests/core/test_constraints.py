"""Constraints by example: what is refused and how, what is blamed, and the edges of Python's semantics."""

import json
import time
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune.core.config import Config
from autotune.core.constraints import Constraint, Expression, Function, Members, as_constraint, members
from autotune.core.constraints.syntax import MAX_TEXT
from autotune.core.constraints.verdicts import YES
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible
from autotune.core.feasible.compiled import compile_constraint
from autotune.core.keys import root
from autotune.core.parameters import Boolean, Choice, Integer, ListOf, OptionalOf, Parameter, Permutation, PowerOfTwo

PARAMETERS: dict[str, Parameter] = {
    "BLOCK_M": PowerOfTwo(16, 256),
    "BLOCK_N": PowerOfTwo(16, 256),
    "stages": Integer(0, 4),
    "split": OptionalOf(Integer(1, 8)),
    "order": Permutation(3),
    "tiles": ListOf(PowerOfTwo(1, 8), 2),
    "layout": Choice(("row", "column", None)),
    "fast": Boolean(),
}


def feasible(*given: Any, **parameters: Parameter) -> Feasible:
    known = parameters or PARAMETERS
    return Feasible(known, tuple(as_constraint(each, known) for each in given))


def holds(text: str, **values: Any) -> bool:
    """The answer for one config."""
    codes = {name: np.array([PARAMETERS[name].encode(value)]) for name, value in values.items()}
    return bool(compile_constraint(as_constraint(text, PARAMETERS), PARAMETERS).verdicts(codes)[0] == YES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("BLOCK_M <=", "not a Python expression"),
        ("", "not a Python expression"),
        ("BLOCK_M = 3", "not a Python expression"),
        ("BLOCK_M; BLOCK_N", "not a Python expression"),
        ("BLOK_M < 64", "'BLOCK_M'"),
        ("nothing_like_it < 64", "the parameters are BLOCK_M"),
        ("1 < 2", "reads no parameter"),
        ("BLOCK_M.real > 1", "Attribute is not allowed"),
        ("(lambda: BLOCK_M)()", "call is not allowed"),
        ("[x for x in tiles]", "ListComp is not allowed"),
        ("__import__('os').system('true')", "call is not allowed"),
        ("open('/etc/passwd') and BLOCK_M", "the functions are abs"),
        ("min(*tiles) > 1", "neither keywords nor"),
        ("max(tiles, key=abs) > 1", "neither keywords nor"),
        ("abs(BLOCK_M, 2) > 1", "takes 1 argument"),
        ("order[stages] == 1", "literal integer"),
        ("order[0:2] == 1", "literal integer"),
        ("BLOCK_M is BLOCK_N", "use =="),
        ("(x := BLOCK_M) > 1", "NamedExpr is not allowed"),
        ("f'{BLOCK_M}' == '16'", "JoinedStr is not allowed"),
        ("b'16' == BLOCK_M", "literal bytes"),
        ("BLOCK_M @ BLOCK_N", "BinOp is not allowed"),
        ("BLOCK_M == 2j", "literal complex"),
        ("BLOCK_M <= " + "9" * 400, "over 1024 bits"),
        ("layout == '" + "x" * 2000 + "'", "over 1000 characters"),
        ("BLOCK_M + " * MAX_TEXT + "1", "too long"),
        ("(" * 300 + "BLOCK_M" + ")" * 300, "not a Python expression"),
        ("+".join(["BLOCK_M"] * 1000), "nests over"),
        ("not " * 2000 + "BLOCK_M", "n"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_sentence(text: str, told: str) -> None:
    with pytest.raises(SpaceError) as caught:
        as_constraint(text, PARAMETERS)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value).replace(text, "")
    assert len(str(caught.value)) < 13_000


@pytest.mark.parametrize(
    "text", ["2 ** 99999999 > stages", "stages + 9 << 99999999 > 0", "(2 ** 4000) ** (stages + 99) > 0"]
)
def test_an_expression_cannot_blow_up(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(SpaceError, match="over 4096 bits"):
        feasible(text).rows()
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("text", ["layout * 1000000000 == 'a'", "tiles * 1000000000 == 1", "layout % 10 == 'a'"])
def test_arithmetic_is_for_numbers(text: str) -> None:
    with pytest.raises(SpaceError, match="is for numbers"):
        feasible(text).rows()


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("BLOCK_M * BLOCK_N * 2 <= 8192", {"BLOCK_M": 64, "BLOCK_N": 64}, True),
        ("BLOCK_M % BLOCK_N", {"BLOCK_M": 64, "BLOCK_N": 64}, False),
        ("16 <= BLOCK_M < BLOCK_N <= 256", {"BLOCK_M": 64, "BLOCK_N": 128}, True),
        ("stages != 0 and BLOCK_M % stages == 0", {"BLOCK_M": 64, "stages": 0}, False),
        ("split is None or split > 2", {"split": None}, True),
        ("split is not None and split > 2", {"split": 3}, True),
        ("layout == 'row' or fast", {"layout": "row", "fast": False}, True),
        ("layout in ('row', None)", {"layout": None}, True),
        ("layout not in {'row', None}", {"layout": "column"}, True),
        ("order == (2, 0, 1)", {"order": (2, 0, 1)}, True),
        ("order == [2, 0, 1]", {"order": (2, 0, 1)}, False),
        ("order in ((0, 1, 2), (2, 0, 1))", {"order": (2, 0, 1)}, True),
        ("order[-1] == 1 and 2 in order", {"order": (2, 0, 1)}, True),
        ("sum(tiles) == 9 and len(tiles) == 2", {"tiles": (1, 8)}, True),
        ("any(tiles) and all(tiles)", {"tiles": (1, 8)}, True),
        ("-stages // 2 == -2", {"stages": 3}, True),
        ("-stages % 5 == 2", {"stages": 3}, True),
        ("stages / 2 == 1.5", {"stages": 3}, True),
        ("ceildiv(BLOCK_M, 3) == 22", {"BLOCK_M": 64}, True),
        ("log2(BLOCK_M) == 6", {"BLOCK_M": 64}, True),
        ("gcd(BLOCK_M, 48) == 16", {"BLOCK_M": 64}, True),
        ("BLOCK_M ** 40 > 2 ** 239", {"BLOCK_M": 64}, True),
        ("2 ** 53 + 1 + stages == 2.0 ** 53", {"stages": 0}, False),
        ("fast is True", {"fast": True}, True),
        ("fast == 1 and fast + 1 == 2 and ~fast == -2", {"fast": True}, True),
        ("(stages if fast else BLOCK_M) == 64", {"stages": 1, "fast": False, "BLOCK_M": 64}, True),
    ],
)
def test_expressions_mean_what_python_means(text: str, values: dict[str, Any], wanted: bool) -> None:
    assert holds(text, **values) is wanted


def test_what_raises_is_an_error_that_names_the_config_and_the_remedy() -> None:
    with pytest.raises(SpaceError, match=r"'BLOCK_M % stages == 0' fails at .*stages=0.*ZeroDivisionError.*guard it"):
        feasible("BLOCK_M % stages == 0").sample(root(0), 100)
    with pytest.raises(SpaceError, match=r"split=None.*TypeError"):
        feasible("split > 2").rows()


def test_one_constraint_may_guard_another() -> None:
    guarded = feasible("BLOCK_M % stages == 0", "stages != 0", "fast")
    rows = guarded.rows()
    assert len(rows) == guarded.count()
    assert guarded.valid(guarded.sample(root(0), 50)).all()


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
    made = members(PARAMETERS, ("stages", "fast"), rows)
    assert made.ranks == (0, 7)
    with pytest.raises(SpaceError, match="another space"):
        as_constraint(Members(("stages", "fast"), (10,)), PARAMETERS)
    with pytest.raises(SpaceError, match="63 bits"):
        members({"a": Integer(0, 2**40), "b": Integer(0, 2**40)}, ("a", "b"), np.zeros((1, 2), np.int64))
    only = feasible(Members(("stages", "fast"), (0, 7)), stages=Integer(0, 4), fast=Boolean())
    assert only.rows().tolist() == [[0, 0], [3, 1]]


def test_members_of_a_huge_space_cost_only_their_rows() -> None:
    parameters: dict[str, Parameter] = {"a": Integer(1, 10**9), "b": Integer(1, 10**9), "free": Integer(1, 10**9)}
    rows = np.stack([np.arange(1000) * 7919, np.arange(1000) ** 2], axis=1)
    made = Feasible(parameters, (members(parameters, ("a", "b"), rows), as_constraint("a % 2 == 0", parameters)))
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
    start = time.perf_counter()
    made = feasible("d % 2 == 0", **parameters)
    assert made.count() == 10**9 * (2**40 + 1) ** 4 * (2**62 + 1) * 5
    assert made.sample(root(0), 100).shape == (100, 7)
    with pytest.raises(SpaceError, match="more than"):
        made.rows()
    wide = feasible("sum(b) > a", "c > 0", **parameters)
    assert wide.valid(wide.sample(root(0), 100)).all()
    assert time.perf_counter() - start < 5


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

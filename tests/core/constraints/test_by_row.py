"""Expressions on one row: the edges of Python's semantics, and caps on the size of numbers."""

import time
from typing import Any

import numpy as np
import pytest

from autotune.core.constraints import as_constraint
from autotune.core.constraints.verdicts import YES
from autotune.core.errors import SpaceError
from autotune.core.feasible.compiled import compile_constraint
from tests.core.feasible_sets import PARAMETERS, feasible


def holds(text: str, **values: Any) -> bool:
    """The answer for one config."""
    codes = {name: np.array([PARAMETERS[name].encode(value)]) for name, value in values.items()}
    return bool(compile_constraint(as_constraint(text, PARAMETERS), PARAMETERS).verdicts(codes)[0] == YES)


@pytest.mark.parametrize(
    "text", ["2 ** 99999999 > stages", "stages + 9 << 99999999 > 0", "(2 ** 4000) ** (stages + 99) > 0"]
)
def test_an_expression_cannot_blow_up(text: str) -> None:
    start = time.process_time()
    with pytest.raises(SpaceError, match="over 4096 bits"):
        feasible(text).rows()
    assert time.process_time() - start < 2


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

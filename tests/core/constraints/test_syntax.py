"""The syntax of expressions: every refusal is one sentence."""

import pytest

from autotune.core.constraints import as_constraint
from autotune.core.errors import SpaceError
from tests.core.feasible_sets import PARAMETERS


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
        ("BLOCK_M + " * 10_000 + "1", "too long"),
        ("(" * 300 + "BLOCK_M" + ")" * 300, "not a Python expression"),
        ("+".join(["BLOCK_M"] * 1000), "nests over"),
        ("not " * 2000 + "BLOCK_M", "n"),
    ],
)
def test_syntax_outside_the_whitelist_is_refused_in_one_sentence(text: str, told: str) -> None:
    with pytest.raises(SpaceError) as caught:
        as_constraint(text, PARAMETERS)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value).replace(text, "")
    assert len(str(caught.value)) < 13_000

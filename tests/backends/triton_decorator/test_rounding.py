"""Key arguments are rounded to their buckets."""

import pytest

import autotune
from autotune import PowerOfTwo, Space
from autotune.backends.triton_decorator.call_key import power_of_two

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


def test_powers_of_two_round_up() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1000, -3)] == [0, 1, 2, 4, 4, 8, 1024, -3]
    assert power_of_two(True) is True
    assert power_of_two("x") == "x"
    assert power_of_two(3.5) == 3.5


@triton.jit
def decorated(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * 2, mask=at < n)


decorated = autotune.triton(Space({"BLOCK": PowerOfTwo(32, 64)}), ["n"])(decorated)

"""The comparison of outputs against an oracle that goes element by element, for numpy and torch alike."""

import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.checking import ExpectedLeaf, OutputCheck, Tolerance

torch = pytest.importorskip("torch")

FLOATS = ["float16", "bfloat16", "float32", "float64", "float8_e5m2", "float8_e4m3fn"]
INTEGERS = ["bool", "uint8", "int8", "int16", "int32", "int64"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.001, 1e-30, 3e38, -3e38, 6e4, math.inf, -math.inf, math.nan, 448.0]


def near(x: float, y: float, rtol: float, atol: float) -> bool:
    """The rule of `Tolerance` for one element, in exact arithmetic."""
    if math.isnan(y) or math.isnan(x):
        return math.isnan(x) and math.isnan(y)
    if math.isinf(y) or math.isinf(x):
        return x == y
    return abs(Fraction(x) - Fraction(y)) <= Fraction(atol) + Fraction(rtol) * abs(Fraction(y))


def undecided(x: float, y: float, rtol: float, atol: float) -> bool:
    """Whether rounding alone decides."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    error, allowed = abs(Fraction(x) - Fraction(y)), Fraction(atol) + Fraction(rtol) * abs(Fraction(y))
    return abs(error - allowed) <= Fraction(1, 10**6) * max(error, allowed)


values = st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=6)
tolerances = st.sampled_from([(1e-3, 1e-4), (0.0, 0.0), (0.5, 0.0), (1e-2, 1e300), (2.0, 1.0)])


def test_a_difference_that_overflows_may_be_within_the_tolerance() -> None:
    expected, output = torch.tensor([3e38, 1e-45]), torch.tensor([-3e38, 0.0])
    wide, exact = Tolerance(rtol=0.01, atol=1e300), Tolerance(rtol=0.0, atol=0.0)
    assert ExpectedLeaf(expected[:1], wide).mismatch(output[:1]) is None
    assert ExpectedLeaf(expected[:1], Tolerance(rtol=0.01, atol=1e38)).mismatch(output[:1]) is not None
    assert ExpectedLeaf(expected[1:], exact).mismatch(output[1:]) is not None


@settings(max_examples=300)
@given(st.sampled_from(FLOATS), values, st.data(), tolerances)
def test_tensors_of_floats(kind: str, wanted: list[float], data: Any, tolerance: tuple[float, float]) -> None:
    found = data.draw(st.lists(st.sampled_from(SPECIAL), min_size=len(wanted), max_size=len(wanted)))
    expected, output = (torch.tensor(v).to(getattr(torch, kind)) for v in (wanted, found))
    pairs = list(zip(output.double().tolist(), expected.double().tolist(), strict=True))
    if any(undecided(x, y, *tolerance) for x, y in pairs):
        return
    right = all(near(x, y, *tolerance) for x, y in pairs)
    assert (ExpectedLeaf(expected, Tolerance(rtol=tolerance[0], atol=tolerance[1])).mismatch(output) is None) == right
    if kind in ("float16", "float32", "float64"):
        a, b = output.numpy(), expected.numpy()
        assert (ExpectedLeaf(b, Tolerance(rtol=tolerance[0], atol=tolerance[1])).mismatch(a) is None) == right
        lists = OutputCheck({"a": [b]}, Tolerance(rtol=tolerance[0], atol=tolerance[1])).mismatch({"a": (a,)})
        assert (lists is None) == right
    as_bits = [bytes(one) for one in (output.view(torch.uint8).numpy(), expected.view(torch.uint8).numpy())]
    assert (ExpectedLeaf(expected, Tolerance(bitwise=True)).mismatch(output) is None) == (as_bits[0] == as_bits[1])


@settings(max_examples=200)
@given(st.sampled_from(["complex64", "complex128"]), values, st.data(), tolerances)
def test_complex_numbers(kind: str, wanted: list[float], data: Any, tolerance: tuple[float, float]) -> None:
    """Equal ones are right, and where one part is not finite each part is judged for itself."""
    imaginary = data.draw(st.lists(st.sampled_from(SPECIAL), min_size=len(wanted), max_size=len(wanted)))
    expected = torch.complex(torch.tensor(wanted).double(), torch.tensor(imaginary).double()).to(getattr(torch, kind))
    for one in (expected, expected.conj().resolve_conj().conj()):
        assert ExpectedLeaf(expected, Tolerance(rtol=tolerance[0], atol=tolerance[1])).mismatch(one.clone()) is None
        assert ExpectedLeaf(expected, Tolerance(bitwise=True)).mismatch(one.clone()) is None
    other = expected.clone()
    at = data.draw(st.integers(0, len(wanted) - 1))
    part = torch.view_as_real(other)[at]
    was = part[0].item()
    part[0] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 5e30]))
    if not (math.isfinite(was) and math.isfinite(part[0].item())):
        right = near(part[0].item(), was, *tolerance)
        for a, b in ((other, expected), (other.numpy(), expected.numpy())):
            assert (ExpectedLeaf(b, Tolerance(rtol=tolerance[0], atol=tolerance[1])).mismatch(a) is None) == right
    same = torch.view_as_real(other).numpy().tobytes() == torch.view_as_real(expected).numpy().tobytes()
    assert (ExpectedLeaf(expected, Tolerance(bitwise=True)).mismatch(other) is None) == same


@pytest.mark.parametrize("kind", INTEGERS)
@given(st.data())
def test_integers_are_equal_or_wrong(kind: str, data: Any) -> None:
    dtype = getattr(torch, kind)
    low, high = (0, 1) if kind == "bool" else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    wanted = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
    found = data.draw(st.lists(st.integers(low, high), min_size=len(wanted), max_size=len(wanted)) | st.just(wanted))
    a, b = torch.tensor(found).to(dtype), torch.tensor(wanted).to(dtype)
    for bitwise in (False, True):
        assert (ExpectedLeaf(b, Tolerance(bitwise=bitwise)).mismatch(a) is None) == (found == wanted)
        assert (ExpectedLeaf(b.numpy(), Tolerance(bitwise=bitwise)).mismatch(a.numpy()) is None) == (found == wanted)


def test_integers_beyond_the_exactness_of_floats() -> None:
    big = np.array([2**63 - 1, 2**53 + 1], np.int64)
    assert ExpectedLeaf(big, Tolerance(rtol=1e-3, atol=1e-4)).mismatch(big - 1) is not None
    unsigned = np.array([2**64 - 1], np.uint64)
    assert ExpectedLeaf(unsigned, Tolerance(same_type=False)).mismatch(unsigned - np.uint64(1)) is not None
    assert ExpectedLeaf(unsigned, Tolerance(same_type=False)).mismatch(np.array([-1], np.int64)) is not None
    assert ExpectedLeaf(2**70, Tolerance(same_type=False)).mismatch(2**70 + 1) is not None
    assert ExpectedLeaf(2**70, Tolerance(same_type=False)).mismatch(2**70) is None


def test_two_numbers_in_a_byte_are_compared_by_bits() -> None:
    kind = getattr(torch, "float4_e2m1fn_x2", None)
    if kind is None:
        pytest.skip("this torch has no packed float4")
    raw = torch.arange(16, dtype=torch.uint8)
    expected, output = raw.view(kind), raw.clone()
    assert ExpectedLeaf(expected, Tolerance()).mismatch(output.view(kind)) is None
    output[3] ^= 1
    told = ExpectedLeaf(expected, Tolerance()).mismatch(output.view(kind))
    assert told is not None
    assert told.message.startswith("1 of 16 elements")


def test_what_is_not_a_number_is_equal_or_wrong() -> None:
    record = np.array([(1, 2.0), (3, np.nan)], [("a", int), ("b", float)])
    date = np.array(["2020-01-01", "NaT"], "datetime64[D]")
    objects = np.array([None, "x", 2**80, 1.5], object)
    for value in (
        record,
        date,
        objects,
        np.array(["ab", "c"]),
        "text",
        b"raw",
        bytearray(b"raw"),
        {1, 2},
        None,
        1 + 2j,
    ):
        if value is not None:
            assert OutputCheck(value, Tolerance(rtol=1e-3, atol=0.0)).elements
        assert OutputCheck(value, Tolerance(rtol=1e-3, atol=0.0)).mismatch(value) is None
    other = record.copy()
    other["b"][0] = 2.5
    assert OutputCheck(record, Tolerance()).mismatch(other) is not None
    assert OutputCheck(date, Tolerance()).mismatch(date[::-1]) is not None
    assert OutputCheck(objects, Tolerance()).mismatch(np.array([None, "x", 2**80 + 1, 1.5], object)) is not None
    assert OutputCheck("text", Tolerance()).mismatch("Text") is not None
    assert OutputCheck({1, 2}, Tolerance()).mismatch({1, 3}) is not None
    with pytest.raises(EvaluatorError, match="cannot be compared"):
        OutputCheck([object()], Tolerance())


@pytest.mark.parametrize(
    "value", [None, [], {}, (), set(), "", b"", [None, None], np.zeros(0), [np.zeros((0, 3)), {}], {"a": None}]
)
def test_nothing_is_not_a_comparison(value: Any) -> None:
    with pytest.raises(EvaluatorError, match="nothing to compare"):
        OutputCheck(value, Tolerance()).require_elements()


def test_form_counts() -> None:
    def wrong(expected: Any, output: Any) -> bool:
        return OutputCheck(expected, Tolerance(rtol=1e-3, atol=1e-4, same_type=False)).mismatch(output) is not None

    one = np.ones(3)
    assert wrong([one, one], [one])
    assert wrong({"a": one}, {"b": one})
    assert wrong({"a": one}, one)
    assert wrong([one], {"a": one})
    assert wrong(one, np.ones((3, 1)))
    assert wrong(one, None)
    assert wrong(one, "text")
    assert wrong([one, None], [one, one])
    assert not wrong([one, None], (one, None))
    assert not wrong({"a": [one], "b": {"c": 2}}, {"b": {"c": 2}, "a": (one.astype(np.float32),)})
    assert not wrong(np.float64(3.0), 3.0)
    assert not wrong(torch.ones(3), one)
    assert wrong(torch.ones(3), one * 2)
    assert not wrong(torch.ones(3), torch.ones(3, requires_grad=True) * 1)


def test_what_has_parts_is_compared_by_its_parts() -> None:
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])

    def wrong(expected: Any, output: Any) -> bool:
        return OutputCheck(expected, Tolerance()).mismatch(output) is not None

    assert not wrong(masked, np.ma.array([1.0, 9.0, 3.0], mask=[0, 1, 0])), "what the mask hides does not count"
    assert wrong(masked, np.ma.array([1.0, 2.0, 3.0], mask=[0, 0, 0]))
    space = SimpleNamespace(a=np.ones(2))
    assert not wrong(space, SimpleNamespace(a=np.ones(2)))
    assert wrong(space, SimpleNamespace(a=np.zeros(2)))
    assert not wrong("a", np.str_("a"))


def test_types_of_every_width() -> None:
    half = [(torch.ones(3) * factor).to(torch.complex32) for factor in (1.0, 1.1)]
    wide = [[np.full(3, factor, kind) for factor in (1.0, 1.1)] for kind in (np.longdouble, np.clongdouble)]
    for expected, off in (half, *wide):
        assert ExpectedLeaf(expected, Tolerance()).mismatch(expected) is None
        assert ExpectedLeaf(expected, Tolerance()).mismatch(off) is not None
    lenient = Tolerance(same_type=False)
    assert ExpectedLeaf(np.int64(2**53 + 1), lenient).mismatch(float(2**53)) is not None
    assert ExpectedLeaf(torch.tensor([3], dtype=torch.uint16), lenient).mismatch(torch.tensor([3])) is None
    assert ExpectedLeaf(torch.tensor([2**64 - 1], dtype=torch.uint64), lenient).mismatch(torch.tensor([-1])) is not None
    assert ExpectedLeaf(1.5, lenient).mismatch(1.5 + 0j) is not None

"""Tensors are compared within tolerances, by bits, and in pieces."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autotune.shell.evaluators import checking  # noqa: E402
from autotune.shell.evaluators.checking import ExpectedLeaf, Tolerance  # noqa: E402
from tests.backends.triton.gpu_benchmark import vectors, verdict  # noqa: E402


def test_tolerances() -> None:
    expected = torch.full((100,), 2.0)
    off = expected + 0.003

    def answer(output: Any, **settings: Any) -> Any:
        return ExpectedLeaf(expected.to(output.dtype), Tolerance(**settings), "it").mismatch(output)

    assert answer(off) is None, "within twice a thousandth of 2"
    assert answer(off, rtol=1e-3) is not None
    assert answer(off, rtol=1e-3, atol=1e-2) is None
    assert answer(off, bitwise=True) is not None
    assert answer(expected.clone(), bitwise=True) is None
    assert answer(off.double()) is not None, "doubles are held to more"
    assert answer((expected + 0.02).bfloat16()) is None
    assert answer(expected + 0.006) is not None
    assert answer(expected + 0.006, reduction=1 << 14) is None, "many terms, more rounding"
    few = expected.clone()
    few[:2] = 7
    assert answer(few, allowed=0.01) is not None
    assert answer(few, allowed=0.02) is None
    both = torch.tensor([float("nan"), float("inf")])
    assert ExpectedLeaf(both.clone(), Tolerance(), "it").mismatch(both) is None
    assert "1 are NaN" in ExpectedLeaf(torch.tensor([0.0, float("inf")]), Tolerance(), "it").mismatch(both)[0]
    assert "has type" in ExpectedLeaf(both.double(), Tolerance(), "it").mismatch(both)[0]


@pytest.mark.parametrize("bitwise", [False, True])
def test_what_is_not_contiguous_is_compared_in_pieces(bitwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of the whole is made, and every element is looked at once."""
    monkeypatch.setattr(checking, "CHUNK", 50)
    expected = torch.randn(7, 30, 11)
    laid_out = (
        expected.clone(),
        expected.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        torch.empty(7, 60, 11)[:, ::2].copy_(expected),
    )
    for output in laid_out:
        largest = max(piece.numel() for piece, _ in checking.pieces(output, expected))
        assert largest <= 50
        assert sum(piece.numel() for piece, _ in checking.pieces(output, expected)) == expected.numel()
        assert ExpectedLeaf(expected, Tolerance(bitwise=bitwise), "it").mismatch(output) is None
        output = output.clone(memory_format=torch.preserve_format)
        output[3, 20, 5] = output[6, 29, 10] = 99.0
        told = ExpectedLeaf(expected, Tolerance(bitwise=bitwise), "it").mismatch(output)
        assert told is not None
        assert told[0].startswith("2 of 2310 elements")
        assert checking.count_bit_differences(output, expected) == 2
    empty = torch.zeros(0, 3)
    assert list(checking.pieces(empty, empty)) == []


def test_an_infinite_reference_accepts_infinities_alone() -> None:
    def endless(x: Any, out: Any) -> Any:
        return torch.full_like(x, float("inf"))

    assert verdict(endless, vectors, reference=endless) == "timed"
    assert "8 of 8 elements" in verdict(lambda x, out: x * 1, vectors, reference=endless)
    assert "8 of 8 elements" in verdict(lambda x, out: -endless(x, out), vectors, reference=endless)


def test_a_wrong_complex_answer_is_wrong_by_its_bits_too() -> None:
    def turned(x: Any, out: Any) -> Any:
        return torch.complex(x, x + 1)

    exact = {"tolerance": Tolerance(bitwise=True)}
    assert verdict(turned, vectors, reference=turned, **exact) == "timed"
    assert "elements" in verdict(lambda x, out: turned(x, out).conj(), vectors, reference=turned, **exact)

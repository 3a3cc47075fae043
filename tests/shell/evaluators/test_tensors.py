"""Tensors: checksums, copies, poison."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autotune.shell.evaluators import tensors  # noqa: E402


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int8, torch.float64])
@pytest.mark.parametrize("count", [2, 5, tensors.COLUMNS, 3 * tensors.COLUMNS + 7])
def test_a_checksum_tells_where_values_are(kind: Any, count: int) -> None:
    one = (torch.arange(count) % 100).to(kind)
    before = tensors.compute_checksums({"x": one})
    assert tensors.compute_checksums({"x": one.clone()}) == before
    for i, j in ((0, count - 1), (0, 1), (count // 2, count - 1)):
        swapped = one.clone()
        swapped[i], swapped[j] = one[j], one[i]
        assert (tensors.compute_checksums({"x": swapped}) == before) == torch.equal(swapped, one)
        raised = one.clone()
        raised[i] += 1
        assert tensors.compute_checksums({"x": raised}) != before
    whole = torch.zeros(4 * tensors.COLUMNS, 512)
    whole[0, 0] = 1.0  # by places that are powers of two apart, and values that differ in high bits alone
    there = torch.zeros(4 * tensors.COLUMNS, 512)
    there[2 * tensors.COLUMNS, 0] = 1.0
    assert tensors.compute_checksums({"x": whole}) != tensors.compute_checksums({"x": there})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[1::2],
        torch.arange(4.0).expand(3, 4),
        torch.empty(0, 3),
        torch.arange(6, dtype=torch.int16)[3:],
        torch.tensor(3.0),
    ],
    ids=["transposed", "strided", "expanded", "empty", "misaligned", "scalar"],
)
def test_copies_keep_strides_and_alignment(tensor: Any) -> None:
    copy = tensors.copy_tensor(tensor)
    assert copy.stride() == tensor.stride()
    assert copy.shape == tensor.shape
    assert torch.equal(copy, tensor)
    if tensor.numel():
        assert copy.data_ptr() % 256 == tensor.data_ptr() % 256
        assert copy.data_ptr() != tensor.data_ptr()
        before = tensors.compute_checksums({"x": tensor})
        assert tensors.compute_checksums({"x": copy}) == before
        tensor.select(0, 0).fill_(9) if tensor.dim() else tensor.fill_(9)
        assert tensors.compute_checksums({"x": tensor}) != before


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
)
def test_poison_is_never_zero(kind: Any) -> None:
    tensor = torch.zeros(5, dtype=kind)
    tensors.poison(tensor)
    assert bool(tensor.view(torch.uint8).any())

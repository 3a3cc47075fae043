"""Operations on torch tensors: copy with the same strides, restore, poison, and checksums that show a stray write.

torch is imported when the first tensor arrives.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

_POISON = 0x5A
"""Every byte of an integer output before the kernel writes it: a number that is hardly ever right. Floats are NaN."""

COLUMNS = 4096
"""Words in a row of a checksum: sums of rows and of columns are then both short of a hundred MiB."""


def is_tensor(value: Any) -> bool:
    """Whether this is a torch tensor; without torch imported, no value is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def poison(tensor: Any) -> None:
    """Fill a tensor with values that no kernel should leave in it: NaN, or _POISON in every byte."""
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.numel() == 0:
        return
    tensor = tensor.detach()
    if tensor.is_complex() or (tensor.is_floating_point() and tensor.element_size() > 1):
        tensor.fill_(float("nan"))
    elif tensor.is_floating_point():
        tensor.view(torch.uint8).fill_(0x7F)  # NaN in most of the eight-bit formats, the largest number in the others
    elif tensor.dtype == torch.bool:
        tensor.view(torch.uint8).fill_(_POISON)
    else:
        tensor.fill_(int.from_bytes(bytes([_POISON]) * tensor.element_size(), "little"))


def copy_tensor(tensor: Any, device: str | None = None, pinned: bool = False) -> Any:
    """A copy with the same strides, also where elements overlap or leave gaps, and the same alignment to 256 bytes.

    device: of the copy; None: the same. pinned: in memory of the host that a GPU reads at full speed.
    """
    import torch

    learns, tensor = tensor.requires_grad, tensor.detach()
    to = torch.device(device) if device is not None else tensor.device
    if tensor.numel() == 0:
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=to)
        return empty.requires_grad_(learns)
    reach = _reach(tensor)
    grain = max(1, 256 // tensor.element_size())
    shift = (tensor.data_ptr() % 256) // tensor.element_size()  # Triton compiles another kernel for another alignment
    flat = torch.empty(shift + reach + grain, dtype=tensor.dtype, device=to, pin_memory=pinned)
    shift += ((-flat.data_ptr()) % 256) // tensor.element_size()
    flat[shift : shift + reach].copy_(_span(tensor))
    return flat.as_strided(tensor.shape, tensor.stride(), shift).requires_grad_(learns)


def _reach(tensor: Any) -> int:
    """The number of elements from the first to the last, gaps included, of a tensor that has any."""
    return int(1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)))


def _span(tensor: Any) -> Any:
    """The memory from the first to the last element, as a flat tensor."""
    return tensor.as_strided((_reach(tensor),), (1,), tensor.storage_offset())


def restore(tensor: Any, source: Any) -> None:
    """Copy the data of a tensor of the same form into `tensor`, and drop its gradient."""
    tensor.grad = None
    if tensor.numel():
        _span(tensor.detach()).copy_(_span(source.detach()))


def has_same_bits(a: Any, b: Any) -> bool:
    """Whether two tensors of one shape and type hold the same bits."""
    import torch

    x, y = (plain_values(one).to(a.device).reshape(-1) for one in (a, b))
    return bool(a.numel() == 0 or torch.equal(x.view(torch.uint8), y.view(torch.uint8)))


def plain_values(tensor: Any) -> Any:
    """The tensor without gradient, pending conjugation or negation, quantisation and sparse layout."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    return tensor.resolve_conj().resolve_neg()


def copy_to_restore(tensor: Any) -> Any:
    """A copy to restore the tensor from: on its device, or in the host's memory if the device's is short."""
    import torch

    try:
        return copy_tensor(tensor)
    except torch.OutOfMemoryError:
        return copy_tensor(tensor, "cpu", pinned=torch.accelerator.is_available())


def compute_checksums(named: Mapping[str, Any]) -> dict[str, int]:
    """A checksum of the memory of each tensor, without copies; it changes if values change or swap places."""
    import torch

    sums = {name: _sum(value) for name, value in named.items() if isinstance(value, torch.Tensor) and value.numel()}
    return {name: int(value) for name, value in sums.items()}


def _sum(tensor: Any) -> Any:
    """The sums of the rows and of the columns of the memory, each weighted by its position, so that a swap changes
    them.

    Words have 32 bits and sums 64, so that weighted differences do not wrap to zero.
    """
    import torch

    words = _span(plain_values(tensor)).view(torch.uint8)
    for kind, size in ((torch.int32, 4), (torch.int16, 2)):
        if words.numel() % size == 0 and words.data_ptr() % size == 0:
            words = words.view(kind)
            break
    whole = words.numel() // COLUMNS * COLUMNS
    total = _by_place(words[whole:].to(torch.int64))
    if whole:
        rows = words[:whole].view(-1, COLUMNS)
        down, across = rows.sum(1, dtype=torch.int64), rows.sum(0, dtype=torch.int64)
        total = total + 3 * _by_place(down) + 5 * _by_place(across)
    return total


def _by_place(sums: Any) -> Any:
    import torch

    return (sums * torch.arange(1, 1 + sums.numel(), device=sums.device)).sum()


def nbytes(tensors: Iterable[Any]) -> int:
    """The bytes that these tensors span, gaps included."""
    return sum(_reach(one) * one.element_size() for one in tensors if one.numel())

"""Is what a kernel wrote what the reference says? Tensors stay where they are; a sentence comes back."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

from msgspec import Struct

CHUNK = 1 << 24
"""Elements compared at a time: comparing needs several times their memory."""

RTOL = {"float64": 1e-7, "float32": 1e-3, "float16": 4e-3, "bfloat16": 2e-2, "complex64": 1e-3, "complex128": 1e-7}
"""Relative tolerance by the type of the output: two to four of its steps, and for float32 what tf32 products lose."""
RTOL_OF_FLOAT8 = 0.15
USUAL_REDUCTION = 1024


class Tolerance(Struct, frozen=True):
    """What counts as right. rtol, atol: None, as the type of each output suggests.

    By default |output - expected| <= rtol * (|expected| + root mean square of expected), widened by
    sqrt(reduction / 1024) where more than 1024 terms are summed. bitwise: equal bits, and nothing else.
    allowed: the fraction of elements that may be wrong.
    """

    rtol: float | None = None
    atol: float | None = None
    bitwise: bool = False
    allowed: float = 0.0
    reduction: int | None = None


def flattened(value: Any, place: str = "the output") -> list[tuple[str, Any]]:
    """The tensors in a result, each with a name for messages."""
    if isinstance(value, Mapping):
        return [item for name, part in value.items() for item in flattened(part, str(name))]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item for i, part in enumerate(value) for item in flattened(part, f"output {i}")]
    return [(place, value)]


class Expected:
    """What one output must be, and how near."""

    def __init__(self, value: Any, tolerance: Tolerance, place: str) -> None:
        import torch

        self.value = value
        self.place = place
        self.exact = True
        self.allowed = tolerance.allowed
        self.rtol = self.atol = 0.0
        if isinstance(value, torch.Tensor) and not tolerance.bitwise:
            self.exact = not (value.is_floating_point() or value.is_complex())
            if not self.exact:
                self.rtol, self.atol = limits(value, tolerance)


def wrong(output: Any, wanted: Expected) -> tuple[str, float] | None:
    """What is wrong and with which fraction of the elements; None if it is right."""
    import torch

    expected, place = wanted.value, wanted.place
    if not isinstance(expected, torch.Tensor):
        same = type(output) is type(expected) and output == expected
        return None if same else (f"{place} is {output!r:.80} where the reference has {expected!r:.80}", 1.0)
    if not isinstance(output, torch.Tensor):
        return f"{place} is {type(output).__name__} where the reference has a tensor", 1.0
    if output.shape != expected.shape:
        return f"{place} has shape {tuple(output.shape)} where the reference has {tuple(expected.shape)}", 1.0
    if output.dtype != expected.dtype:
        return f"{place} has type {output.dtype} where the reference has {expected.dtype}", 1.0
    if output.numel() == 0:
        return None
    count, largest, unexpected_nan = _counted(output, expected, wanted)
    share = count / output.numel()
    if share <= wanted.allowed:
        return None
    text = f"{count} of {output.numel()} elements ({share:.2%}) of {place} are wrong"
    text += f", the largest error is {largest:.3g}" if largest else ""
    if unexpected_nan:
        text += f", {unexpected_nan} are NaN where the reference has none (outputs hold NaN until they are written)"
    return text, share


def _counted(output: Any, expected: Any, how: Expected) -> tuple[int, float, int]:
    """How many elements are wrong, the largest finite error among them, and how many are NaN for no reason."""
    count, largest, nan = 0, 0.0, 0
    for a, there in pieces(output, expected):
        b = there.to(a.device)
        bad = _bits(a) != _bits(b) if how.exact else _far(a, b, how.rtol, how.atol)
        number = int(bad.sum())
        if number:
            count += number
            x, y = _wide(a[bad]), _wide(b[bad])
            error = (x - y).abs()
            error = error[error.isfinite()]
            largest = max(largest, float(error.max()) if error.numel() else 0.0)
            nan += int((x.isnan() & ~y.isnan()).sum())
    return count, largest, nan


def pieces(*tensors: Any) -> Iterator[tuple[Any, ...]]:
    """The same few elements of each of these tensors of one shape, flat; only pieces of what has gaps are copied."""
    first = tensors[0]
    if first.numel() <= CHUNK:
        if first.numel():
            yield tuple(one.reshape(-1) for one in tensors)
    elif all(one.is_contiguous() for one in tensors):
        yield from zip(*(one.view(-1).split(CHUNK) for one in tensors), strict=True)
    else:
        longest = max(range(first.dim()), key=first.size)
        half = first.size(longest) // 2
        yield from pieces(*(one.narrow(longest, 0, half) for one in tensors))
        yield from pieces(*(one.narrow(longest, half, first.size(longest) - half) for one in tensors))


def _far(a: Any, b: Any, rtol: float, atol: float) -> Any:
    x, y = _wide(a), _wide(b)
    near = (x - y).abs() <= atol + rtol * y.abs()
    return ~(near | (x == y) | (x.isnan() & y.isnan()))


def differing_bits(a: Any, b: Any) -> int:
    """In how many elements two tensors of one form and type differ, where every bit counts."""
    return sum(int((_bits(x) != _bits(y)).sum()) for x, y in pieces(a, b))


def _bits(a: Any) -> Any:
    import torch

    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return torch.view_as_real(a).flatten() if a.is_complex() else a.contiguous().view(kinds[a.element_size()])


def _wide(a: Any) -> Any:
    """In a type in which differences can be told."""
    import torch

    if a.is_complex() or a.dtype == torch.float64:
        return a
    return a.to(torch.float32 if a.is_floating_point() else torch.float64)


def limits(expected: Any, tolerance: Tolerance) -> tuple[float, float]:
    """Relative and absolute tolerance for this tensor."""
    kind = str(expected.dtype).removeprefix("torch.")
    own = RTOL.get(kind, RTOL_OF_FLOAT8)
    own *= max(1.0, sqrt((tolerance.reduction or 0) / USUAL_REDUCTION))
    rtol = own if tolerance.rtol is None else tolerance.rtol
    if tolerance.atol is not None:
        return rtol, tolerance.atol
    if tolerance.rtol is not None:
        return rtol, 0.0
    return rtol, own * _root_mean_square(expected)


def _root_mean_square(expected: Any) -> float:
    """Of the finite elements."""
    total, number = 0.0, 0
    for (one,) in pieces(expected):
        part = _wide(one).abs()
        part = part[part.isfinite()]
        total, number = total + float((part.double() ** 2).sum()), number + part.numel()
    return sqrt(total / number) if number else 0.0

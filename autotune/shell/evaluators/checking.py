"""Is the output what the reference says? The answer is None, or one sentence that says how far off it is."""

from typing import Any

import numpy as np


def mismatch(output: Any, expected: Any, rtol: float, atol: float, place: str = "the output") -> str | None:
    """What is wrong with `output`, or None if nothing is.

    Floats must satisfy `|output - expected| <= atol + rtol * |expected|`, with NaN and infinities only where the
    reference has them; integers, booleans and all else must be equal. Tuples, lists and dicts go item by item.
    """
    if isinstance(expected, tuple | list):
        if not isinstance(output, tuple | list) or len(output) != len(expected):
            return f"{place} is {_kind(output)} where the reference has {len(expected)} items"
        pairs = [(f"item {i} of {place}", a, b) for i, (a, b) in enumerate(zip(output, expected, strict=True))]
        return _first(pairs, rtol, atol)
    if isinstance(expected, dict):
        if not isinstance(output, dict) or output.keys() != expected.keys():
            return f"{place} is {_kind(output)} where the reference is a dict of {sorted(map(str, expected))}"
        return _first([(f"item {k!r} of {place}", output[k], expected[k]) for k in expected], rtol, atol)
    if output is None and expected is not None:
        return f"{place} is None; return the array that the kernel fills, or let the reference work in place as well"
    return _arrays(np.asarray(output), np.asarray(expected), rtol, atol, place)


def _first(pairs: list[tuple[str, Any, Any]], rtol: float, atol: float) -> str | None:
    found = (mismatch(a, b, rtol, atol, place) for place, a, b in pairs)
    return next((message for message in found if message is not None), None)


def _arrays(output: Any, expected: Any, rtol: float, atol: float, place: str) -> str | None:
    if output.shape != expected.shape:
        return f"{place} has shape {output.shape} where the reference has {expected.shape}"
    if output.size == 0:
        return None
    if not (_is_number(output) and _is_number(expected)):
        return None if bool(np.all(output == expected)) else f"{place} differs from the reference"
    exact = output.dtype.kind in "biu" and expected.dtype.kind in "biu"
    wrong = output != expected if exact else ~np.isclose(output, expected, rtol=rtol, atol=atol, equal_nan=True)
    return _describe(output, expected, wrong, place) if bool(wrong.any()) else None


def _describe(output: Any, expected: Any, wrong: Any, place: str) -> str:
    kind = np.complex128 if "c" in (output.dtype.kind, expected.dtype.kind) else np.float64
    with np.errstate(all="ignore"):
        error = np.abs(output.astype(kind) - expected.astype(kind))
    finite = error[wrong & np.isfinite(error)]
    count = int(wrong.sum())
    text = f"{count} of {wrong.size} elements ({count / wrong.size:.2%}) of {place} are wrong"
    if finite.size:
        text += f", the largest error is {float(finite.max()):.3g}"
    new_nan = int((_nan(output) & ~_nan(expected)).sum())
    if new_nan:
        text += f", {new_nan} NaN where the reference has none"
    return text


def _nan(array: Any) -> Any:
    return array != array


def _is_number(array: Any) -> bool:
    return array.dtype.kind in "biufc"


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of length {len(value)}" if hasattr(value, "__len__") else f"{value!r:.60}"

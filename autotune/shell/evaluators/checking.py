"""Comparison of an output with the expected one, for numpy, torch and plain Python values.

An expected value is taken apart into leaves: the parts of tuples, lists, dicts and dataclasses. Each leaf is compared
by the kind of its elements. Tensors stay on their device. The answer is None, or a sentence that says how far the
output is from the expected one.
"""

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import fields, is_dataclass
from math import prod, sqrt
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.tensors import is_tensor

CHUNK = 1 << 24
"""Elements that are compared at a time: a comparison takes several times their memory, so some hundred MiB."""

RTOL = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 2e-2, "complex64": 1e-3, "complex32": 4e-3}
"""Relative tolerance by the type of the output: two to four of its steps; for float32 the error of tf32 products."""
RTOL_OF_FLOAT8, RTOL_OF_DOUBLE = 0.15, 1e-7
"""The same for the eight-bit floats, whose steps are up to an eighth, and for float64 and all other types."""
USUAL_REDUCTION = 1024
"""Terms of a sum for which the tolerances above hold; errors grow with the root of the number of terms."""

EXACT, REAL, COMPLEX, OTHER = "exact", "real", "complex", "other"
NUMBERS = {(EXACT, EXACT), (EXACT, REAL), (REAL, REAL), (REAL, COMPLEX), (COMPLEX, COMPLEX)}
"""Pairs of kinds that compare as numbers. The kinds: booleans and integers; floats; complex numbers; any other."""


class Tolerance(Struct, frozen=True, kw_only=True):
    """How near an output must be to the expected one. rtol, atol: None: by the type of each leaf.

    By default |output - expected| <= rtol * (|expected| + root mean square of expected), widened by
    sqrt(reduction / 1024) where more than 1024 terms are summed. An expected NaN must be a NaN, an expected infinity
    the same infinity, and a finite number finite; complex numbers that are not finite are compared by their parts.
    Integers, booleans and other values must be equal; so must the bits of packed formats, such as two float4 in a byte.
    bitwise: equal bits, and nothing else. allowed: the fraction of elements that may be wrong.
    reduction: the number of summed terms. usual: rtol and atol for types of 32 bits and more, where they are None.
    same_type: outputs must have the reference's type; else numbers may be of another width, an integer may stand where
    the reference has a float, and an array may be of another library.
    """

    rtol: float | None = None
    atol: float | None = None
    bitwise: bool = False
    allowed: float = 0.0
    reduction: int | None = None
    usual: tuple[float, float] | None = None
    same_type: bool = True


class Mismatch(NamedTuple):
    """The fault of a leaf, and the fraction of its elements that are wrong."""

    message: str
    share: float


class ExpectedLeaf:
    """A leaf of the expected output, its place, and how near an output must be to it.

    Raises EvaluatorError for a value that cannot be compared.
    """

    def __init__(self, value: Any, tolerance: Tolerance, place: str = "the output") -> None:
        self.place = place
        self.tolerance = tolerance
        self.value = _leaf(value, place)
        self.kind = _kind(self.value)
        self.exact = self.kind == EXACT or tolerance.bitwise
        self.rtol = self.atol = 0.0
        if self.kind in (REAL, COMPLEX) and not self.exact:
            self.rtol, self.atol = _limits(self.value, tolerance)

    @property
    def elements(self) -> int:
        """The number of elements that are compared; 0: any output of this form is right."""
        if _is_array(self.value):
            return int(prod(self.value.shape))
        return 0 if self.value is None or (hasattr(self.value, "__len__") and not len(self.value)) else 1

    def describe(self) -> str:
        """Place, type, shape and rule, on one line."""
        if not _is_array(self.value):
            return f"{self.place}: {type(self.value).__name__}, equal"
        form = f"{_type_name(self.value)} {list(self.value.shape)}"
        if self.kind == OTHER or self.exact or not (self.rtol or self.atol):
            rule = "equal bits" if self.tolerance.bitwise else "equal"
        else:
            rule = f"within {self.atol:.3g} + {self.rtol:.3g} * |expected|"
        allowed = f", but for {self.tolerance.allowed:.3g} of the elements" if self.tolerance.allowed else ""
        return f"{self.place}: {form}, {rule}{allowed}"

    def mismatch(self, output: Any) -> Mismatch | None:
        """The fault of an output; None if it is right."""
        place, expected = self.place, self.value
        if not _is_array(expected):
            return self._compare_plain(output)
        try:
            found = _leaf(output, place)
        except EvaluatorError:
            found = None
        if not _is_array(found):
            wanted = _describe_form(expected)
            return Mismatch(f"{place} is {_describe_value(output)} where the reference has {wanted}", 1.0)
        if found.shape != expected.shape:
            theirs, ours = tuple(found.shape), tuple(expected.shape)
            return Mismatch(f"{place} has shape {theirs} where the reference has {ours}", 1.0)
        if unlike := self._type_mismatch(found):
            return Mismatch(unlike, 1.0)
        if not self.elements:
            return None
        count, largest, unexpected_nan = self._count_wrong(*_in_one_library(found, expected))
        share = count / self.elements
        if share <= self.tolerance.allowed:
            return None
        text = f"{count} of {self.elements} elements ({share:.2%}) of {place} are wrong"
        text += f", the largest error is {largest:.3g}" if largest else ""
        if unexpected_nan:
            text += f", {unexpected_nan} are NaN where the reference has none"
        return Mismatch(text, share)

    def _compare_plain(self, output: Any) -> Mismatch | None:
        expected = self.value
        if expected is None and output is not None:
            return Mismatch(f"{self.place} is {_describe_value(output)} where the reference has None", 1.0)
        try:
            found = _leaf(output, self.place)
        except EvaluatorError:
            found = output
        with suppress(Exception):  # a foreign == may raise anything, and is then taken for unequal
            if type(found) is type(expected) and bool(found == expected):
                return None
        text = f"{self.place} is {_describe_value(output)} where the reference has {_describe_value(expected)}"
        if output is None:
            text += "; return the array that the kernel fills, or let the reference work in place as well"
        return Mismatch(text, 1.0)

    def _type_mismatch(self, output: Any) -> str:
        expected, theirs, ours = self.value, _type_name(output), _type_name(self.value)
        strict = self.tolerance.same_type or self.tolerance.bitwise
        same = theirs == ours and is_tensor(output) == is_tensor(expected)
        numbers = (_kind(output), self.kind) in NUMBERS
        alike = numbers or {_kind(output), self.kind} == {OTHER}
        if same or (alike and not strict and not _is_packed(output, expected)):
            return ""
        return f"{self.place} has type {theirs} where the reference has {ours}"

    def _count_wrong(self, output: Any, expected: Any) -> tuple[int, float, int]:
        """The number of wrong elements, the largest finite error, and the number of unexpected NaNs."""
        count, largest, nan = 0, 0.0, 0
        for a, there in pieces(output, expected):
            b = there.to(a.device) if is_tensor(a) else there
            with np.errstate(all="ignore"):
                bad = self._wrong(a, b)
            number = int(bad.sum())
            if number:
                count += number
                error, new = _error(a[bad], b[bad]) if _kind(a) != OTHER and not _is_packed(a) else (0.0, 0)
                largest, nan = max(largest, error), nan + new
        return count, largest, nan

    def _wrong(self, a: Any, b: Any) -> Any:
        """Which elements [n] are wrong, as booleans [n]."""
        if self.kind == OTHER:
            return find_bit_differences(a, b) if self.tolerance.bitwise and not a.dtype.hasobject else _differ(a, b)
        if self.tolerance.bitwise or _is_packed(a):
            return find_bit_differences(a, b)
        if _kind(a) == EXACT and self.exact:
            return _unequal_integers(a, b)
        return find_far(a, b, self.rtol, self.atol)


class OutputCheck:
    """An expected value with its leaves, in the form that an output must have."""

    def __init__(self, value: Any, tolerance: Tolerance, named: bool = False) -> None:
        """named: `value` is a dict of outputs by their names in messages."""
        self.value = value
        self._form = _form(value, tolerance, "the output")
        if named:
            self._form = {name: _form(part, tolerance, str(name)) for name, part in value.items()}
        self.leaves = list(_leaves_of(self._form))

    @property
    def elements(self) -> int:
        return sum(leaf.elements for leaf in self.leaves)

    def describe(self) -> str:
        """The leaves that are compared, on one line; long lists are cut."""
        shown = [leaf.describe() for leaf in self.leaves if leaf.elements]
        return "; ".join(shown if len(shown) <= 4 else [*shown[:3], f"and {len(shown) - 3} more"])

    def require_elements(self) -> "OutputCheck":
        """This check; raises EvaluatorError if it compares nothing."""
        if not self.elements:
            raise EvaluatorError(
                f"the reference gives {_describe_value(self.value)}, in which there is nothing to compare; let it"
                " return the right output, or change its arguments as the kernel must"
            )
        return self

    def mismatch(self, output: Any) -> Mismatch | None:
        """The first thing that is wrong with an output, or None."""
        return _first_mismatch(self._form, output, "the output")


def require_comparable(reference: Any) -> None:
    """Raises EvaluatorError if a reference that is not a function holds nothing that can be compared."""
    if reference is not None and not callable(reference):
        OutputCheck(reference, Tolerance()).require_elements()


def list_leaves(value: Any, place: str = "the output") -> list[tuple[str, Any]]:
    """The leaves of a nested value, each with its place in words."""
    inner = _items(value, place)
    return [(place, value)] if inner is None else [leaf for where, part in inner for leaf in list_leaves(part, where)]


def find_far(a: Any, b: Any, rtol: float, atol: float) -> Any:
    """Which elements [n] of `a` are farther from `b`'s than the tolerances allow; see `Tolerance`."""
    xp = _library(a)
    x, y = widen(a, b)
    most = float(xp.finfo(y.dtype).max)
    if _kind(y) == COMPLEX or _kind(x) == COMPLEX:
        x, y = (one if _kind(one) == COMPLEX else one + 0j for one in (x, y))
        scale = (atol + rtol * xp.abs(y).clip(max=most)).clip(max=most)
        whole = xp.isfinite(y)
        near = whole & xp.isfinite(x) & (xp.abs(x - y) <= scale)
        parts = ~whole & ~find_far(x.real, y.real, rtol, atol) & ~find_far(x.imag, y.imag, rtol, atol)
        return ~(near | parts)
    scale = (atol + rtol * xp.abs(y)).clip(max=most)
    error = xp.abs(x - y)
    # Two numbers may be so far apart that their difference overflows, and still within the tolerance.
    apart = (error > most) & (xp.abs(x / 2 - y / 2) <= (atol / 2 + rtol * xp.abs(y / 2)).clip(max=most))
    near = xp.isfinite(x) & xp.isfinite(y) & ((error <= scale) | apart)
    return ~(near | (x == y) | (xp.isnan(x) & xp.isnan(y)))


def find_bit_differences(a: Any, b: Any) -> Any:
    """Which elements [n] of two flat arrays of one type differ in a bit."""
    x, y = _as_words(a), _as_words(b)
    return (x != y).any(1)


def count_bit_differences(a: Any, b: Any) -> int:
    """The number of elements in which two tensors of one shape and type differ in a bit."""
    return sum(int(find_bit_differences(x, y).sum()) for x, y in pieces(a, b))


def pieces(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    """Pieces of arrays of one shape: at most CHUNK of the same elements of each, flat.

    An array with gaps is copied piece by piece, never as a whole.
    """
    first = arrays[0]
    count = int(prod(first.shape))
    if count <= CHUNK:
        if count:
            yield tuple(one.reshape(-1) for one in arrays)
    elif all(one.is_contiguous() if is_tensor(one) else one.flags.c_contiguous for one in arrays):
        flat = [one.reshape(-1) for one in arrays]
        for at in range(0, count, CHUNK):
            yield tuple(one[at : at + CHUNK] for one in flat)
    else:
        longest = max(range(len(first.shape)), key=lambda axis: first.shape[axis])
        half = first.shape[longest] // 2
        for part in (slice(None, half), slice(half, None)):
            where = (slice(None),) * longest + (part,)
            yield from pieces(*(one[where] for one in arrays))


def widen(*arrays: Any) -> list[Any]:
    """The arrays in types that are wide enough to subtract them."""
    return [_wide(one) for one in arrays] if len({_kind(one) for one in arrays}) == 1 else [_widest(a) for a in arrays]


def _form(value: Any, tolerance: Tolerance, place: str) -> Any:
    """The expected value with its leaves as `ExpectedLeaf`: a dict, a list, or a leaf."""
    items = _items(value, place)
    if items is None:
        return ExpectedLeaf(value, tolerance, place)
    parts = [_form(part, tolerance, where) for where, part in items]
    return dict(zip(_fields(value), parts, strict=True)) if not _is_sequence(value) else parts


def _leaves_of(form: Any) -> Iterator[ExpectedLeaf]:
    if isinstance(form, ExpectedLeaf):
        yield form
    else:
        for part in form.values() if isinstance(form, dict) else form:
            yield from _leaves_of(part)


def _first_mismatch(form: Any, output: Any, place: str) -> Mismatch | None:
    if isinstance(form, ExpectedLeaf):
        return form.mismatch(output)
    if isinstance(form, dict):
        given = None if _is_sequence(output) or _items(output, "") is None else _fields(output)
        if given is None or set(given) != set(form):
            names = ", ".join(sorted(map(str, form)))
            return Mismatch(
                f"{place} is {_describe_value(output)} where the reference has the items {names or 'of no name'}", 1.0
            )
        pairs = [(f"item {name!r} of {place}", form[name], _field(output, name)) for name in form]
    else:
        if not _is_sequence(output) or len(output) != len(form):
            return Mismatch(f"{place} is {_describe_value(output)} where the reference has {len(form)} items", 1.0)
        pairs = [(f"item {i} of {place}", a, b) for i, (a, b) in enumerate(zip(form, output, strict=True))]
    found = (_first_mismatch(part, one, where) for where, part, one in pairs)
    return next((one for one in found if one is not None), None)


def _items(value: Any, place: str) -> list[tuple[str, Any]] | None:
    """The parts of a container with their places; None for a leaf."""
    if _is_sequence(value):
        return [(f"item {i} of {place}", part) for i, part in enumerate(value)]
    if _has_fields(value):
        return [(f"item {name!r} of {place}", _field(value, name)) for name in _fields(value)]
    return None


def _is_sequence(value: Any) -> bool:
    plain = isinstance(value, str | bytes | bytearray | memoryview | array | range)
    return isinstance(value, Sequence) and not plain and not _is_array(value)


def _has_fields(value: Any) -> bool:
    """Whether a value is a container with named parts; a masked array has two, its mask and its values."""
    if isinstance(value, type):
        return False
    return isinstance(value, Mapping | np.ma.MaskedArray | SimpleNamespace | Struct) or is_dataclass(value)


def _fields(value: Any) -> list[Any]:
    if isinstance(value, np.ma.MaskedArray):
        return ["mask", "values"]
    if isinstance(value, Mapping):
        return list(value)
    if isinstance(value, SimpleNamespace):
        return list(vars(value))
    return list(value.__struct_fields__) if isinstance(value, Struct) else [one.name for one in fields(value)]


def _field(value: Any, name: Any) -> Any:
    if isinstance(value, np.ma.MaskedArray):
        zero: Any = np.zeros((), value.dtype)[()]
        return np.ma.getmaskarray(value) if name == "mask" else value.filled(zero)
    return value[name] if isinstance(value, Mapping) else getattr(value, name)


def _leaf(value: Any, place: str) -> Any:
    """A leaf in the form in which it is compared: a tensor, a numpy array, or a value with its own ==."""
    if is_tensor(value):
        return tensors.plain_values(value)
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if isinstance(value, str | bytes):
        return str(value) if isinstance(value, str) else bytes(value)
    if isinstance(value, bool | int | float | complex | np.generic | array):
        made = np.asarray(value)
        return value if made.dtype.hasobject else made  # an integer too large for numpy stays a Python integer
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Set):
        return frozenset(value)
    if value is not None and not has_equality(value):
        raise EvaluatorError(
            f"{place} is a {type(value).__qualname__}, which cannot be compared; return arrays, numbers, or tuples and"
            " dicts of these, or give a checker"
        )
    return value


def has_equality(value: Any) -> bool:
    """Whether the type of a value defines ==."""
    own: Any = type(value).__eq__
    return own is not object.__eq__


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def _library(one: Any) -> Any:
    return sys.modules["torch"] if is_tensor(one) else np


def _kind(value: Any) -> str:
    if is_tensor(value):
        if value.is_complex():
            return COMPLEX
        return REAL if value.is_floating_point() and not _is_packed(value) else EXACT
    if not isinstance(value, np.ndarray):
        return OTHER
    if _is_extension(value.dtype):
        return REAL
    return {"b": EXACT, "i": EXACT, "u": EXACT, "f": REAL, "c": COMPLEX}.get(value.dtype.kind, OTHER)


def _is_extension(dtype: Any) -> bool:
    """Whether this is a float of eight or sixteen bits that another package adds to numpy, such as bfloat16."""
    return dtype.kind in "Vf" and dtype.fields is None and dtype.name.startswith(("bfloat", "float8"))


def _is_packed(*arrays: Any) -> bool:
    """Whether an element of any of these arrays holds several numbers."""
    return any("float4" in str(one.dtype) or "bits" in str(one.dtype) for one in arrays)


def _type_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _in_one_library(output: Any, expected: Any) -> tuple[Any, Any]:
    """Both as tensors if one of them is a tensor."""
    if is_tensor(output) == is_tensor(expected):
        return output, expected
    torch = sys.modules["torch"]
    a, b = (one if is_tensor(one) else torch.from_numpy(np.array(one)) for one in (output, expected))
    return a, b


def _unequal_integers(a: Any, b: Any) -> Any:
    """Which of n integers differ, of any types; torch does not compare its wider unsigned types with others."""
    if not is_tensor(a) or a.dtype == b.dtype:
        return a != b
    torch = sys.modules["torch"]
    x, y = a.to(torch.int64), b.to(torch.int64)
    beyond = [one.dtype == getattr(torch, "uint64", None) for one in (a, b)]
    return (x != y) | (x < 0) if beyond[0] != beyond[1] else x != y


def _as_words(a: Any) -> Any:
    """The bits of a flat array, [n, words]."""
    if not is_tensor(a):
        return np.ascontiguousarray(a).view(np.uint8).reshape(len(a), -1)
    torch = sys.modules["torch"]
    if a.is_complex():
        a = torch.view_as_real(a)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return a.contiguous().view(kinds[a.element_size()]).reshape(len(a), -1)


def _differ(a: Any, b: Any) -> Any:
    """Which elements [n] of arrays of objects, texts, dates or records differ; NaT is like NaT."""
    if a.dtype.names is not None:
        columns = [~_equal_columns(a[name], b[name]) for name in a.dtype.names]
        return np.logical_or.reduce(columns, axis=0) if columns else np.zeros(len(a), bool)
    if a.dtype.hasobject:
        return np.array([_object_differs(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)], bool)
    same = a == b
    if a.dtype.kind in "mM":
        same |= np.isnat(a) & np.isnat(b)
    return ~np.asarray(same, bool)


def _equal_columns(a: Any, b: Any) -> Any:
    """Which of n records are equal in one field, which may be an array of its own."""
    same = (a == b) | ((a != a) & (b != b))
    return np.asarray(same, bool).reshape(len(a), -1).all(axis=1)


def _object_differs(x: Any, y: Any) -> bool:
    return OutputCheck(y, Tolerance(rtol=0.0, atol=0.0, same_type=False)).mismatch(x) is not None


def _wide(a: Any) -> Any:
    if is_tensor(a):
        torch = sys.modules["torch"]
        if a.is_complex():
            return a.to(torch.complex64) if a.element_size() < 8 else a
        if a.dtype == torch.float64:
            return a
        return a.to(torch.float32 if a.is_floating_point() else torch.float64)
    if _kind(a) == COMPLEX:
        return a.astype(np.promote_types(a.dtype, np.complex128), copy=False)
    if _is_extension(a.dtype):
        return a.astype(np.float64)
    return a.astype(np.promote_types(a.dtype, np.float64), copy=False)


def _widest(a: Any) -> Any:
    """An array in 64 bits, for a comparison of numbers of different kinds."""
    if not is_tensor(a):
        return _wide(a)
    torch = sys.modules["torch"]
    return a.to(torch.complex128 if a.is_complex() else torch.float64)


def _error(a: Any, b: Any) -> tuple[float, int]:
    """The largest finite error, and the number of elements that are NaN where the reference has none."""
    xp = _library(a)
    x, y = widen(a, b)
    with np.errstate(all="ignore"):
        error = xp.abs(x - y)
    error = error[xp.isfinite(error)]
    largest = float(error.max()) if len(error) else 0.0
    return largest, int((xp.isnan(x) & ~xp.isnan(y)).sum())


def _limits(expected: Any, tolerance: Tolerance) -> tuple[float, float]:
    if tolerance.usual is not None and (expected.element_size() if is_tensor(expected) else expected.itemsize) >= 4:
        rtol, atol = tolerance.usual
        return rtol if tolerance.rtol is None else tolerance.rtol, atol if tolerance.atol is None else tolerance.atol
    kind = _type_name(expected)
    own = RTOL.get(kind, RTOL_OF_FLOAT8 if kind.startswith("float8") else RTOL_OF_DOUBLE)
    own *= max(1.0, sqrt((tolerance.reduction or 0) / USUAL_REDUCTION))
    rtol = own if tolerance.rtol is None else tolerance.rtol
    if tolerance.atol is not None:
        return rtol, tolerance.atol
    if tolerance.rtol is not None:
        return rtol, 0.0
    return rtol, own * _root_mean_square(expected)


def _root_mean_square(expected: Any) -> float:
    """The root mean square of the finite elements, scaled so that squares do not overflow."""
    xp, total, number, scale = _library(expected), 0.0, 0, 0.0
    for (one,) in pieces(expected):
        part = xp.abs(_wide(one))
        part = part[xp.isfinite(part)]
        part = part.double() if is_tensor(part) else part.astype(np.float64)
        if len(part) and (most := float(part.max())) > 0:
            if most > scale:
                total, scale = total * (scale / most) ** 2, most
            total += float(((part / scale) ** 2).sum())
        number += len(part)
    return scale * sqrt(total / number) if number else 0.0


def _describe_form(value: Any) -> str:
    kind = "a tensor" if is_tensor(value) else "a number" if not value.shape else "an array"
    return f"{kind} of type {_type_name(value)}, shape {tuple(value.shape)}"


def _describe_value(value: Any) -> str:
    if _is_array(value):
        return _describe_form(value)
    if hasattr(value, "__len__") and not isinstance(value, str | bytes):
        return f"{type(value).__name__} of length {len(value)}"
    return f"{value!r:.60}"

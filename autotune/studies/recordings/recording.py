"""A recorded space: what every measured point of one kernel on one device took, as columns. A value, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Config, Value
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, Failed, FailureKind, Outcome, Timed
from autotune.studies.recordings.objective import TIME, Objective
from autotune.studies.recordings.points import PointIndex

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TIMED = 0
"""The entry of `Recording.kinds` for a point that was timed; k > 0 stands for the failure FAILURE_KINDS[k - 1]."""


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """n measured points over p parameters. Arrays are read-only; `==` compares contents; n may be 0.

    name: the file's name without its extension. kernel, device, problem: what was measured, "" where not told.
    parameters: names, in the file's order. values: those of each, in the file's order (a code is an index into it).
    keys: [n] Kernel Tuner's key of each row, the values joined by commas as the file spells them; no two alike.
    codes: [n, p]. kinds: [n], `TIMED` or 1 + an index into FAILURE_KINDS. messages: [n], "" for a timed point.
    time_ms: [n], of the repeats the mean (Kernel Tuner, T4) or median (ours); NaN for a failure, not so in `outcome`.
    Where points are ranked by another `objective` than a time, its cost, the less the better, and so the samples.
    samples_ms, offsets: the repeats of row i are samples_ms[offsets[i] : offsets[i + 1]]; none if the file has none.
    compile_s, run_s, framework_s: [n] seconds spent on building, on benchmark and verification, on the tuner itself.
    partial: the file was cut off, so points may be missing that were measured. constraints: expressions over the names.
    space: the autotune space as JSON text, if known. versions: what hardware and software it ran on.

    Raises RecordingError when the columns contradict one another.
    """

    name: str
    kernel: str
    device: str
    problem: str
    parameters: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    keys: tuple[str, ...]
    codes: Integers
    kinds: NDArray[np.int8]
    messages: tuple[str, ...]
    time_ms: Floats
    samples_ms: Floats
    offsets: Integers
    compile_s: Floats
    run_s: Floats
    framework_s: Floats
    partial: bool = False
    constraints: tuple[str, ...] = ()
    space: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    objective: Objective = TIME

    def __post_init__(self) -> None:
        for entry in fields(self):
            column = getattr(self, entry.name)
            if isinstance(column, np.ndarray):
                column = column.copy()
                column.flags.writeable = False
                object.__setattr__(self, entry.name, column)
        problem = _contradiction(self)
        if problem is None and self._index.distinct < len(self):
            last = self.lookup(self.codes)
            row = int(np.flatnonzero(last != np.arange(len(self)))[0])
            problem = f"entries {self.key(row)!r} and {self.key(int(last[row]))!r} are the same point; keep one of them"
        if problem is None and len(set(self.keys)) < len(self):
            problem = "two rows have one key; write the recording again"
        if problem is not None:
            raise RecordingError(problem)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Recording({self.name!r}, {len(self)} points, {len(self.parameters)} parameters)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recording):
            return NotImplemented
        return all(_same(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self))

    __hash__ = None  # type: ignore[assignment]  # a value of megabytes is no dictionary key

    @cached_property
    def _index(self) -> PointIndex:
        return PointIndex(self.codes, [len(values) for values in self.values])

    def lookup(self, codes: Integers) -> Integers:
        """The row of each point of `codes` [m, p], -1 for a point that was not measured; shape [m]. ValueError for a
        wrong shape."""
        return self._index.rows(codes)

    def key(self, row: int) -> str:
        """Kernel Tuner's key of a row: its values in file order, joined by commas, as in the file."""
        return self.keys[row]

    def config(self, row: int) -> Config:
        """The config of a row."""
        named = zip(self.parameters, self.values, self.codes[row].tolist(), strict=True)
        return Config({name: values[code] for name, values, code in named})

    def samples(self, row: int) -> Floats:
        """The recorded repeats of a row in milliseconds, in the order they were taken; empty where none were kept."""
        return self.samples_ms[self.offsets[row] : self.offsets[row + 1]]

    def failure(self, row: int) -> FailureKind | None:
        """How a row failed; None when it was timed."""
        kind = int(self.kinds[row])
        return None if kind == TIMED else FAILURE_KINDS[kind - 1]

    def outcome(self, row: int) -> Outcome:
        """What the row tells a search that measures without noise: one sample, the recorded mean; or the failure."""
        compile_s, run_s = float(self.compile_s[row]), float(self.run_s[row])
        kind = self.failure(row)
        if kind is not None:
            return Failed(kind, self.messages[row], compile_s, run_s)
        return Timed((float(self.time_ms[row]),), compile_s, run_s)

    @property
    def timed(self) -> NDArray[np.bool_]:
        """[n] which rows were timed."""
        return np.equal(self.kinds, TIMED)

    @property
    def optimum_ms(self) -> float:
        """The least recorded time in milliseconds, or cost; raises RecordingError when nothing was timed."""
        if not self.timed.any():
            raise RecordingError(f"the recording {self.name!r} holds no timed point; record one that ran")
        return float(self.time_ms[self.timed].min())

    @property
    def product(self) -> int:
        """How many points the product of the values has."""
        return prod(len(values) for values in self.values)

    @property
    def full_product(self) -> bool:
        """Every point of the product was measured."""
        return len(self) == self.product


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return repr(a) == repr(b) if isinstance(a, tuple) else a == b  # repr tells 1 from True and 1.0


def _contradiction(r: Recording) -> str | None:
    """What is wrong with the columns, in one sentence; None when nothing is."""
    n, p = len(r.keys), len(r.parameters)
    shapes = {
        "values": (len(r.values), p),
        "codes": (r.codes.shape, (n, p)),
        "messages": (len(r.messages), n),
        "offsets": (r.offsets.shape, (n + 1,)),
        **{name: (getattr(r, name).shape, (n,)) for name in ("kinds", "time_ms", "compile_s", "run_s", "framework_s")},
    }
    for name, (is_shape, must) in shapes.items():
        if is_shape != must:
            return f"{name} has the size {is_shape} where {must} is needed; write the recording again"
    sizes = np.array([len(values) for values in r.values], np.int64)
    timed = r.kinds == TIMED
    counts = np.diff(r.offsets)
    rules = {
        "two parameters have one name": len(set(r.parameters)) == p,
        "a parameter has no values": bool((sizes > 0).all()),
        "a code lies outside its parameter's values": bool(((r.codes >= 0) & (r.codes < sizes)).all()),
        "a kind is unknown": bool(((r.kinds >= 0) & (r.kinds <= len(FAILURE_KINDS))).all()),
        "a timed row has no time above zero": bool(_positive(r.time_ms[timed])),
        "a failed row has a time": bool(np.isnan(r.time_ms[~timed]).all()),
        "the offsets of the samples do not add up": bool(
            r.offsets[0] == 0 and r.offsets[-1] == r.offsets.max() == len(r.samples_ms) and (counts >= 0).all()
        ),
        "a failed row has samples": not counts[~timed].any(),
        "a sample is not above zero": _positive(r.samples_ms),
        "a duration is negative or not finite": all(
            bool((np.isfinite(column) & (column >= 0)).all()) for column in (r.compile_s, r.run_s, r.framework_s)
        ),
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    return f"{broken[0]}; write the recording again" if broken else None


def _positive(column: Floats) -> bool:
    return bool((np.isfinite(column) & (column > 0)).all())

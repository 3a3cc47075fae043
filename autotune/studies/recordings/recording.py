"""A recorded space: the measured points of one kernel on one device, as read-only columns.

`recorded_parameters` infers the kind of each parameter from its values, in the file's order: a code of the recording is
the rank of the same value in the parameter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Config, Value
from autotune.core.errors import RecordingError
from autotune.core.formatting import html_table
from autotune.core.outcomes import FAILURE_KINDS, Failed, FailureKind, Outcome, Timed
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, PowerOfTwo
from autotune.studies.recordings.objective import TIME, Objective

Integers = NDArray[np.int64]

Floats = NDArray[np.float64]

TIMED = 0
"""The entry of `Recording.kinds` for a point that was timed; k > 0 stands for the failure FAILURE_KINDS[k - 1]."""

_ROLES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"block_size_[xyz]"), "block_size"),  # Kernel Tuner
    (re.compile(r"BLOCK(_\w+)?"), "block_size"),  # Triton
    (re.compile(r"[MNK]WG"), "block_size"),  # CLBlast
    (re.compile(r"num_warps"), "num_warps"),
    (re.compile(r"num_stages"), "num_stages"),
)
"""Names that show the role of a parameter in a kernel; the whole name must match."""


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """n measured points over p parameters. Arrays are read-only; `==` compares contents; n may be 0.

    name: the file's name without its extension. kernel, device, problem: "" where the file has none.
    parameters: names, in the file's order. values: each one's, in the file's order (a code is an index into it).
    keys: [n] Kernel Tuner's key of each row, the values joined by commas as the file spells them; no two alike.
    codes: [n, p]. kinds: [n], `TIMED` or 1 + an index into FAILURE_KINDS. messages: [n], "" for a timed point.
    time_ms: [n], of the repeats the mean (Kernel Tuner, T4) or median (ours); NaN for a failure, not so in `outcome`.
    With another `objective` than a time these and the samples are its costs, of which less is better.
    samples_ms, offsets: the repeats of row i are samples_ms[offsets[i] : offsets[i + 1]]; none if the file has none.
    compile_s, run_s, framework_s: [n] seconds spent on building, on benchmark and verification, on the tuner itself.
    partial: the file was cut off, so points may be missing that were measured. constraints: expressions over the names.
    space: the autotune space as JSON text, if known. versions: of hardware and software.

    Raises RecordingError where the columns contradict one another.
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
        if problem is None and len(self._rows) < len(self):
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

    def _repr_html_(self) -> str:
        facts = [("recording", self.name), ("kernel", self.kernel), ("device", self.device), ("problem", self.problem)]
        facts.append(("points", f"{len(self):,}, {int((self.kinds == TIMED).sum()):,} timed"))
        facts += [("where", text) for text in self.constraints]
        values = [(name, ", ".join(map(str, those))) for name, those in zip(self.parameters, self.values, strict=True)]
        return html_table(None, [fact for fact in facts if fact[1]]) + html_table(("parameter", "values"), values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recording):
            return NotImplemented
        return all(_same(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self))

    __hash__ = None  # type: ignore[assignment]  # a value of megabytes is no dictionary key

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(codes): row for row, codes in enumerate(self.codes.tolist())}

    def row(self, codes: tuple[int, ...]) -> int | None:
        """The row of a point by its codes; None for a point that was not measured."""
        return self._rows.get(codes)

    def lookup(self, codes: Integers) -> Integers:
        """The row of each point of `codes` [m, p], or -1 if it was not measured; [m]. ValueError for other shapes."""
        points = np.asarray(codes, np.int64)
        if points.ndim != 2 or points.shape[1] != len(self.parameters):
            raise ValueError(f"codes have the shape {points.shape}; pass [points, {len(self.parameters)}]")
        return np.array([self._rows.get(tuple(point), -1) for point in points.tolist()], np.int64)

    def key(self, row: int) -> str:
        """Kernel Tuner's key of a row: its values in file order, joined by commas, as in the file."""
        return self.keys[row]

    def config(self, row: int) -> Config:
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
        """The outcome of a row without noise: one sample, the recorded mean; or the failure."""
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
        """The least recorded time in milliseconds, or cost; raises RecordingError where nothing was timed."""
        if not self.timed.any():
            raise RecordingError(f"the recording {self.name!r} holds no timed point; record one that ran")
        return float(self.time_ms[self.timed].min())

    @property
    def product(self) -> int:
        """The number of combinations of the values."""
        return prod(len(values) for values in self.values)

    @property
    def full_product(self) -> bool:
        """Whether every combination of the values was measured."""
        return len(self) == self.product


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return repr(a) == repr(b) if isinstance(a, tuple) else a == b  # repr tells 1 from True and 1.0


def _contradiction(r: Recording) -> str | None:
    """The fault of the columns, in one sentence; None if there is none."""
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


def recorded_parameters(recording: Recording) -> dict[str, Parameter]:
    """The parameters of a recorded space by name, for `Space`; raises SpaceError where a kind refuses the values."""
    named = zip(recording.parameters, recording.values, strict=True)
    return {name: parameter_for_values(values, role_for_name(name)) for name, values in named}


def parameter_for_values(values: Sequence[Value], role: str | None = None) -> Parameter:
    """The parameter with exactly these values in this order: a Choice (ordered if monotonic) if no other kind fits."""
    numbers = [value for value in values if type(value) in (int, float)]
    steps = [b - a for a, b in pairwise(numbers)]
    if tuple(values) == (False, True) and all(isinstance(value, bool) for value in values):
        return Boolean(role=role)
    if len(values) < 2 or len(numbers) < len(values):
        return Choice(tuple(values), role=role)
    if all(isinstance(value, int) for value in values) and min(steps) > 0:
        first, last = values[0], values[-1]
        if first > 0 and first & (first - 1) == 0 and all(b == 2 * a for a, b in pairwise(values)):
            return PowerOfTwo(first, last, role=role)
        if len(values) >= 3 and min(steps) == max(steps):
            return Integer(first, last, steps[0], role=role)
    return Choice(tuple(values), ordered=min(steps) > 0 or max(steps) < 0, role=role)


def role_for_name(name: str) -> str | None:
    """The role of a parameter with a well-known name, else None."""
    return next((role for pattern, role in _ROLES if pattern.fullmatch(name)), None)

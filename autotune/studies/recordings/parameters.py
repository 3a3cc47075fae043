"""The parameters of a recorded space: to each list of values the kind that fits it best, in the file's own order.

A code of the recording and the rank of the same value in the parameter are one number.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from autotune.core.config import Value
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, PowerOfTwo
from autotune.studies.recordings.recording import Recording

ROLES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"block_size_[xyz]"), "block_size"),  # Kernel Tuner
    (re.compile(r"BLOCK(_\w+)?"), "block_size"),  # Triton
    (re.compile(r"[MNK]WG"), "block_size"),  # CLBlast
    (re.compile(r"num_warps"), "num_warps"),
    (re.compile(r"num_stages"), "num_stages"),
)
"""Names known well enough to say what the parameter is to a kernel; the whole name must match."""


def role_of(name: str) -> str | None:
    """The role of a well-known name, else None."""
    return next((role for pattern, role in ROLES if pattern.fullmatch(name)), None)


def parameter_of(values: Sequence[Value], role: str | None = None) -> Parameter:
    """The kind whose values are exactly these, in this order; a Choice if none is (ordered if numbers go one way)."""
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


def parameters_of(recording: Recording) -> dict[str, Parameter]:
    """The parameters of a recorded space by name, for `Space`; raises SpaceError where a kind refuses the values."""
    named = zip(recording.parameters, recording.values, strict=True)
    return {name: parameter_of(values, role_of(name)) for name, values in named}

"""The output of a program: the times in it, and whether it is the expected one. Pure."""

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from math import isclose
from typing import Any, Literal

from msgspec import Struct

from autotune.core.errors import EvaluatorError

Unit = Literal["ns", "us", "ms", "s", "per_s"]
MILLISECONDS: dict[str, float] = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class NoTime(Exception):
    """The output holds no time; the text says why."""


class OutputPattern(Struct, frozen=True):
    """Times in what a program prints: every match of a regular expression is a sample.

    The number is the first group, or the whole match where there is none. Stdout is searched, then stderr. unit: of the
    number; "per_s" is a rate, such as operations in a second, whose inverse counts as the time.

    >>> OutputPattern(r"took ([\\d.]+) s", unit="s")  # doctest: +SKIP
    """

    pattern: str
    unit: Unit = "ms"

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        try:
            re.compile(self.pattern, re.MULTILINE)
        except (re.error, TypeError) as error:
            raise EvaluatorError(f"the pattern {self.pattern!r} is no regular expression: {error}") from None

    def times_ms(self, out: str, err: str) -> list[float]:
        """The samples in milliseconds; raises NoTime where there are none."""
        found = list(re.finditer(self.pattern, out, re.MULTILINE)) or list(re.finditer(self.pattern, err, re.MULTILINE))
        if not found:
            raise NoTime(f"nothing in the output matches {self.pattern!r}")
        return [_milliseconds(match[1] if match.re.groups else match[0], self.unit) for match in found]

    def without_times(self, out: str) -> str:
        return re.sub(self.pattern, "", out, flags=re.MULTILINE)


class JsonField(Struct, frozen=True):
    """A time, or a list of samples, in the JSON that a program prints on stdout: all of it, or its last line.

    path: names and indices with dots between them, as in "results.0.seconds". unit: as of `OutputPattern`.
    """

    path: str
    unit: Unit = "ms"

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        if not isinstance(self.path, str) or not self.path:
            raise EvaluatorError(f"the path of a JSON field is {self.path!r}; give names with dots between them")

    def times_ms(self, out: str, err: str) -> list[float]:
        """The samples in milliseconds; raises NoTime where there are none."""
        value = _decode(out)
        for name in self.path.split("."):
            try:
                value = value[int(name)] if isinstance(value, list) else value[name]
            except (KeyError, IndexError, TypeError, ValueError):
                raise NoTime(f"the JSON on stdout has no field {self.path!r}") from None
        return [_milliseconds(one, self.unit) for one in (value if isinstance(value, list) else [value])]

    def without_times(self, out: str) -> str:
        try:
            whole = value = _decode(out)
            *names, last = self.path.split(".")
            for name in names:
                value = value[int(name)] if isinstance(value, list) else value[name]
            del value[int(last) if isinstance(value, list) else last]
        except (NoTime, KeyError, IndexError, TypeError, ValueError):
            return out
        return json.dumps(whole, sort_keys=True)


TimeSource = Literal["wall"] | OutputPattern | JsonField
"""Where the time of a run comes from: the wall clock from start to exit, or what the program prints."""


def _check_unit(unit: object) -> None:
    if unit not in (*MILLISECONDS, "per_s"):
        raise EvaluatorError(f"the unit is {unit!r}; use one of {', '.join([*MILLISECONDS, 'per_s'])}")


def _decode(out: str) -> Any:
    lines = out.strip().splitlines()
    for text in (out, lines[-1] if lines else ""):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    raise NoTime("stdout is no JSON, and neither is its last line")


def _milliseconds(number: Any, unit: Unit) -> float:
    try:
        if isinstance(number, bool):
            raise TypeError(number)
        value = float(number)
        return 1e3 / value if unit == "per_s" else value * MILLISECONDS[unit]
    except (TypeError, ValueError, OverflowError):
        raise NoTime(f"the output has {number!r} where the time should be") from None
    except ZeroDivisionError:
        raise NoTime("the output has a rate of 0") from None


def find_difference(found: str, expected: str, rtol: float, atol: float) -> str | None:
    """Where an output differs from the expected one, in words; None where it is right.

    Spaces and line breaks count as one space. Numbers with a point or an exponent may be off by
    `atol + rtol * |expected|`; whole numbers and all other text must be equal.
    """
    for (text, number), (wanted_text, wanted) in zip_longest(_pieces(found), _pieces(expected), fillvalue=("", "")):
        if text != wanted_text or (number != wanted and not _is_near(number, wanted, rtol, atol)):
            said, should = f"{text} {number}".strip(), f"{wanted_text} {wanted}".strip()
            return f"the output has {said[:80]!r} where {should[:80]!r} was expected"
    return None


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text before each number, and the number; at last the text behind all numbers."""
    end = 0
    for match in _NUMBER.finditer(text):
        yield " ".join(text[end : match.start()].split()), match[0]
        end = match.end()
    yield " ".join(text[end:].split()), ""


def _is_near(number: str, wanted: str, rtol: float, atol: float) -> bool:
    if not number or not wanted or (number + wanted).lstrip("+-").isdecimal():
        return False
    return isclose(float(number), float(wanted), rel_tol=0.0, abs_tol=atol + rtol * abs(float(wanted)))

"""Pairs of functions that differ in exactly one respect, and of which the two therefore may behave differently.

Imported by the laws of identity, here and in other processes: made by name, so that a name says the same everywhere.
"""

import collections
import dataclasses
import enum
import functools
import math
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

Function = Callable[..., Any]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Bound:
    limit: Any = 4


class Slotted:
    __slots__ = ("limit",)

    def __init__(self, limit: Any) -> None:
        self.limit = limit

    def __call__(self, a: int, b: int) -> bool:
        return bool(a * b <= self.limit)


class Held:
    factor = 1

    def __init__(self, limit: Any) -> None:
        self.limit = limit

    def __call__(self, a: int, b: int) -> bool:
        return bool(a * b * self.factor <= self.limit)

    def method(self, a: int, b: int) -> bool:
        return bool(a * b < self.limit)


class Inner(Held):
    factor = 2


class Pair(NamedTuple):
    x: Any
    y: Any


class Riap(NamedTuple):
    x: Any
    y: Any


def closing_over(limit: Any) -> Function:
    return lambda a, b: (a, b) <= limit


def with_default(limit: Any) -> Function:
    def fits(a: int, b: int, limit: Any = limit) -> bool:
        return bool(a * b <= limit)

    return fits


def with_keyword_default(limit: Any) -> Function:
    def fits(a: int, b: int, *, limit: Any = limit) -> bool:
        return bool(a * b <= limit)

    return fits


def with_global(limit: Any, inner: str = "") -> Function:
    """A function whose module has another value under a name that it, or a function in it, reads."""
    scope: dict[str, Any] = {"__name__": "of_a_user", "LIMIT": limit}
    text = "lambda a, b: (lambda: a * b <= LIMIT)()" if inner else "lambda a, b: a * b <= LIMIT"
    made: Function = eval(text, scope)
    return made


def through_a_helper(limit: Any) -> Function:
    helper = with_global(limit)
    scope: dict[str, Any] = {"__name__": "of_a_user", "helper": helper}
    made: Function = eval("lambda a, b: helper(a, b)", scope)
    return made


def with_attribute(limit: Any) -> Function:
    def fits(a: int, b: int) -> bool:
        return bool(a * b <= fits.limit)  # type: ignore[attr-defined]

    fits.limit = limit  # type: ignore[attr-defined]
    return fits


def of_class(limit: Any) -> Function:
    class Limited:
        least = limit

        def __call__(self, a: int, b: int) -> bool:
            return bool(a * b <= self.least)

    return Limited()


def of_code(text: str) -> Function:
    made: Function = eval(text, {"__name__": "of_a_user", "math": math, "np": np})
    return made


def recursive(limit: Any) -> Function:
    def even(n: int) -> bool:
        return n == limit or odd(n - 1)

    def odd(n: int) -> bool:
        return n != limit and even(n - 1)

    return even


def holding_itself(limit: Any) -> Function:
    held: list[Any] = [limit]
    held.append(held)
    return lambda a, b: a * b <= held[0]


VALUES: dict[str, tuple[Any, Any]] = {
    "numbers": (4, 512),
    "kinds of numbers": (1, 1.0),
    "a number and a truth value": (1, True),
    "nothing and a truth value": (None, False),
    "signs of zero": (0.0, -0.0),
    "a number and none": (0.0, float("nan")),
    "a number and its text": (1, "1"),
    "a text and its bytes": ("a", b"a"),
    "large numbers": (2**70, 2**70 + 1),
    "complex numbers": (1j, -1j),
    "tuples": ((1, 2), (1, 3)),
    "a tuple and a list": ((1, 2), [1, 2]),
    "tuples of tuples": (((1,), 2), ((1, 2),)),
    "texts in tuples": (("ab", "c"), ("a", "bc")),
    "members of a set": (frozenset({"a", "b"}), frozenset({"a", "c"})),
    "a set that may change": (frozenset({1}), {1}),
    "kinds in a set": (frozenset({1}), frozenset({True})),
    "values of a dict": ({"x": 1}, {"x": 2}),
    "names in a dict": ({"x": 1}, {"y": 1}),
    "order of a dict": ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
    "kinds of dicts": ({"x": 1}, collections.OrderedDict(x=1)),
    "default of a dict": (collections.defaultdict(int), collections.defaultdict(list)),
    "queues": (collections.deque([1]), collections.deque([1], 5)),
    "named tuples": (Pair(1, 2), Pair(2, 1)),
    "a named tuple and a tuple": (Pair(1, 2), (1, 2)),
    "names of named tuples": (Pair(1, 2), Riap(1, 2)),
    "members": (Colour.RED, Colour.BLUE),
    "a member and its value": (Colour.RED, 1),
    "dataclasses": (Bound(4), Bound(512)),
    "kinds in dataclasses": (Bound(1), Bound(True)),
    "slots": (Slotted(4), Slotted(512)),
    "attributes": (Held(4), Held(512)),
    "classes of objects": (Held(4), Inner(4)),
    "classes": (Held, Inner),
    "namespaces": (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    "arrays": (np.array([1, 2]), np.array([1, 3])),
    "dtypes of arrays": (np.array([1, 2]), np.array([1.0, 2.0])),
    "shapes of arrays": (np.zeros((2, 3)), np.zeros((3, 2))),
    "scalars": (np.float32(1), np.float64(1)),
    "dtypes": (np.dtype("f4"), np.dtype("f8")),
    "functions of numpy": (np.log2, np.log),
    "functions of C": (math.floor, math.ceil),
    "methods of C": ("ab".find, "ac".find),
    "patterns": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "ranges": (range(3), range(4)),
    "slices": (slice(1, 2), slice(1, 3)),
    "partials in partials": (functools.partial(functools.partial(math.pow, 2), 3), functools.partial(math.pow, 3, 2)),
}

WAYS: dict[str, Callable[[Any], Function]] = {
    "a closure": closing_over,
    "a default": with_default,
    "a default by keyword": with_keyword_default,
    "a global": with_global,
    "a global of an inner function": lambda limit: with_global(limit, "inner"),
    "a helper's global": through_a_helper,
    "an attribute of a function": with_attribute,
    "an argument of a partial": lambda limit: functools.partial(with_default(4), limit=limit),
    "an attribute of a callable": Held,
    "a slot of a callable": Slotted,
    "an attribute of a method's object": lambda limit: Held(limit).method,
    "an attribute of a class": of_class,
    "a list": lambda limit: closing_over([limit]),
    "a dict": lambda limit: closing_over({"x": limit}),
    "a function in a list": lambda limit: closing_over([with_default(limit)]),
    "functions that call one another": recursive,
    "a list that holds itself": holding_itself,
    "a memo": lambda limit: functools.lru_cache(closing_over(limit)),
}

CODES: dict[str, tuple[str, str]] = {
    "operators": ("lambda a, b: a < b", "lambda a, b: a <= b"),
    "constants": ("lambda a, b: a < 1", "lambda a, b: a < 2"),
    "kinds of constants": ("lambda a, b: (a, 1)", "lambda a, b: (a, True)"),
    "signs of constants": ("lambda a, b: 0.0", "lambda a, b: -0.0"),
    "names": ("lambda a, b: math.floor(a)", "lambda a, b: math.ceil(a)"),
    "arguments": ("lambda a, b: a", "lambda b, a: a"),
    "kinds of arguments": ("lambda a, b: a", "lambda a, *, b: a"),
    "inner functions": ("lambda a, b: (lambda: a < 1)()", "lambda a, b: (lambda: a < 2)()"),
    "comprehensions": ("lambda a, b: [x for x in (1,)]", "lambda a, b: [x for x in (2,)]"),
    "sets of constants": ("lambda a, b: a in {1, 2}", "lambda a, b: a in {1, 3}"),
}


def pairs() -> Iterator[tuple[str, Function, Function]]:
    """Every pair with its name."""
    for way, make in WAYS.items():
        for what, (one, other) in VALUES.items():
            yield f"{what} in {way}", make(one), make(other)
    for what, texts in CODES.items():
        yield f"{what} in the code", of_code(texts[0]), of_code(texts[1])


def made() -> dict[str, Function]:
    """Every function by its name: what another process makes too."""
    return {f"{name}, {side}": function for name, *both in pairs() for side, function in enumerate(both)}

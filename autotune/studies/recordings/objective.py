"""The quantity that a recording ranks its points by, and the direction in which it is better.

A recording keeps one positive cost for each point, and less is better: the milliseconds of a time, the value of another
quantity to minimise, and the reciprocal of a quantity to maximise, such as a rate.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from autotune.core.formatting import format_milliseconds as in_milliseconds

Direction = Literal["lower", "higher"]

PER_SECOND = {
    **dict.fromkeys(("miliseconds", "milliseconds", "millisecond", "ms", "msec"), 1e3),  # "mili": Kernel Tuner's files
    **dict.fromkeys(("seconds", "second", "s", "sec"), 1.0),
    **dict.fromkeys(("microseconds", "microsecond", "us", "µs", "usec"), 1e6),
    **dict.fromkeys(("nanoseconds", "nanosecond", "ns", "nsec"), 1e9),
}
"""How many of a unit of time, in lower case, make a second."""

_DIRECTIONS: dict[str, Direction] = {
    "time": "lower",
    "totalduration": "lower",  # KTT's
    "duration": "lower",
    "runtime": "lower",
    "latency": "lower",
    "energy": "lower",
    "cost": "lower",
    "loss": "lower",
    "fitness": "higher",
    "throughput": "higher",
    "bandwidth": "higher",
    "occupancy": "higher",
}
"""The better direction of quantities by name, in lower case: Kernel Tuner's (util.objective_default_map), and
others whose direction is in no doubt."""

_WORK = r"(flops?|ops?|iops|bytes|ib|b|bits|updates|cells|points|pixels|elements)"
_RATE = re.compile(
    rf"[kmgtpe]?{_WORK}(/|\s+per\s+|p)(s|sec|second|w|watt|j|joule)|[kmgtpe](fl)?ops|flops", re.IGNORECASE
)
"""Work by time, power or energy: GFLOP/s, GB/s, GFLOPS/W. More is better."""

_LAST_WORDS = ("energy", "latency", "duration")
"""Words of `_DIRECTIONS` that count as the last of several too: nvml_energy."""

_ENERGY = re.compile(r"[mµunk]?(J|joules?|Wh|W|watts?)", re.IGNORECASE)
"""Energy or power. Less is better."""


class Objective(msgspec.Struct, frozen=True):
    """The measurement that ranks points. direction: of better values. unit: of the values; "ms" for every time."""

    name: str = "time"
    direction: Direction = "lower"
    unit: str = "ms"

    def cost(self, value: float) -> float:
        """The cost of a value; positive for a positive value."""
        return value if self.direction == "lower" else 1 / value

    def value(self, cost: float) -> float:
        """The value of a cost: the inverse of `cost`."""
        return cost if self.direction == "lower" else 1 / cost

    @property
    def is_time(self) -> bool:
        return self.unit == "ms" and self.direction == "lower"

    def text(self, cost: float) -> str:
        """The value of a cost for people, with its unit."""
        if self.is_time:
            return in_milliseconds(cost)
        return f"{self.value(cost):.4g} {self.unit or self.name}"


TIME = Objective()

_TIMES = ("time", "totalduration")
"""Measurements that are times in the file's unit, where no unit stands with them; in lower case."""


def infer_direction(name: str, unit: str) -> Direction | None:
    """The better direction of a quantity, by its unit or its name; None where neither shows it."""
    if unit.lower() in PER_SECOND:
        return "lower"
    for word in (unit, name):
        if _RATE.fullmatch(word):
            return "higher"
    if _ENERGY.fullmatch(unit):
        return "lower"
    last = name.lower().rpartition("_")[2]
    return _DIRECTIONS.get(last if last in _LAST_WORDS else name.lower())


class ObjectiveChoice(msgspec.Struct, frozen=True):
    """The objective and its direction that the caller wants; None: the file's."""

    name: str | None = None
    direction: Direction | None = None


AS_WRITTEN = ObjectiveChoice()

HOW_TO_CHOOSE = (
    'say it: objective="NAME" and direction="lower" or "higher" (--objective NAME --direction higher;'
    " `autotune import FILE OUT` with these writes a recording that says it)"
)


def choose_objective(
    written: Sequence[Any], chosen: ObjectiveChoice, field: str = "objectives"
) -> tuple[str, Direction | None]:
    """The name of the objective, and its direction where the file or the caller gives it.

    written: the value of the field in the file, with a name, or an object of name and direction, for each objective.
    Raises ValueError, with the remedy, for several objectives of which the caller names none, and for an entry without
    a name.
    """
    directions: dict[str, Direction | None] = {}
    for item in written:
        name, direction = _parse_item(item, field)
        directions[name] = direction
    if chosen.name is not None:
        return chosen.name, chosen.direction or directions.get(chosen.name)
    if len(directions) > 1:
        raise ValueError(
            f"{field} names {' and '.join(map(repr, directions))}, and points are ranked by one; {HOW_TO_CHOOSE}"
        )
    name = next(iter(directions), TIME.name)
    return name, chosen.direction or directions.get(name)


def _parse_item(item: Any, field: str) -> tuple[str, Direction | None]:
    """The name and direction in one item of an `objectives` field."""
    if isinstance(item, str):
        return item, None
    if isinstance(item, dict) and isinstance(item.get("name"), str):
        for key in ("direction", "goal", "mode", "optimization"):
            if key in item:
                return item["name"], _parse_direction(item[key], field)
        for key, of_true in (("higher_is_better", True), ("objective_higher_is_better", True), ("maximize", True),
                             ("lower_is_better", False), ("minimize", False)):  # fmt: skip
            if isinstance(item.get(key), bool):
                return item["name"], "higher" if item[key] is of_true else "lower"
        return item["name"], None
    raise ValueError(f"{field} holds {item!r}, which is no name of a measurement; {HOW_TO_CHOOSE}")


def _parse_direction(word: Any, field: str) -> Direction:
    text = str(word).lower()
    if text in ("lower", "min", "minimize", "minimise", "minimum", "down"):
        return "lower"
    if text in ("higher", "max", "maximize", "maximise", "maximum", "up"):
        return "higher"
    raise ValueError(f"{field} gives the direction {word!r}, which is neither lower nor higher; {HOW_TO_CHOOSE}")


def make_objective(name: str, direction: Direction | None, unit: str) -> Objective:
    """The objective of that name; ValueError where its better direction is given nowhere and cannot be inferred."""
    direction = direction or infer_direction(name, unit)
    if direction is None:
        raise ValueError(f"whether a low or a high {name!r} is better is said nowhere; {HOW_TO_CHOOSE}")
    timed = direction == "lower" and (unit.lower() in PER_SECOND or (not unit and name.lower() in _TIMES))
    rate = not unit and _RATE.fullmatch(name)
    return Objective(name, direction, "ms" if timed else name if rate else unit)

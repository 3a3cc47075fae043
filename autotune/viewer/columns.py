"""The columns of a view from outcomes in the order in which they came: shared by journals and recordings."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import token
from autotune.core.models.importance import Importances, compute_importances
from autotune.core.outcomes import FAILURE_KINDS
from autotune.viewer.view import NONE, TIMED, Failures, Improvement, Message, ParameterView, Trials

KINDS = ("timed", *(kind.replace("_", " ") for kind in FAILURE_KINDS))
"""The kinds of outcomes, as a view names them."""

MOST_MESSAGES = 20
"""Different messages of one kind of failure that are listed; the table of configs has all."""


class Places:
    """Distinct texts in the order in which they appear; a text's place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self._places.setdefault(text, len(self._places)) if text else NONE

    def texts(self) -> tuple[str, ...]:
        return tuple(self._places)


def parameter_columns(
    names: Sequence[str], ranks: NDArray[np.int64], values: Sequence[Sequence[Any]], default: dict[str, Any] | None
) -> tuple[tuple[ParameterView, ...], tuple[list[int], ...]]:
    """The parameters with the values that occur, and for each a column of places in them.

    ranks [n, p]: the rank of each value among all values of its parameter. values: for each parameter n values.
    """
    parameters, columns = [], []
    for j, name in enumerate(names):
        _, first, places = np.unique(ranks[:, j], return_index=True, return_inverse=True)
        found = tuple(values[j][row] for row in first.tolist())
        usual = None
        if default is not None:
            wanted = token(default[name])
            usual = next((i for i, value in enumerate(found) if token(value) == wanted), None)
        parameters.append(ParameterView(name=name, values=found, default=usual))
        columns.append(places.reshape(-1).tolist())
    return tuple(parameters), tuple(columns)


def improvements(trials: Trials) -> tuple[Improvement, ...]:
    """The first timings that were faster than all before them."""
    found: list[Improvement] = []
    for place, time_ms in enumerate(trials.first_ms):
        if time_ms is not None and (not found or time_ms < found[-1].time_ms):
            found.append(
                Improvement(evaluations=place + 1, at_s=trials.at_s[place], time_ms=time_ms, trial=trials.number[place])
            )
    return tuple(found)


def failures_by_kind(trials: Trials, messages: Sequence[str]) -> tuple[Failures, ...]:
    """The failures, the most frequent kind first, and their messages, the most frequent first."""
    kinds = Counter(kind for kind in trials.kind if kind != TIMED)
    found = []
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        places = [place for place, one in enumerate(trials.kind) if one == kind]
        texts = Counter(trials.message[place] for place in places)
        first = {trials.message[place]: trials.number[place] for place in reversed(places)}
        ranked = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:MOST_MESSAGES]
        listed = tuple(Message(text=messages[i] if i != NONE else "", count=many, trial=first[i]) for i, many in ranked)
        found.append(Failures(kind=KINDS[kind], count=count, messages=listed))
    return tuple(found)


def importances_of(trials: Trials) -> Importances:
    """The importances of the parameters, from the configs that were timed."""
    timed = [place for place, time_ms in enumerate(trials.time_ms) if time_ms is not None]
    codes = np.array([[column[place] for column in trials.codes] for place in timed], np.int64)
    times = np.array([trials.time_ms[place] for place in timed], np.float64)
    return compute_importances(codes.reshape(len(timed), len(trials.codes)), times)

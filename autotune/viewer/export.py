"""A view as CSV: a row for each config."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from autotune.viewer.view import NONE, SearchView

COLUMNS = (
    "config",
    "time_ms",
    "first_ms",
    "outcome",
    "compile_s",
    "run_s",
    "at_s",
    "samples",
    "batch",
    "origin",
    "message",
)
"""The columns beside the parameters, which stand between "outcome" and "compile_s"."""

_BEFORE = 4
"""The columns before the parameters."""


def view_csv(view: SearchView) -> str:
    """The configs in the order in which their outcomes came. A cell is empty where there is no value.

    A parameter whose name is one of COLUMNS gets the prefix "parameter ". Values other than texts are JSON.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"parameter {p.name}" if p.name in COLUMNS else p.name for p in view.parameters]
    writer.writerow([*COLUMNS[:_BEFORE], *names, *COLUMNS[_BEFORE:]])
    writer.writerows(_rows(view))
    return text.getvalue()


def _rows(view: SearchView) -> Iterator[list[Any]]:
    trials = view.trials
    for i, number in enumerate(trials.number):
        values = [_cell(p.values[column[i]]) for p, column in zip(view.parameters, trials.codes, strict=True)]
        yield [
            number, _number(trials.time_ms[i]), _number(trials.first_ms[i]), view.kinds[trials.kind[i]], *values,
            trials.compile_s[i], trials.run_s[i], _number(trials.at_s[i]), trials.samples[i],
            "" if trials.batch[i] == NONE else trials.batch[i], view.origins[trials.origin[i]],
            "" if trials.message[i] == NONE else view.messages[trials.message[i]],
        ]  # fmt: skip


def _number(value: float | None) -> float | str:
    return "" if value is None else value


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

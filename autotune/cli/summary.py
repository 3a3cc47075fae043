"""A result, for people and for machines."""

import re
from typing import Any

from autotune.cli.output import print_labelled, print_table
from autotune.core.config import Config, token
from autotune.core.search.result import MeasuredConfig, Result
from autotune.core.statistics import LEVEL, Ratio
from autotune.shell.formatting import format_count, format_duration, format_milliseconds

SHAPE = re.compile(r"ms\[(.*)\]")
"""How the details of an outcome name the time on one of several argument sets."""


def result_fields(result: Result) -> dict[str, Any]:
    """The fields of the result as they stand, to be written as JSON."""
    return {name: getattr(result, name) for name in result.__struct_fields__}


def print_result(result: Result, extra: list[tuple[str, str]]) -> None:
    """The config beside the default, and what is known of it; `extra` are more labelled lines."""
    print_config(result.best.config, None if result.default is None else result.default.config)
    print()
    print_labelled([*result_rows(result), *extra, ("config", result.best.config.to_json())])


def print_config(best: Config, default: Config | None) -> None:
    """A line a parameter; the default's value only where it differs."""
    if default is None:
        print_table(("parameter", "best"), [(name, _shown(value)) for name, value in best.items()])
        return
    rows = [
        (name, _shown(value), "" if token(default[name]) == token(value) else _shown(default[name]))
        for name, value in best.items()
    ]
    print_table(("parameter", "best", "default"), rows)


def result_rows(result: Result) -> list[tuple[str, str]]:
    rows = [("best", measured_text(result.best))]
    if result.default is not None and result.default.trial == result.best.trial:
        rows.append(("default", "is the best"))
    elif result.default is not None:
        rows.append(("default", measured_text(result.default)))
    if result.speedup is not None and result.default != result.best:
        rows.append(("speed-up", f"{ratio_text(result.speedup)} over the default"))
    rows += shape_rows(result)
    for finalist in result.finalists:
        changes = Config(
            {n: v for n, v in finalist.measured.config.items() if token(v) != token(result.best.config[n])}
        )
        rows.append(("as good", f"{measured_text(finalist.measured)} with {changes}"))
    if checked := result.best.details.get("checked"):
        rows.append(("checked", str(checked)))
    count, seconds = format_count(result.evaluations, "config"), format_duration(result.elapsed_s)
    spent = f"{count} in {seconds}: {counts_text(result.counts)}"
    rows += [("evaluated", spent), ("stopped", result.detail or result.stopped)]
    return rows + [("note", text) for text in result.notes]


def shape_rows(result: Result) -> list[tuple[str, str]]:
    """A line for each of several argument sets: the best config's time on it, beside the default's."""
    rows = []
    other = result.default if result.default is not None and result.default.trial != result.best.trial else None
    for name, time_ms in result.best.details.items():
        if (shape := SHAPE.fullmatch(name)) is None or not isinstance(time_ms, int | float):
            continue
        before = other.details.get(name) if other is not None else None
        beside = ""
        if isinstance(before, int | float) and time_ms > 0:
            beside = f", default {format_milliseconds(before)}, {before / time_ms:.3g}x"
        rows.append((f"on {shape[1]}", format_milliseconds(time_ms) + beside))
    return rows


def measured_text(measured: MeasuredConfig) -> str:
    middle = format_milliseconds(measured.time_ms)
    if measured.low_ms == measured.high_ms:
        return middle
    low, high = format_milliseconds(measured.low_ms), format_milliseconds(measured.high_ms)
    return f"{middle} ({low} to {high}{level_text(measured.level)})"


def ratio_text(ratio: Ratio) -> str:
    if ratio.low == ratio.high:
        return f"{ratio.value:.3g}x"
    return f"{ratio.value:.3g}x ({ratio.low:.3g} to {ratio.high:.3g}{level_text(ratio.level)})"


def level_text(level: float | None) -> str:
    """How often such an interval holds the truth, where that is less often than usual."""
    return "" if level is None or level >= LEVEL else f", {level:.0%}"


def counts_text(counts: Any) -> str:
    return ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in counts.items()) or "none"


def _shown(value: Any) -> str:
    return token(value).decode()

"""The search of `tune` and `resume`, and its result for people and for machines."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from autotune.cli import ExitCode
from autotune.cli.output import note, print_json, print_labelled, stdout_for_results
from autotune.core.config import Config, token
from autotune.core.search.result import MeasuredConfig, Result
from autotune.core.statistics import LEVEL, Ratio
from autotune.shell.files import save_config
from autotune.shell.formatting import format_count, format_duration, format_milliseconds
from autotune.shell.tables import print_table

_TIME_OF_ARGUMENTS = re.compile(r"ms\[(.*)\]")
"""The name, among the details of an outcome, of the time with one of several argument sets."""


def run_search(
    search: Callable[[], Result],
    *,
    target: str,
    journal: Path | None,
    as_json: bool,
    save: Path | None,
    progress: bool | None,
) -> ExitCode:
    """Run the search and print its result.

    target, journal: of the command that goes on with the search. save: a file for the best config.
    """
    again = None if journal is None else f"autotune resume {shlex.quote(str(journal))} {shlex.quote(target)}"
    if journal is not None:
        note(f"the journal is {journal}", progress)
    try:
        with stdout_for_results():
            result = search()
        if journal is not None and not journal.exists():  # the result came from the cache
            journal = again = None
    except KeyboardInterrupt:
        print(f"autotune: stopped at once; {f'go on with: {again}' if again else 'nothing is kept'}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    if as_json:
        print_json({**structs.asdict(result), "journal": None if journal is None else str(journal)})
    else:
        rows = [] if journal is None else [("journal", str(journal))]
        if not result.complete and again:
            rows.append(("go on with", again))
        print_config(result.best.config, None if result.default is None else result.default.config)
        print()
        print_labelled([*result_rows(result), *rows, ("config", result.best.config.to_json())])
    if save is not None:
        save_config(result.best.config, save)
        note(f"the best config is in {save}", progress)
    return ExitCode.DONE if result.complete else ExitCode.INTERRUPTED


def print_config(best: Config, default: Config | None) -> None:
    """A line for each parameter; the default's value only where it differs."""
    if default is None:
        print_table(("parameter", "best"), [(name, format_value(value)) for name, value in best.items()])
        return
    rows = [
        (name, format_value(value), "" if token(default[name]) == token(value) else format_value(default[name]))
        for name, value in best.items()
    ]
    print_table(("parameter", "best", "default"), rows)


def format_value(value: Any) -> str:
    """A value of a config as JSON."""
    return token(value).decode()


def result_rows(result: Result) -> list[tuple[str, str]]:
    """The result in labelled lines, without the config itself."""
    rows = [("best", format_measured(result.best))]
    if result.default is not None and result.default.trial == result.best.trial:
        rows.append(("default", "is the best"))
    elif result.default is not None:
        rows.append(("default", format_measured(result.default)))
    if result.speedup is not None and result.default != result.best:
        rows.append(("speed-up", f"{_format_ratio(result.speedup)} over the default"))
    rows += _argument_rows(result)
    for finalist in result.finalists:
        changes = Config(
            {n: v for n, v in finalist.measured.config.items() if token(v) != token(result.best.config[n])}
        )
        rows.append(("as good", f"{format_measured(finalist.measured)} with {changes}"))
    if checked := result.best.details.get("checked"):
        rows.append(("checked", str(checked)))
    count, seconds = format_count(result.evaluations, "config"), format_duration(result.elapsed_s)
    spent = f"{count} in {seconds}: {format_counts(result.counts)}"
    rows += [("evaluated", spent), ("stopped", result.detail or result.stopped)]
    return rows + [("note", text) for text in result.notes]


def _argument_rows(result: Result) -> list[tuple[str, str]]:
    """A line for each of several argument sets: the best config's time with it, beside the default's."""
    rows = []
    other = result.default if result.default is not None and result.default.trial != result.best.trial else None
    for name, time_ms in result.best.details.items():
        if (arguments := _TIME_OF_ARGUMENTS.fullmatch(name)) is None or not isinstance(time_ms, int | float):
            continue
        before = other.details.get(name) if other is not None else None
        beside = ""
        if isinstance(before, int | float) and time_ms > 0:
            beside = f", default {format_milliseconds(before)}, {before / time_ms:.3g}x"
        rows.append((f"on {arguments[1]}", format_milliseconds(time_ms) + beside))
    return rows


def format_measured(measured: MeasuredConfig) -> str:
    """The time with its interval, and the level of the interval where that is lower than usual."""
    middle = format_milliseconds(measured.time_ms)
    if measured.low_ms == measured.high_ms:
        return middle
    low, high = format_milliseconds(measured.low_ms), format_milliseconds(measured.high_ms)
    return f"{middle} ({low} to {high}{_format_level(measured.level)})"


def _format_ratio(ratio: Ratio) -> str:
    if ratio.low == ratio.high:
        return f"{ratio.value:.3g}x"
    return f"{ratio.value:.3g}x ({ratio.low:.3g} to {ratio.high:.3g}{_format_level(ratio.level)})"


def _format_level(level: float | None) -> str:
    """How often such an interval holds the truth, where that is less often than usual."""
    return "" if level is None or level >= LEVEL else f", {level:.0%}"


def format_counts(counts: Mapping[str, int]) -> str:
    """Outcomes by kind, such as "28 timed, 2 run error"."""
    return ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in counts.items()) or "none"

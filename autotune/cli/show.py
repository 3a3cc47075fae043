"""`autotune show FILE`: a journal, finished or not, or a recording, as a summary, a page or a table.

The content of the file tells which it is.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import typer
from msgspec import Struct

from autotune.cli import ExitCode
from autotune.cli.certify import print_rivals
from autotune.cli.options import AsJson, BetterDirection, ObjectiveName, ProblemOption, SaveConfig, parse_direction
from autotune.cli.output import print_json, print_labelled
from autotune.cli.problem_file import is_journal, load_problem
from autotune.cli.results import print_config
from autotune.cli.views import Wanted, follow_journal, show_views
from autotune.core.config import Config
from autotune.core.errors import AutotuneError
from autotune.core.formatting import escape_control_lines, format_count, format_duration
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Finished, Interrupted, Resumed
from autotune.core.search.plan import Budget, Settings
from autotune.core.search.report import format_counts, format_value, result_rows
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, outcome_counts, result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.registry import StrategySpec
from autotune.shell.files import check_writable
from autotune.shell.files import save_config as save
from autotune.shell.journal import Journal, read_journal
from autotune.shell.tables import print_table
from autotune.studies.recordings import Objective, Recording, load_recording
from autotune.studies.recordings.load import locate_recording
from autotune.studies.recordings.objective import ObjectiveChoice

_State = Literal["finished", "interrupted", "unfinished"]

_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)

_MAX_COUNT = 2**63 - 1
"""Larger counts of points are written as this: the largest signed 64-bit integer, as far as readers of JSON go."""


def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A journal, finished or not, or a recording (builtin:NAME as well).")
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="Another journal or recording, to compare with.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page to look at: one file, no network.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="OUT", help="Write a row for each config; - is stdout.")
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Print the failures by kind, with messages.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print each outcome as it comes, until the search is over.")
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option("--timeline", metavar="FILE", help="For --html: the timeline that an evaluator wrote."),
    ] = None,
    problem: ProblemOption = None,
    objective: ObjectiveName = None,
    direction: BetterDirection = None,
    save_config: SaveConfig = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Summarise a journal or a recording, also as a page or a table."""
    file = locate_recording(file)
    if save_config is not None:
        check_writable(save_config)
    if html is not None or csv is not None or failures or follow or other is not None:
        if save_config is not None:
            raise AutotuneError("--save-config goes with the summary; leave it out, or run show again for it")
        space = None if problem is None else load_problem(problem).space
        wanted = Wanted(html=html, csv=csv, failures=failures, as_json=as_json)
        if follow:
            if other is not None or csv is not None or failures or timeline is not None:
                raise AutotuneError("--follow goes with --html and --json alone")
            return follow_journal(file, space, wanted)
        from autotune.viewer.sources import load_spans, open_view  # brings all evaluators with it

        spans = None if timeline is None else load_spans(timeline)
        choice = ObjectiveChoice(objective, parse_direction(direction))
        files = [file] if other is None else [file, locate_recording(other)]
        return show_views([open_view(one, space, spans, choice) for one in files], wanted)
    if timeline is not None:
        raise AutotuneError("--timeline is for a page; give --html OUT too")
    if os.path.isdir(file):
        raise AutotuneError(f"{file} is a directory; name a journal or a recording")
    if is_journal(file):
        if objective is not None or direction is not None:
            raise AutotuneError(
                f"{file} is a journal, whose objective is a time; leave --objective and --direction out"
            )
        space = None if problem is None else load_problem(problem).space
        best = _show_journal(file, space, as_json)
    else:
        best = _show_recording(file, objective, direction, as_json)
    if save_config is not None:
        if best is None:
            raise AutotuneError(f"{file} holds no timed config, so there is none to save; leave --save-config out")
        save(best, save_config)
    return ExitCode.DONE


# Journals


class JournalSummary(Struct, frozen=True, kw_only=True):
    """The fields that `show --json` prints of a journal; see docs/reference/command_line.md."""

    kind: Literal["journal"]
    path: str
    state: _State
    space: dict[str, Any]
    strategy: StrategySpec
    budget: Budget
    seed: int
    settings: Settings
    evaluator: dict[str, Detail]
    versions: dict[str, str]
    host: dict[str, str]
    events: int
    interrupts: int
    resumes: int
    asked: int
    evaluations: int
    pending: int
    generation: int | None
    elapsed_s: float
    counts: dict[str, int]
    result: dict[str, Any] | None


def _show_journal(path: Path, space: Space | None, as_json: bool) -> Config | None:
    """Print the summary of a journal; returns the best config, None if nothing was timed."""
    from autotune.shell.tuning import fold  # brings all evaluators with it; a recording needs none
    from autotune.viewer.journal_view import plan_to_view

    journal = read_journal(path)
    plan = plan_to_view(journal, space)
    search = fold(plan, journal.events)
    try:
        found = result(search)
    except TuningFailed:
        found = None
    summary = _summarise_journal(journal, search, found)
    if as_json:
        print_json(summary)
    else:
        print(escape_control_lines(repr(plan.space)))
        print()
        print_labelled([*_plan_rows(summary), *_progress_rows(summary)])
        if found is not None:
            print()
            print_config(found.best.config, None if found.default is None else found.default.config)
            print()
            print_labelled([*result_rows(found), ("why", found.why), ("config", found.best.config.to_json())])
            if found.certificate is not None and found.certificate.selection.rivals:
                print()
                print_rivals(found.certificate)
    return None if found is None else found.best.config


def _summarise_journal(journal: Journal, search: Search, found: Result | None) -> JournalSummary:
    header, space = journal.header, search.plan.space
    state: _State = "unfinished"
    if search.interrupted:
        state = "interrupted"
    elif search.concluded is not None and isinstance(request(search), Finished):
        state = "finished"
    return JournalSummary(
        kind="journal",
        path=str(journal.path),
        state=state,
        space={
            "fingerprint": header.plan.fingerprint,
            "size": min(space.size, _MAX_COUNT),
            "valid": space.count(),
            "parameters": header.plan.space.parameters,
            "constraints": header.plan.space.constraints,
        },
        strategy=header.plan.strategy,
        budget=header.plan.budget,
        seed=header.plan.seed,
        settings=header.plan.settings,
        evaluator=header.evaluator,
        versions=header.versions,
        host=header.host,
        events=len(journal.events),
        interrupts=sum(isinstance(event, Interrupted) for event in journal.events),
        resumes=sum(isinstance(event, Resumed) for event in journal.events),
        asked=len(search.trials),
        evaluations=search.observed,
        pending=search.outstanding,
        generation=search.generation if search.generation >= 0 else None,
        elapsed_s=search.clock,
        counts=outcome_counts(search),
        result=None if found is None else found.to_dict(),
    )


def _plan_rows(summary: JournalSummary) -> list[tuple[str, str]]:
    budget = _pairs(msgspec.to_builtins(summary.budget))
    rows = [
        ("journal", summary.path),
        ("strategy", f"{summary.strategy.name} {_pairs(_shorten_lists(summary.strategy.settings))}".rstrip()),
        ("budget", budget or "none"),
        ("seed", str(summary.seed)),
        ("settings", _pairs(msgspec.to_builtins(summary.settings)) or "as they come"),
        ("evaluator", _pairs(summary.evaluator)),
        ("versions", _pairs(summary.versions)),
        ("host", " ".join(summary.host.values())),
    ]
    return [row for row in rows if row[1]]


def _progress_rows(summary: JournalSummary) -> list[tuple[str, str]]:
    ends = [(summary.interrupts, "interrupted"), (summary.resumes, "resumed")]
    often = "".join(f", {word} {format_count(number, 'time')}" for number, word in ends if number)
    generation = "" if summary.generation is None else f", generation {summary.generation}"
    progress = f"{format_count(summary.evaluations, 'config')} in {format_duration(summary.elapsed_s)}{generation}"
    rows = [
        ("state", f"{summary.state}, {format_count(summary.events, 'event')}{often}"),
        ("progress", progress + (f", {summary.pending:,} pending" if summary.pending else "")),
    ]
    if summary.result is None:
        rows.append(("outcomes", format_counts(summary.counts)))
    return rows


def _shorten_lists(settings: dict[str, Any]) -> dict[str, Any]:
    """Long lists, such as the configs of finite_search, by their length alone."""
    long = {name: value for name, value in settings.items() if isinstance(value, list | tuple) and len(value) > 4}
    return {**settings, **{name: f"<{len(value)} entries>" for name, value in long.items()}}


def _pairs(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


# Recordings


class Optimum(Struct, frozen=True):
    """The best recorded point. time_ms: null where it was not ranked by its time; `quantiles` has its value then."""

    config: Config
    time_ms: float | None
    key: str


class RecordingSummary(Struct, frozen=True, kw_only=True):
    """The fields that `show --json` prints of a recording; see docs/reference/command_line.md."""

    kind: Literal["recording"]
    path: str
    name: str
    kernel: str
    device: str
    problem: str
    parameters: dict[str, tuple[Any, ...]]
    constraints: tuple[str, ...]
    points: int
    product: int
    partial: bool
    repeats: float
    counts: dict[str, int]
    optimum: Optimum | None
    quantiles_ms: dict[str, float]
    objective: Objective
    quantiles: dict[str, float]


def _show_recording(path: Path, objective: str | None, direction: str | None, as_json: bool) -> Config | None:
    """Print the summary of a recording; returns the best config, None if nothing was timed. Raises RecordingError."""
    recording = load_recording(path, objective=objective, direction=parse_direction(direction))
    summary = _summarise_recording(path, recording)
    if as_json:
        print_json(summary)
    else:
        _print_recording(summary)
    return None if summary.optimum is None else summary.optimum.config


def _summarise_recording(path: Path, recording: Recording) -> RecordingSummary:
    times, ranked = recording.time_ms[recording.timed], recording.objective
    outcomes = Counter(recording.failure(row) or "timed" for row in range(len(recording)))
    optimum: Optimum | None = None
    quantiles: dict[str, float] = {}
    if len(times):
        row = int(np.flatnonzero(recording.timed)[np.argmin(times)])
        least = float(times.min())
        optimum = Optimum(recording.config(row), least if ranked.is_time else None, recording.key(row))
        quantiles = {f"{q:g}": float(t) for q, t in zip(_QUANTILES, np.quantile(times, _QUANTILES), strict=True)}
    return RecordingSummary(
        kind="recording",
        path=str(path),
        name=recording.name,
        kernel=recording.kernel,
        device=recording.device,
        problem=recording.problem,
        parameters=dict(zip(recording.parameters, recording.values, strict=True)),
        constraints=recording.constraints,
        points=len(recording),
        product=min(recording.product, _MAX_COUNT),
        partial=recording.partial,
        repeats=len(recording.samples_ms) / max(len(times), 1),
        counts=dict(outcomes.most_common()),
        optimum=optimum,
        quantiles_ms=quantiles if ranked.is_time else {},
        objective=ranked,
        quantiles={q: ranked.value(cost) for q, cost in quantiles.items()},
    )


def _print_recording(summary: RecordingSummary) -> None:
    rows = [("recording", summary.name), ("kernel", summary.kernel), ("device", summary.device)]
    rows += [("problem", summary.problem), ("points", _points(summary)), ("outcomes", format_counts(summary.counts))]
    ranked = summary.objective
    if ranked != Objective():
        rows.append(("objective", f"{ranked.name}, {ranked.direction} is better"))
    rows += [("where", text) for text in summary.constraints]
    print_labelled([row for row in rows if row[1]])
    print()
    optimum = summary.optimum
    fastest = Config() if optimum is None else optimum.config
    best = {name: format_value(value) for name, value in fastest.items()}
    print_table(
        ("parameter", "best", "values"),
        [(name, best.get(name, "-"), _values(values)) for name, values in summary.parameters.items()],
    )
    if optimum is None:
        return
    print()
    costs = {q: ranked.cost(value) for q, value in summary.quantiles.items()}
    least = min(costs.values())
    spread = [(_quantile(q, ranked), f"{ranked.text(cost)}  {cost / least:.3g}x") for q, cost in costs.items()]
    print_labelled([*spread, ("config", optimum.config.to_json())])


def _points(summary: RecordingSummary) -> str:
    share = "all" if summary.points == summary.product else f"of {summary.product:,}"
    cut = "; the file was cut off" if summary.partial else ""
    repeats = f", {summary.repeats:.3g} repeats each" if summary.repeats else ""
    return f"{summary.points:,} ({share} combinations of values){repeats}{cut}"


def _quantile(q: str, ranked: Objective) -> str:
    best, worst = ("fastest", "slowest") if ranked.is_time else ("best", "worst")
    return {"0": "optimum", "0.5": "median", "1": worst}.get(q, f"{best} {float(q):.0%}")


def _values(values: tuple[Any, ...]) -> str:
    texts = [format_value(value) for value in values]
    return ", ".join(texts if len(texts) <= 12 else [*texts[:8], "…", texts[-1]])

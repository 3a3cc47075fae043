"""The summary of a journal, finished or not: what is searched, how far it got, and what it has found."""

import warnings
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from autotune.cli.output import print_json, print_labelled
from autotune.cli.summary import counts_text, print_config, result_fields, result_rows
from autotune.core.config import Config
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Finished, Interrupted, Resumed
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, outcome_counts, result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.space_spec import Opaque
from autotune.core.strategies.registry import StrategySpec
from autotune.shell.codec import plan_of_spec
from autotune.shell.formatting import escape_control_lines, format_count, format_duration
from autotune.shell.journal import Journal, read_journal
from autotune.shell.tuning import fold

State = Literal["finished", "interrupted", "unfinished"]


class JournalSummary(Struct, frozen=True):
    """What `show --json` prints of a journal; see docs/command-line.md."""

    kind: Literal["journal"]
    path: str
    state: State
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


def show_journal(path: Path, space: Space | None, as_json: bool) -> Config | None:
    """Print the summary; the best config, if any was timed."""
    journal = read_journal(path)
    plan = _plan(journal, space)
    search = fold(plan, journal.events)
    found = _found(search)
    summary = _summary(journal, search, found)
    if as_json:
        print_json(summary)
    else:
        _print(summary, plan.space, found)
    return None if found is None else found.best.config


def _plan(journal: Journal, space: Space | None) -> Plan:
    """The journal's plan; constraints that are Python functions are left out where no problem file has them."""
    spec = journal.header.plan
    expressible = tuple(c for c in spec.space.constraints if not isinstance(c, Opaque))
    if space is not None or len(expressible) == len(spec.space.constraints):
        return journal.plan(space)
    warnings.warn(
        f"{journal.path}: its space has constraints that are Python functions, which a journal does not hold, so the "
        "pick among equally fast configs may differ; name the problem's file with --problem",
        stacklevel=2,
    )
    return plan_of_spec(spec, Space.from_spec(msgspec.structs.replace(spec.space, constraints=expressible)))


def _found(search: Search) -> Result | None:
    try:
        return result(search)
    except TuningFailed:
        return None


def _state(search: Search) -> State:
    if search.interrupted:
        return "interrupted"
    done = search.concluded is not None and isinstance(request(search), Finished)
    return "finished" if done else "unfinished"


def _summary(journal: Journal, search: Search, found: Result | None) -> JournalSummary:
    header, space = journal.header, search.plan.space
    return JournalSummary(
        kind="journal",
        path=str(journal.path),
        state=_state(search),
        space={
            "fingerprint": header.plan.fingerprint,
            "size": min(space.size, 2**63 - 1),
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
        result=None if found is None else result_fields(found),
    )


def _print(summary: JournalSummary, space: Space, found: Result | None) -> None:
    print(escape_control_lines(repr(space)))
    print()
    print_labelled([*_plan_rows(summary), *_progress_rows(summary)])
    if found is None:
        return
    print()
    print_config(found.best.config, None if found.default is None else found.default.config)
    print()
    print_labelled([*result_rows(found), ("config", found.best.config.to_json())])


def _plan_rows(summary: JournalSummary) -> list[tuple[str, str]]:
    budget = _pairs(msgspec.to_builtins(summary.budget))
    rows = [
        ("journal", summary.path),
        ("strategy", f"{summary.strategy.name} {_pairs(_brief(summary.strategy.settings))}".rstrip()),
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
        rows.append(("outcomes", counts_text(summary.counts)))
    return rows


def _brief(settings: dict[str, Any]) -> dict[str, Any]:
    """Long lists, such as the configs of finite_search, by their length alone."""
    long = {name: value for name, value in settings.items() if isinstance(value, list | tuple) and len(value) > 4}
    return {**settings, **{name: f"<{len(value)} entries>" for name, value in long.items()}}


def _pairs(fields: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())

"""`autotune tune FILE[:NAME]`: search, as the problem says unless the options say otherwise."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from autotune.cli import ExitCode, options
from autotune.cli.output import note
from autotune.cli.problem_file import DEFAULT_NAME, load_problem, load_strategy, split_target
from autotune.cli.results import run_search
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.formatting import format_count
from autotune.core.search.plan import Settings, as_budget
from autotune.core.search.result import Result, TuningFailed
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell import tuning
from autotune.shell.existing_journal import number_path
from autotune.shell.files import check_writable
from autotune.shell.settings import OnExisting, environment
from autotune.shell.tuning import Problem


def tune(
    target: options.Target,
    strategy: options.StrategyName = None,
    effort: Annotated[str | None, typer.Option(help="none, quick or full.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Measure at most so many configs.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Take at most so long, verification included.")] = None,
    generations: Annotated[int | None, typer.Option(help="At most so many batches of the strategy.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of all that is random.")] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="A new file for the journal.", show_default="FILE.journal.jsonl here, or FILE-2, FILE-3, …"),
    ] = None,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="Write no journal; no resume, no replay.")] = False,
    on_existing: Annotated[
        OnExisting, typer.Option(help="What to do where that file exists; `new` writes to FILE-2, FILE-3, …")
    ] = "error",
    settings: options.Set = None,
    seed_configs: Annotated[
        list[str] | None, typer.Option("--seed-config", metavar="JSON|@PATH", help="A config to try first; repeatable.")
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(
            "--seeds", metavar="FILE", help="Configs to try first: a file that `autotune import` writes or reads."
        ),
    ] = None,
    save_config: options.SaveConfig = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Use the results and measurements in the cache, and add to them.")
    ] = False,
    cache_dir: options.CacheDir = None,
    force: Annotated[bool, typer.Option("--force", help="Use the cache, but ignore and replace its result.")] = False,
    as_json: options.AsJson = False,
    progress: options.ShowProgress = None,
) -> ExitCode:
    """Find the fastest config of the problem in a Python file.

    The journal is written as the search goes: `autotune resume` continues it after a kill, a crash or Ctrl-C.
    """
    if journal is not None and no_journal:
        raise PlanError("--journal and --no-journal contradict each other; give one of them")
    if save_config is not None:
        check_writable(save_config)
    own_settings = options.parse_settings(settings or ())
    first = [options.parse_config(text) for text in seed_configs or ()]
    problem = load_problem(target)
    limits = {"evaluations": evaluations, "seconds": seconds, "generations": generations}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    chosen = replace(
        _with_strategy(problem, None if strategy is None else load_strategy(strategy), own_settings),
        effort=effort or problem.effort,
        budget=msgspec.structs.replace(as_budget(problem.budget), **given) if given else problem.budget,
        seed=problem.seed if seed is None else seed,
        seeds=(
            *({**(problem.space.default or {}), **config} for config in first),
            *(() if seeds is None else _load_seeds(seeds, problem, progress)),
            *problem.seeds,
        ),
    )
    path = None if no_journal else journal or _new_journal(target, latest=on_existing == "continue")
    if journal is not None and on_existing == "new" and os.path.lexists(journal):
        path = number_path(journal)
    wanted: Path | bool | None = cache_dir or cache or force or None
    return run_search(
        lambda: _tune(
            chosen, path, progress=options.searching_progress(progress), cache=wanted,
            cache_use="force" if force else None, on_existing=on_existing,
        ),
        target=target, journal=path, as_json=as_json, save=save_config, progress=progress,
    )  # fmt: skip


def _new_journal(target: str, latest: bool = False) -> Path:
    """FILE.journal.jsonl in the working directory (FILE-NAME for a named problem), numbered if that is taken.

    In the directory that AUTOTUNE_LOG names, where it names one. latest: the last one that exists, if there is one.
    """
    path, name = split_target(target)
    folder = (environment().log or Path()).expanduser()
    stem = path.stem if name == DEFAULT_NAME else f"{path.stem}-{name}"
    number, chosen, last = 1, folder / f"{stem}.journal.jsonl", None
    while os.path.exists(chosen):
        number, last = number + 1, chosen
        chosen = folder / f"{stem}-{number}.journal.jsonl"
    return last if latest and last is not None else chosen


def _load_seeds(path: Path, problem: Problem, progress: bool | None) -> tuple[Config, ...]:
    """The configs of a file that are points of the problem's space; a warning names the others."""
    from autotune.interop.seed_configs import load_seeds

    found = load_seeds(path, problem.space)
    note(f"{format_count(len(found), 'seed')} from {path}", progress)
    return found.configs


def _with_strategy(problem: Problem, strategy: str | None, settings: dict[str, Any]) -> Problem:
    """The problem with these settings; its settings of the strategy that --strategy replaces are left out."""
    kept = dict(problem.settings)
    if strategy is not None and strategy != (problem.strategy or DEFAULT_STRATEGY):
        kept = {name: value for name, value in kept.items() if name in Settings.__struct_fields__}
    return replace(problem, strategy=strategy or problem.strategy, settings={**kept, **settings})


def _tune(problem: Problem, journal: Path | None, **options: Any) -> Result:
    """The search of a problem, with more of the arguments of `tune`."""
    existed = journal is not None and os.path.exists(journal)
    try:
        return tuning.tune(
            problem.space,
            problem.evaluator,
            problem.strategy,
            effort=problem.effort,
            budget=problem.budget,
            seed=problem.seed,
            journal=journal or False,
            seeds=problem.seeds,
            settings=problem.settings,
            **options,
        )
    except TuningFailed:
        raise
    except Exception:  # the evaluator, the user's or ours, could not start
        if journal is not None and not existed:
            with suppress(OSError):  # a journal without a measurement goes: the same command can be given again
                if b'"observed"' not in journal.read_bytes():
                    journal.unlink()
        raise

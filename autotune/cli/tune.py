"""`autotune tune FILE[:NAME]`: search, with what the problem says unless the options say otherwise."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from autotune.cli.options import AsJson, SaveConfig, ShowProgress, Target, parsed_config, parsed_settings
from autotune.cli.output import stdout_for_results
from autotune.cli.problem_file import DEFAULT_NAME, load_problem, split_target
from autotune.cli.searching import searched
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.search.plan import Budget, Settings
from autotune.shell import tuning
from autotune.shell.files import check_writable
from autotune.shell.problem import Problem


def tune(
    target: Target,
    strategy: Annotated[str | None, typer.Option(help="The strategy's name.")] = None,
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
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy or of the search; repeatable."),
    ] = None,
    seed_configs: Annotated[
        list[str] | None,
        typer.Option("--seed-config", metavar="JSON|@PATH", help="A config to try first; repeatable."),
    ] = None,
    save_config: SaveConfig = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> int:
    """Find the fastest config of the problem in a Python file.

    The journal is written as the search goes: `autotune resume` continues it after a kill, a crash or Ctrl-C.
    """
    if journal is not None and no_journal:
        raise PlanError("--journal and --no-journal contradict each other; give one of them")
    if save_config is not None:
        check_writable(save_config)
    own, configs = parsed_settings(settings or ()), tuple(map(parsed_config, seed_configs or ()))
    with stdout_for_results():
        problem = load_problem(target)
    changed = {"evaluations": evaluations, "seconds": seconds, "generations": generations}
    budget = _replaced(problem.budget, {name: value for name, value in changed.items() if value is not None})
    default = problem.space.default or Config()
    path = None if no_journal else journal or free_journal(target)
    return searched(
        lambda: tuning.tune(
            problem.space,
            problem.evaluator,
            strategy or problem.strategy,
            effort=effort or problem.effort,
            budget=budget,
            seed=problem.seed if seed is None else seed,
            journal=path,
            seeds=(*({**default, **config} for config in configs), *problem.seeds),
            settings={**_kept(problem, strategy), **own},
            progress=progress,
        ),
        target=target, journal=path, as_json=as_json, save=save_config, progress=progress,
    )  # fmt: skip


def free_journal(target: str) -> Path:
    """FILE.journal.jsonl in the working directory (FILE-NAME for a named problem), numbered if that is taken."""
    path, name = split_target(target)
    stem = path.stem if name == DEFAULT_NAME else f"{path.stem}-{name}"
    number, chosen = 1, Path(f"{stem}.journal.jsonl")
    while chosen.exists():
        number += 1
        chosen = Path(f"{stem}-{number}.journal.jsonl")
    return chosen


def _replaced(budget: Budget, changed: dict[str, Any]) -> Budget:
    return msgspec.structs.replace(budget, **changed)


def _kept(problem: Problem, strategy: str | None) -> dict[str, Any]:
    """The problem's settings; those of its strategy only if that is the one to be used."""
    if strategy is None or strategy == problem.strategy:
        return dict(problem.settings)
    return {name: value for name, value in problem.settings.items() if name in Settings.__struct_fields__}

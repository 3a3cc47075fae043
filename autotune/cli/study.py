"""`autotune study SPEC`: compare strategies on recorded spaces, as a file says."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from autotune.cli.options import AsJson, ShowProgress, parse_settings
from autotune.cli.output import note, print_json, print_labelled
from autotune.cli.problem_file import load_own_strategy
from autotune.shell.tables import print_table
from autotune.studies.report import write_study
from autotune.studies.runner import RunProgress, ignore_progress, run_study
from autotune.studies.spec import load_study
from autotune.studies.tables import SHOWN_MARK, own_time_table, short_tables, study_tables


def study(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The study: a .toml or .json file.")],
    jobs: Annotated[int, typer.Option(min=1, help="How many processes run it.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of its runs and tables; an interrupted study goes on.", show_default="SPEC-study"
        ),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="The folder of the recordings.", show_default="that of SPEC")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=V1,V2,…", help="Run strategies with each value of a setting; repeatable."),
    ] = None,
    strategies: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="FILE.py:CLASS",
            help="Your own strategy's class in a file, so that SPEC can name it by its class; repeatable.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, in place of the number in SPEC.")] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Compare strategies on recordings, as a study file says.

    Scores as in Willemsen et al. (2024). Runs that are finished are not run again. The folder receives
    tables, figures and one HTML report.
    """
    loaded = load_study(spec)
    for text in strategies or ():
        load_own_strategy(text)
    loaded = replace(loaded, sweep={**loaded.sweep, **parse_sweep(sweep or ())})
    if seeds is not None:
        loaded = replace(loaded, seeds=seeds)
    folder = out or Path(f"{spec.stem}-study")
    try:
        with _show_progress(progress) as watch:
            result = run_study(loaded, recordings or spec.parent, out=folder, jobs=jobs, progress=watch)
    except KeyboardInterrupt:
        print(f"autotune: stopped; the same command goes on with the runs in {folder}", file=sys.stderr)
        raise
    tables = study_tables(result)
    notes = write_study(result, tables, folder)
    if as_json:
        print_json({table.name: [dict(zip(table.header, row, strict=True)) for row in table.rows] for table in tables})
    else:
        at_end = isinstance(loaded.evaluations, int) and loaded.evaluations < SHOWN_MARK
        for table in (*short_tables(tables, at_end), own_time_table(result)):
            print(f"\n{table.title}\n")
            print_table(table.header, table.rows)
        print()
        print_labelled(
            [
                ("P", "0: as good as random search, 1: the optimum at once; low and high: its 95 % interval"),
                ("report", str(folder / "report.html")),
            ]
        )
    for text in notes:
        note(text, progress)


def parse_sweep(texts: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """KEY=V1,V2 texts as settings with their values; each is JSON, and a string where it is not."""
    settings: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        for key, value in parse_settings([text]).items():
            parts = value.split(",") if isinstance(value, str) else [text.partition("=")[2]]
            settings[key] = tuple(parse_settings([f"{key}={part}"])[key] for part in parts)
    return settings


@contextmanager
def _show_progress(progress: bool | None) -> Iterator[RunProgress]:
    """Show a bar on stderr, where asked for or on a terminal."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

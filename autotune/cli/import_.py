"""`autotune import FILE [OUT]`: configs and measurements of other libraries, to begin a search with or to keep."""

import os
from pathlib import Path
from typing import Annotated

import typer

from autotune.cli.options import AsJson, BetterDirection, ObjectiveName, parse_direction, parse_pairs
from autotune.cli.output import note, print_json, print_labelled
from autotune.cli.problem_file import load_problem
from autotune.core.errors import PlanError
from autotune.core.formatting import format_count, format_milliseconds
from autotune.interop.seed_configs import AT_MOST, SeedConfigs, fit_seeds, read_seeds, rename_configs, write_seeds
from autotune.interop.tuned_configs import FORMATS, Format, TunedConfigs
from autotune.shell.tables import print_table
from autotune.studies.recordings import load_recording, write_recording

_MAX_SHOWN = 20
"""Configs that the table shows; --json has them all."""


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Tuned configs of vLLM, SGLang, fla, FlashInfer or Triton; or a recording."
        ),
    ],
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="A file for the seeds, or for the recording in our format.")
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem", metavar="FILE[:NAME]", help="Only configs of this problem's space, and as it has them."
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help=f"One of {', '.join(FORMATS)}; else told by content.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="LABEL=VALUE", help="Only configs tuned for this, as M=16; repeatable."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="THEIRS=OURS", help="Their name of a parameter, and the space's; repeatable."),
    ] = None,
    at_most: Annotated[
        int | None,
        typer.Option("--at-most", min=1, help=f"At most so many seeds; for a problem, {AT_MOST} if not given."),
    ] = None,
    objective: ObjectiveName = None,
    direction: BetterDirection = None,
    as_json: AsJson = False,
) -> None:
    """Read tuned configs or a recording of another library, to begin a search with or to keep.

    With OUT, tuned configs are written as seeds, which `autotune tune FILE --seeds OUT` takes, and a recording in our
    own format; with --problem, the best of a recording are seeds too.
    """
    found = read_seeds(file, parse_format(format), objective=objective, direction=parse_direction(direction))
    chosen = found.where(parse_pairs(where or (), "--where", "M=16"))
    names = parse_pairs(rename or (), "--rename", "BLOCK_SIZE_M=BLOCK_M")
    fitted: SeedConfigs | None = None
    if problem is not None:
        fitted = fit_seeds(chosen, load_problem(problem).space, rename=names, at_most=at_most or AT_MOST)
    written = ""
    if out is not None and os.path.exists(out) and os.path.exists(file) and os.path.samefile(out, file):
        raise PlanError(f"{out} is the file that is read; name another one to write")
    if out is not None and (fitted is not None or found.format != "recording"):
        configs = fitted.configs if fitted is not None else rename_configs(chosen, names)[:at_most]
        write_seeds(configs, out, str(file))
        written = f"{format_count(len(configs), 'seed')} in {out}"
    elif out is not None:
        if names or at_most is not None:
            raise PlanError(f"{file} is a recording, and written whole; give --problem to take seeds from it")
        recording = load_recording(file, objective=objective, direction=parse_direction(direction))
        write_recording(recording, out)
        written = f"{format_count(len(recording), 'point')} in {out}"
    if as_json:
        entries = [{"labels": e.labels, "config": e.config, "time_ms": e.time_ms} for e in chosen.entries]
        seeds = (
            None if fitted is None else {"configs": fitted.configs, "left_out": fitted.left_out, "notes": fitted.notes}
        )
        fields = {"file": str(file), "format": chosen.format, "about": chosen.about, "entries": entries}
        print_json({**fields, "seeds": seeds, "out": None if out is None else str(out)})
    else:
        _print_configs(chosen, fitted, written)


def parse_format(text: str | None) -> Format | None:
    """The format that an option names; raises PlanError for another word."""
    if text is not None and text not in FORMATS:
        raise PlanError(f"--format {text}: unknown; use one of {', '.join(FORMATS)}")
    return text


def _print_configs(found: TunedConfigs, fitted: SeedConfigs | None, written: str) -> None:
    rows = [("file", found.path), ("format", found.format), *found.about.items()]
    rows.append(("configs", f"{len(found.entries):,}"))
    if fitted is not None:
        rows.append(("seeds", f"{len(fitted)} fit the problem's space"))
        rows += [("not taken", text) for text in fitted.left_out] + [("note", text) for text in fitted.notes]
    if written:
        rows.append(("written", written))
    print_labelled(rows)
    print()
    if fitted is not None:
        print_table(("seed",), [(config.to_json(),) for config in fitted])
        return
    shown = found.entries[:_MAX_SHOWN]
    labels = list(dict.fromkeys(label for entry in shown for label in entry.labels))
    timed = any(entry.time_ms is not None for entry in shown)
    print_table(
        (*labels, *(("time",) if timed else ()), "config"),
        [
            (
                *(str(entry.labels.get(label, "")) for label in labels),
                *((format_milliseconds(entry.time_ms) if entry.time_ms is not None else "-",) if timed else ()),
                entry.config.to_json(),
            )
            for entry in shown
        ],
    )
    if len(found.entries) > _MAX_SHOWN:
        note(f"{len(found.entries) - _MAX_SHOWN:,} more configs; --json prints them all", True)

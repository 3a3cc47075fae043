"""`autotune record FILE[:NAME] OUT`: measure every config of a problem's space."""

from pathlib import Path
from typing import Annotated

import typer

from autotune.cli import ExitCode
from autotune.cli.options import AsJson, ShowProgress, Target, searching_progress
from autotune.cli.output import print_json, print_labelled, stdout_for_results
from autotune.cli.problem_file import load_problem
from autotune.studies.record import record_space
from autotune.studies.recordings.files import check_name


def record(
    target: Target,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The recording to write: NAME.json or NAME.json.gz.")],
    kernel: Annotated[str, typer.Option(help="The kernel, for the header.")] = "",
    device: Annotated[str, typer.Option(help="The device, for the header.")] = "",
    problem_size: Annotated[str, typer.Option(help="The problem's size, for the header.")] = "",
    seed: Annotated[int, typer.Option(help="The order in which configs are measured.")] = 0,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> ExitCode:
    """Measure every valid config of a problem's space, and write the recording.

    After a kill or Ctrl-C the same command goes on where it was, from OUT.journal.jsonl.
    """
    check_name(out)
    problem = load_problem(target)
    with stdout_for_results():
        recording = record_space(
            problem.space, problem.evaluator, out, kernel=kernel, device=device, problem=problem_size, seed=seed,
            progress=searching_progress(progress),
        )  # fmt: skip
    timed = int(recording.timed.sum())
    if as_json:
        print_json({"recording": str(out), "points": len(recording), "timed": timed, "partial": recording.partial})
    else:
        print_labelled(
            [
                ("recording", str(out)),
                ("points", f"{len(recording):,}" + (", not all of the space yet" if recording.partial else "")),
                ("failed", f"{len(recording) - timed:,}"),
                ("optimum", f"{recording.optimum_ms:.6g} ms" if timed else "nothing was timed"),
            ]
        )
    return ExitCode.INTERRUPTED if recording.partial else ExitCode.DONE

"""`autotune simulate RECORDING`: search a recorded space instead of a device, once a seed."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from autotune.cli.options import AsJson, BetterDirection, ObjectiveName, Set, parse_direction, parse_settings
from autotune.cli.output import print_json, print_labelled
from autotune.cli.problem_file import load_strategy
from autotune.core.errors import PlanError
from autotune.core.search.result import TuningFailed, result
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell.codec import encode
from autotune.shell.evaluators.simulated import Disturbance, Noise, SimulatedEvaluator
from autotune.shell.files import suffix_conflict, translate_os_error, why_unwritable, write_output
from autotune.shell.tables import print_table
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.recordings.load import locate_recording
from autotune.studies.simulation import SimulatedRun, Simulation
from autotune.studies.simulation import simulate as simulate_run
from autotune.studies.tables import warm_medians_ms

_NOISY_COLUMNS = ("picked ms", "speed-up", "low", "high", "true speed-up")
_COLUMNS = ("seed", "evaluated", "failed", "best {}", "optimum/best", "to 5 %", "ended by itself", "ms each")


def simulate(
    recording: Annotated[
        Path, typer.Argument(help="A recording: of Kernel Tuner, T4, KTT or our own, gzip or not; or builtin:NAME.")
    ],
    evaluations: Annotated[int, typer.Option(help="Measure at most so many configs in each run.")],
    strategies: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME|FILE.py:CLASS",
            help="The strategy's name, or your own strategy's class in a file; repeatable.",
            show_default=DEFAULT_STRATEGY,
        ),
    ] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="A seed; repeatable, one run each.")] = None,
    traces: Annotated[Path | None, typer.Option(help="Overwrite this file with one JSON line a run.")] = None,
    settings: Set = None,
    effort: Annotated[str, typer.Option(help="quick or full.")] = "full",
    batch: Annotated[
        int | None,
        typer.Option(help="Ask for so many configs at a time and wait for all; else workers are kept busy."),
    ] = None,
    noise: Annotated[Noise, typer.Option(help="off, or resample: draw from the recorded repeats.")] = Noise.OFF,
    disturb: Annotated[
        list[str] | None,
        typer.Option(
            "--disturb",
            metavar="KEY=SIZE",
            help="Noise, outliers, drift and carry-over, such as jitter=0.01; repeatable: "
            "see docs/reference/evaluators.md.",
        ),
    ] = None,
    compile_workers: Annotated[int, typer.Option(help="How many configs compile at a time.")] = 1,
    devices: Annotated[int, typer.Option(help="How many configs run at a time.")] = 1,
    objective: ObjectiveName = None,
    direction: BetterDirection = None,
    as_json: AsJson = False,
) -> None:
    """Search a recorded space; no device is needed, and no time passes.

    Only recorded points are ever proposed. The numbers are exact unless --noise or --disturb says otherwise; then the
    table compares the time of the pick, verified if --set verify_rounds=31 says so, with the true one.
    """
    names = [load_strategy(name) for name in strategies or [DEFAULT_STRATEGY]]
    own_settings, disturbance = parse_settings(settings or ()), _parse_disturbance(disturb or ())
    loaded = load_recording(recording, objective=objective, direction=parse_direction(direction))
    simulation = Simulation.of(loaded)
    _check_traces(traces, recording)
    runs: list[SimulatedRun] = []
    try:
        for strategy, seed in product(names, seeds or [0]):
            evaluator = SimulatedEvaluator(
                simulation.table, compile_workers, devices, noise=noise, seed=seed, batch=batch, disturbance=disturbance
            )
            run = simulate_run(
                simulation, strategy, evaluations=evaluations, seed=seed, effort=effort, settings=own_settings,
                evaluator=evaluator,
            )  # fmt: skip
            runs.append(run)
    finally:
        if traces is not None:
            with translate_os_error(PlanError, f"the traces cannot be written to {traces}", "name another file"):
                write_output(traces, b"".join(encode(run.trace) + b"\n" for run in runs))
    _print_runs(simulation.recording, runs, as_json)


def _parse_disturbance(texts: Iterable[str]) -> Disturbance:
    """KEY=SIZE texts as a disturbance; raises PlanError or EvaluatorError."""
    given = parse_settings(texts, "--disturb", "jitter=0.01")
    for name, value in given.items():
        if name not in Disturbance.__struct_fields__:
            raise PlanError(f"--disturb {name}: there are {', '.join(Disturbance.__struct_fields__)}")
        if not isinstance(value, int | float):
            raise PlanError(f"--disturb {name}={value}: not a number; write --disturb jitter=0.01, for example")
    return Disturbance(**given)


def _check_traces(path: Path | None, recording: Path) -> None:
    """Raises PlanError, before the runs, where the traces could not be written after them."""
    if path is None:
        return
    why = suffix_conflict(path, ".jsonl", ".json") or why_unwritable(path)
    if why is None and os.path.exists(path) and os.path.samefile(path, locate_recording(recording)):
        why = "it is the recording; name another file"
    if why is not None:
        raise PlanError(f"the traces cannot be written to {path}: {why}")


def _print_runs(recording: Recording, runs: list[SimulatedRun], as_json: bool) -> None:
    rows = [_run_fields(recording, run) for run in runs]
    more = () if runs[0].search.plan.settings.exact else _NOISY_COLUMNS
    ranked, optimum = recording.objective, recording.optimum_ms
    if as_json:
        fields = {"space": recording.name, "optimum_ms": optimum if ranked.is_time else None, "runs": rows}
        print_json({**fields, "objective": ranked, "optimum": ranked.value(optimum)})
        return
    peers = list(dict.fromkeys(run.trace.peer for run in runs))
    print_labelled(
        [
            ("recording", f"{recording.name}, {len(recording):,} points"),
            *([("strategy", peers[0])] if len(peers) == 1 else []),
            ("optimum", f"{ranked.value(optimum):.6g} {ranked.unit or ranked.name}"),
        ]
    )
    hidden = ("best_ms", *(["strategy"] if len(peers) == 1 else []))
    shown = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
    columns = (*(["strategy"] if len(peers) > 1 else []), *_COLUMNS, *more)
    print_table([title.format(ranked.unit or ranked.name) for title in columns], [_format_row(row) for row in shown])


def _run_fields(recording: Recording, run: SimulatedRun) -> dict[str, object]:
    """The results of one run by the recorded times: noise decides the pick, not its quality."""
    row_of = {key: row for row, key in enumerate(recording.keys)}
    rows = np.array([row_of[key] for key in run.trace.keys], np.int64)
    times = np.where(recording.timed[rows], recording.time_ms[rows], np.inf)
    timed = bool(np.isfinite(times).any())
    near = np.flatnonzero(times <= recording.optimum_ms * 1.05)
    fields: dict[str, object] = {
        "strategy": run.trace.peer,
        "seed": run.trace.seed,
        "evaluated": len(rows),
        "failed": int(np.isinf(times).sum()),
        "best_ms": float(times.min()) if timed and recording.objective.is_time else None,
        "best": recording.objective.value(float(times.min())) if timed else None,
        "optimum_over_best": recording.optimum_ms / float(times.min()) if timed else None,
        "evaluations_to_5_percent": int(near[0]) + 1 if len(near) else None,
        "own_end": run.trace.own_end,
        "own_ms_per_evaluation": run.trace.cpu_s / max(len(rows), 1) * 1e3,
    }
    return fields if run.search.plan.settings.exact else {**fields, **_pick_fields(recording, run)}


def _pick_fields(recording: Recording, run: SimulatedRun) -> dict[str, object]:
    """The search's numbers for its pick, and the true ones by the medians of the recorded repeats."""
    names = ("picked_ms", "speedup", "speedup_low", "speedup_high", "true_speedup")
    try:
        found = result(run.search)
    except TuningFailed:
        return dict.fromkeys(names)
    row_of, times = {recording.config(row): row for row in range(len(recording))}, warm_medians_ms(recording)
    best = float(times[row_of[found.best.config]])
    if found.default is None or found.speedup is None:
        return {**dict.fromkeys(names), "picked_ms": best}
    measured = (found.speedup.value, found.speedup.low, found.speedup.high)
    return dict(zip(names, (best, *measured, float(times[row_of[found.default.config]]) / best), strict=True))


def _format_row(fields: dict[str, object]) -> list[str]:
    return [
        "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value).lower()
        for value in fields.values()
    ]

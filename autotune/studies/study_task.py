"""The part of a study that one process works on at a time: one strategy on one recording, a few seeds."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from autotune.core.errors import AutotuneError
from autotune.core.search.result import TuningFailed, result
from autotune.core.strategies.registry import STRATEGIES, register
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.studies.peers import find_peer
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.run_store import RunRecord
from autotune.studies.simulation import Run, Simulation, Trace, simulate
from autotune.studies.study_spec import Case, StudyError, StudySpec

KEPT = 4
"""Recordings that a process keeps; the tasks come recording by recording, so each is loaded about once."""


class Task(Struct, frozen=True):
    """Runs of one case on the recording at `path`; `keys` are their fingerprints, one a seed."""

    path: Path
    case: Case
    evaluations: int
    seeds: tuple[int, ...]
    keys: tuple[str, ...]


@lru_cache(maxsize=KEPT)
def _simulation(path: Path) -> Simulation:
    return Simulation.of(load_recording(path))


def known_strategies() -> dict[str, type[Any]]:
    """What a fresh process must be told so that it knows the strategies users registered."""
    return {name: kind for name, kind in STRATEGIES.items() if not kind.__module__.startswith("autotune.")}


def learn_strategies(strategies: dict[str, type[Any]]) -> None:
    """Register, in a fresh process, what `known_strategies` told."""
    for name, kind in strategies.items():
        register(name, kind)


def perform(spec: StudySpec, task: Task) -> list[RunRecord]:
    """The runs of a task; raises StudyError naming the run in which something went wrong."""
    simulation = _simulation(task.path)
    records = []
    for seed, key in zip(task.seeds, task.keys, strict=True):
        try:
            records.append(_run(spec, task, simulation, seed, key))
        except AutotuneError as error:
            raise StudyError(f"{_place(task, seed)}: {error}") from None
        except Exception as error:
            raise StudyError(f"{_place(task, seed)}: {type(error).__name__}: {error}; mend the strategy") from error
    return records


def _place(task: Task, seed: int) -> str:
    return f"{task.case.label} on {task.path.name}, seed {seed}"


def _run(spec: StudySpec, task: Task, simulation: Simulation, seed: int, key: str) -> RunRecord:
    case, recording = task.case, simulation.recording
    if case.peer:
        peer = find_peer(case.name, case.settings)
        trace = peer.run(simulation, task.evaluations, seed, spec.batch)
        rows = _rows(recording, trace)[: task.evaluations]  # a peer that measures in batches may overshoot
        return _record(case, trace, key, rows, _fastest(recording, rows))
    evaluator = SimulatedEvaluator(
        simulation.table, spec.compile_workers, spec.devices, noise=spec.noise, repeats=spec.repeats, seed=seed,
        batch=spec.batch,
    )  # fmt: skip
    run = simulate(
        simulation, case.name, evaluations=task.evaluations, seed=seed, effort=case.effort, settings=case.settings,
        evaluator=evaluator,
    )  # fmt: skip
    return _record(case, run.trace, key, _rows(recording, run.trace), _picked(simulation, run))


def _record(case: Case, trace: Trace, key: str, rows: tuple[int, ...], picked: int | None) -> RunRecord:
    return RunRecord(
        key, case.label, trace.space, trace.seed, rows, picked, trace.own_end, trace.rejected, trace.cpu_s, trace.wall_s
    )


def _rows(recording: Recording, trace: Trace) -> tuple[int, ...]:
    """The rows of the keys of a trace, each once; StudyError for a key that is none of the recording's."""
    row_of = {key: row for row, key in enumerate(recording.keys)}
    try:
        return tuple(dict.fromkeys(row_of[key] for key in trace.keys))
    except KeyError as error:
        raise StudyError(f"the trace names the point {error}, which is not in {recording.name}") from None


def _fastest(recording: Recording, rows: tuple[int, ...]) -> int | None:
    timed = [row for row in rows if recording.timed[row]]
    return timed[int(np.argmin(recording.time_ms[timed]))] if timed else None


def _picked(simulation: Simulation, run: Run) -> int | None:
    """The point that the search itself takes for the fastest, by what it measured."""
    try:
        return simulation.table.row(result(run.search).best.config)
    except TuningFailed:
        return None

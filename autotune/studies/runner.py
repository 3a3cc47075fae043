"""Runs a study: the runs that are not yet in its file, over processes, then the result of all of it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from autotune.core.errors import AutotuneError
from autotune.core.search.result import TuningFailed, result
from autotune.core.strategies.registry import STRATEGIES, register
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.evaluators.workload import is_importable
from autotune.shell.settings import set_variables
from autotune.studies.peers import PeerFactory, find_peer, register_peer, registered_peers
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.result import Benchmark, StudyResult
from autotune.studies.runs import RunRecord, RunStore, case_digest, recording_digest, run_key
from autotune.studies.scores import Scorer
from autotune.studies.simulation import SimulatedRun, Simulation, Trace, simulate
from autotune.studies.spec import MIN_EVALUATIONS, Case, StudyError, StudySpec, list_cases, recording_paths

_SEEDS_PER_TASK = 5
"""The most runs that a killed study loses, for each process."""

_SIMULATIONS_KEPT = 4
"""Recordings that a process keeps; the tasks come recording by recording, so each is loaded about once."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Each process of a study computes on one thread; with more they would compete for the cores."""

RunProgress = Callable[[int, int], None]
"""Called with the number of runs that are done, and of all."""


def ignore_progress(done: int, total: int) -> None:
    """The `RunProgress` that shows nothing."""


def run_study(
    spec: StudySpec,
    folder: Path | str = ".",
    *,
    out: Path | str | None = None,
    jobs: int = 1,
    progress: RunProgress = ignore_progress,
) -> StudyResult:
    """Run the missing runs of a study, and return all of it.

    folder: where the recordings are. out: a folder whose runs.jsonl keeps finished runs; a study that was cut off goes
    on from it. jobs: processes; 1: in this one. The result depends on none of these, nor on the order of events.
    Raises StudyError, StrategyError or RecordingError before anything runs where the study cannot work.
    """
    if jobs < 1:
        raise StudyError(f"jobs = {jobs}; use at least 1")
    cases = list_cases(spec)
    digests = [case_digest(spec, case) for case in cases]
    benchmarks = tuple(_load_benchmark(spec, path) for path in recording_paths(spec, Path(folder)))
    names = [benchmark.name for benchmark in benchmarks]
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"two recordings are called {name!r}; rename one of the files, or exclude it")
    keys = {
        (case.label, benchmark.name, seed): run_key(digest, benchmark.digest, benchmark.evaluations, seed)
        for benchmark in benchmarks
        for case, digest in zip(cases, digests, strict=True)
        for seed in spec.seed_list
    }
    with RunStore(None if out is None else Path(out) / "runs.jsonl") as store:
        tasks = list(_missing_tasks(spec, cases, benchmarks, keys, set(store.runs)))
        done = len(keys) - sum(len(task.keys) for task in tasks)
        progress(done, len(keys))
        for runs in _run_tasks(spec, tasks, jobs):
            store.add(runs)
            done += len(runs)
            progress(done, len(keys))
        finished = {place: store.runs[key] for place, key in keys.items()}
        return StudyResult(spec=spec, cases=cases, benchmarks=benchmarks, runs=finished)


def _load_benchmark(spec: StudySpec, path: Path) -> Benchmark:
    scorer = Scorer(load_recording(path))
    wanted = max(scorer.baseline.budget, MIN_EVALUATIONS) if spec.evaluations == "methodology" else spec.evaluations
    return Benchmark(
        path=path, digest=recording_digest(path), scorer=scorer, evaluations=min(wanted, len(scorer.recording))
    )


class _Task(Struct, frozen=True, kw_only=True):
    """The part of a study that one process works on at a time: one case on the recording at `path`, a few seeds.

    keys: the fingerprint of the run of each seed.
    """

    path: Path
    case: Case
    evaluations: int
    keys: dict[int, str]


def _missing_tasks(
    spec: StudySpec,
    cases: Sequence[Case],
    benchmarks: Sequence[Benchmark],
    keys: Mapping[tuple[str, str, int], str],
    finished: set[str],
) -> Iterator[_Task]:
    """Recording by recording, so that a process seldom needs another one."""
    for benchmark in benchmarks:
        for case in cases:
            key_of = {seed: keys[case.label, benchmark.name, seed] for seed in spec.seed_list}
            missing = [(seed, key) for seed, key in key_of.items() if key not in finished]
            for i in range(0, len(missing), _SEEDS_PER_TASK):
                some = dict(missing[i : i + _SEEDS_PER_TASK])
                path = benchmark.path.resolve()
                yield _Task(path=path, case=case, evaluations=benchmark.evaluations, keys=some)


def _run_tasks(spec: StudySpec, tasks: list[_Task], jobs: int) -> Iterator[list[RunRecord]]:
    """The runs of each task as it ends; on an error or Ctrl-C the tasks that have not begun are dropped."""
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield _run_task(spec, task)
        return
    context = multiprocessing.get_context("spawn")  # the same everywhere, and safe beside threads
    # A fresh process does not know these by itself.
    users = {name: kind for name, kind in STRATEGIES.items() if not kind.__module__.startswith("autotune.")}
    in_files = {name: place for name, kind in users.items() if (place := _find_by_path(kind)) is not None}
    by_name = {name: kind for name, kind in users.items() if name not in in_files}
    named = {task.case.name for task in tasks}
    known = (by_name, {name: place for name, place in in_files.items() if name in named}, registered_peers())
    with (
        set_variables(dict.fromkeys(_ONE_THREAD, "1")),
        ProcessPoolExecutor(min(jobs, len(tasks)), context, _initialise_process, known) as pool,
    ):
        with _sigint_held_back():
            futures = [pool.submit(_run_task, spec, task) for task in tasks]
        try:
            for future in as_completed(futures):
                if future.exception() is not None:
                    raise _first_error(futures[: futures.index(future) + 1])
                yield future.result()
        except BrokenProcessPool:
            raise StudyError("a process of the study died; run it again, and it goes on where it stopped") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _first_error(futures: Sequence[Future[list[RunRecord]]]) -> BaseException:
    """The error of the first task that failed, in the order of the tasks and not of their ends, so that the same study
    fails with the same words. Tasks begin in order, so that none of these still waits for a process."""
    errors = (future.exception() for future in futures)
    return next(error for error in errors if error is not None)


class _ClassInFile(Struct, frozen=True, kw_only=True):
    """A class of a module that no import finds, such as a file that was executed by its path."""

    module: str
    path: str
    name: str

    def load(self) -> type[Any]:
        """The class; its file is executed where this process has not done so."""
        if self.module not in sys.modules:
            spec = spec_from_file_location(self.module, self.path)
            assert spec is not None, "a Python file"
            assert spec.loader is not None, "a Python file"
            module = module_from_spec(spec)
            sys.modules[self.module] = module
            spec.loader.exec_module(module)
        kind: type[Any] = getattr(sys.modules[self.module], self.name)
        return kind


def _find_by_path(kind: type[Any]) -> _ClassInFile | None:
    """Where a fresh process finds a class that it cannot import; None where it can, or where there is no file."""
    module = sys.modules.get(kind.__module__)
    path = None if module is None else module.__file__
    if module is None or path is None or module.__name__ == "__main__" or is_importable(module):
        return None
    return _ClassInFile(module=module.__name__, path=path, name=kind.__name__)


def _initialise_process(
    strategies: dict[str, type[Any]], in_files: dict[str, _ClassInFile], peers: dict[str, PeerFactory]
) -> None:
    """In a fresh process: register the strategies and peers of the study's process, and end at once, without a word, on
    Ctrl-C and when the study itself was killed."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name, kind in (*strategies.items(), *((name, place.load()) for name, place in in_files.items())):
        register(name, kind)
    for prefix, factory in peers.items():
        register_peer(prefix, factory)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _sigint_held_back() -> Iterator[None]:
    """Processes started meanwhile do not hear of Ctrl-C before they are ready for it; this one hears it at the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _run_task(spec: StudySpec, task: _Task) -> list[RunRecord]:
    """The runs of a task; raises StudyError naming the run in which something went wrong."""
    simulation = _load_simulation(task.path)
    records = []
    for seed, key in task.keys.items():
        place = f"{task.case.label} on {task.path.name}, seed {seed}"
        try:
            records.append(_run(spec, task, simulation, seed, key))
        except AutotuneError as error:
            raise StudyError(f"{place}: {error}") from None
        except Exception as error:
            raise StudyError(f"{place}: {type(error).__name__}: {error}; mend the strategy") from error
    return records


@lru_cache(maxsize=_SIMULATIONS_KEPT)
def _load_simulation(path: Path) -> Simulation:
    return Simulation.of(load_recording(path))


def _run(spec: StudySpec, task: _Task, simulation: Simulation, seed: int, key: str) -> RunRecord:
    case, recording = task.case, simulation.recording
    if case.is_peer:
        peer = find_peer(case.name, case.settings)
        trace = peer.run(simulation, task.evaluations, seed, spec.batch)
        rows = _trace_rows(recording, trace)[: task.evaluations]  # a peer that measures in batches may overshoot
        picked = _fastest(recording, rows)
    else:
        evaluator = SimulatedEvaluator(
            simulation.table, spec.compile_workers, spec.devices, noise=spec.noise, repeats=spec.repeats, seed=seed,
            batch=spec.batch,
        )  # fmt: skip
        run = simulate(
            simulation, case.name, evaluations=task.evaluations, seed=seed, effort=case.effort, settings=case.settings,
            evaluator=evaluator,
        )  # fmt: skip
        trace, rows, picked = run.trace, _trace_rows(recording, run.trace), _pick(simulation, run)
    return RunRecord(
        key=key,
        strategy=case.label,
        recording=trace.space,
        seed=trace.seed,
        rows=rows,
        picked=picked,
        own_end=trace.own_end,
        rejected=trace.rejected,
        cpu_s=trace.cpu_s,
        wall_s=trace.wall_s,
    )


def _trace_rows(recording: Recording, trace: Trace) -> tuple[int, ...]:
    """The rows of the keys of a trace, each once; StudyError for a key that the recording does not have."""
    row_of = {key: row for row, key in enumerate(recording.keys)}
    try:
        return tuple(dict.fromkeys(row_of[key] for key in trace.keys))
    except KeyError as error:
        raise StudyError(f"the trace names the point {error}, which is not in {recording.name}") from None


def _fastest(recording: Recording, rows: tuple[int, ...]) -> int | None:
    timed = [row for row in rows if recording.timed[row]]
    return timed[int(np.argmin(recording.time_ms[timed]))] if timed else None


def _pick(simulation: Simulation, run: SimulatedRun) -> int | None:
    """The row of the config that the search itself picks, by its measurements."""
    try:
        return simulation.table.row(result(run.search).best.config)
    except TuningFailed:
        return None

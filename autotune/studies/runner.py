"""Runs a study: what is not yet in its file, over processes, and the result of all of it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotune.shell.variables import set_variables
from autotune.studies.recordings import load_recording
from autotune.studies.result import Course, StudyResult
from autotune.studies.scores import Judge
from autotune.studies.spec import LEAST, Case, StudyError, StudySpec, cases_of, recording_paths
from autotune.studies.task import (
    RunRecord,
    RunStore,
    Task,
    case_digest,
    file_digest,
    known_strategies,
    learn_strategies,
    perform,
    run_key,
)

CHUNK = 5
"""Seeds in a task: what a killed study loses at most, for each process."""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Each process of a study computes on one thread; they would fight for the cores."""

Progress = Callable[[int, int], None]
"""Told how many runs are done, and of how many."""


def unwatched(done: int, total: int) -> None:
    """Where nobody looks."""


def run_study(
    spec: StudySpec,
    folder: Path | str = ".",
    *,
    out: Path | str | None = None,
    jobs: int = 1,
    progress: Progress = unwatched,
) -> StudyResult:
    """Run what is missing of a study and give all of it.

    folder: where the recordings are. out: a folder whose runs.jsonl keeps finished runs; a study that was cut off goes
    on from it. jobs: processes; 1: in this one. The result depends on none of these, nor on the order of events.
    Raises StudyError, StrategyError or RecordingError before anything runs where the study cannot work.
    """
    if jobs < 1:
        raise StudyError(f"jobs = {jobs}; use at least 1")
    cases = cases_of(spec)
    digests = [case_digest(spec, case) for case in cases]
    courses = tuple(_course(spec, path) for path in recording_paths(spec, Path(folder)))
    names = [course.name for course in courses]
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"two recordings are called {name!r}; rename one of the files, or exclude it")
    planned = {
        (case.label, course.name, seed): run_key(digest, course.digest, course.evaluations, seed)
        for course in courses
        for case, digest in zip(cases, digests, strict=True)
        for seed in spec.seed_list
    }
    with RunStore(None if out is None else Path(out) / "runs.jsonl") as store:
        tasks = list(_tasks(spec, cases, courses, planned, set(store.runs)))
        done = len(planned) - sum(len(task.seeds) for task in tasks)
        progress(done, len(planned))
        for runs in _performed(spec, tasks, jobs):
            store.add(runs)
            done += len(runs)
            progress(done, len(planned))
        return StudyResult(spec, cases, courses, {place: store.runs[key] for place, key in planned.items()})


def _course(spec: StudySpec, path: Path) -> Course:
    judge = Judge(load_recording(path))
    wanted = max(judge.baseline.budget, LEAST) if spec.evaluations == "methodology" else spec.evaluations
    return Course(path, file_digest(path), judge, min(wanted, len(judge.recording)))


def _tasks(
    spec: StudySpec,
    cases: Sequence[Case],
    courses: Sequence[Course],
    planned: dict[tuple[str, str, int], str],
    finished: set[str],
) -> Iterator[Task]:
    """Recording by recording, so that a process seldom needs another one."""
    for course in courses:
        for case in cases:
            keys = {seed: planned[case.label, course.name, seed] for seed in spec.seed_list}
            missing = [seed for seed, key in keys.items() if key not in finished]
            for i in range(0, len(missing), CHUNK):
                seeds = tuple(missing[i : i + CHUNK])
                yield Task(course.path.resolve(), case, course.evaluations, seeds, tuple(keys[s] for s in seeds))


def _performed(spec: StudySpec, tasks: list[Task], jobs: int) -> Iterator[list[RunRecord]]:
    """The runs of each task as it ends; on an error or Ctrl-C what has not begun is dropped."""
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield perform(spec, task)
        return
    context = multiprocessing.get_context("spawn")  # the same everywhere, and safe beside threads
    with (
        set_variables(dict.fromkeys(ONE_THREAD, "1")),
        ProcessPoolExecutor(min(jobs, len(tasks)), context, _prepare, (known_strategies(),)) as pool,
    ):
        with _sigint_held_back():
            futures = [pool.submit(perform, spec, task) for task in tasks]
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
    """The error of the first task that failed, in their order and not in that of their ends, so that the same study
    fails with the same words. Tasks begin in order, so that none of these still waits for a process."""
    errors = (future.exception() for future in futures)
    return next(error for error in errors if error is not None)


def _prepare(strategies: dict[str, type[Any]]) -> None:
    """In a fresh process: end at once, and without a word, on Ctrl-C and when the study itself was killed."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    learn_strategies(strategies)


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

"""The part of a study that one process works on at a time: one strategy on one recording, a few seeds.

Finished runs as JSON lines, so that a study that was cut off goes on where it stopped.

The fingerprint of a run: equal exactly when everything that determines the run is.
"""

import ast
import os
import sys
import warnings
from collections.abc import Iterable
from functools import cache, lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from inspect import getsourcefile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from msgspec import Struct

import autotune
from autotune.core.errors import AutotuneError
from autotune.core.search.result import TuningFailed, result
from autotune.core.strategies.registry import STRATEGIES, register, to_spec
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.files import read_regular
from autotune.studies.peers import find_peer
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.simulation import Run, Simulation, Trace, simulate
from autotune.studies.spec import Case, StudyError, StudySpec, made


class RunRecord(Struct, frozen=True):
    """One run. key: the fingerprint of everything that determines it.

    rows: the points of the recording it measured, in order. picked: the one it would return, None if nothing was timed.
    own_end: it ended by itself. rejected: proposals that were no new point. cpu_s: processor seconds of strategy and
    machine; wall_s: seconds the run took. These two vary from run to run.
    """

    key: str
    strategy: str
    recording: str
    seed: int
    rows: tuple[int, ...]
    picked: int | None
    own_end: bool
    rejected: int
    cpu_s: float
    wall_s: float


_decoder = msgspec.json.Decoder(RunRecord)
_encoder = msgspec.json.Encoder()


class RunStore:
    """The runs of a file, by key; new ones are appended and flushed at once. Without a path nothing is kept.

    Raises StudyError where the file cannot be opened, or a line other than the last is damaged; a torn last line, which
    a killed study leaves, is dropped with a warning.
    """

    def __init__(self, path: Path | None) -> None:
        self.runs: dict[str, RunRecord] = {}
        self._file = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.exists(path):
                read_regular(path, 0)  # a FIFO or a device would be read without end
            self._file = path.open("a+b")
            self._file.seek(0)
            whole = self._read(path, self._file.read())
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise StudyError(f"{path}: cannot be written ({error.strerror or error}); use another --out") from None

    def _read(self, path: Path, content: bytes) -> int:
        """Take in the whole lines; how many bytes they are."""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            warnings.warn(f"{path}: the last line is torn and is run again", stacklevel=3)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                run = _decoder.decode(line)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise StudyError(f"{path}, line {number}: {error}; remove the line, its run is repeated") from None
            self.runs[run.key] = run
        return whole

    def add(self, runs: Iterable[RunRecord]) -> None:
        """Keep finished runs."""
        for run in runs:
            self.runs[run.key] = run
            if self._file is not None:
                self._file.write(_encoder.encode(run) + b"\n")
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


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


SHARED = (
    "core",
    "shell/driver.py",
    "shell/tuning.py",
    "shell/evaluators",
    "studies/simulation.py",
    "studies/recordings",
)
"""What decides which points any search measures, less OWN. A change of any of it makes other runs: better repeated than
stale."""

OWN = ("core/strategies", "core/models", "interop/peers")
"""Of these, a run depends on what its strategy imports, directly or not; so a change of one strategy leaves the runs of
the others as they are."""

LIBRARIES = ("numpy", "scikit-learn")

ROOT = Path(autotune.__file__).parent


@cache
def code_digest(module: str) -> str:
    """Of the library's own source, as far as a search by the strategy in `module` depends on it, and of LIBRARIES."""
    digest = blake2b(digest_size=16)
    shared = {file for source in SHARED for file in _files(ROOT / source) if not _own(file)}
    for file in sorted(shared | _imported(module)):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library} {_version(library)}\0".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return list(path.rglob("*.py")) if path.is_dir() else [path]


def _own(file: Path) -> bool:
    return file.relative_to(ROOT).as_posix().startswith(OWN)


def _imported(module: str) -> set[Path]:
    """The files of OWN that a module consists of and imports, read off their sources: nothing is imported here."""
    found: set[Path] = set()
    left = [module]
    while left:
        file = _file(left.pop())
        if file is None or file in found or not _own(file):
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
    return found


def _file(module: str) -> Path | None:
    """The source of a module of this library."""
    package, *parts = module.split(".")
    path = ROOT.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py") if package == ROOT.name and parts else ()
    return next((file for file in candidates if file.is_file()), None)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def case_digest(spec: StudySpec, case: Case) -> str:
    """Of a strategy with its settings, and of the simulated device, in this study."""
    if case.peer:
        peer = find_peer(case.name, case.settings)
        code = f"{peer.version} {code_digest(type(peer).__module__)}"
        settings: object = case.settings
    else:
        strategy, machine = made(case)
        kind = STRATEGIES[case.name]
        code = f"{code_digest(kind.__module__)} {_outside(kind)}"
        settings = (to_spec(strategy), machine)
    device = (spec.batch, spec.noise, spec.repeats, spec.compile_workers, spec.devices)
    text = msgspec.json.encode((case.name, settings, case.effort, device, code), order="deterministic")
    return blake2b(text, digest_size=16).hexdigest()


def _outside(strategy: type) -> str:
    """The digest of the file of a strategy that somebody else registered."""
    file = getsourcefile(strategy) if not strategy.__module__.startswith("autotune.") else None
    return "" if file is None else blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Of a recording's file."""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def run_key(case: str, recording: str, evaluations: int, seed: int) -> str:
    """The fingerprint of one run, from the digests of its strategy and of its recording."""
    return blake2b(f"{case} {recording} {evaluations} {seed}".encode(), digest_size=16).hexdigest()

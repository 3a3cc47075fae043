"""The finished runs of a study: JSON lines in a file, each under a key made of everything that determines the run.

A study that was cut off goes on from that file, and a run of an older version of a strategy is never taken for one of
the new. The key of our own code is a digest of source files, and not of live functions as `core.identity` makes it: it
covers the driver and the simulated device as well, and the adapter of another tuner must not import that tuner to get a
key. A strategy that a user registered is known by `core.identity`, with all that it reaches.
"""

import ast
import os
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from inspect import getsourcefile
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from autotune.core.identity import identify
from autotune.core.strategies.registry import STRATEGIES, to_spec
from autotune.shell.files import read_regular, translate_os_error
from autotune.shell.warn import warn_user
from autotune.studies.peers import find_peer
from autotune.studies.spec import Case, StudyError, StudySpec, build_case

ROOT = Path(__file__).parents[1]
"""The folder of the package `autotune`."""

_SHARED = (
    "core",
    "shell/driver.py",
    "shell/tuning.py",
    "shell/evaluators",
    "studies/simulation.py",
    "studies/recordings",
)
"""The code that decides which points any search measures, less `_PER_STRATEGY`. A change of it makes other runs: better
repeated than stale."""

_PER_STRATEGY = ("core/strategies", "core/models", "interop/peers")
"""Of this code a run depends on the files that its strategy imports, directly or not; so a change of one strategy
leaves the runs of the others as they are."""

_LIBRARIES = ("numpy", "scikit-learn")


class RunRecord(Struct, frozen=True, kw_only=True):
    """One finished run. key: the fingerprint of everything that determines it.

    rows: the points of the recording it measured, in order. picked: the point it would return, None if nothing was
    timed. own_end: it ended before its evaluations were used up. rejected: proposals that were no new point. cpu_s:
    processor seconds of strategy and search; wall_s: seconds the run took. These two vary from run to run.
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
        with translate_os_error(StudyError, f"{path}: cannot be written", "use another --out"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.exists(path):
                read_regular(path, 0)  # a FIFO or a device would be read without end
            self._file = path.open("a+b")
            self._file.seek(0)
            whole = self._read(path, self._file.read())
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)

    def _read(self, path: Path, content: bytes) -> int:
        """Take in the whole lines; the number of their bytes."""
        decoder = msgspec.json.Decoder(RunRecord)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            warn_user(f"{path}: the last line is torn and is run again")
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                run = decoder.decode(line)
            except (ValueError, RecursionError) as error:
                raise StudyError(f"{path}, line {number}: {error}; remove the line, its run is repeated") from None
            self.runs[run.key] = run
        return whole

    def add(self, runs: Iterable[RunRecord]) -> None:
        for run in runs:
            self.runs[run.key] = run
            if self._file is not None:
                self._file.write(msgspec.json.encode(run) + b"\n")
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def run_key(case: str, recording: str, evaluations: int, seed: int) -> str:
    """The fingerprint of one run, from the digests of its strategy and of its recording."""
    return _digest(f"{case} {recording} {evaluations} {seed}".encode())


def recording_digest(path: Path) -> str:
    return _digest(path.read_bytes())


def case_digest(spec: StudySpec, case: Case) -> str:
    """The digest of a strategy with its settings and its code, and of the simulated device, in this study."""
    if case.is_peer:
        peer = find_peer(case.name, case.settings)
        code = f"{peer.version} {library_digest(type(peer).__module__)} {_foreign_digest(type(peer))}"
        settings: object = case.settings
    else:
        strategy, search_settings = build_case(case)
        kind = STRATEGIES[case.name]
        code = f"{library_digest(kind.__module__)} {_foreign_digest(kind)}"
        settings = (to_spec(strategy), search_settings)
    device = (spec.batch, spec.noise, spec.repeats, spec.compile_workers, spec.devices)
    return _digest(msgspec.json.encode((case.name, settings, case.effort, device, code), order="deterministic"))


def _foreign_digest(kind: type) -> str:
    """The digest of a strategy or a peer that is not part of this library: of all that its class reaches, or, where
    that has no stable digest, of its file."""
    if kind.__module__.startswith("autotune."):
        return ""
    reached = identify(kind)
    file = getsourcefile(kind)
    return reached.digest if reached.portable or file is None else _digest(Path(file).read_bytes())


@cache
def library_digest(module: str) -> str:
    """The digest of this library's source, as far as a search by the strategy in `module` depends on it, and of the
    versions of Python and of `_LIBRARIES`."""
    digest = blake2b(digest_size=16)
    shared = {file for source in _SHARED for file in _files(ROOT / source) if not _is_per_strategy(file)}
    for file in sorted(shared | _imports(module)):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}\0".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def _imports(module: str) -> set[Path]:
    """The files of `_PER_STRATEGY` that a module consists of and imports, by their sources: nothing is imported."""
    found: set[Path] = set()
    left = [module]
    while left:
        file = _source_file(left.pop())
        if file is None or file in found or not _is_per_strategy(file):
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
    return found


def _source_file(module: str) -> Path | None:
    """The source of a module of this library; None for any other."""
    package, *parts = module.split(".")
    path = ROOT.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py") if package == ROOT.name and parts else ()
    return next((file for file in candidates if file.is_file()), None)


def _files(path: Path) -> list[Path]:
    return list(path.rglob("*.py")) if path.is_dir() else [path]


def _is_per_strategy(file: Path) -> bool:
    return file.relative_to(ROOT).as_posix().startswith(_PER_STRATEGY)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()

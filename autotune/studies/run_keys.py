"""The fingerprint of a run: equal exactly when everything that determines the run is."""

import ast
import sys
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from inspect import getsourcefile
from pathlib import Path

import msgspec

import autotune
from autotune.core.strategies.registry import STRATEGIES, to_spec
from autotune.studies.peers import find_peer
from autotune.studies.study_spec import Case, StudySpec, made

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

OWN = ("core/strategies", "core/models", "integrations/peers")
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

"""The fingerprint of a run: equal exactly when everything that determines the run is."""

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

SOURCES = (
    "core",
    "shell/driver.py",
    "shell/tuning.py",
    "shell/evaluators",
    "studies/simulation.py",
    "studies/recordings",
)
"""What decides which points a search measures. A change of any of it makes other runs: better repeated than stale."""

LIBRARIES = ("numpy", "scikit-learn")


@cache
def code_digest() -> str:
    """Of the library's own source, as far as a search depends on it, and of the libraries below."""
    digest = blake2b(digest_size=16)
    root = Path(autotune.__file__).parent
    for source in SOURCES:
        path = root / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library} {_version(library)}\0".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def case_digest(spec: StudySpec, case: Case) -> str:
    """Of a strategy with its settings, and of the simulated device, in this study."""
    if case.peer:
        code = f"{find_peer(case.name, case.settings).version} {_peer_digest()}"
        settings: object = case.settings
    else:
        strategy, machine = made(case)
        code = f"{code_digest()} {_outside(STRATEGIES[case.name])}"
        settings = (to_spec(strategy), machine)
    device = (spec.batch, spec.noise, spec.repeats, spec.compile_workers, spec.devices)
    text = msgspec.json.encode((case.name, settings, case.effort, device, code), order="deterministic")
    return blake2b(text, digest_size=16).hexdigest()


def _peer_digest() -> str:
    folder = Path(autotune.__file__).parent / "integrations" / "peers"
    sources = b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py")))
    return code_digest() + blake2b(sources, digest_size=16).hexdigest()


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

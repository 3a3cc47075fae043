"""Triton's cache while configs are tried: losers go to a folder that is removed, and what is kept to the lasting one.

What was compiled before is found in the lasting cache; what is compiled now is written to the folder. `keep` moves
there what the configs that may be launched later need. In a worker, the environment says where both are
(`environment`); in the program's own process, a context does (`use`), so that its other threads write where they would.
"""

import base64
import fcntl
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.shell.files import replace_file

MANAGER = "TRITON_CACHE_MANAGER"
OTHERS = (MANAGER, "TRITON_REMOTE_CACHE_BACKEND")
LASTING = "_AUTOTUNE_LASTING_TRITON_CACHE"

ROOM = 1 << 30
"""Bytes that must be free for the folder: 1,000 configs take half of it. Otherwise the lasting cache is used."""

FASTEST = 8
"""Of how many configs the kernels are kept where none were compared at the end, as in a search that was cut short."""

LIBRARIES = (".so", ".dylib", ".dll", ".pyd")
"""What Triton builds for all kernels, such as its launcher: that is kept at once."""

_here: ContextVar[tuple[str, list[str]] | None] = ContextVar("triton_session_cache", default=None)
asked: list[str] = []
"""The keys that were asked for in this worker, in order; whoever reads it empties it."""


def lasting_cache(given: str | None) -> str:
    """Where Triton's cache is: as given, or as Triton's settings have it in this process."""
    if given is not None:
        return os.path.abspath(given)
    knobs: Any = getattr(sys.modules.get("triton"), "knobs", None)
    with suppress(Exception):  # of another version
        return os.path.abspath(str(knobs.cache.dir))
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    return os.path.abspath(os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache"))


def environment(folder: str, lasting: str) -> dict[str, str]:
    """What a worker is to be told; nothing where somebody manages Triton's cache in a way of their own."""
    if any(os.environ.get(name) for name in OTHERS) or not _has_room(folder):
        return {}
    return {"TRITON_CACHE_DIR": folder, MANAGER: f"{__name__}:SessionCache", LASTING: lasting}


def _has_room(folder: str) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(os.path.dirname(folder)).free >= ROOM
    return False


def keys_of(hashes: Iterable[str]) -> tuple[str, ...]:
    """The names of the folders in Triton's cache that hold kernels of these hashes."""
    found = []
    for one in hashes:
        with suppress(ValueError):  # of another version
            found.append(base64.b32encode(bytes.fromhex(one)).decode().rstrip("="))
    return tuple(found)


def keep(folder: str, lasting: str, keys: Iterable[str]) -> None:
    """Move kernels from the folder to the lasting cache. What cannot be moved is compiled again when it is launched."""
    for key in dict.fromkeys(keys):
        there = Path(lasting, key)
        with suppress(OSError):
            files = {path.name: path.read_bytes() for path in Path(folder, key).iterdir() if path.is_file()}
            groups = {name: content for name, content in files.items() if name.startswith("__grp__")}
            if not groups or all((there / name).exists() for name in groups):
                continue
            there.mkdir(parents=True, exist_ok=True)
            for name in files.keys() - groups.keys():
                replace_file(there / name, files[name])
            for name, content in groups.items():  # the last, as Triton takes these for the sign that all is there
                replace_file(there / name, _moved(content, there))


def _moved(group: bytes, there: Path) -> bytes:
    """Triton's note of the files that belong together, which has whole paths."""
    with suppress(ValueError, AttributeError, KeyError):
        paths: Mapping[str, str] = json.loads(group)["child_paths"]
        return json.dumps(
            {"child_paths": {name: str(there / Path(path).name) for name, path in paths.items()}}
        ).encode()
    return group


_using, _guard = 0, threading.Lock()


def _forked() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_forked)


PREFIX = "autotune-triton-"


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for `use`, removed at the end; those of processes that were killed are removed as well."""
    parent = tempfile.gettempdir()
    _sweep(parent)
    made = tempfile.mkdtemp(prefix="autotune-", dir=parent)
    alive = os.open(os.path.join(made, "alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    folder = os.path.join(parent, PREFIX + os.path.basename(made).removeprefix("autotune-"))
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)
        os.rename(made, folder)  # under this name only once it is locked
        yield folder
    finally:
        for one in (made, folder):
            shutil.rmtree(one, ignore_errors=True)
        os.close(alive)


def _sweep(parent: str) -> None:
    for folder in Path(parent).glob(f"{PREFIX}*"):
        with suppress(OSError), open(folder / "alive", "rb") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def use(folder: str) -> Iterator[list[str]]:
    """While it lasts, what this thread compiles goes to the folder; gives the keys that it asks for, as it goes on."""
    global _using
    try:
        from triton import knobs

        manager = manager_class()
        own = knobs.cache.manager_class
    except (ImportError, AttributeError):  # a version without these
        yield []
        return
    if (own is not None and own is not manager) or os.environ.get(OTHERS[1]) or not _has_room(folder):
        yield []
        return
    keys: list[str] = []
    with _guard:
        _using += 1
        knobs.cache.manager_class = manager
    before = _here.set((folder, keys))
    try:
        yield keys
    finally:
        _here.reset(before)
        with _guard:
            _using -= 1
            if not _using:
                del knobs.cache.manager_class


_made: list[Any] = []


def manager_class() -> Any:
    """The class that Triton makes for each key that it looks up; Triton is imported for it."""
    if not _made:
        _made.append(_manager_class())
    return _made[0]


def __getattr__(name: str) -> Any:
    if name == "SessionCache":  # what the environment of a worker names
        return manager_class()
    raise AttributeError(name)


def _manager_class() -> Any:
    from triton.runtime.cache import FileCacheManager

    class SessionCache(FileCacheManager):  # type: ignore[misc]
        """Reads what is lasting, writes to the folder."""

        def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
            here, lasting = _here.get(), os.environ.get(LASTING)
            self._lasting: Any = None
            if override or dump or (here is None and lasting is None):
                super().__init__(key, override, dump)
                return
            if here is None:
                asked.append(key)
                super().__init__(key)
                self._lasting = os.path.join(str(lasting), key)
                return
            folder, keys = here
            keys.append(key)
            self._lasting = os.path.join(lasting_cache(None), key)
            self.key = key
            self.cache_dir = os.path.join(folder, key)
            self.lock_path = os.path.join(self.cache_dir, "lock")
            os.makedirs(self.cache_dir, exist_ok=True)

        def get_file(self, filename: str) -> Any:
            """Where a file is, or None."""
            return super().get_file(filename) or self._elsewhere(filename, "get_file")

        def get_group(self, filename: str) -> Any:
            """Where files are that belong together, or None."""
            return super().get_group(filename) or self._elsewhere(filename, "get_group")

        def put(self, data: Any, filename: str, binary: bool = True) -> Any:
            """Write a file; gives where."""
            if self._lasting is None or not filename.endswith(LIBRARIES):
                return super().put(data, filename, binary)
            folder, self.cache_dir = self.cache_dir, self._lasting
            try:
                os.makedirs(self._lasting, exist_ok=True)
                return super().put(data, filename, binary)
            except OSError:  # it is read-only
                self.cache_dir = folder
                return super().put(data, filename, binary)
            finally:
                self.cache_dir = folder

        def _elsewhere(self, filename: str, what: str) -> Any:
            if self._lasting is None:
                return None
            folder, self.cache_dir = self.cache_dir, self._lasting
            try:
                return getattr(super(), what)(filename)
            finally:
                self.cache_dir = folder

    return SessionCache


MANIFEST = "compiled.json"


class CompiledConfig(Struct, frozen=True, omit_defaults=True):
    """verdict: "compiled", or the kind of its failure."""

    config: dict[str, object]
    verdict: str
    seconds: float
    message: str = ""
    details: dict[str, Detail] = {}


class Manifest(Struct, frozen=True):
    """What is in a folder of binaries. folder: where it was when they were written, since Triton notes whole paths."""

    target: str
    folder: str
    configs: tuple[CompiledConfig, ...]


def relocate_binaries(folder: str | os.PathLike[str]) -> None:
    """Where a folder of binaries has moved since it was written, let Triton's notes in it say where they are now."""
    here = Path(folder).absolute()
    try:
        manifest = msgspec.json.decode((here / MANIFEST).read_bytes(), type=Manifest)
    except OSError:
        return
    except msgspec.DecodeError as error:
        raise EvaluatorError(f"{here / MANIFEST} is damaged ({error}); compile again into another folder") from None
    if manifest.folder == str(here):
        return
    for group in here.glob("*/__grp__*"):
        with suppress(OSError, ValueError, AttributeError):
            paths = json.loads(group.read_text())["child_paths"]
            moved = {name: str(group.parent / Path(path).name) for name, path in paths.items()}
            replace_file(group, json.dumps({"child_paths": moved}).encode())
    settled = msgspec.structs.replace(manifest, folder=str(here))
    replace_file(here / MANIFEST, msgspec.json.format(msgspec.json.encode(settled), indent=1))

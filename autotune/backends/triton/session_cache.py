"""Triton's cache during a session: losers go to a folder that is removed, and the winners to the lasting cache.

Triton finds earlier kernels in the lasting cache, and writes new ones to the session's folder.
`keep_kernels` then moves the kernels of the configs that may be launched later to the lasting cache. A worker learns
from its environment where both are (`worker_environment`); in the program's own process a context says it
(`use_folder`), so that other threads of the program write where they would.

A folder of binaries that was compiled ahead has a manifest; `relocate_binaries` lets it be moved.
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
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.shell.files import replace_file

MANAGER = "TRITON_CACHE_MANAGER"
REMOTE = "TRITON_REMOTE_CACHE_BACKEND"
LASTING = "_AUTOTUNE_LASTING_TRITON_CACHE"
"""Environment variables: Triton's for the class that manages its cache, and for a remote one; ours for the place of
the lasting cache."""

FASTEST = 8
"""How many configs keep their kernels where none were compared at the end, as in a search that was cut short."""

_ROOM_BYTES = 1 << 30
"""Bytes that must be free for the folder: 1,000 configs take half of it. Otherwise the lasting cache is used."""

_LIBRARIES = (".so", ".dylib", ".dll", ".pyd")
"""Files that Triton builds for all kernels, such as its launcher; they are kept at once."""

_PREFIX = "autotune-triton-"

requested_keys: list[str] = []
"""The keys that were looked up in this worker, in order; the reader empties it."""


def lasting_cache(folder: str | None) -> str:
    """The place of Triton's cache: this folder, or by Triton's settings in this process."""
    if folder is not None:
        return os.path.abspath(folder)
    knobs: Any = getattr(sys.modules.get("triton"), "knobs", None)
    with suppress(Exception):  # another version of Triton
        return os.path.abspath(str(knobs.cache.dir))
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    return os.path.abspath(os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache"))


def worker_environment(folder: str, lasting: str) -> dict[str, str]:
    """Variables for a worker that writes to the folder; none where the user manages Triton's cache in another way."""
    if os.environ.get(MANAGER) or os.environ.get(REMOTE) or not _has_room(folder):
        return {}
    return {"TRITON_CACHE_DIR": folder, MANAGER: f"{__name__}:SessionCache", LASTING: lasting}


def _has_room(folder: str) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(os.path.dirname(folder)).free >= _ROOM_BYTES
    return False


def keys_of(hashes: Iterable[str]) -> tuple[str, ...]:
    """The names of the folders in Triton's cache that hold kernels of these hashes."""
    found = []
    for one in hashes:
        with suppress(ValueError):  # another version of Triton
            found.append(base64.b32encode(bytes.fromhex(one)).decode().rstrip("="))
    return tuple(found)


def keep_kernels(folder: str, lasting: str, keys: Iterable[str]) -> None:
    """Move kernels from the folder to the lasting cache. A kernel that cannot be moved is compiled again when it is
    launched."""
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
                with suppress(ValueError, AttributeError, KeyError):
                    content = _relocate_group(content, there)
                replace_file(there / name, content)


def _relocate_group(group: bytes, folder: Path) -> bytes:
    """Triton's list of the files that belong together, which has absolute paths, for another folder.

    Raises ValueError, AttributeError or KeyError for another text.
    """
    paths: Mapping[str, str] = json.loads(group)["child_paths"]
    moved = {name: str(folder / Path(path).name) for name, path in paths.items()}
    return json.dumps({"child_paths": moved}).encode()


@contextmanager
def session_folder() -> Iterator[str]:
    """A folder for `use_folder`, removed at the end, as are the folders of processes that were killed."""
    parent = tempfile.gettempdir()
    _remove_abandoned(parent)
    made = tempfile.mkdtemp(prefix="autotune-", dir=parent)
    alive = os.open(os.path.join(made, "alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    folder = os.path.join(parent, _PREFIX + os.path.basename(made).removeprefix("autotune-"))
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)
        os.rename(made, folder)  # under this name only once it is locked
        yield folder
    finally:
        for one in (made, folder):
            shutil.rmtree(one, ignore_errors=True)
        os.close(alive)


def _remove_abandoned(parent: str) -> None:
    for folder in Path(parent).glob(f"{_PREFIX}*"):
        with suppress(OSError), open(folder / "alive", "rb") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


_thread_folder: ContextVar[tuple[str, list[str]] | None] = ContextVar("triton_session_cache", default=None)
"""The folder that this thread writes to, and the keys that it has looked up."""
_users, _guard = 0, threading.Lock()
"""How many threads use a folder now, and the lock on that number."""


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def use_folder(folder: str) -> Iterator[list[str]]:
    """While it lasts, this thread's kernels go to the folder; yields the list of the keys that it looks up."""
    global _users
    try:
        from triton import knobs

        manager = manager_class()
        own = knobs.cache.manager_class
    except (ImportError, AttributeError):  # a version of Triton without these
        yield []
        return
    if (own is not None and own is not manager) or os.environ.get(REMOTE) or not _has_room(folder):
        yield []
        return
    keys: list[str] = []
    with _guard:
        _users += 1
        knobs.cache.manager_class = manager
    before = _thread_folder.set((folder, keys))
    try:
        yield keys
    finally:
        _thread_folder.reset(before)
        with _guard:
            _users -= 1
            if not _users:
                del knobs.cache.manager_class


def __getattr__(name: str) -> Any:
    if name == "SessionCache":  # the name in the environment of a worker
        return manager_class()
    raise AttributeError(name)


@cache
def manager_class() -> Any:
    """The class of the objects that Triton makes for each key that it looks up; imports Triton."""
    from triton.runtime.cache import FileCacheManager

    class SessionCache(FileCacheManager):  # type: ignore[misc]
        """Reads from the lasting cache as well, and writes to the session's folder."""

        def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
            here, lasting = _thread_folder.get(), os.environ.get(LASTING)
            self._lasting: Any = None
            if override or dump or (here is None and lasting is None):
                super().__init__(key, override, dump)
                return
            if here is None:
                requested_keys.append(key)
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
            """The path of a file, or None."""
            return super().get_file(filename) or self._look_up_lasting(filename, "get_file")

        def get_group(self, filename: str) -> Any:
            """The paths of files that belong together, or None."""
            return super().get_group(filename) or self._look_up_lasting(filename, "get_group")

        def put(self, data: Any, filename: str, binary: bool = True) -> Any:
            """Write a file; returns its path."""
            if self._lasting is None or not filename.endswith(_LIBRARIES):
                return super().put(data, filename, binary)
            folder, self.cache_dir = self.cache_dir, self._lasting
            try:
                os.makedirs(self._lasting, exist_ok=True)
                return super().put(data, filename, binary)
            except OSError:  # the lasting cache is read-only
                self.cache_dir = folder
                return super().put(data, filename, binary)
            finally:
                self.cache_dir = folder

        def _look_up_lasting(self, filename: str, method: str) -> Any:
            if self._lasting is None:
                return None
            folder, self.cache_dir = self.cache_dir, self._lasting
            try:
                return getattr(super(), method)(filename)
            finally:
                self.cache_dir = folder

    return SessionCache


MANIFEST = "compiled.json"
"""The file in a folder of binaries that lists them."""


class CompiledConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a manifest. verdict: "compiled", or the kind of the failure."""

    config: dict[str, object]
    verdict: str
    seconds: float
    message: str = ""
    details: dict[str, Detail] = {}


class Manifest(Struct, frozen=True):
    """The content of a folder of binaries. folder: its place when they were written, as Triton notes absolute paths."""

    target: str
    folder: str
    configs: tuple[CompiledConfig, ...]


def relocate_binaries(folder: str | os.PathLike[str]) -> None:
    """Where a folder of binaries has moved since it was written, correct the paths that Triton has noted in it.

    Raises EvaluatorError for a damaged manifest.
    """
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
        with suppress(OSError, ValueError, AttributeError, KeyError):
            replace_file(group, _relocate_group(group.read_bytes(), group.parent))
    settled = msgspec.structs.replace(manifest, folder=str(here))
    replace_file(here / MANIFEST, msgspec.json.format(msgspec.json.encode(settled), indent=1))

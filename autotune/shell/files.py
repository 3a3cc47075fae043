"""Files: paths that users name, writing whole or not at all, reading without waiting, and configs as JSON files."""

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from autotune.core.arguments import argument_error
from autotune.core.config import Config, Value, as_config
from autotune.core.errors import AutotuneError, ConfigError

PathLike = str | os.PathLike[str]


def as_path(given: object, what: str, error: type[AutotuneError]) -> Path:
    """The path of a file or directory; an error that names the argument for any other value."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text or any("\ud800" <= one <= "\udbff" for one in text):
        raise argument_error(what, given, "a path", error)
    return Path(text)


@contextmanager
def translate_os_error(error: type[AutotuneError], what: str, remedy: str) -> Iterator[None]:
    """Turn an OSError inside of the context into this error: WHAT (the system's reason); REMEDY."""
    try:
        yield
    except OSError as found:
        raise error(f"{what} ({found.strerror or found}); {remedy}") from None


def save_config(config: Mapping[str, Value], path: PathLike) -> None:
    """Write a config to a file as JSON, replacing the file; a crash leaves the old file or the new one.

    Raises ConfigError where the file cannot be written, or the config holds a value that JSON has not.
    """
    path = as_path(path, "path", ConfigError)
    as_config(config, "config")
    check_writable(path)
    with translate_os_error(ConfigError, f"the config cannot be written to {path}", "name another file"):
        write_output(path, Config(config).to_json().encode() + b"\n")


def replace_file(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Replace the file at `path` by one with this content, whole or not at all; an OSError leaves nothing behind.

    A crash leaves the old file or the new one, and maybe a hidden one whose name ends in .tmp. like: the permissions
    and the owner of the new file, as far as this process may set them.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if like is not None:
                with suppress(OSError):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                with suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


READER_S = 10.0
"""Seconds without progress after which a FIFO is given up, as no process reads from it."""
LINKS = 40
"""Symbolic links in a row that Linux follows (MAXSYMLINKS)."""
WRITING = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def write_output(path: PathLike, content: bytes) -> None:
    """Write a file that a user has named; after an OSError the old file is still there.

    A regular file is replaced whole and keeps its permissions; where `path` is a link, its target is replaced and the
    link stays. A device, a FIFO or a descriptor such as /dev/stdout is written into.
    """
    path = Path(path)
    target, found = _follow_links(path)
    if not _is_descriptor(target) and (found is None or stat.S_ISREG(found.st_mode)):
        replace_file(target, content, found)
        return
    if stat.S_ISDIR((found or os.stat(path)).st_mode):
        raise OSError(errno.EISDIR, "it is a directory", str(path))
    _write_into(path, target, content)


def why_unwritable(path: PathLike) -> str | None:
    """Why `write_output` would fail, and the remedy, as far as it can be told without writing; None if it may succeed.

    >>> why_unwritable("/dev/null/file")
    'there is no directory /dev/null; make it first'
    """
    path = Path(path)
    try:
        target, found = _follow_links(path)
    except OSError as error:
        return f"{error.strerror}; name another file"
    if found is not None and stat.S_ISDIR(found.st_mode):
        return "it is a directory; name a file"
    if _is_descriptor(target) or (found is not None and not stat.S_ISREG(found.st_mode)):
        return None if os.access(path, os.W_OK) else "it may not be written; name another file"
    if not os.path.isdir(target.parent):
        return f"there is no directory {target.parent}; make it first"
    return None if os.access(target.parent, os.W_OK) else f"{target.parent} is read-only; name another file"


def _follow_links(path: Path) -> tuple[Path, os.stat_result | None]:
    """The path that links lead to, and the file there (None: no file, or a descriptor of a process)."""
    for _ in range(LINKS):
        parent = os.path.realpath(path.parent)
        path = Path(parent, path.name)
        if _is_descriptor(path):
            return path, None
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return path, None
        if not stat.S_ISLNK(found.st_mode):
            return path, found
        path = Path(parent, os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_descriptor(path: Path) -> bool:
    """Whether a path without links is that of a descriptor of a process, such as /proc/123/fd/1."""
    return os.fspath(path).startswith("/proc/")


def _write_into(path: Path, target: Path, content: bytes) -> None:
    """Write to a device, a FIFO or a descriptor, without waiting for ever for a reader. target: where links lead."""
    own = int(target.name) if target.parent == Path(f"/proc/{os.getpid()}/fd") and target.name.isdigit() else None
    deadline = time.monotonic() + READER_S
    while True:
        try:  # our own descriptor is written at its position, so that earlier output stays
            out = os.open(path, WRITING) if own is None else os.dup(own)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "it is a FIFO, and no process reads from it", str(path)) from None
            time.sleep(0.05)
    try:
        if own is not None:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
        rest = memoryview(content)
        while len(rest):
            if not select.select([], [out], [], READER_S)[1]:
                raise OSError(errno.ETIMEDOUT, "no process reads it", str(path))
            with suppress(BlockingIOError):
                rest = rest[os.write(out, rest) :]
    finally:
        os.close(out)


_FILE_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""Kinds of files that are read without end, wait for a writer, or hold no bytes."""


def read_regular(path: Path, at_most: int | None = None) -> bytes:
    """The bytes of a regular file, or of a link to one: all of them, or the first `at_most`.

    Never waits: a FIFO, a device, a socket or a directory is an OSError whose strerror says which of them it is.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "no file has a null byte in its name", repr(path))
    refuse_irregular(path, os.stat(path).st_mode)  # before it is opened: to open a device can be an action
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        refuse_irregular(path, os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
        return file.read() if at_most is None else file.read(at_most)


def refuse_irregular(path: PathLike, mode: int) -> None:
    """Raise an OSError, whose strerror names the kind of file, for the mode of any file but a regular one."""
    if not stat.S_ISREG(mode):
        kind = _FILE_KINDS.get(stat.S_IFMT(mode), "a special file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


_FORMATS = {
    ".csv": "CSV",
    ".tsv": "tab-separated values",
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".toml": "TOML",
    ".yaml": "YAML",
    ".yml": "YAML",
    ".xml": "XML",
    ".html": "HTML",
    ".md": "Markdown",
    ".svg": "SVG",
    ".png": "PNG",
    ".pdf": "PDF",
    ".py": "Python",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
    ".npz": "numpy arrays",
    ".npy": "numpy arrays",
    ".parquet": "Parquet",
    ".sqlite": "SQLite",
    ".db": "a database",
    ".xlsx": "a spreadsheet",
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zip": "a zip archive",
}
"""The format that a suffix stands for, in words."""


def suffix_conflict(path: PathLike, *written: str) -> str | None:
    """Why a file of this name cannot hold the format of the suffixes `written`; None where it can.

    A name without a suffix, or with an unknown one, says nothing about the content and conflicts with no format.

    >>> suffix_conflict("best.csv", ".json")
    'its name says CSV, and JSON is written; call it best.json'
    """
    name = Path(path).name
    if any(name.lower().endswith(suffix) for suffix in written):
        return None
    stem, dot, last = name.rpartition(".")
    named = _FORMATS.get(f".{last.lower()}") if stem and dot else None
    if named is None:
        return None
    return f"its name says {named}, and {_FORMATS[written[0]]} is written; call it {stem}{written[0]}"


def load_config(path: PathLike) -> Config:
    """The config in a file; raises ConfigError for a file that cannot be read or holds anything else."""
    path = as_path(path, "path", ConfigError)
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a directory; name a file that holds a config as JSON")
    with translate_os_error(ConfigError, f"{path} cannot be read", "check the path"):
        text = read_regular(path)
    try:
        return Config.from_json(text)
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_writable(path: PathLike) -> None:
    """Raises ConfigError if a config cannot be written to this path; to be called before a long search."""
    path = Path(path)
    if (why := suffix_conflict(path, ".json") or why_unwritable(path)) is not None:
        raise ConfigError(f"the config cannot be written to {path}: {why}")

"""Files that are written whole or not at all, and configs in them: one JSON object each."""

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from autotune.core.config import Config, Value
from autotune.core.errors import ConfigError

PathLike = str | os.PathLike[str]


def save_config(config: Mapping[str, Value], path: PathLike) -> None:
    """Write a config to a file as JSON, in place of what was there; a crash leaves the old file or the new one.

    Raises ConfigError where the file cannot be written, or the config holds what JSON cannot.
    """
    path = Path(path)
    check_writable(path)
    try:
        replace_file(path, Config(config).to_json().encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"the config cannot be written to {path} ({error.strerror}); name another file") from None


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in place of what is at `path`, whole or not at all; an OSError leaves nothing behind.

    What a crash leaves is the old file, or the new one, and maybe a hidden one whose name ends in .tmp.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


KINDS_OF_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""The kinds that are read without end, or wait for a writer, or hold no bytes."""


def read_regular(path: Path, at_most: int | None = None) -> bytes:
    """The bytes of a regular file, or of a link to one; all of them, or the first `at_most`.

    Never waits: a FIFO, a device, a socket or a directory is an OSError whose strerror says which of them it is.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "no file has a null byte in its name", repr(path))
    _refuse_irregular(path, os.stat(path).st_mode)  # before it is opened: to open a device can be an action
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)  # what is there now, if it was replaced meanwhile
        return file.read() if at_most is None else file.read(at_most)


def _refuse_irregular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS_OF_FILE.get(stat.S_IFMT(mode), "a special file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


SUFFIXES = {
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
"""Suffixes that say what is in a file."""


def contradiction(path: PathLike, *written: str) -> str | None:
    """Why a file of this name cannot be written with what the suffixes `written` say; None where it can.

    A name without a suffix, or with one that stands for no format, says nothing about the content and contradicts none.

    >>> contradiction("best.csv", ".json")
    'its name says CSV, and what is written is JSON; call it best.json'
    """
    name = Path(path).name
    if any(name.lower().endswith(suffix) for suffix in written):
        return None
    stem, dot, last = name.rpartition(".")
    says = SUFFIXES.get(f".{last.lower()}") if stem and dot else None
    if says is None:
        return None
    return f"its name says {says}, and what is written is {SUFFIXES[written[0]]}; call it {stem}{written[0]}"


def load_config(path: PathLike) -> Config:
    """The config in a file; raises ConfigError for a file that cannot be read or holds anything else."""
    path = Path(path)
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a directory; name a file that holds a config as JSON")
    try:
        text = read_regular(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path") from None
    try:
        return Config.from_json(text)
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_writable(path: PathLike) -> None:
    """Raises ConfigError if a config could not be written there: better known before a long search than after it."""
    path = Path(path)
    if (fault := contradiction(path, ".json")) is not None:
        raise ConfigError(f"the config cannot be written to {path}: {fault}")
    if os.path.isdir(path):
        raise ConfigError(f"the config cannot be written to {path}, which is a directory; name a file")
    if not os.path.isdir(path.parent):
        raise ConfigError(
            f"the config cannot be written to {path}, as there is no directory {path.parent}; make it first"
        )
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"the config cannot be written to {path}, as {path.parent} is read-only; name another file")
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long for the file system
        raise ConfigError(f"the config cannot be written to {path} ({error.strerror}); name another file") from None

"""Files that are written whole or not at all, and configs in them: one JSON object each."""

import os
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
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


def load_config(path: PathLike) -> Config:
    """The config in a file; raises ConfigError for a file that cannot be read or holds anything else."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a directory; name a file that holds a config as JSON")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path") from None
    try:
        return Config.from_json(text)
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_writable(path: PathLike) -> None:
    """Raises ConfigError if a config could not be written there: better known before a long search than after it."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"the config cannot be written to {path}, which is a directory; name a file")
    if not path.parent.is_dir():
        raise ConfigError(
            f"the config cannot be written to {path}, as there is no directory {path.parent}; make it first"
        )
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"the config cannot be written to {path}, as {path.parent} is read-only; name another file")

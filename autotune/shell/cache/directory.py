"""Where caches are on this machine."""

import os
import stat
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

from autotune.core.errors import CacheError
from autotune.shell.settings import environment


def get_cache_dir() -> Path:
    """The root directory of all that this library caches: AUTOTUNE_CACHE_DIR, else the user's cache directory."""
    named = environment().cache_dir
    try:
        if named is not None:
            return named.expanduser()
        import platformdirs  # only where nobody says otherwise

        found = Path(platformdirs.user_cache_dir("autotune", appauthor=False))
    except RuntimeError:  # there is no HOME, and no entry for the user
        return _homeless()
    return found if found.is_absolute() else _homeless()


@cache
def _homeless() -> Path:
    """A directory for a user without a home: among the temporary ones, and nobody else's."""
    folder = Path(tempfile.gettempdir()) / f"autotune-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    except OSError:
        own = False
    if not own:
        with suppress(OSError):  # where nothing can be written, the cache says so when it comes to that
            folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    warnings.warn(
        f"this user has no home directory, and what is to be kept goes to {folder}; set AUTOTUNE_CACHE_DIR to one"
        " that lasts",
        stacklevel=3,
    )
    return folder


def triton_cache_dir(device_index: int) -> Path:
    """The directory under the cache root for what Triton compiles for one device: give it to TRITON_CACHE_DIR.

    Devices have one each, so that processes that tune on several at the same time do not meet in one.
    """
    if not isinstance(device_index, int) or isinstance(device_index, bool) or device_index < 0:
        raise CacheError(f"device_index = {device_index!r} is not the number of a device; use 0, 1, …")
    return get_cache_dir() / "triton" / str(device_index)

"""Where caches are on this machine."""

from pathlib import Path

from autotune.core.errors import CacheError
from autotune.shell.settings import environment


def get_cache_dir() -> Path:
    """The root directory of all that this library caches: AUTOTUNE_CACHE_DIR, else the user's cache directory."""
    named = environment().cache_dir
    if named is not None:
        return named.expanduser()
    import platformdirs  # only where nobody says otherwise

    return Path(platformdirs.user_cache_dir("autotune", appauthor=False))


def triton_cache_dir(device_index: int) -> Path:
    """The directory under the cache root for what Triton compiles for one device: give it to TRITON_CACHE_DIR.

    Devices have one each, so that processes that tune on several at the same time do not meet in one.
    """
    if not isinstance(device_index, int) or isinstance(device_index, bool) or device_index < 0:
        raise CacheError(f"device_index = {device_index!r} is not the number of a device; use 0, 1, …")
    return get_cache_dir() / "triton" / str(device_index)

"""The store of the cache keeps the laws of stores."""

from pathlib import Path

from autotune.shell.cache.store import Store
from autotune.testing import StoreLaws


class TestStore(StoreLaws):
    def open_store(self, directory: Path) -> Store:
        return Store(directory)

"""What several test files need."""

from types import ModuleType

import pytest
from loading import DOCS, loaded


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The Helion kernels of the benchmarks."""
    return loaded(DOCS / "benchmarks" / "helion_kernels.py")

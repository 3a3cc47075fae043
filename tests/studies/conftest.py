"""The recordings of a small study."""

from pathlib import Path

import pytest

from tests.studies.small_study import write_recordings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_recordings(tmp_path)

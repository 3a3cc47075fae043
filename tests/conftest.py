"""Fixtures of several test files, and the lock that keeps tests of times from running beside others."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from tests.support import DOCS, load_module

# Half of Hypothesis' usual number, so that all tests take six minutes; `--hypothesis-profile=default` tries all.
settings.register_profile("half", max_examples=50)
settings.load_profile("half")


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The Helion kernels of the benchmarks."""
    return load_module(DOCS / "benchmarks" / "helion_kernels.py")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # registered, and not a fixture of this file, to reach every folder's tests
        config.pluginmanager.register(TimedTestsAlone())


class TimedTestsAlone:
    """Where several processes run the tests, one marked `timed` waits for the others' tests and holds up their next.

    Every test shares the lock `tests`, a timed one has it for itself. To get it, each passes through the lock `gate`,
    which a timed test keeps while it waits: otherwise tests that share would overtake it for ever.
    """

    @pytest.fixture(autouse=True)
    def _turn(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        shared = tmp_path_factory.getbasetemp().parent
        kind = fcntl.LOCK_SH if request.node.get_closest_marker("timed") is None else fcntl.LOCK_EX
        with ExitStack() as held:
            with _locked(shared / "gate", fcntl.LOCK_EX):
                held.enter_context(_locked(shared / "tests", kind))
            yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)

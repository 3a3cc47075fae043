"""Processes that are started, with all imports in them, before they are asked for: real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

pytest.importorskip("helion")
torch = pytest.importorskip("torch")

from helion.autotuner.benchmark_worker import BenchmarkTimeout, BenchmarkWorkerDied  # noqa: E402

from autotune.backends.helion import gpu_process, prestart  # noqa: E402
from autotune.backends.helion.gpu_process import GpuProcess  # noqa: E402
from autotune.helion import prepare  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    if prestart._reserve is not None:
        prestart._reserve.close()
        prestart._reserve = None


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def lives(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


def waiting() -> int:
    """The number of the process that waits."""
    assert prestart._reserve is not None
    assert eventually(lambda: prestart._reserve is not None and prestart._reserve._waiting is not None)
    pid = prestart._reserve._waiting.pid  # type: ignore[union-attr]
    assert pid is not None
    return pid


def answer(place: GpuProcess) -> object:
    """The next answer; a warm-up has none that is told."""
    found: list[tuple[object, object]] = []
    assert eventually(lambda: bool(found.extend(place.poll()) or found), 120.0)
    return found[-1][1]


def sleep() -> None:
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def product() -> float:
    return float((torch.ones(100, 100) @ torch.ones(100, 100))[0, 0])


@pytest.mark.slow
def test_workers_are_started_before_they_are_asked_for_and_die_alone() -> None:
    assert prestart.take_worker() is None
    assert prepare()
    assert prepare()  # again does nothing
    pid = waiting()
    worker = prestart.take_worker()
    assert worker is not None
    assert worker.run(os.getpid, 120.0) == worker._process.pid == pid
    assert waiting() not in (pid, os.getpid())  # the next one is on its way
    assert worker.run(product, 60.0) == 100
    with pytest.raises(BenchmarkTimeout):
        worker.run(sleep, 0.2)
    assert not worker.alive()
    assert eventually(lambda: not lives(pid))
    other = prestart.take_worker()
    assert other is not None
    with pytest.raises(BenchmarkWorkerDied):
        other.run(die, 120.0)
    assert not other.alive()


def test_a_program_that_prepares_waits_for_no_import() -> None:
    code = (
        "import sys; from autotune.helion import prepare; prepare();"
        " print([name for name in ('torch', 'helion', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "imported"),
    [("pass", False), ("os._exit(1)", False), ("os.kill(os.getpid(), 9)", False), ("os.kill(os.getpid(), 9)", True)],
)
def test_what_was_never_used_ends_with_the_program(ending: str, imported: bool) -> None:
    code = f"""
import os, time
from autotune.backends.helion import prestart
from autotune.helion import prepare
prepare()
while prestart._reserve._waiting is None:
    time.sleep(0.01)
if {imported}:
    worker = prestart.started_worker()
    worker.run(os.getpid, 120.0)
    print(worker._process.pid)
    while prestart._reserve._waiting is None:
        time.sleep(0.01)
print(prestart._reserve._waiting.pid, flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    pids = [int(text) for text in done.stdout.split()]
    assert len(pids) == 1 + imported, done.stderr[-2000:]
    assert eventually(lambda: not any(map(lives, pids)))


def test_one_that_has_died_is_done_without_and_another_is_started() -> None:
    prepare()
    dead = waiting()
    os.kill(dead, signal.SIGKILL)
    assert eventually(lambda: not lives(dead))
    said: list[str] = []
    assert prestart.take_worker(said.append) is None
    assert "has ended with status -9" in said[0]
    assert waiting() != dead
    assert prestart.take_worker(said.append) is not None
    assert len(said) == 1


def test_one_that_sees_other_devices_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    first = waiting()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    said: list[str] = []
    assert prestart.take_worker(said.append) is None
    assert "call it later" in said[0]
    assert eventually(lambda: not lives(first))
    assert waiting() != first
    assert prestart.take_worker(said.append) is not None


def test_a_machine_that_starts_no_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert prepare()
    said: list[str] = []
    assert prestart.take_worker(said.append) is None
    assert "No such file" in said[0]


@pytest.mark.slow
def test_the_process_of_the_gpu_is_one_of_them() -> None:
    prepare()
    first = waiting()
    place = GpuProcess(os.getpid)
    try:
        place.prepare(os.getpid, spare=False)
        pids = []
        for job in (os.getpid, die, os.getpid):
            place.send("job", job, 60.0)
            pids.append(answer(place))
        assert isinstance(pids[1], BenchmarkWorkerDied)
        assert pids[0] == first
        assert isinstance(pids[2], int)
        assert pids[2] != first
        assert waiting() not in pids
    finally:
        place.close()
    assert eventually(lambda: not lives(pids[2]))
    assert lives(waiting())  # for the next search


def test_a_search_that_ends_before_its_processes_are_there_waits_for_none_and_starts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []
    monkeypatch.setattr(gpu_process.BenchmarkWorker, "_start", started.append)
    prepare()
    said: list[str] = []
    place = GpuProcess(os.getpid, warn=said.append)
    assert eventually(lambda: place._current is not None)
    time.sleep(0.2)
    place.close()
    assert not said
    assert not started


def test_one_that_cannot_warm_up_makes_way_for_a_process_of_its_own() -> None:
    prepare()
    worker = prestart.take_worker()
    assert worker is not None
    tried: list[object] = []

    class Slow:
        """What Helion's worker is once it has started a process the slow way."""

        _process = worker._process
        killed = False

        def run(self, job: object, timeout_s: float) -> None:
            tried.append(self._process)
            if not self.killed:
                raise RuntimeError("CUDA error: initialization error")

        def _kill(self) -> None:
            worker._kill()
            self.killed, self._process = True, None

    said: list[str] = []
    place = GpuProcess(os.getpid, warn=said.append)
    try:
        place._do_first_job(Slow(), os.getpid)
    finally:
        place.close()
    assert len(said) == 1
    assert "initialization error" in said[0]
    assert len(tried) == 2
    assert tried[1] is None
    assert not worker.alive()

"""Processes that are forked, with all imports in them, from a copy made before the GPU is used: real ones."""

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

from autotune.integrations.helion import prepare, prepared, station  # noqa: E402
from autotune.integrations.helion.station import Station  # noqa: E402

QUICK_S = 6.0
"""Far below what a Python process needs to import torch and Helion."""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    if prepared._forker is not None:
        prepared._forker.close()
        prepared._forker = None


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def lives(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


def sleep() -> None:
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def threads() -> int:
    """Also shows that torch computes in what was forked."""
    assert float((torch.ones(1000, 1000) @ torch.ones(1000, 1000))[0, 0]) == 1000
    return int(torch.get_num_threads())


def test_workers_are_there_at_once_and_die_alone() -> None:
    assert prepared.started_worker() is None
    assert prepare()
    assert prepare()  # again does nothing
    first, second = prepared.started_worker(), prepared.started_worker()
    assert first is not None
    assert second is not None
    began = time.monotonic()
    pids = [worker.run(os.getpid, 60.0) for worker in (first, second)]
    assert time.monotonic() - began < QUICK_S
    assert pids == [worker._process.pid for worker in (first, second)]
    assert os.getpid() not in pids
    assert first.run(threads, 60.0) == 1
    with pytest.raises(BenchmarkTimeout):
        first.run(sleep, 0.2)
    with pytest.raises(BenchmarkWorkerDied):
        second.run(die, 60.0)
    for worker, pid in zip((first, second), pids, strict=True):
        assert not worker.alive()
        assert eventually(lambda pid=pid: not lives(pid))
    third = prepared.started_worker()
    assert third is not None
    assert third.run(os.getpid, 60.0) not in pids
    third._kill()
    assert not third.alive()


def test_what_was_forked_and_the_copy_end_with_the_program() -> None:
    code = (
        "import os; from autotune.integrations.helion import prepare, prepared; prepare();"
        " w = prepared.started_worker(); print(prepared._forker._pid, w.run(os.getpid, 60.0), flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    pids = [int(text) for text in done.stdout.split()]
    assert len(pids) == 2, done.stderr[-2000:]
    assert eventually(lambda: not any(map(lives, pids)))


def test_a_copy_that_died_is_done_without_and_made_again() -> None:
    assert prepare()
    assert prepared._forker is not None
    os.kill(prepared._forker._pid, signal.SIGKILL)
    assert prepared.started_worker() is None
    assert prepare()
    worker = prepared.started_worker()
    assert worker is not None
    assert worker.run(os.getpid, 60.0) == worker._process.pid


def test_a_copy_that_answers_too_late_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would be taken for that to the next question."""
    monkeypatch.setattr(prepared, "ANSWER_S", 0.2)
    assert prepare()
    assert prepared._forker is not None
    late = prepared._forker._pid
    os.kill(late, signal.SIGSTOP)
    said: list[str] = []
    assert prepared.started_worker(said.append) is None
    assert "does not answer (TimeoutError)" in said[0]
    assert not lives(late)
    monkeypatch.undo()
    assert prepare()
    assert prepared.started_worker() is not None


def test_where_the_gpu_is_in_use_already_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert not prepare()
    assert prepared._forker is None
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)  # what torch says in a copy made too late
    assert prepare()
    said: list[str] = []
    assert prepared.started_worker(said.append) is None
    assert "call it earlier" in said[0]


def test_the_process_of_the_gpu_is_one_of_them() -> None:
    prepare()
    began = time.monotonic()
    place = Station(os.getpid)
    try:
        place.prepare(os.getpid, spare=False)
        pids = []
        for job in (os.getpid, die, os.getpid):
            place.give("job", job, 60.0)
            assert eventually(lambda: bool(place._answers), 60.0)
            pids.append(place.taken()[-1][1])
        assert time.monotonic() - began < 2 * QUICK_S
        assert isinstance(pids[1], BenchmarkWorkerDied)
        assert isinstance(pids[0], int)
        assert isinstance(pids[2], int)
        assert pids[0] != pids[2]
    finally:
        place.close()
    assert eventually(lambda: not lives(pids[2]))


def test_one_that_cannot_warm_up_makes_way_for_a_process_of_its_own() -> None:
    prepare()
    worker = prepared.started_worker()
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
    station._warm(Slow(), os.getpid, said.append)
    assert "initialization error" in said[0]
    assert len(tried) == 2
    assert tried[1] is None
    assert not worker.alive()

"""The GPU lock between processes: of other users, stopped, forked, killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autotune.shell.processes import gpu_lock
from autotune.shell.processes.gpu_lock import GpuLock

HOLD = """
import os, sys, time
from pathlib import Path
from autotune.shell.processes import gpu_lock
user, shared, name = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
os.umask(0o077)
if user:
    os.setgid(user); os.setuid(user)
gpu_lock.SHARED = shared
one = gpu_lock.GpuLock(name)
print(one.acquire(), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    monkeypatch.setattr(gpu_lock, "SHARED", shared)
    monkeypatch.setattr(gpu_lock, "_warned", set())


@pytest.fixture
def name(tmp_path: Path) -> str:
    """No other test run has this one."""
    return f"{os.getpid()}-{tmp_path.name}"


@contextmanager
def holder(name: str, user: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(user), str(gpu_lock.SHARED), name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_one_at_a_time_has_it(name: str) -> None:
    ours, theirs, other = GpuLock(f"GPU/{name}"), GpuLock(f"GPU/{name}"), GpuLock(name)
    assert ours.acquire()
    assert ours.acquire()
    assert not theirs.acquire()
    assert other.acquire()
    ours.release()
    assert theirs.acquire()
    theirs.release()
    other.release()


def test_a_killed_process_has_it_no_more(name: str) -> None:
    ours = GpuLock(name)
    with holder(name) as other:
        assert not ours.acquire()
        other.kill()
        other.wait()
        assert ours.acquire()
    ours.release()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")


@needs_root
def test_of_two_users_one_has_it(name: str) -> None:
    with holder(name, user=65534) as other:
        ours = GpuLock(name)
        assert not ours.acquire()
        other.kill()
        other.wait()
        assert ours.acquire(), "the file is theirs"
        with pytest.raises(AssertionError), holder(name, user=65533):
            pass
        ours.release()
    with holder(name, user=65533):
        assert not GpuLock(name).acquire(), "whatever their umasks"


def test_without_a_file_the_name_is_enough(name: str) -> None:
    (gpu_lock.SHARED / f"autotune-gpu-{name.replace('-', '_')}.lock").mkdir()
    ours, theirs = GpuLock(name), GpuLock(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.acquire()
        assert not theirs.acquire()
    ours.release()


def test_where_nobody_can_be_kept_out_that_is_said_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (gpu_lock.SHARED / f"autotune-gpu-{name.replace('-', '_')}.lock").mkdir()
    monkeypatch.setattr(gpu_lock, "_take_name", lambda name: -1)
    with pytest.warns(UserWarning, match="nothing keeps other processes of this machine from taking"):
        assert GpuLock(name).acquire()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GpuLock(name).acquire()


def _acquired_after(lock: GpuLock, within_s: float) -> float:
    began = time.monotonic()
    while not lock.acquire():
        assert time.monotonic() - began < within_s
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_stopped_process_is_not_waited_for(name: str) -> None:
    ours = GpuLock(name)
    with holder(name) as other:
        assert not ours.acquire()
        other.send_signal(signal.SIGSTOP)
        with pytest.warns(UserWarning, match=f"is taken by process {other.pid}, which is stopped; this proc"):
            assert _acquired_after(ours, 30) > 1
        ours.release()
        assert ours.acquire(), "the next time it is not waited for again"


def test_patience_ends(name: str) -> None:
    ours = GpuLock(name, patience_s=1.0)
    with holder(name) as other, pytest.warns(UserWarning, match=rf"by process {other.pid} for \d s; this process goes"):
        assert _acquired_after(ours, 30) > 0.9


def test_a_forked_child_does_not_keep_it(name: str) -> None:
    ours, theirs = GpuLock(name), GpuLock(name)
    assert ours.acquire()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        assert not theirs.acquire(), "the child has not let it go"
        ours.release()
        _acquired_after(theirs, 60)  # a child lets it go once it runs, which a busy machine puts off
        theirs.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_child_does_not_hang_in_a_lock_of_its_parents_threads() -> None:
    """Forked while one thread tunes and another one waits for it."""
    from autotune.backends.triton_decorator.resolve import device_lock, exclusive_tuning

    holding, done = threading.Event(), threading.Event()

    def tune() -> None:
        with device_lock("cuda:0"), exclusive_tuning("0" * 8, None, lambda: None):
            holding.set()
            done.wait(60)

    def in_child(answer: Any) -> None:
        with device_lock("cuda:0"):
            answer.send("held")

    thread = threading.Thread(target=tune)
    thread.start()
    holding.wait(60)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(theirs,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    try:
        assert ours.poll(30)
        assert ours.recv() == "held"
    finally:
        done.set()
        thread.join()
        child.kill()
        child.join()

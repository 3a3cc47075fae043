"""Forks of the program: they have its memory, and neither its files, its signal handlers nor its threads."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from autotune.shell.processes import os_process, supervisor
from tests.shell.processes.forks import PATIENCE_S, Fork, forked


def list_files() -> dict[int, str]:
    """The open files by number, without the one that lists them."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def await_end(pid: int) -> bool:
    until = time.monotonic() + PATIENCE_S
    while supervisor.is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not supervisor.is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="files are listed in /proc")
def test_a_fork_has_the_memory_of_the_program_and_none_of_its_files(tmp_path: Path) -> None:
    held = {"closure": [1, 2, 3]}
    with (
        (tmp_path / "log").open("w") as log,
        forked(lambda: [held, {str(n): to for n, to in list_files().items()}]) as fork,
    ):
        told, files = fork.told()
        others = {to for n, to in files.items() if n not in ("1", "2") and to != os.devnull}
        assert files[str(log.fileno())] == os.devnull
    assert told == held
    assert all(to.startswith("socket:") for to in others), others
    assert len(others) == 1, "its own end of the socket"
    assert files["1"] == os.devnull


def test_an_object_of_the_program_does_not_write_to_a_file_of_the_fork(tmp_path: Path) -> None:
    """Else a handler of `logging` would write to the socket that has got the number of its file."""
    log = (tmp_path / "log").open("w")
    log.write("by the program, not written yet\n")

    def tell() -> str:
        with (tmp_path / "own").open("w+") as own:
            log.write("by the fork\n")
            log.flush()
            return own.read()

    with log, forked(tell) as fork:
        assert fork.told() == ""
    assert (tmp_path / "log").read_text() == "by the program, not written yet\n"


def test_prints_go_to_the_file_for_them_whatever_the_streams_of_the_program_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Cell(io.StringIO):
        def write(self, text: str) -> int:
            raise AssertionError("the cell of a notebook belongs to the program")

    def tell() -> str:
        print("a print")
        print("an error", file=sys.stderr)
        return sys.stdin.read()

    monkeypatch.setattr(sys, "stdout", Cell())
    monkeypatch.setattr(sys, "stderr", Cell())
    with forked(tell) as fork:
        assert fork.told() == ""
        assert fork.prints() == "an error\n"


def test_an_error_of_the_fork_is_in_its_prints() -> None:
    with forked(lambda: 1 // 0) as fork:
        assert "ZeroDivisionError" in fork.told()
        assert fork.process.kill() == 1


def test_signal_handlers_are_those_of_a_new_process() -> None:
    numbers = (signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE)

    def tell() -> list[str]:
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return [*(str(signal.getsignal(number)) for number in numbers), str(sorted(masked))]

    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        fork = Fork(tell, "")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        default, ignored = str(signal.SIG_DFL), str(signal.SIG_IGN)
        assert fork.told() == [default, default, ignored, "[]"]
    finally:
        fork.close()


def test_a_fork_of_another_thread_outlives_the_thread() -> None:
    made: list[Fork] = []
    main_thread = threading.main_thread().ident

    def tell() -> list[Any]:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # allowed in the main thread alone
        return [threading.active_count(), threading.current_thread() is threading.main_thread()]

    thread = threading.Thread(target=lambda: made.append(Fork(tell, "")))
    thread.start()
    thread.join()
    assert thread.ident != main_thread
    try:
        assert made[0].told() == [1, True]
        assert not made[0].process.has_exited()
    finally:
        made[0].close()


def test_with_a_fork_all_ends_that_it_has_started_and_its_folder_goes() -> None:
    scratch = os_process.scratch_folder()

    def tell() -> int:
        (Path(scratch) / "left").write_text("behind")
        return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid

    with forked(tell, scratch) as fork:
        child, own = fork.told(), fork.process.pid
        assert supervisor.is_alive(child)
        assert fork.process.kill() is not None
        assert await_end(child)
        assert await_end(own)
    assert not Path(scratch).exists()


PROGRAM = """
import os, sys, time
for fd in {closed}:
    os.close(fd)
from autotune.shell.processes import os_process

def main(sock):
    sock.sendall(b"here")
    sock.recv(1)
    time.sleep(1000)

ours, theirs = os_process.socket_pair()
stderr = os_process.unnamed_file()
process = os_process.fork(main, theirs, stderr.fileno(), "")
theirs.close()
told = ours.recv(4)
with open("told.part", "w") as file:
    file.write(f"{{told.decode()}} {{process.pid}}")
os.rename("told.part", "told")
time.sleep(1000)
"""


@pytest.mark.parametrize("closed", [(), (0, 1, 2)])
def test_a_fork_dies_with_the_program_and_needs_no_standard_streams(closed: tuple[int, ...], tmp_path: Path) -> None:
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-c", PROGRAM.format(closed=closed)], cwd=tmp_path, env=own)
    try:
        until = time.monotonic() + PATIENCE_S
        while not (tmp_path / "told").exists() and program.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        said, pid = (tmp_path / "told").read_text().split()
        assert said == "here"
        assert supervisor.is_alive(int(pid))
    finally:
        program.kill()
        program.wait()
    assert await_end(int(pid))

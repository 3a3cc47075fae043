"""The supervisor: a process between the program and a worker that outlives both, and leaves nothing of the worker.

The supervisor is the worker's parent. It waits for the end of the worker, for the end of the program, or for SIGTERM
from the program, whichever comes first. Then it kills the worker and everything that the worker, or a kernel in it, has
started, and ends as the worker did. Orphans become its children, because it is their nearest subreaper: so does a
daemon that has left its session and its parents behind. When the supervisor has no child left, nothing is left. SIGKILL
ends stopped processes, too. The supervisor has a session of its own, so that neither Ctrl-C nor a closed terminal
reaches it, and it holds no file of the program, so that a reader of the program's output sees its end.

All this holds on Linux. Other systems have no subreapers: there, processes that stay in the worker's group are ended,
and processes that have left it are not found.
"""

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
"""From <linux/prctl.h>."""
_TERMINATED = bytes([signal.SIGTERM])
"""The byte that Python writes to the wake-up pipe when SIGTERM arrives."""
_KILL_S = 10.0
"""Seconds that killed processes may take to end. One that takes longer hangs in a driver until that lets it go."""
_KILL_POLL_S = 0.0005
_PROGRAM_POLL_S = 0.2
"""How often to look whether the program lives, where the system offers nothing to wait for."""


def fork_supervised(
    program: int, sock: int = -1, pid_pipe: int = -1, scratch: str = "", keep_files: bool = False
) -> None:
    """Fork. Only the child returns, as the worker in a session of its own; this process becomes its supervisor.

    Call it in a process without other threads. program: the number of the process that the worker works for. sock: a
    socket to the program, or -1; the worker ends when the other end is closed, too. pid_pipe: the end of a pipe that
    receives the worker's number in decimal, or -1. scratch: a folder to remove at the end. keep_files: keep the files
    open that the worker has open.
    """
    become_subreaper()
    own_pid = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.setsid()
        if pid_pipe >= 0:
            os.close(pid_pipe)
        become_subreaper()
        end_with_parent(own_pid)
        return
    try:
        if pid_pipe >= 0:
            os.write(pid_pipe, b"%d" % worker)
        _supervise(program, worker, sock, scratch, keep_files)
    finally:  # in any case: this process is not the worker
        os._exit(1)


def _supervise(program: int, worker: int, sock: int, scratch: str, keep_files: bool) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    wake, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the handler does nothing: the signal writes to the pipe
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if not keep_files:
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        close_files({0, 1, 2, wake, ring, sock})
    status = _await_end(program, worker, sock, wake)
    found = _kill_descendants(worker)
    status = found if status is None else status
    if scratch:
        import shutil  # only now: nothing waits for this process any more

        shutil.rmtree(scratch, ignore_errors=True)
    _exit_like(status)


def close_files(kept: set[int]) -> None:
    """Close all descriptors but these."""
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # the listing's own descriptor is closed already
                os.close(int(name))


def _await_end(program: int, worker: int, sock: int, wake: int) -> int | None:
    """Wait for the end of the worker or the program, or for a request to end. The worker's wait status if it ended."""
    poll, timeout_s = select.poll(), None
    poll.register(wake, select.POLLIN)
    if sock >= 0:
        poll.register(sock, 0)  # hang-up alone: messages are for the worker
    try:
        poll.register(os.pidfd_open(program), select.POLLIN)
    except ProcessLookupError:
        return None
    except (AttributeError, OSError):
        timeout_s = _PROGRAM_POLL_S
    while True:
        try:
            ended, status = os.waitpid(worker, os.WNOHANG)
        except ChildProcessError:  # it ended while SIGCHLD was ignored, as the program may have set it
            return None
        if ended:
            return status
        if os.getppid() != program:
            return None
        events = dict(poll.poll(None if timeout_s is None else 1e3 * timeout_s))
        if wake in events and _TERMINATED in os.read(wake, 4096):
            return None
        if events.keys() - {wake}:
            return None


def _kill_descendants(worker: int) -> int | None:
    """Kill all descendants, and theirs as they become ours, until none is left. The worker's wait status, if found."""
    found, until = None, time.monotonic() + _KILL_S
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)  # at once: later the number may belong to another group
    while time.monotonic() < until:
        signal_each(descendants(os.getpid()), signal.SIGKILL)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    found = ended[1]
        except ChildProcessError:
            break
        time.sleep(_KILL_POLL_S)
    return found


def _exit_like(status: int | None) -> NoReturn:
    """End as the worker did, without a core dump of our own."""
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        if LINUX:
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def become_subreaper() -> None:
    """Become the parent of every descendant whose parent ends."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Have this process killed when the thread that has forked it ends, even while it is stopped or in C code."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def kill_own_group() -> NoReturn:
    """Kill this process and its children: nobody wants their results any more."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def children(pid: int) -> list[int]:
    """The children of a process, dead ones too; empty where the system does not tell (/proc/…/children)."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def descendants(pid: int) -> list[int]:
    """All living children of a process, and theirs; empty where the system does not tell."""
    found: list[int] = []
    for child in children(pid):
        found += [child] if is_alive(child) else []
        found += descendants(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs, sleeps or is stopped; False where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")  # zombie, dead
    except (OSError, IndexError):
        return False


def signal_each(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each of these processes that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

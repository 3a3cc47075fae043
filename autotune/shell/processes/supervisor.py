"""A process between the program and a worker that outlives both, and then leaves nothing of the worker's behind.

The guardian is the worker's parent. It waits for the end of the worker, of the program, or for word from the program
(SIGTERM), whichever is first. Then it kills the worker and everything that the worker, or a kernel in it, has started,
and ends as the worker did. Orphans come to it, because it is their nearest subreaper: a daemon that has left its
session and its parents behind is its child all the same, so when it has no child left, nothing is left. SIGKILL ends
processes that are stopped, too. It has a session of its own, so that neither Ctrl-C nor a terminal that hangs up
reaches it, and it holds no file of the program's, so that a reader of the program's output sees the end of it.

That is how it is on Linux. Elsewhere there are no subreapers: processes that stay in the worker's group are ended, and
those that left it are not found.
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
TERMINATED = bytes([signal.SIGTERM])
"""What Python writes to the wake-up pipe where it has got that signal."""
KILL_S = 10.0
"""How long what was killed may take to end. What takes longer hangs in a driver, and ends when the driver lets it."""
LOOK_S = 0.2
"""How often to see whether the program lives, where the system has nothing to wait for."""


def fork_supervised(program: int, sock: int = -1, note: int = -1, scratch: str = "", keep_files: bool = False) -> None:
    """Fork. Only the child returns, to be the worker, in a session of its own; this process is its guardian from here.

    To be called in a process without other threads. program: the process that the worker works for. sock: a socket to
    it: the worker ends when its other end is closed, too. note: a pipe's end that gets the worker's number in decimal.
    scratch: a folder to be removed at the end, with all in it. keep_files: hold what the worker holds until its end.
    """
    become_subreaper()
    guardian = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.setsid()
        if note >= 0:
            os.close(note)
        become_subreaper()
        end_with_parent(guardian)
        return
    try:
        if note >= 0:
            os.write(note, b"%d" % worker)
        _guard(program, worker, sock, scratch, keep_files)
    finally:  # whatever happens: this process is not the worker
        os._exit(1)


def become_subreaper() -> None:
    """Be the parent of every descendant whose parent ends."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Be killed when the parent's thread ends that has forked this process, even while stopped or held up in C code."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def children(pid: int) -> list[int]:
    """The children of a process, the dead among them too; none where the system does not tell (/proc/…/children)."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def state(pid: int) -> str:
    """The letter that the system has for its state: Z and X are dead. X where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def descendants(pid: int) -> list[int]:
    """All living children of a process, and theirs; none where the system does not tell."""
    found: list[int] = []
    for child in children(pid):
        found += [child] if state(child) not in ("Z", "X") else []
        found += descendants(child)
    return found


def signal_each(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those of these processes that are there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _guard(program: int, worker: int, sock: int, scratch: str, keep_files: bool) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    asked, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)  # it rings, like the end of a child where nothing else tells of that
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if not keep_files:
        _let_go({asked, ring, sock})
    status = _await_end(program, worker, sock, asked)
    found = _sweep(worker)
    status = found if status is None else status
    if scratch:
        import shutil  # only now: nobody waits for this process any more

        shutil.rmtree(scratch, ignore_errors=True)
    _end_like(status)


def _let_go(kept: set[int]) -> None:
    """Hold no file but these; 0, 1 and 2 lead nowhere. Hold no folder either."""
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):  # the listing's own is closed already
                os.close(int(name))


def _await_end(program: int, worker: int, sock: int, asked: int) -> int | None:
    """Wait until the worker or the program ends, or the program asks for the end; the worker's status if it ended."""
    poll, timeout_s = select.poll(), None
    poll.register(asked, select.POLLIN)
    if sock >= 0:
        poll.register(sock, 0)  # hang-up alone: what is said there is for the worker
    try:
        poll.register(os.pidfd_open(program), select.POLLIN)
    except ProcessLookupError:
        return None
    except (AttributeError, OSError):
        timeout_s = LOOK_S
    while True:
        try:
            ended, status = os.waitpid(worker, os.WNOHANG)
        except ChildProcessError:  # it ended while the end of children was ignored, as the program may have it
            return None
        if ended:
            return status
        if os.getppid() != program:
            return None
        events = dict(poll.poll(None if timeout_s is None else 1e3 * timeout_s))
        if asked in events and TERMINATED in os.read(asked, 4096):
            return None
        if events.keys() - {asked}:
            return None


def _sweep(worker: int) -> int | None:
    """Kill all descendants, and theirs as they become ours, until there are none; the worker's status, if found."""
    found, until = None, time.monotonic() + KILL_S
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)  # at once: later the number may be another's
    while time.monotonic() < until:
        signal_each(descendants(os.getpid()), signal.SIGKILL)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    found = ended[1]
        except ChildProcessError:
            break
        time.sleep(0.0005)
    return found


def _end_like(status: int | None) -> NoReturn:
    """End as the worker did, without a core of our own."""
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        if LINUX:
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def kill_own_group() -> NoReturn:
    """Kill this process and its children: nobody is left who wants the result."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)

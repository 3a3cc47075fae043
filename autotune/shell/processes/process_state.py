"""The state of a worker process that one job can change and the next one would be timed in.

A worker reads its state before each job and compares it with that before the first job. Where a job has left threads,
another niceness, signal handlers, open files and the like, the worker ends, and the next job gets a new one.
"""

import _locale
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINUX = sys.platform == "linux"

_STATUS_NAMES = {
    "Umask": "umask",
    "Uid": "user",
    "Gid": "group",
    "SigBlk": "blocked signals",
    "SigIgn": "ignored signals",
    "SigCgt": "signals with a handler",
    "Cpus_allowed": "processors it may use",
    "Mems_allowed": "memory nodes it may use",
    "VmLck": "locked memory",
    "THP_enabled": "huge pages",
    "Seccomp_filters": "system call filters",
}
"""Lines of /proc/self/status that are compared, and their names in messages."""

_LIMITS = {name[7:]: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
_SIGNALS = [number for number in range(1, signal.NSIG) if number in signal.valid_signals()]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

_TINY, _ONE, _SMALL, _TENTH, _FIFTH = sys.float_info.min, 1.0, 1e-17, 0.1, 0.2
"""In variables, so that the processor adds them with its present rounding mode, and not Python's compiler."""


def read_state(limited_memory: bool = False) -> dict[str, Any]:
    """Everything that is compared, by its name in messages. Takes some tenths of a millisecond.

    limited_memory: the worker moves its limit on the address space itself, so that it is not compared.
    """
    state: dict[str, Any] = {
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "folder": _read_folder(),
        "environment": dict(os.environ),
        "open files": _read_open_files(),
        "signal handlers": [signal.getsignal(number) for number in _SIGNALS],
        "timers": [signal.getitimer(timer)[0] > 0 for timer in _TIMERS],
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)),
        "trace functions": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "module search path": list(sys.path),
        "standard streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "locale": _locale.setlocale(_locale.LC_ALL, None),
        "rounding": (0.5 * _TINY == 0.0, _ONE + _SMALL, -_ONE - _SMALL, _TENTH + _FIFTH),
        "Python threads": threading.active_count(),
    }
    for name, number in _LIMITS.items():
        state[f"limit {name}"] = None if limited_memory and name == "AS" else resource.getrlimit(number)
    if hasattr(os, "sched_getscheduler"):
        state["scheduling"] = (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    return state | _read_status() | _read_library_settings()


def describe_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference, for people; empty where there is none. Libraries loaded since then do not count."""
    for name, value in before.items():
        if name in now and now[name] != value:
            if name == "open files":
                opened = [found for fd, found in now[name].items() if value.get(fd) != found]
                return f"open files: {', '.join(opened[:3])}" if opened else "files were closed"
            if name == "environment":
                odd = [key for key in {**value, **now[name]} if value.get(key) != now[name].get(key)]
                return f"the environment: {', '.join(odd[:3])}"
            short = [str(part) for part in (now[name], value)]
            return f"{name}: {short[0]} in place of {short[1]}" if sum(map(len, short)) < 80 else name
    return ""


def _read_folder() -> str:
    with suppress(OSError):
        return os.getcwd()
    return "(gone)"


def _read_open_files() -> dict[int, str]:
    """The file of each descriptor, without the descriptor that is open only while this is read."""
    found: dict[int, str] = {}
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):
                found[int(name)] = os.readlink(f"/dev/fd/{name}") if LINUX else str(os.fstat(int(name)).st_ino)
    return found


def _read_status() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in _STATUS_NAMES:
                found[_STATUS_NAMES[name]] = value.strip()
    return found


def _read_library_settings() -> dict[str, Any]:
    """Settings of the libraries that are loaded; a library that is not loaded is not imported for this."""
    found: dict[str, Any] = {}
    if (decimal := sys.modules.get("decimal")) is not None:
        context = decimal.getcontext()
        found["decimal context"] = (context.prec, context.rounding, context.Emin, context.Emax)
    if (numpy := sys.modules.get("numpy")) is not None:
        found["numpy's errors"] = numpy.geterr()
    if (tracemalloc := sys.modules.get("tracemalloc")) is not None:
        found["tracemalloc"] = tracemalloc.is_tracing()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        with suppress(Exception):  # a version of torch with other names
            found["torch's settings"] = (
                torch.get_num_threads(),
                torch.get_default_dtype(),
                torch.is_grad_enabled(),
                torch.is_inference_mode_enabled(),
                torch.get_float32_matmul_precision(),
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.allow_tf32,
            )
    return found


_QUIET_S, _MOST_WORK, _PATIENCE_S = 1e-3, 0.5, 0.3
"""An idle process uses less than half of a core in a millisecond. Thread pools that wait for more work by spinning may
do so for up to a fifth of a second, as OpenMP's do in the runtimes of Intel and LLVM."""

_FUTEX = {"x86_64": "202", "aarch64": "98"}.get(os.uname().machine, "")
"""The number of the system call by which a thread waits until another one wakes it."""

_SUSPICIONS = 3
"""How many times the threads may be found at work before the watch waits until they are quiet."""


class ThreadWatch:
    """Finds threads that work while the process has nothing to do, or that may begin to by themselves."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._suspicions, self._allowed = 0, _SUSPICIONS
        self.begin_idle()

    def accept(self) -> None:
        """The threads that there are now belong to the process."""
        self._known = _thread_ids()

    def begin_idle(self) -> None:
        """The process is idle from here on."""
        self._began, self._used = time.perf_counter(), _other_threads_s()

    def complaint(self) -> str:
        """The trouble with the threads, for people; empty where there is none. Takes a millisecond if there are any."""
        now = _thread_ids()
        new = now - self._known
        if new and not _await(lambda: all(map(_waits_for_wake_up, new))):
            count = sum(not _waits_for_wake_up(thread) for thread in new)
            return f"{count} thread{'s' * (count != 1)} left running"
        if len(now) > 1 and self._are_working():
            self._suspicions += 1
            if self._suspicions >= self._allowed:
                # A library's pool spins for a while after each kernel: to wait for its end every time takes too long.
                self._suspicions, self._allowed = 0, 2 * self._allowed
                if not _await(lambda: not self._are_working()):
                    return "its threads go on working"
        return ""

    def _are_working(self) -> bool:
        idle_s = time.perf_counter() - self._began
        if idle_s < _QUIET_S:
            time.sleep(_QUIET_S - idle_s)
            idle_s = time.perf_counter() - self._began
        working = _other_threads_s() - self._used > _MOST_WORK * idle_s
        self.begin_idle()
        return working


def _other_threads_s() -> float:
    """Processor seconds that the other threads have used."""
    return time.process_time() - time.thread_time()


def _await(holds: Callable[[], bool]) -> bool:
    until = time.perf_counter() + _PATIENCE_S
    while not holds():
        if time.perf_counter() > until:
            return False
        time.sleep(_QUIET_S)
    return True


def _thread_ids() -> set[int]:
    """The ids of all threads, also of those that Python does not know; empty where the system does not tell."""
    with suppress(OSError):
        return set(map(int, os.listdir("/proc/self/task")))
    return set()


def _waits_for_wake_up(thread: int) -> bool:
    """Whether a thread does nothing until another thread of this process wakes it, as in a library's thread pool."""
    try:
        with open(f"/proc/self/task/{thread}/syscall") as file:
            call = file.read().split()
        return len(call) > 4 and call[0] == _FUTEX and int(call[4], 16) == 0  # without a time limit
    except FileNotFoundError:  # the thread has ended, or the system does not tell
        return thread not in _thread_ids() or _sleeps(thread)
    except OSError:
        return _sleeps(thread)


def _sleeps(thread: int) -> bool:
    with suppress(OSError), open(f"/proc/self/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
    return False

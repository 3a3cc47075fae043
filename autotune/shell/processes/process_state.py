"""The state of a worker process that a config can change and the next one would be timed in.

A worker compares what it is before each config with what it was before the first one. Where a config has left threads,
another niceness, signal handlers, open files and the like, the worker ends, and the next config gets a new one.
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
STATUS = {
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
"""Lines of /proc/self/status, and how to call them."""
LIMITS = {name[7:]: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
SIGNALS = [number for number in range(1, signal.NSIG) if number in signal.valid_signals()]
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
QUIET_S, LOUDEST, PATIENCE_S = 1e-3, 0.5, 0.3
"""An idle process uses less than half of a core in a millisecond. Pools of threads that wait for more work by spinning
do so for up to a fifth of a second (OpenMP's, as Intel and LLVM have it), and may."""
FUTEX = {"x86_64": "202", "aarch64": "98"}.get(os.uname().machine, "")
"""The number of the system call by which a thread waits until another one wakes it."""
SUSPICIONS = 3
"""So many times the pools of threads may be found at work before it is waited for their silence."""
TINY, ONE, SMALL, TENTH, FIFTH = sys.float_info.min, 1.0, 1e-17, 0.1, 0.2
"""In variables, so that the sums below are done by the processor, as it is set now."""


def worker_state(limited_memory: bool = False) -> dict[str, Any]:
    """Everything that is compared, by the name that people know it by. Takes some tenths of a millisecond.

    limited_memory: the limit on the address space is ours to move.
    """
    state: dict[str, Any] = {
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "folder": _folder(),
        "environment": dict(os.environ),
        "open files": _open_files(),
        "signal handlers": [signal.getsignal(number) for number in SIGNALS],
        "timers": [signal.getitimer(timer)[0] > 0 for timer in TIMERS],
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)),
        "trace functions": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "module search path": list(sys.path),
        "standard streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "locale": _locale.setlocale(_locale.LC_ALL, None),
        "rounding": (0.5 * TINY == 0.0, ONE + SMALL, -ONE - SMALL, TENTH + FIFTH),
        "Python threads": threading.active_count(),
    }
    for name, number in LIMITS.items():
        state[f"limit {name}"] = None if limited_memory and name == "AS" else resource.getrlimit(number)
    if hasattr(os, "sched_getscheduler"):
        state["scheduling"] = (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    return state | _status() | _of_libraries()


def _folder() -> str:
    with suppress(OSError):
        return os.getcwd()
    return "(gone)"


def _open_files() -> dict[int, str]:
    """What each descriptor leads to; without what is open only while this is read."""
    found: dict[int, str] = {}
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):
                found[int(name)] = os.readlink(f"/dev/fd/{name}") if LINUX else str(os.fstat(int(name)).st_ino)
    return found


def _status() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in STATUS:
                found[STATUS[name]] = value.strip()
    return found


def _of_libraries() -> dict[str, Any]:
    """Settings of libraries that are loaded. What a config loads is loaded for all after it, and that is no matter."""
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
        with suppress(Exception):  # a version that has other names
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


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference in words; empty where there is none. Settings of a library loaded since do not count."""
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


def threads() -> set[int]:
    """The numbers of all threads of the process, also those that Python does not know; none where that is not told."""
    with suppress(OSError):
        return set(map(int, os.listdir("/proc/self/task")))
    return set()


def waits_for_wake_up(thread: int) -> bool:
    """Whether a thread does nothing until another one of this process wakes it, as those of a library's pool do."""
    try:
        with open(f"/proc/self/task/{thread}/syscall") as file:
            call = file.read().split()
        return len(call) > 4 and call[0] == FUTEX and int(call[4], 16) == 0  # without a time limit
    except FileNotFoundError:  # it has ended, or the system does not tell
        return threads().isdisjoint({thread}) or _sleeps(thread)
    except OSError:
        return _sleeps(thread)


def _sleeps(thread: int) -> bool:
    with suppress(OSError), open(f"/proc/self/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
    return False


class ThreadWatch:
    """Whether threads of the process work while it has nothing to do, or may begin to by themselves."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._suspicions, self._allowed = 0, SUSPICIONS
        self.begin_idle()

    def accept(self) -> None:
        """The threads that there are now belong here."""
        self._known = threads()

    def begin_idle(self) -> None:
        """From here on the process is idle."""
        self._began, self._used = time.perf_counter(), self._others()

    def complaint(self) -> str:
        """What is wrong with the threads; empty where nothing is. Takes a millisecond where there are several."""
        now = threads()
        new = now - self._known
        if new and not self._await(lambda: all(map(waits_for_wake_up, new))):
            count = sum(not waits_for_wake_up(thread) for thread in new)
            return f"{count} thread{'s' * (count != 1)} left running"
        if len(now) > 1 and self._is_loud():
            self._suspicions += 1
            if self._suspicions >= self._allowed:
                # A library's pool spins for a while after each kernel: to wait for its end each time takes too long.
                self._suspicions, self._allowed = 0, 2 * self._allowed
                if not self._await(lambda: not self._is_loud()):
                    return "its threads go on working"
        return ""

    def _is_loud(self) -> bool:
        idle = time.perf_counter() - self._began
        if idle < QUIET_S:
            time.sleep(QUIET_S - idle)
            idle = time.perf_counter() - self._began
        loud = self._others() - self._used > LOUDEST * idle
        self.begin_idle()
        return loud

    @staticmethod
    def _await(holds: Callable[[], bool]) -> bool:
        until = time.perf_counter() + PATIENCE_S
        while not holds():
            if time.perf_counter() > until:
                return False
            time.sleep(QUIET_S)
        return True

    @staticmethod
    def _others() -> float:
        return time.process_time() - time.thread_time()

"""What a process does that `prepare` has started: import what timing configs needs, then wait for jobs."""

import ctypes
import importlib
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
MODULES = ("torch._inductor.runtime.triton_helpers", "autotune.integrations.helion.job")
"""What the code of every config imports, and what jobs are made of."""


def serve(fd: int) -> None:
    """Run what comes over the socket `fd`, as Helion's benchmark process does, until its other end is closed."""
    from helion.autotuner.benchmark_worker import _worker_loop

    for name in MODULES:
        with suppress(ImportError):  # without Triton, a config says so that needs it
            importlib.import_module(name)
    _worker_loop(Connection(fd), None)


def end_with(parent: int) -> bool:
    """Let this process be killed when `parent`, which has started it, ends; False where it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent

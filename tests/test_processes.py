"""Processes of the program, its workers and their kernels: none is left, and none hands its state to the next one."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loading import DOCS, loaded

from autotune import CallableEvaluator, Config, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.evaluators.worker_state import changes, worker_state

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is promised of processes is promised on Linux")

QUICK: dict[str, Any] = {"warmup_ms": 0.0, "target_ms": 1.0, "min_sample_ms": 0.0}
ROOT = Path(__file__).parents[1]


def test_nothing_is_left_of_a_program_or_a_worker_that_is_killed() -> None:
    """Eight kills; docs/benchmarks/kills.py does sixty."""
    assert loaded(DOCS / "benchmarks" / "kills.py").kill_many(8, seed=time.time_ns()) == []


def leaving() -> Callable[[Config], Callable[..., Any]]:
    """Builds whose kernels leave something behind, and say in which process they were; local, so that it is sent."""

    def build(config: Config) -> Any:
        import ctypes
        import decimal
        import gc
        import locale
        import os
        import resource
        import sys
        import threading
        import time

        def spin() -> None:
            while True:
                pass

        def native_thread() -> None:
            libc = ctypes.CDLL(None)
            libc.pthread_create(
                ctypes.byref(ctypes.c_ulong()), None, ctypes.cast(libc.sleep, ctypes.c_void_p), ctypes.c_void_p(1000)
            )

        def flush_to_zero() -> None:
            libm, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
            libm.fegetenv(environment)
            environment[7] |= 0x8040
            libm.fesetenv(environment)

        def timer() -> None:
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 100.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

        acts: dict[str, Callable[[], Any]] = {
            "nothing": lambda: None,
            "a thread that spins": lambda: threading.Thread(target=spin, daemon=True).start(),
            "a thread that sleeps": lambda: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(),
            "a native thread": native_thread,
            "niceness": lambda: os.nice(1),
            "affinity": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
            "scheduling": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
            "a signal handler": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
            "a blocked signal": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
            "a timer": timer,
            "a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024)),
            "the folder": lambda: os.chdir("/"),
            "the umask": lambda: os.umask(0o777),
            "the environment": lambda: os.environ.update(OMP_NUM_THREADS="1"),
            "an open file": lambda: os.open("/dev/null", os.O_RDONLY),
            "a closed file": lambda: os.close(0),
            "stderr elsewhere": lambda: os.dup2(1, 2),
            "stderr closed": lambda: os.close(2),
            "sys.stderr": lambda: setattr(sys, "stderr", None),
            "the locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
            "decimals": lambda: setattr(decimal.getcontext(), "prec", 9),
            "numpy's errors": lambda: np.seterr(all="raise"),
            "collection": lambda: gc.disable(),
            "a trace": lambda: sys.settrace(lambda *_: None),
            "a profile": lambda: sys.setprofile(lambda *_: None),
            "the switch interval": lambda: sys.setswitchinterval(0.5),
            "sums": flush_to_zero,
        }

        first: list[int] = []

        def kernel() -> Any:
            if not first:
                first.append(1)
                acts[config["leaves"]]()
            return np.array([os.getpid()])

        if config["pids"]:
            with open(config["pids"], "a") as file:
                file.write(f"{os.getpid()} ")
        return kernel

    return build


LEFT = [
    "a thread that spins", "a thread that sleeps", "a native thread", "niceness", "affinity", "scheduling",
    "a signal handler", "a blocked signal", "a timer", "a limit", "the folder", "the umask", "the environment",
    "an open file", "a closed file", "stderr elsewhere", "stderr closed", "sys.stderr", "the locale", "decimals",
    "numpy's errors", "collection", "a trace", "a profile", "the switch interval",
    pytest.param("sums", marks=pytest.mark.skipif(os.uname().machine != "x86_64", reason="writes x86's registers")),
]  # fmt: skip


def outcomes(evaluator: CallableEvaluator, configs: list[dict[str, Any]], compared: bool = False) -> list[Any]:
    with evaluator.open(None) as session:  # type: ignore[arg-type]
        trials = [Trial(i, Config(config)) for i, config in enumerate(configs)]
        found: dict[int, Any] = {}
        session.submit(trials, Limits())
        until = time.monotonic() + 30
        while len(found) < len(trials):
            assert time.monotonic() < until, found
            found |= {event.trial: event.outcome for event in session.poll() if isinstance(event, Observed)}
        if compared:
            session.compare(Compare(tuple(trials), 3, "verify"))
            while not (events := session.poll()):
                assert time.monotonic() < until
            assert isinstance(events[0], Compared)
            found = dict(events[0].outcomes)
    return [found[i] for i in range(len(trials))]


@pytest.mark.parametrize("leaves", LEFT)
def test_a_worker_that_a_config_has_changed_is_not_used_again(leaves: str, tmp_path: Path) -> None:
    """One that was left as it was is: so many processes, no more and no less."""
    pids = str(tmp_path / "pids")
    configs = [
        {"leaves": what, "pids": pids, "n": n} for n, what in enumerate(["nothing", leaves, "nothing", "nothing"])
    ]
    found = outcomes(CallableEvaluator(leaving(), **QUICK), configs)
    assert all(isinstance(outcome, Timed) for outcome in found), found
    first, changed, *others = Path(pids).read_text().split()
    assert changed == first
    assert len(set(others)) == 1
    assert others[0] != first


def test_reading_the_state_of_a_worker_is_quick_and_changes_nothing() -> None:
    first = worker_state()
    best = min(timed(worker_state) for _ in range(20))
    assert changes(first, worker_state()) == ""
    assert best < 0.002, "it is read before every config"


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

"""Processes of the program, its workers and their kernels: none is left, and none hands its state to the next one."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import CallableEvaluator, Config, Failed, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.processes.process_state import describe_change, read_state
from autotune.shell.processes.supervisor import is_alive
from tests.support import DOCS, ROOT, load_module

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is promised of processes is promised on Linux")

QUICK: dict[str, Any] = {"warmup_ms": 0.0, "target_ms": 1.0, "min_sample_ms": 0.0}


def test_nothing_is_left_of_a_program_or_a_worker_that_is_killed() -> None:
    """Four kills; docs/benchmarks/kills.py does sixty."""
    assert load_module(DOCS / "benchmarks" / "kills.py").kill_many(4, seed=time.time_ns()) == []


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

        def pool() -> None:
            libc, semaphore = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            kept.append(semaphore)
            libc.sem_init(semaphore, 0, 0)
            libc.pthread_create(
                ctypes.byref(ctypes.c_ulong()), None, ctypes.cast(libc.sem_wait, ctypes.c_void_p), semaphore
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
            "a thread of a pool": pool,
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
        kept: list[Any] = sys.modules.setdefault("kept", [])  # type: ignore[arg-type]

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


def test_threads_that_wait_for_work_are_no_reason_to_end_a_worker(tmp_path: Path) -> None:
    """A library's pool, once it is made, runs when a kernel calls the library and at no other time."""
    pids = str(tmp_path / "pids")
    names = ["a thread of a pool", "nothing", "a thread of a pool", "nothing"]
    found = outcomes(
        CallableEvaluator(leaving(), **QUICK), [{"leaves": what, "pids": pids, "n": n} for n, what in enumerate(names)]
    )
    assert all(isinstance(outcome, Timed) for outcome in found), found
    assert len(set(Path(pids).read_text().split())) == 1


def test_reading_the_state_of_a_worker_is_quick_and_changes_nothing() -> None:
    first = read_state()
    best = min(timed(read_state) for _ in range(20))
    assert describe_change(first, read_state()) == ""
    assert best < 0.002, "it is read before every config"


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


PROGRAM = """
import errno, faulthandler, os, resource, shutil, signal, sys, tempfile, threading, time, warnings
from autotune import *

if sys.stderr is not None:
    faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(50)
warnings.simplefilter("always")

def build(config):
    time.sleep(0.01)
    if config["n"] % 3 == 1:
        os._exit(1)  # so that new workers are needed all the time
    return lambda: time.sleep(0.0002 * (1 + config["n"] % 10))

space = Space({"n": Integer(0, 99)}, default={"n": 9})

def search(watch=None, count=12, **settings):
    evaluator = CallableEvaluator(build, warmup_ms=0, target_ms=2, **settings)
    machine = {"verify_rounds": 3, "confirm_times": 0}
    return tune(space, evaluator, RandomSearch(), budget=Budget(evaluations=count), progress=watch, settings=machine)

def after(count, act):
    seen = []
    def watch(search, event):
        if isinstance(event, Observed):
            seen.append(event)
            if len(seen) == count:
                act()
    return watch

if __name__ == "__main__":
"""


def program(code: str, folder: Path, seconds: float = 60.0, **changes: Any) -> "subprocess.CompletedProcess[str]":
    """What came of a program that tunes."""
    script = folder / "program.py"
    script.write_text(PROGRAM + textwrap.indent(textwrap.dedent(code), "    "))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=seconds, **changes
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_goes_on_without_a_folder_for_temporary_files(workers: int, tmp_path: Path) -> None:
    ran = program(
        f"""
        remove = lambda: shutil.rmtree(tempfile.gettempdir())
        found = search(after(2, remove), workers={workers})
        print(found.complete, found.evaluations >= 11)
        """,
        tmp_path,
    )
    assert ran.stdout.split() == ["True", "True"], ran.stderr
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("what", "again"),
    [
        ("descriptors", False),
        ("processes", True),
        pytest.param("descriptors", True, marks=pytest.mark.slow),
        pytest.param("processes", False, marks=pytest.mark.slow),
    ],
)
def test_a_search_waits_for_processes_and_ends_with_its_best_where_there_are_none(
    what: str, again: bool, tmp_path: Path
) -> None:
    """Out of descriptors, or of processes: for two seconds, or for good."""
    ran = program(
        f"""
        import subprocess
        from autotune.shell.processes import pool
        pool.PATIENCE_S = 30.0 if {again} else 2.0
        held, fork, before = [], subprocess._fork_exec, resource.getrlimit(resource.RLIMIT_NOFILE)
        def refused(*_):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        def limit(which, least):
            resource.setrlimit(which, (least, before[1]))
        def free():
            limit(resource.RLIMIT_NOFILE, before[0])
            subprocess._fork_exec = fork
        def act():
            if {what!r} == "descriptors":
                limit(resource.RLIMIT_NOFILE, 64)
                try:
                    while True:
                        held.append(os.open(os.devnull, 0))
                except OSError:
                    pass
            else:
                subprocess._fork_exec = refused
            if {again}:
                threading.Timer(2.0, free).start()
        found = search(after(3, act))
        free()
        print(found.complete, found.evaluations)
        """,
        tmp_path,
    )
    assert "Traceback" not in ran.stderr
    complete, evaluations = ran.stdout.split()
    assert complete == str(again), ran.stderr
    if again:
        assert int(evaluations) >= 11
        assert ran.stderr == ""
    else:
        assert 3 <= int(evaluations) < 12
        assert "the search ends early, with the best config so far: " in ran.stderr


def test_a_search_that_never_had_a_process_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    ran = program(
        """
        import subprocess
        from autotune.shell.processes import pool
        pool.PATIENCE_S = 0.5
        def refused(*_):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        subprocess._fork_exec = refused
        try:
            search()
        except EvaluatorError as error:
            print(error)
        """,
        tmp_path,
    )
    assert ran.stdout.startswith("cannot start a worker process with"), ran.stderr
    assert ran.stderr == ""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_program_whose_standard_streams_are_closed_can_tune(closed: tuple[int, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = program(
        f"""
        found = search(count=4)
        with open({str(out)!r}, "w") as file:
            file.write(f"{{found.complete}} {{found.evaluations}}")
        """,
        tmp_path,
        preexec_fn=lambda: [os.close(fd) for fd in closed],
    )
    assert out.read_text() == "True 4", ran.stderr


def test_a_reader_of_the_programs_output_sees_its_end(tmp_path: Path) -> None:
    """No supervisor, worker or kernel's child holds the pipe."""
    began = time.monotonic()
    ran = program("search(after(2, lambda: os.kill(os.getpid(), signal.SIGKILL)), workers=3)", tmp_path)
    assert ran.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "leave", ["os._exit(0)", "sys.exit(0)", "raise KeyError", "os.kill(os.getpid(), signal.SIGTERM)"]
)
def test_a_fork_of_the_program_ends_none_of_its_workers(leave: str, tmp_path: Path) -> None:
    """However the fork ends: it has the search's objects, and its own ends of the workers' sockets."""
    ran = program(
        f"""
        def fork():
            child = os.fork()
            if child == 0:
                {leave}
            os.waitpid(child, 0)
        found = search(after(2, fork), workers=2)
        print(found.complete, found.evaluations >= 11)
        """,
        tmp_path,
    )
    assert ran.stdout.split()[-2:] == ["True", "True"], ran.stderr


def test_a_fork_made_while_a_thread_tunes_can_tune_too(tmp_path: Path) -> None:
    ran = program(
        """
        thread = threading.Thread(target=search)
        thread.start()
        time.sleep(0.5)
        for _ in range(2):
            child = os.fork()
            if child == 0:
                signal.alarm(25)
                found = search(count=4)
                os._exit(0 if found.complete and found.evaluations == 4 else 1)
            assert os.waitpid(child, 0)[1] == 0
        thread.join()
        print("done")
        """,
        tmp_path,
    )
    assert ran.stdout == "done\n", ran.stderr


TAMPERING = {
    "stderr leads elsewhere": "os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), 2)",
    "stdout leads elsewhere": "os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), 1)",
    "stderr is closed": "os.close(2)",
    "all three are closed": "os.closerange(0, 3)",
    "sys.stderr is a file": "sys.stderr = open(file, 'r+')",
    "sys.stderr is nothing": "sys.stderr = sys.stdout = sys.stdin = None",
}


@pytest.mark.parametrize("where", ["build", "kernel"])
@pytest.mark.parametrize("what", TAMPERING)
def test_a_config_may_do_as_it_likes_with_its_standard_streams(what: str, where: str, tmp_path: Path) -> None:
    """It is timed, compared too, and what it keeps in a file on descriptor 2 is there afterwards."""
    file, act = tmp_path / "own", TAMPERING[what]
    file.write_text("the user's own")

    def build(config: Config) -> Any:
        def kernel() -> None:
            if config["n"] == 1 and where == "kernel" and not done:
                done.append(1)
                exec(act, {"os": __import__("os"), "sys": __import__("sys"), "file": str(file)})

        done: list[int] = []
        if config["n"] == 1 and where == "build":
            exec(act, {"os": __import__("os"), "sys": __import__("sys"), "file": str(file)})
        return kernel

    found = outcomes(CallableEvaluator(build, **QUICK), [{"n": n} for n in range(3)], compared=True)
    assert all(isinstance(outcome, Timed) for outcome in found), found
    assert file.read_text() == "the user's own"


def test_a_config_that_closes_every_file_costs_that_config_alone() -> None:
    def build(config: Config) -> Any:
        import os

        return lambda: os.closerange(3, 4096) if config["n"] == 1 else None

    first, closing, last = outcomes(CallableEvaluator(build, **QUICK), [{"n": n} for n in range(3)])
    assert isinstance(first, Timed)
    assert isinstance(last, Timed)
    assert isinstance(closing, Failed)
    assert closing.kind == "crash"
    assert "the answer cannot be sent" in closing.message


def test_a_fork_behind_a_supervisor_ends_with_the_program(tmp_path: Path) -> None:
    """As Helion's compilers are: forks of the program itself, made by multiprocessing."""
    pids = tmp_path / "pids"
    program(
        f"""
        import multiprocessing, subprocess
        from autotune.shell.processes.supervisor import fork_supervised
        def work(program):
            fork_supervised(program, keep_files=True)
            child = subprocess.Popen(["sleep", "1000"])
            with open({str(pids)!r}, "w") as file:
                file.write(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}} .")
            time.sleep(1000)
        multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
        while not os.path.exists({str(pids)!r}) or not open({str(pids)!r}).read().endswith("."):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    found = [int(word) for word in pids.read_text().split()[:3]]
    until = time.monotonic() + 5
    while any(is_alive(pid) for pid in found):
        assert time.monotonic() < until
        time.sleep(0.02)

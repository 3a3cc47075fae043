"""The callable evaluator against kernels that hang, crash, leak, flood, lie and leave things behind."""

import array
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Limits, Observed, Ticked
from autotune.shell.evaluators.bench import Inputs
from autotune.shell.evaluators.callable import CallableEvaluator
from autotune.shell.evaluators.protocol import Session
from tests.support import ROOT

QUICK: dict[str, Any] = {"warmup_ms": 0.5, "target_ms": 2.0, "min_sample_ms": 0.1}


def zoo() -> Callable[[Config], Callable[..., Any]]:  # noqa: C901
    """Builds for config["build"], kernels for config["run"]; all local, so that workers need not import pytest."""

    def do(what: str) -> Any:
        import ctypes
        import os
        import signal
        import subprocess
        import sys
        import threading
        import time

        def hang() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
            ctypes.PyDLL(None).sleep(1000)  # PyDLL: in C, and holding the interpreter lock

        def flood() -> None:
            for fd in (1, 2):
                os.write(fd, b"spam " * 400_000)
            print("spam " * 400_000)

        def child(own_session: bool) -> None:
            pid = os.fork()
            if pid == 0:
                if own_session:
                    os.setsid()
                time.sleep(1000)

        def crash_later() -> None:
            threading.Timer(0.3, lambda: ctypes.string_at(0)).start()

        acts: dict[str, Callable[[], Any]] = {
            "ok": lambda: None,
            "raise": lambda: [][1],
            "hang": hang,
            "segfault": lambda: ctypes.string_at(0),
            "exit": lambda: os._exit(3),
            "sys.exit": lambda: sys.exit(4),
            "memory": lambda: bytearray(1 << 32),
            "leak": lambda: sys.modules.setdefault("leak", bytearray(60 << 20)),  # type: ignore[arg-type]
            "flood": flood,
            "child": lambda: child(False),
            "daemon": lambda: child(True),
            "holder": lambda: subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(1000)"], close_fds=False
            ),
            "return": lambda: os.fork() and None,
            "crash later": crash_later,
            "nonsense": lambda: [os.write(fd, b"\xff" * 64) for fd in range(3, 32) if os.path.exists(f"/dev/fd/{fd}")],
            "sleep": lambda: time.sleep(0.4),
            "abort": lambda: ctypes.CDLL(None).abort(),
        }
        return acts[what]()

    def build(config: Config) -> Any:
        if config.get("build") == "number":
            return 3
        do(config.get("build", "ok"))
        first: list[int] = []

        def kernel(x: Any) -> Any:
            if not first:
                first.append(1)
                do(config.get("run", "ok"))
            return x * 2 if config.get("answer") is None else x * config["answer"]

        return kernel

    return build


ONES = np.ones(64)


def evaluator(**settings: Any) -> CallableEvaluator:
    known: dict[str, Any] = {"reference": ONES * 2, "build_timeout_s": 1.0, "run_timeout_s": 1.0, **QUICK}
    return CallableEvaluator(zoo(), (ONES,), **{**known, **settings})


def collect(session: Session, count: int, seconds: float = 20.0) -> dict[int, Outcome]:
    """The outcomes of `count` trials; fails where they do not come."""
    found: dict[int, Outcome] = {}
    until = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < until, f"only {found} after {seconds} s"
        for event in session.poll(1.0):
            assert isinstance(event, Observed)
            assert event.trial not in found, "reported twice"
            found[event.trial] = event.outcome
    return found


def compared(session: Session, seconds: float = 20.0) -> Compared:
    """The one comparison in flight."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in session.poll():
            assert isinstance(event, Compared)
            return event
    raise AssertionError(f"no comparison after {seconds} s")


def measured(tool: CallableEvaluator, *configs: dict[str, Any], limits: Limits | None = None) -> list[Outcome]:
    with tool.open(None) as session:  # type: ignore[arg-type]
        session.submit([Trial(i, Config(c)) for i, c in enumerate(configs)], limits or Limits())
        found = collect(session, len(configs))
        assert list(session.poll(0.0)) == []
    return [found[i] for i in range(len(configs))]


def kind(outcome: Outcome) -> str:
    return outcome.kind if isinstance(outcome, Failed) else "timed"


def living() -> list[str]:
    """The processes that this test has started, daemons included: those that inherited its mark."""
    mark, found = os.environ["AUTOTUNE_TEST"].encode(), []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and mark in (process / "environ").read_bytes():
                found.append(process.name)
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AUTOTUNE_TEST", f"mark of {os.getpid()} at {time.monotonic()}")
    yield
    until = time.monotonic() + 2.0
    while (left := living()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left, "processes were left behind"


def test_a_good_kernel_is_timed() -> None:
    (outcome,) = measured(evaluator(), {})
    assert isinstance(outcome, Timed)
    assert 1e-5 < outcome.time_ms < 20.0
    assert 3 <= len(outcome.times_ms) <= 50
    assert not outcome.cut


NASTY = [
    ({"build": "raise"}, "compile_error", "IndexError: list index out of range"),
    ({"build": "number"}, "compile_error", "build returned int"),
    ({"build": "sys.exit"}, "compile_error", "SystemExit: 4"),
    ({"build": "hang"}, "compile_timeout", "building: killed after 1 s"),
    ({"build": "exit"}, "crash", "building: the worker exited with code 3"),
    ({"build": "segfault"}, "crash", "SIGSEGV"),
    ({"run": "raise"}, "run_error", "IndexError: list index out of range"),
    ({"run": "sys.exit"}, "run_error", "SystemExit: 4"),
    ({"run": "hang"}, "run_timeout", "running: killed after 1 s"),
    ({"run": "segfault"}, "crash", "running: the worker was killed by SIGSEGV"),
    ({"run": "abort"}, "crash", "SIGABRT"),
    ({"run": "exit"}, "crash", "exited with code 3"),
    ({"run": "nonsense"}, "crash", "sent what is no reply"),
    ({"answer": 3}, "wrong_answer", "64 of 64 elements (100.00%) of the output are wrong, the largest error is 1"),
    ({"answer": float("1e308") * 0.0}, "wrong_answer", "largest error is 2"),
]


@pytest.mark.parametrize(("config", "expected", "message"), NASTY, ids=lambda part: str(part)[:40])
def test_it_costs_one_config(config: dict[str, Any], expected: str, message: str) -> None:
    """The worker has served before and serves afterwards, so the neighbours would notice."""
    before, outcome, after = measured(evaluator(), {"n": 0}, config, {"n": 1})
    assert kind(before) == kind(after) == "timed"
    assert isinstance(outcome, Failed)
    assert (outcome.kind, message in outcome.message) == (expected, True), outcome


def test_nan_is_a_wrong_answer() -> None:
    def build(config: Config) -> Any:
        return lambda x: np.where(np.arange(64) < 16, np.nan, x * 2)

    (outcome,) = measured(CallableEvaluator(build, (ONES,), reference=lambda x: x * 2, **QUICK), {})
    assert isinstance(outcome, Failed)
    assert (
        outcome.message == "16 of 64 elements (25.00%) of the output are wrong, 16 are NaN where the reference has none"
    )


def test_memory_beyond_the_limit_is_one_configs_failure() -> None:
    tool = evaluator(memory_limit_mb=100)
    outcomes = measured(tool, {"run": "memory"}, {"run": "leak", "n": 1}, {"run": "leak", "n": 2}, {"n": 3})
    assert [kind(o) for o in outcomes] == ["out_of_memory", "timed", "timed", "timed"]


def test_what_has_leaked_or_left_children_is_let_go() -> None:
    with evaluator(memory_limit_mb=100).open(None) as session:  # type: ignore[arg-type]
        # Left are a worker and its supervisor, or neither.
        for i, (run, left) in enumerate([("ok", 2), ("leak", 0), ("ok", 2), ("daemon", 0)]):
            session.submit([Trial(i, Config(run=run))], Limits())
            assert kind(collect(session, 1)[i]) == "timed"
            until = time.monotonic() + 10  # a process takes a moment to end, longer on a busy machine
            while len(living()) != left and time.monotonic() < until:
                time.sleep(0.02)
            assert len(living()) == left, run


@pytest.mark.parametrize("where", ["build", "run"])
def test_prints_stay_in_the_worker(where: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = measured(evaluator(), {where: "flood"}, {})
    assert [kind(o) for o in outcomes] == ["timed", "timed"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("what", ["child", "daemon", "holder", "return"])
def test_children_of_a_kernel_end_with_it(what: str) -> None:
    """The fixture checks that nothing is left; `child` and `daemon` hold the worker's socket open as well."""
    outcomes = measured(evaluator(), {"run": what}, {"n": 1}, {"run": what, "build": "ok"}, {"n": 2, "run": "exit"})
    assert [kind(o) for o in outcomes] == ["timed", "timed", "timed", "crash"]


def test_a_child_that_holds_the_socket_does_not_hide_the_death_of_the_worker() -> None:
    def build(config: Config) -> Any:
        def kernel(x: Any) -> Any:
            import os
            import time

            if os.fork() == 0:
                time.sleep(1000)
            os._exit(5)

        return kernel

    start = time.monotonic()
    (outcome,) = measured(CallableEvaluator(build, (ONES,), run_timeout_s=60), {})
    assert kind(outcome) == "crash"
    assert time.monotonic() - start < 50


def test_a_config_is_not_blamed_for_what_an_earlier_one_left_behind() -> None:
    """The first config's thread brings the worker down while the second one builds in it."""
    outcomes = measured(evaluator(), {"run": "crash later"}, {"build": "sleep"}, {"n": 1})
    assert [kind(o) for o in outcomes] == ["timed", "timed", "timed"]


def test_inputs_are_pristine_for_every_config() -> None:
    def build(config: Config) -> Any:
        calls: list[int] = []

        def kernel(x: Any, items: list[int]) -> Any:
            assert calls or items == [1], "a list was not restored"
            calls.append(1)
            items.append(2)
            x += config["k"]
            return x.copy()

        return kernel

    x = np.zeros(8)
    settings: dict[str, Any] = {"reference": lambda x, items: x + 1, "min_sample_ms": 0.0, "warmup_ms": 0.0}
    for isolation in ("process", "in_process"):
        tool = CallableEvaluator(build, (x, [1]), isolation=isolation, **settings)
        assert [kind(o) for o in measured(tool, {"k": 1}, {"k": 2}, {"k": 1, "n": 2})] == [
            "timed",
            "wrong_answer",
            "timed",
        ]
        assert not x.any(), "the caller's own array was changed"


def test_arrays_are_restored_before_every_sample() -> None:
    found: list[float] = []

    def build(config: Config) -> Any:
        def kernel(x: Any) -> None:
            found.append(float(x[0]))
            x += 1

        return kernel

    tool = CallableEvaluator(
        build, (np.zeros(1),), isolation="in_process", min_repeats=8, max_repeats=8, warmup_ms=0, min_sample_ms=0
    )
    (outcome,) = measured(tool, {})
    assert isinstance(outcome, Timed)
    assert len(outcome.times_ms) == 8
    assert len(found) > 8
    assert set(found) == {0.0}


def test_a_kernel_that_works_in_place_is_checked_by_what_it_did() -> None:
    def build(config: Config) -> Any:
        def kernel(x: Any, out: Any) -> None:
            out[:] = x * config["k"]

        return kernel

    def reference(x: Any, out: Any) -> None:
        out[:] = x * 2

    tool = CallableEvaluator(build, (ONES, np.zeros(64)), reference=reference, isolation="in_process", **QUICK)
    assert [kind(o) for o in measured(tool, {"k": 2}, {"k": 3})] == ["timed", "wrong_answer"]


def test_an_overwritten_reference_is_not_taken_for_a_wrong_answer() -> None:
    """A kernel that writes into the expected output brings its worker down; the next config finds a fresh one."""

    def build(config: Config) -> Any:
        def kernel(x: Any) -> Any:
            frame = sys._getframe() if config["k"] == 0 else None
            while frame is not None:
                if type(frame.f_locals.get("self")).__name__ == "Bench":
                    frame.f_locals["self"]._expected[:] = 7
                frame = frame.f_back
            return x * 2

        return kernel

    tool = CallableEvaluator(build, (ONES,), reference=lambda x: x * 2, **QUICK)
    assert [kind(o) for o in measured(tool, {"k": 1}, {"k": 0}, {"k": 1, "n": 2})] == ["timed", "crash", "timed"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (False, "the checker refused the output"),
        ("off by one", "off by one"),
        (None, "the checker returned None; return True, False or a message"),
    ],
)
def test_checkers(answer: Any, message: str) -> None:
    tool = evaluator(checker=lambda output, expected: answer, isolation="in_process")
    (outcome,) = measured(tool, {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.message) == ("wrong_answer", message)
    passing = evaluator(checker=lambda output, expected: bool((output == expected).all()))
    assert [kind(o) for o in measured(passing, {}, {"answer": 3})] == ["timed", "wrong_answer"]


def test_what_does_not_pickle_is_named_and_works_in_process() -> None:
    lock = threading.Lock()

    def build(config: Config) -> Any:
        def kernel(x: Any) -> Any:
            with lock:
                return x * 2

        return kernel

    with pytest.raises(EvaluatorError, match=r'`build` cannot be sent .*isolation="in_process"'):
        CallableEvaluator(build, (ONES,)).open(None)  # type: ignore[arg-type]
    with pytest.raises(EvaluatorError, match=r"`args\[1\]` cannot be sent"):
        CallableEvaluator(zoo(), (ONES, lock)).open(None)  # type: ignore[arg-type]
    (outcome,) = measured(CallableEvaluator(build, (ONES,), isolation="in_process", **QUICK), {})
    assert kind(outcome) == "timed"


def test_in_process() -> None:
    tool = evaluator(isolation="in_process")
    configs: list[dict[str, Any]] = [{}, {"build": "raise"}, {"run": "raise"}, {"run": "sys.exit"}, {"answer": 3}]
    outcomes = measured(tool, *configs)
    assert [kind(o) for o in outcomes] == ["timed", "compile_error", "run_error", "run_error", "wrong_answer"]
    with tool.open(None) as session:  # type: ignore[arg-type]
        assert session.room == 1
        session.compare(Compare(tuple(Trial(i, Config(c)) for i, c in enumerate(configs)), 4, "confirm"))
        assert session.room == 0
        (event,) = session.poll()
        assert isinstance(event, Compared)
        found = dict(event.outcomes)
        assert [kind(found[i]) for i in range(5)] == [kind(o) for o in outcomes]
        assert len(found[0].times_ms) == 4  # type: ignore[union-attr]
        assert session.room == 1
        session.submit([Trial(5, Config(configs[0]))], Limits())
        session.abandon()
        assert session.poll(0.1) == ()


def sleeper(config: Config) -> Any:
    """A kernel that sleeps for config["ms"] milliseconds."""
    return lambda *_: time.sleep(config["ms"] / 1000)


@pytest.mark.parametrize("isolation", ["process", "in_process"])
def test_cut_off(isolation: Any) -> None:
    tool = CallableEvaluator(sleeper, isolation=isolation, warmup_ms=1.0, target_ms=60.0, min_repeats=5)
    slow, fast = measured(tool, {"ms": 8}, {"ms": 1}, limits=Limits(cutoff_ms=4.0))
    assert isinstance(slow, Timed)
    assert isinstance(fast, Timed)
    assert (slow.cut, len(slow.times_ms)) == (True, 3)
    assert not fast.cut
    assert len(fast.times_ms) >= 5


def test_a_kernel_slower_than_its_timeout_allows_gets_fewer_samples() -> None:
    (outcome,) = measured(CallableEvaluator(sleeper, run_timeout_s=1.5, min_repeats=20), {"ms": 300})
    assert isinstance(outcome, Timed)
    assert 1 <= len(outcome.times_ms) <= 4


def test_compare_interleaves_and_survives_a_crash(tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    def build(config: Config) -> Any:
        calls = []

        def kernel() -> None:
            import os
            import time

            calls.append(1)
            if config["crash_at"] == len(calls):
                os._exit(9)
            with open(log, "a") as file:
                file.write(f"{config['name']} {os.getpid()}\n")
            time.sleep(0.002)

        return kernel

    tool = CallableEvaluator(build, warmup_ms=0, min_sample_ms=0)
    names = {"a": 0, "b": 8, "c": 0, "d": 1}
    trials = tuple(Trial(i, Config(name=n, crash_at=c)) for i, (n, c) in enumerate(names.items()))
    with tool.open(None) as session:  # type: ignore[arg-type]
        session.compare(Compare(trials, 6, "verify"))
        assert (session.room, session.idle) == (0, False)
        event = compared(session)
        assert session.idle
        assert list(session.poll(0.0)) == []
        assert session.room == 1
    outcomes = [outcome for _, outcome in event.outcomes]
    assert [kind(o) for o in outcomes] == ["timed", "crash", "timed", "crash"]
    assert [len(o.times_ms) for o in outcomes if isinstance(o, Timed)] == [6, 6]
    lines = [line.split() for line in Path(log).read_text().splitlines()]
    assert len({pid for _, pid in lines}) == 3
    order = [name for i, (name, _) in enumerate(lines) if i == 0 or lines[i - 1][0] != name]
    # Two calls to check and warm each, then two a round: b ends in its eighth call, in the third round.
    assert "".join(order) == "abc" + "abc" * 3 + "ac" * 3


def test_a_comparison_gives_a_second_chance_in_a_fresh_worker() -> None:
    """The doomed worker is the one that served most; the other two are idle, but not fresh either."""
    with evaluator().open(None) as session:  # type: ignore[arg-type]
        session.compare(Compare(tuple(Trial(i, Config(n=i)) for i in range(3)), 2, "confirm"))
        compared(session)
        session.submit([Trial(3, Config(run="crash later"))], Limits())
        assert kind(collect(session, 1)[3]) == "timed"
        session.compare(Compare((Trial(4, Config(build="sleep")),), 2, "confirm"))
        ((_, outcome),) = compared(session).outcomes
        assert kind(outcome) == "timed"


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_timer_is_a_failure_of_the_config(bad: float) -> None:
    tool = evaluator(isolation="in_process", timer=lambda call: bad)
    assert [kind(o) for o in measured(tool, {})] == ["invalid_time"]


def test_a_timer_replaces_the_clock() -> None:
    (outcome,) = measured(evaluator(timer=lambda call: [call(), 7.5][1]), {})
    assert isinstance(outcome, Timed)
    assert set(outcome.times_ms) == {7.5}


def test_the_compile_timeout_of_the_limits_counts_where_it_is_shorter() -> None:
    tool = evaluator(build_timeout_s=30.0)
    (outcome,) = measured(tool, {"build": "hang"}, limits=Limits(compile_timeout_s=0.3))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.compile_s) == ("compile_timeout", 0.3)
    tool = evaluator(build_timeout_s=0.3)
    (outcome,) = measured(tool, {"build": "hang"}, limits=Limits(compile_timeout_s=30.0))
    assert outcome.compile_s == 0.3


@pytest.mark.slow
def test_a_straggler_holds_up_nobody() -> None:
    """One worker hangs in C for seconds while the other builds and times four; nobody else pays."""
    tool = evaluator(workers=2, build_timeout_s=8.0)
    with tool.open(None) as session:  # type: ignore[arg-type]
        assert session.room == 3
        configs: list[dict[str, Any]] = [{"build": "hang"}, {"n": 1}, {"n": 2}, {"run": "segfault"}, {"n": 3}]
        session.submit([Trial(i, Config(c)) for i, c in enumerate(configs)], Limits())
        assert session.room == 0
        order: list[int] = []
        found: dict[int, Outcome] = {}
        while len(found) < 5:
            for event in session.poll(5.0):
                assert isinstance(event, Observed)
                order.append(event.trial)
                found[event.trial] = event.outcome
        assert order[-1] == 0
        assert session.room == 3
    assert [kind(found[i]) for i in range(5)] == ["compile_timeout", "timed", "timed", "crash", "timed"]


@pytest.mark.timed
@pytest.mark.parametrize("overlap", [False, True])
def test_builds_stop_while_a_kernel_is_timed(overlap: bool, tmp_path: Path) -> None:
    """A build ticks into a file; with overlap=False no tick falls into a timing, and its clock stands still."""
    ticks, runs = str(tmp_path / "ticks"), str(tmp_path / "runs")

    def build(config: Config) -> Any:
        import time

        if config["slow"]:
            for _ in range(40):
                with open(ticks, "a") as file:
                    file.write(f"{time.monotonic()}\n")
                time.sleep(0.01)

        def kernel() -> None:
            start = time.monotonic()
            time.sleep(0.1)
            with open(runs, "a") as file:
                file.write(f"{start} {time.monotonic()}\n")

        return kernel

    tool = CallableEvaluator(build, workers=2, overlap=overlap, build_timeout_s=5.0, max_repeats=9, target_ms=1e3)
    with tool.open(None) as session:  # type: ignore[arg-type]
        session.submit([Trial(0, Config(slow=True)), Trial(1, Config(slow=False))], Limits())
        found = collect(session, 2)
    assert [kind(found[i]) for i in (0, 1)] == ["timed", "timed"]
    stamps = [float(line) for line in Path(ticks).read_text().splitlines()]
    spans = [tuple(map(float, line.split())) for line in Path(runs).read_text().splitlines()]
    inside = sum(a + 0.02 < t < b for t in stamps for a, b in spans)
    assert (inside > 10) if overlap else (inside == 0)
    assert 0.35 < found[0].compile_s < 1.2, "40 times 10 ms, less the 0.9 s in which it is told to stop"


def test_timings_never_overlap(tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    def build(config: Config) -> Any:
        def kernel() -> None:
            import time

            start = time.monotonic()
            time.sleep(0.03)
            with open(log, "a") as file:
                file.write(f"{start} {time.monotonic()}\n")

        return kernel

    tool = CallableEvaluator(build, workers=3, overlap=True, max_repeats=3)
    measured(tool, {"n": 0}, {"n": 1}, {"n": 2}, {"n": 3})
    spans = sorted(tuple(map(float, line.split())) for line in Path(log).read_text().splitlines())
    assert len(spans) >= 12
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_late_parent_does_not_turn_results_into_timeouts() -> None:
    with evaluator().open(None) as session:  # type: ignore[arg-type]
        session.submit([Trial(0, Config(n=0))], Limits())
        assert kind(collect(session, 1)[0]) == "timed"
        session.submit([Trial(1, Config(n=1))], Limits())
        time.sleep(1.5)  # the build is long done, and its deadline over
        assert kind(collect(session, 1)[1]) == "timed"


def test_poll_keeps_its_time_and_abandon_drops_all() -> None:
    with evaluator(build_timeout_s=30).open(None) as session:  # type: ignore[arg-type]
        assert list(session.poll(5.0)) == []  # nothing in flight: at once
        session.submit([Trial(0, Config(build="hang")), Trial(1, Config(n=1))], Limits())
        for asked, least, most in ((0.0, 0.0, 0.1), (0.1, 0.1, 0.2), (20.0, 0.2, 0.5), (None, 0.2, 0.5)):
            waited = []
            for _ in range(20):  # on a busy machine one of them is not held up
                start = time.monotonic()
                assert list(session.poll(asked)) == []
                waited.append(time.monotonic() - start)
                if waited[-1] < most:
                    break
            assert least <= min(waited) < most
        assert not session.idle
        session.abandon()
        assert (session.room, session.idle, living()) == (1, True, [])
        assert list(session.poll(5.0)) == []
        session.submit([Trial(2, Config(n=2))], Limits())
        assert kind(collect(session, 1)[2]) == "timed"


def test_leaving_by_an_exception_kills_a_hanging_worker() -> None:
    def interrupted(session: Session) -> None:
        with session:
            session.submit([Trial(0, Config(run="hang"))], Limits())
            until = time.monotonic() + 0.7
            while time.monotonic() < until:
                session.poll(0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(evaluator(run_timeout_s=60).open(None))  # type: ignore[arg-type]


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import ctypes, os, sys
        from autotune.core.config import Config
        from autotune.core.outcomes import Trial
        from autotune.core.search.messages import Limits
        from autotune.shell.evaluators.callable import CallableEvaluator

        def build(config):
            print("lost")
            open(config["file"], "w").write(str(os.getpid()))
            ctypes.PyDLL(None).sleep(1000) if config["hang"] else __import__("time").sleep(1000)

        if __name__ == "__main__":
            session = CallableEvaluator(build, workers=2).open(None)
            session.submit([Trial(i, Config(file=f"{sys.argv[1]}/{i}", hang=bool(i))) for i in range(2)], Limits())
            [session.poll() for _ in range(400)]
    """)
    )
    root = str(ROOT)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": root})
    files = [tmp_path / "0", tmp_path / "1"]
    until = time.monotonic() + 15
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < until, "the builds did not begin"
        time.sleep(0.02)
    pids = [int(file.read_text()) for file in files]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text() for pid in pids):
        assert time.monotonic() < until, "a worker outlived its parent"
        time.sleep(0.02)


def test_a_module_loaded_by_path_travels_with_its_code(tmp_path: Path) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    path = tmp_path / "my_kernel.py"
    path.write_text("FACTOR = 2\ndef build(config):\n    return lambda x: x * FACTOR\n")
    spec = spec_from_file_location("my_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["my_kernel"] = module
    try:
        spec.loader.exec_module(module)
        (outcome,) = measured(CallableEvaluator(module.build, (ONES,), reference=ONES * 2, **QUICK), {})
    finally:
        del sys.modules["my_kernel"]
    assert kind(outcome) == "timed"


@pytest.mark.parametrize("isolation", ["process", "in_process"])
def test_a_workload_that_cannot_be_set_up_is_an_error_of_the_evaluator(isolation: Any) -> None:
    def reference(x: Any) -> Any:
        raise OSError("no such weights")

    tool = CallableEvaluator(zoo(), (ONES,), reference=reference, isolation=isolation)
    with pytest.raises(EvaluatorError, match=r"cannot be set up.*OSError: no such weights"):
        measured(tool, {})
    dying = CallableEvaluator(zoo(), make_args=lambda: os._exit(7))
    with pytest.raises(EvaluatorError, match="no worker process can be started: the worker exited with code 7"):
        measured(dying, {})


def test_make_args_runs_in_the_worker() -> None:
    def build(config: Config) -> Any:
        return lambda pid, x: (pid, x * 2)

    def check(output: Any, expected: Any) -> str | bool:
        import os

        return output[0] == os.getpid() or "made elsewhere"

    (outcome,) = measured(CallableEvaluator(build, make_args=lambda: (os.getpid(), 1.0), checker=check, **QUICK), {})
    assert kind(outcome) == "timed"


@pytest.mark.parametrize(
    "settings",
    [
        {"build": None},
        {"checker": 3},
        {"args": (1,), "make_args": tuple},
        {"workers": 0},
        {"workers": 1.5},
        {"workers": None},
        {"args": ONES},
        {"memory_limit_mb": 0},
        {"build_timeout_s": 0},
        {"run_timeout_s": float("nan")},
        {"isolation": "thread"},
        {"min_repeats": 5, "max_repeats": 4},
        {"isolation": "in_process", "workers": 2},
        {"isolation": "in_process", "memory_limit_mb": 100},
    ],
    ids=str,
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(EvaluatorError):
        CallableEvaluator(**{"build": sleeper, **settings})


def test_describe_is_plain_and_the_clock_goes_on() -> None:
    tool = evaluator(memory_limit_mb=100)
    assert tool.describe()["kind"] == "callable"
    assert tool.describe()["memory_limit_mb"] == 100
    assert all(isinstance(value, bool | int | float | str) for value in tool.describe().values())
    assert (tool.exact, tool.recovers) == (False, False)
    with tool.open(None, (Ticked(100.0),)) as session:  # type: ignore[arg-type]
        assert 100.0 <= session.now() < 105.0


# What is compared, and what is restored


def outcome_of(build: Any, **given: Any) -> Any:
    """The outcome of one config in this process."""
    settings: dict[str, Any] = {"isolation": "in_process", "min_repeats": 3, "max_repeats": 3, "warmup_ms": 0, **given}
    (outcome,) = measured(CallableEvaluator(build, settings.pop("args", ()), **settings), {})
    return outcome


def constant(function: Any) -> Any:
    return lambda config: function


@pytest.mark.parametrize(
    ("args", "reference"),
    [
        ((np.ones(4),), lambda x: None),
        ((3,), lambda x: None),
        ((np.ones(4),), lambda x: []),
        ((np.ones(4),), lambda x: {}),
        ((np.ones(4),), lambda x: [None, np.zeros(0)]),
        ((), ()),
    ],
)
@pytest.mark.parametrize("isolation", ["in_process", "process"])
def test_a_comparison_of_nothing_is_an_error(args: Any, reference: Any, isolation: Any) -> None:
    with pytest.raises(EvaluatorError, match=r"returned None and changed no argument|nothing to compare"):
        measured(CallableEvaluator(constant(lambda *a: None), args, reference=reference, isolation=isolation), {})


def test_what_a_reference_changes_is_what_a_kernel_must_change() -> None:
    def fill(values: Any) -> None:
        values["out"].append(2 * values["in"][0])

    given: dict[str, Any] = {"args": ({"in": [1.5], "out": []},), "reference": fill}
    assert kind(outcome_of(constant(fill), **given)) == "timed"
    assert kind(outcome_of(constant(lambda values: None), **given)) == "wrong_answer"
    for buffer in (bytearray(b"abc"), array.array("d", [1.0, 2.0]), np.arange(3), {1, 2}, [1, [2, 3]]):

        def change(x: Any) -> Any:
            if isinstance(x, set):
                x.add(7)
            else:
                x[0] = 7
            return "something"

        def reference(x: Any, change: Any = change) -> None:
            change(x)

        assert kind(outcome_of(constant(change), args=(buffer,), reference=reference)) == "timed", buffer
        assert kind(outcome_of(constant(lambda x: None), args=(buffer,), reference=reference)) == "wrong_answer", buffer


def test_an_infinite_reference_accepts_infinities_alone() -> None:
    reference = np.array([np.inf, -np.inf, 1.0])
    assert kind(outcome_of(constant(lambda: reference.copy()), reference=reference)) == "timed"
    for wrong in ([1.0, -np.inf, 1.0], [-np.inf, -np.inf, 1.0], [np.nan, -np.inf, 1.0], [np.inf, -np.inf, np.inf]):
        assert kind(outcome_of(constant(lambda wrong=wrong: np.array(wrong)), reference=reference)) == "wrong_answer"


def test_a_kernel_that_is_wrong_from_its_second_call_is_not_picked() -> None:
    def build(config: Config) -> Any:
        calls = []

        def kernel(x: Any) -> Any:
            calls.append(0)
            return x * 2 if len(calls) < 2 else x

        return kernel

    (outcome,) = measured(CallableEvaluator(build, (ONES,), reference=lambda x: x * 2, **QUICK), {})
    assert kind(outcome) == "wrong_answer"
    assert outcome.message.startswith("it was right at first, and wrong after it was timed")


@pytest.mark.parametrize("isolation", ["in_process", "process"])
def test_outputs_are_checked_after_a_comparison(isolation: Any) -> None:
    def build(config: Config) -> Any:
        calls = []

        def kernel(x: Any) -> Any:
            calls.append(0)
            return x * 2 if len(calls) < 12 or not config["late"] else x

        return kernel

    settings: dict[str, Any] = {"min_sample_ms": 0, "warmup_ms": 0, "min_repeats": 1, "max_repeats": 1}
    tool = CallableEvaluator(build, (ONES,), reference=lambda x: x * 2, isolation=isolation, **settings)
    with tool.open(None) as session:  # type: ignore[arg-type]
        session.compare(Compare((Trial(0, Config(late=True)), Trial(1, Config(late=False))), 8, "verify"))
        found: list[Any] = []
        while not found:
            found += session.poll(30)
    outcomes = dict(found[0].outcomes)
    assert kind(outcomes[0]) == "wrong_answer"
    assert kind(outcomes[1]) == "timed"


def test_torch_tensors_are_compared_and_restored() -> None:
    torch = pytest.importorskip("torch")

    def build(config: Config) -> Any:
        def kernel(x: Any, out: Any) -> None:
            out += x * 2

        return kernel

    def reference(x: Any, out: Any) -> None:
        out += x * 2

    for dtype in (torch.bfloat16, torch.float32):
        x = torch.arange(8, dtype=dtype)
        base = torch.zeros(16, dtype=dtype)
        outcome = outcome_of(build, args=(x, base[4:12]), reference=reference)
        assert kind(outcome) == "timed", outcome
        assert "args[1]" in outcome.details["checked"]
        assert (
            kind(outcome_of(constant(lambda x, out: None), args=(x, base[4:12]), reference=reference)) == "wrong_answer"
        )
        assert base.count_nonzero() == 0, "the caller's tensor is not touched"
    learning = torch.ones(3, requires_grad=True)
    assert (
        kind(outcome_of(constant(lambda w: (w * 2).sum()), args=(learning,), reference=lambda w: (w * 2).sum()))
        == "timed"
    )


def test_arrays_that_share_memory_share_it_in_their_copies() -> None:
    whole = np.zeros(8)

    def shift(a: Any, b: Any) -> Any:
        a[0] += 1
        return b.copy()

    outcome = outcome_of(constant(shift), args=(whole[:4], whole[0:2]), reference=np.array([1.0, 0.0]))
    assert kind(outcome) == "timed", outcome


def test_an_argument_that_cannot_be_restored_is_named() -> None:
    tool = CallableEvaluator(constant(lambda x, lock: x), (1, threading.Lock()), isolation="in_process")
    with pytest.raises(EvaluatorError, match=r"args\[1\] is a lock.*make it in `build`"):
        measured(tool, {})


@pytest.mark.parametrize("every", [2, 3, 7])
@pytest.mark.parametrize("isolation", ["in_process", "process"])
def test_a_kernel_that_is_wrong_now_and_then_is_not_picked(every: int, isolation: Any) -> None:
    def build(config: Config) -> Any:
        calls = [0]

        def kernel(x: Any) -> Any:
            calls[0] += 1
            return x * 2 if calls[0] % every else x

        return kernel

    tool = CallableEvaluator(build, (ONES,), reference=lambda x: x * 2, isolation=isolation, **QUICK)
    assert [kind(outcome) for outcome in measured(tool, {}, {})] == ["wrong_answer"] * 2


def test_arguments_of_every_kind_are_given_back() -> None:
    masked = np.ma.array([1.0, 2.0], mask=[0, 1])
    given = (
        memoryview(array.array("d", [1.0, 2.0])), masked, SimpleNamespace(a=np.ones(2)), OrderedDict(a=[1]),
        array.array("d", [1.0]), deque([1]), {"a": [np.zeros(2)]}, bytearray(b"ab"), {1},
    )  # fmt: skip
    inputs = Inputs(given)
    view, mask, space, ordered, numbers, queue, nested, raw, few = inputs.working
    assert view.format == "d"
    view[0] = numbers[0] = 9
    mask.mask[0] = True
    space.a[0] = 5
    ordered["a"].append(2)
    queue.append(2)
    nested["a"][0][0] = 3
    raw[0] = 7
    few.add(2)
    assert inputs.find_changed() == list(range(9))
    inputs.restore()
    assert inputs.find_changed() == []

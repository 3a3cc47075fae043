"""Progress as it looks on a terminal, in a log, and where nobody looks; and what it costs."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import reduce
from pathlib import Path

import pytest

from autotune.core.config import Config
from autotune.core.outcomes import Failed, FailureKind, Timed, Trial
from autotune.core.parameters import Integer
from autotune.core.search.forecast import finish_seconds
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Conclude,
    Event,
    Interrupted,
    Measure,
    Observed,
    Ticked,
)
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell import progress as progress_module
from autotune.shell.options import Progress
from autotune.shell.plans import make_plan
from autotune.shell.progress import show_progress
from autotune.shell.progress_state import Pace, failure_notice, opening, phase, progress_state

SPACE = Space({"x": Integer(0, 99)}, default={"x": 0})
TRIALS = [
    Trial(0, Config(x=0), "default", generation=-1),
    *(Trial(i, Config(x=i), generation=i // 4) for i in range(1, 9)),
]


class Screen(io.StringIO):
    """A fake terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def searching(budget: Budget | None = None, strategy: RandomSearch | None = None) -> Search:
    return start(Plan(SPACE, strategy or RandomSearch(), budget or Budget(evaluations=40)))


def unlimited() -> Search:
    return start(Plan(SPACE, RandomSearch(), Budget(), settings=Settings(restarts=1)))


def events(until: int = 9) -> list[Event]:
    """The default takes 4 ms, x = 1 fails, the others take 8 / x ms; one second each."""
    found: list[Event] = [Asked(0.0, 1, Measure((TRIALS[0],))), Observed(1.0, 0, Timed((4.0,)))]
    for i in range(1, until):
        outcome = Failed("crash") if i == 1 else Timed((8.0 / i,))
        found += [Asked(float(i), 1, Measure((TRIALS[i],))), Observed(i + 1.0, i, outcome)]
    return found


def after(*more: Event, until: int = 9, budget: Budget | None = None) -> Search:
    return reduce(advance, [*events(until), *more], searching(budget))


def visible(text: str) -> str:
    """What a terminal shows of it, control sequences taken out."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, progress: Progress = None) -> Iterator[Callable]:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(progress_module, "SCREEN_S", 0.0)
        patch.setattr(progress_module, "SHARE", 0)
        with show_progress(progress) as watch:
            yield watch


def fed(watch: Callable[[Search, Event], None], happened: list[Event]) -> None:
    search = searching()
    for event in happened:
        search = advance(search, event)
        watch(search, event)


def test_a_terminal_shows_how_far_it_got_and_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    with watched(monkeypatch, screen) as watch:
        fed(watch, events())
        shown = visible(screen.getvalue())
    assert "measuring the default: no time yet" in shown
    assert "evaluated 1/40  failed 0" in shown
    last = shown[shown.rindex("evaluated") :]
    assert "evaluated 9/40  failed 1  generation 2  eta " in last
    assert "searching: best 1.000 ms, 4.00x over the default" in last
    assert "━" in shown
    assert screen.getvalue().endswith("\x1b[1A\x1b[2K"), "what was painted is wiped out in the end"


def test_a_narrow_terminal_is_cut_and_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    with watched(monkeypatch, screen) as watch:
        fed(watch, events())
    assert max(map(len, re.split(r"[\r\n]+", visible(screen.getvalue())))) <= 40
    assert "…" in visible(screen.getvalue())


def test_a_log_gets_plain_lines_and_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    with watched(monkeypatch, log, progress=True) as watch:
        fed(watch, events())
    lines = log.getvalue().splitlines()
    assert lines[0] == "autotune: measuring the default 0/40, no time yet"
    assert lines[-1].startswith("autotune: searching 9/40, 1 failed, eta ")
    assert ", first timing 1.000 ms, 4.00x" in lines[-1]
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2, "ten seconds apart"
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(("stream", "progress"), [(io.StringIO, None), (io.StringIO, False), (Screen, False)])
def test_nothing_is_shown_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], progress: bool | None
) -> None:
    written = stream()
    with watched(monkeypatch, written, progress) as watch:
        fed(watch, events())
    assert written.getvalue() == ""


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    with watched(monkeypatch, screen) as watch:
        fed(watch, events())
    assert "\x1b" not in screen.getvalue()
    assert screen.getvalue().startswith("autotune: measuring the default")


def test_a_function_is_told_of_every_event() -> None:
    told: list[tuple[Search, Event]] = []
    with show_progress(lambda search, event: told.append((search, event))) as watch:
        fed(watch, events())
    assert [event for _, event in told] == events()
    assert told[-1][0].observed == 9


def test_a_terminal_that_goes_away_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Screen):
        def write(self, text: str) -> int:
            if "evaluated 2" in text:
                raise OSError(5, "Input/output error")
            return super().write(text)

    screen = Gone()
    with watched(monkeypatch, screen) as watch:
        fed(watch, events())
    assert "evaluated 1/40" in visible(screen.getvalue())
    assert "evaluated 9/40" not in visible(screen.getvalue())


def test_watching_costs_far_less_than_a_tenth_of_a_millisecond_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painting included, in processor time, so that a busy machine does not matter."""
    search, event, many = after(), events()[-1], 50_000
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Screen())
        with show_progress(None) as watch:
            watch(search, event)  # imports rich
            began = time.process_time()
            for _ in range(many):
                watch(search, event)
            spent = time.process_time() - began
    assert spent / many < 50e-6


COMPARE = Compare((TRIALS[8], TRIALS[7]), 3, "confirm")
VERIFY = Compare((TRIALS[8], TRIALS[0]), 3, "verify")
CONCLUDE = Asked(9.0, 1, Conclude("evaluations"))
SIMPLER = Measure((Trial(9, Config(x=50), "simplify", generation=-1),))


@pytest.mark.parametrize(
    ("search", "word"),
    [
        (searching(), "searching"),
        (after(until=1), "searching"),
        (reduce(advance, events()[:1], searching()), "measuring the default"),
        (after(Asked(9.0, 1, COMPARE)), "confirming"),
        (after(Asked(9.0, 1, COMPARE), Compared(9.0, ((8, Timed((1.0,))), (7, Timed((1.1,)))))), "searching"),
        (after(CONCLUDE), "finishing"),
        (after(CONCLUDE, Asked(9.0, 1, SIMPLER)), "simplifying"),
        (after(CONCLUDE, Asked(9.0, 1, VERIFY)), "verifying"),
        (after(Interrupted(9.0)), "finishing early, Ctrl-C again stops at once"),
    ],
)
def test_the_phase(search: Search, word: str) -> None:
    assert phase(search) == word


def test_turns_are_painted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    with watched(monkeypatch, log, progress=True) as watch:
        fed(watch, [*events(), CONCLUDE, Asked(9.0, 1, VERIFY), Interrupted(9.0)])
    phases = [line.split(": ")[1].split(" 0/")[0].split(" 9/")[0] for line in log.getvalue().splitlines()]
    assert phases[:3] == ["measuring the default", "finishing", "verifying"]
    assert phases[3].startswith("finishing e")


def test_the_time_left_goes_by_the_pace_since_one_began_to_watch() -> None:
    resumed = after(until=5)  # 5 evaluations in 5 s
    pace = Pace.of(resumed)
    now = after()  # 9 of 40, and 9 s of the clock
    assert pace.seconds_left(resumed, 1.0) is None, "nothing to go by yet"
    assert pace.seconds_left(now, 2.0) == pytest.approx(2.0 * 31 / 4 + finish_seconds(now) * 2 / 4)
    timed = after(budget=Budget(seconds=19.0))
    assert pace.seconds_left(timed, 0.4) == pytest.approx(0.4 * 10 / 4), "a simulated clock is faster than ours"
    both = after(budget=Budget(evaluations=40, seconds=19.0))
    assert pace.seconds_left(both, 0.4) == pytest.approx(0.4 * 10 / 4), "whichever is reached first"
    assert Pace.of(unlimited()).seconds_left(reduce(advance, events(), unlimited()), 1.0) is None


def test_a_failed_default_is_said() -> None:
    failed = [Asked(0.0, 1, Measure((TRIALS[0],))), Observed(1.0, 0, Failed("run_error"))]
    assert "the default failed" in progress_state(reduce(advance, failed, searching())).line()


def test_the_bar_follows_the_budget_that_is_spent_first() -> None:
    assert progress_state(after(budget=Budget(evaluations=18, seconds=90.0))).share == pytest.approx(0.5)
    assert progress_state(after(budget=Budget(evaluations=90, seconds=18.0))).share == pytest.approx(0.5)
    assert progress_state(after(budget=Budget(generations=6))).share == pytest.approx(0.5)
    assert progress_state(reduce(advance, events(), unlimited())).share is None


PROBLEM = """
import time
from autotune import Budget, Integer, Problem, SimulatedEvaluator, Space, Timed

class Table:
    def outcome(self, config):
        time.sleep(0.01)
        return Timed((1.0 + config["x"],), run_s=0.1)

problem = Problem(Space({"x": Integer(0, 99)}, default={"x": 50}), SimulatedEvaluator(Table()), "random_search",
                  budget=Budget(evaluations=40))
"""


def test_the_command_shows_progress_on_a_real_terminal_and_a_table_after_it(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(PROBLEM)
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())", "tune", "p.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    text = b""
    with closing(os.fdopen(master, "rb", buffering=0)) as terminal:
        while select.select([terminal], [], [], 30)[0]:
            try:
                chunk = terminal.read(65536)
            except OSError:  # Linux says so when the other end closes
                break
            if not chunk:
                break
            text += chunk
    assert process.wait(timeout=30) == 0
    shown = visible(text.decode())
    assert "autotune: the journal is p.journal.jsonl" in shown
    assert re.search(r"evaluated \d+/40", shown)
    assert "parameter  best  default" in shown
    assert "\x1b[1m" in text.decode(), "a terminal gets colour"


def test_the_time_left_is_within_the_budget_and_counts_down() -> None:
    """Whatever the pace: the first event may come late, and none comes while the finalists are compared."""
    plan = make_plan(SPACE, "random_search", budget=Budget(seconds=60))
    search = start(plan)
    pace = Pace.of(search)
    left = [pace.seconds_left(search, watched, watched) for watched in (0.0, 5.0, 59.0, 200.0)]
    assert left == [60.0, 55.0, 1.0, 0.0]
    search = advance(search, Ticked(0.01))
    for silent in (0.0, 3.0, 30.0):
        late = pace.seconds_left(search, 2.0 + silent, silent)
        assert late is not None
        assert 0 <= late <= 60 - silent
    shares = [progress_state(search, None, silent).share for silent in (0.0, 30.0, 90.0)]
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert shares[-1] == 1.0


STATES = [
    after(*more, until=until, budget=budget)
    for budget in (None, Budget(seconds=60.0), Budget(generations=6), Budget(evaluations=10**7, seconds=1e6))
    for until in (1, 2, 5, 9)
    for more in ((), (CONCLUDE,), (CONCLUDE, Asked(9.0, 1, VERIFY)), (Interrupted(9.0),))
    if until == 9 or not more
]


@pytest.mark.parametrize("width", [40, 80])
def test_a_line_keeps_its_width_and_its_numbers(width: int) -> None:
    for search in STATES:
        for left in (None, 7.0, 3.6e5):
            state = progress_state(search, left)
            line = state.line(width)
            assert line == progress_state(search, left).line(width)
            assert 0 < len(line) <= width
            assert f"{state.evaluated:,}" in line
            if width == 80 and state.best_ms is not None:
                assert f"{state.timing} " in line
                assert " ms" in line


def test_the_time_left_never_grows_while_nothing_happens() -> None:
    for search in STATES:
        for pace in (Pace.of(searching()), Pace.of(search)):
            for heard in (0.0, 0.01, 9.0, 500.0):
                left = [pace.seconds_left(search, heard + silent, silent) for silent in (0.0, 0.1, 3.0, 50.0, 1e4)]
                if left[0] is not None:
                    assert all(left[i] >= left[i + 1] >= 0 for i in range(len(left) - 1))  # type: ignore[operator]


def test_the_time_left_is_until_the_end_and_not_until_the_budget_is_spent() -> None:
    """A search that has concluded early waits for its verification alone."""
    plan = make_plan(SPACE, "random_search", budget=Budget(seconds=60.0))
    search = reduce(advance, [*events(), CONCLUDE], start(plan))
    before, verifying = (
        Pace.of(start(plan)).seconds_left(one, 9.0) for one in (search, advance(search, Asked(9.0, 1, VERIFY)))
    )
    assert before is not None
    assert verifying is not None
    assert verifying <= before < 51.0
    done = Compared(9.5, ((8, Timed((1.0,) * 31)), (0, Timed((4.0,) * 31))))
    over = after(CONCLUDE, Asked(9.0, 1, VERIFY), done)
    assert Pace.of(searching()).seconds_left(over, 9.5) == 0.0


def test_verified_times_replace_first_timings_with_a_word() -> None:
    done = Compared(9.5, ((8, Timed((1.1,) * 31)), (0, Timed((4.4,) * 31))))
    state = progress_state(after(CONCLUDE, Asked(9.0, 1, VERIFY), done))
    assert "verified 1.100 ms, 4.00x over the default" in state.line()
    assert state.best() == "best 1.100 ms, 4.00x over the default, verified"
    assert "first timing 1.000 ms" in progress_state(after()).line()


def test_a_search_without_a_limit_says_so_and_a_list_has_a_total() -> None:
    assert "9, no limit, " in progress_state(reduce(advance, events(), unlimited())).line()
    listed = start(Plan(SPACE, RandomSearch(count=100), Budget()))
    assert "0/100, " in progress_state(listed).line()
    assert Pace.of(listed).seconds_left(reduce(advance, events(), listed), 9.0) is not None


def failing(count: int, kinds: tuple[FailureKind, ...] = ("run_error",)) -> list[tuple[Search, Event]]:
    """A search whose default works and whose configs all fail, after each event."""
    search, stages = after(until=1), list[tuple[Search, Event]]()
    for i in range(1, count + 1):
        trial = Trial(i, Config(x=i), generation=0)
        for event in (
            Asked(float(i), 1, Measure((trial,))),
            Observed(i + 0.5, i, Failed(kinds[i % len(kinds)], f"no {kinds[i % len(kinds)]}: \x1b[31m{i}")),
        ):
            search = advance(search, event)
            stages.append((search, event))
    return stages


def test_the_first_dozen_that_fails_is_told_at_once_and_once() -> None:
    told = [text for stage in failing(20) if (text := failure_notice(*stage))]
    assert told == ["12 of 13 failed:\n  12 run error: no run_error: \\x1b[31m1"]
    (mixed,) = [text for stage in failing(20, ("crash", "compile_error")) if (text := failure_notice(*stage))]
    assert mixed.splitlines()[1:] == [
        "  6 compile error: no compile_error: \\x1b[31m1",
        "  6 crash: no crash: \\x1b[31m2",
    ]
    assert not [stage for stage in zip(failing(11), strict=True) if failure_notice(*stage[0])]


@pytest.mark.parametrize("progress", [True, "brief"])
def test_a_log_names_the_beginning_and_the_failures(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> None:
    log = io.StringIO()
    text = opening(searching().plan, "build", Path("run.jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", log)
        with show_progress(progress, text) as watch:
            assert ("tuning build by" in log.getvalue()) == (progress is True), "a short search is brief"
            failed = Observed(1.0, 0, Failed("run_error", "no such device"))
            fed(watch, [events()[0], failed])
    assert log.getvalue().startswith("autotune: tuning build by random_search among 100 configs; at most 40")
    assert "run.jsonl" in log.getvalue()
    assert "autotune: the default config failed: run error: no such device\n" in log.getvalue()
    assert max(map(len, log.getvalue().splitlines())) <= 80

"""Laws 3 to 5 of the machine, stepped by hand: whatever happens, in whatever order, it neither breaks nor loops."""

from functools import partial

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from autotune import (
    Budget,
    Compared,
    Failed,
    Finished,
    Measure,
    Observed,
    Outcome,
    Plan,
    Settings,
    Timed,
    TuningFailed,
    Wait,
    result,
)
from autotune.core.outcomes import Trial
from autotune.core.search.limits import search_deadline
from property_tests import shells, strategies

pytestmark = pytest.mark.filterwarnings("error")

BUDGETS = st.builds(
    Budget,
    evaluations=st.none() | st.integers(1, 30),
    seconds=st.none() | st.sampled_from([1e-9, 0.5, 3.0, 100.0, 1e300]),
    generations=st.none() | st.integers(1, 4),
)
SETTINGS = st.builds(
    Settings,
    search=st.sampled_from([True] * 9 + [False]),
    exact=st.booleans(),
    rebenchmark_threshold=st.sampled_from([0.9, 1.5, 1e9]),
    confirm_at_most=st.integers(2, 5),
    confirm_times=st.integers(0, 2),
    confirm_rounds=st.integers(1, 3),
    contenders=st.integers(1, 6),
    finalists=st.integers(1, 4),
    verify_rounds=st.integers(0, 3),
    hurried_rounds=st.integers(0, 2),
    simplify_rounds=st.integers(0, 2),
    cutoff_factor=st.sampled_from([None, 1.5, 3.0]),
    near_factor=st.sampled_from([None, 1.2]),
    reserve=st.sampled_from([0.0, 0.05, 0.9]),
    rebuild=st.booleans(),
    restarts=st.sampled_from([0, 0, 1, 3]),
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask"] * 6 + ["finish"] * 8
            + ["pass", "tick", "back", "again", "late", "late compare", "stale compare", "interrupt", "resume", "room"]
        ),
        st.integers(0, 50),
    ),
    max_size=60,
)  # fmt: skip
PASSES = (0.0, 1e-3, 0.4, 5.0, 1e6, 1e17)


def oracle(script: list[Outcome], trial: Trial, n: int) -> Outcome:
    return script[(trial.id * 7 + n * 3) % len(script)]


@st.composite
def plans(draw: st.DrawFn, which: tuple[str, int], examples: st.SearchStrategy | None = None) -> Plan:
    space = draw(examples) if examples is not None else draw(KNOWN)
    machine = draw(SETTINGS)
    if space.default is None and not machine.search:
        machine = Settings()
    rows = space.rows()
    picked = draw(st.lists(st.integers(0, len(rows) - 1), max_size=3))
    return Plan(
        space,
        strategies.instance(which, space),
        draw(BUDGETS),
        draw(st.integers(-1, 3)),
        seeds=tuple(space.decode(rows[picked[:2]])),
        best_available=tuple(space.decode(rows[picked[2:]])),
        settings=machine,
    )


MADE = {name: make() for name, make in strategies.SPACES.items()}
KNOWN = st.sampled_from(list(MADE.values()))


def act(shell: shells.HandShell, action: str, number: int) -> None:
    """One step of a script: what a shell, the clock or the user may do at any time."""
    match action:
        case "ask":
            shell.ask()
        case "finish":
            shell.finish(number)
        case "pass":
            shell.passes(PASSES[number % len(PASSES)])
        case "tick":
            shell.ticks()
        case "back":
            shell.clock = max(shell.clock - 1.0, 0.0)
        case "interrupt":
            shell.interrupt()
        case "resume":
            shell.resume()
        case "room":
            shell.room = number % 6
        case _:
            misdeed(shell, action, number)


def misdeed(shell: shells.HandShell, action: str, number: int) -> None:
    """An outcome that nobody waits for, if there can be one."""
    match action:
        case "again" if shell.events:  # an outcome comes a second time, as a revision
            known = [trial for trial in shell.search.trials if shell.search.records.has(trial.id)]
            if known:
                trial = known[number % len(known)]
                shell.happens(Observed(shell.clock, trial.id, shell.outcome(trial)))
        case "late" if shell.lost:  # of a trial that was given up
            trial = shell.lost.pop(number % len(shell.lost))
            shell.happens(Observed(shell.clock, trial.id, shell.outcome(trial)))
        case "late compare" if shell.search.comparing is not None:  # it is done just when it is given up
            task = shell.search.comparing
            shell.passes(PASSES[number % len(PASSES)])
            shell.ask()
            shell.compared(task)
        case "stale compare" if len(shell.search.trials):  # nobody waits for it any more
            trials = [shell.search.trials[(number * i) % len(shell.search.trials)] for i in range(1, 3)]
            found = tuple((trial.id, shell.outcome(trial)) for trial in dict.fromkeys(trials))
            shell.happens(Compared(shell.clock, found))


def lived(shell: shells.HandShell, script: list[tuple[str, int]]) -> None:
    for action, number in script:
        act(shell, action, number)
    shell.room = max(shell.room, 1)
    shell.run()
    for trial in shell.lost[:2]:  # whom nobody expects any more
        shell.happens(Observed(shell.clock, trial.id, shell.outcome(trial)))
    end = shell.run()
    note(str(end))
    assert isinstance(shell.ask(), Finished)
    shell.check_past()


@pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_history_breaks_the_machine(which, data):
    plan = data.draw(plans(which))
    shell = shells.HandShell(plan, partial(oracle, data.draw(strategies.scripts())), data.draw(st.integers(1, 5)))
    lived(shell, data.draw(ACTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_history_breaks_the_machine_in_any_space(which, data):
    plan = data.draw(plans(which, strategies.spaces() | KNOWN))
    shell = shells.HandShell(plan, partial(oracle, data.draw(strategies.scripts())), data.draw(st.integers(1, 5)))
    lived(shell, data.draw(ACTIONS))


OUTCOMES: dict[str, list[Outcome]] = {
    "all fail": [Failed("crash"), Failed("compile_error", "no"), Failed("run_timeout")],
    "all tie": [Timed((1.0, 1.0, 1.0))],
    "all huge": [Timed((1e300, 1.1e300)), Timed((1e300,))],
    "all tiny": [Timed((1e-300, 1.1e-300)), Timed((5e-324,))],
    "huge and tiny": [Timed((1e300, 1e300)), Timed((1e-300, 1e-300))],
    "the largest there are": [Timed((1.7976931348623157e308, 1.7976931348623157e308))],
    "endless compiles": [Timed((1.0,), compile_s=1e308), Timed((2.0,), compile_s=1e308, run_s=1e308)],
    "every other fails": [Timed((1.0, 1.1, 0.9)), Failed("wrong_answer", "x")],
    "good at first, then never again": [Timed((1.0, 1.1)), Failed("crash"), Failed("crash"), Failed("run_error")],
}


@pytest.mark.parametrize("seconds", [None, 20.0])
@pytest.mark.parametrize("exact", [False, True], ids=["noisy", "exact"])
@pytest.mark.parametrize("outcomes", OUTCOMES)
@pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
def test_extreme_outcomes_end_like_any_other(which, outcomes, exact, seconds):
    space, machine = MADE["gemm"], Settings(exact=exact, simplify_rounds=1)
    plan = Plan(space, strategies.instance(which, space), Budget(evaluations=40, seconds=seconds), 3, settings=machine)
    shell = shells.HandShell(plan, partial(oracle, OUTCOMES[outcomes]))
    shell.run(pick=lambda n: n - 1)
    shell.check_past()


@pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11, 37])
@pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
def test_an_evaluation_budget_is_kept_exactly(which, evaluations):
    space = MADE["mixed"]
    plan = Plan(space, strategies.instance(which, space), Budget(evaluations), settings=Settings(simplify_rounds=2))
    shell = shells.HandShell(plan, lambda trial, n: Timed((1.0 + trial.id % 5,) * 3))
    end = shell.run()
    assert len(shell.search.trials) <= evaluations
    if end.reason == "evaluations":
        spared = evaluations - len(shell.search.trials)
        assert spared <= evaluations // 10  # what simplification was offered and had no use for


@pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
@pytest.mark.parametrize("silent", [0, 1, 3])
def test_trials_that_never_end_cost_the_deadline_and_no_more(which, silent):
    space = MADE["gemm"]
    plan = Plan(space, strategies.instance(which, space), Budget(seconds=10.0), settings=Settings(simplify_rounds=2))
    shell = shells.HandShell(plan, lambda trial, n: Timed((1.0 + trial.id % 3, 1.5)))
    asked_last = 0.0
    while not isinstance(todo := shell.ask(), Finished):
        if isinstance(todo, Measure):
            asked_last = shell.clock
        speaking = [i for i, trial in enumerate(shell.flying) if trial.id < silent or trial.id >= silent + 2]
        if isinstance(todo, Wait) and (speaking or shell.search.comparing):
            shell.finish(speaking[0] if speaking else 0)
            shell.passes(0.05)
        elif isinstance(todo, Wait):
            assert todo.until is not None
            shell.clock = todo.until
            shell.ticks()
    ends = search_deadline(shell.search)
    assert ends is not None
    assert asked_last < ends
    assert shell.clock <= 10.5
    try:
        assert result(shell.search).stopped in ("seconds", "strategy", "evaluations", "exhausted")
    except TuningFailed:
        assert silent == 0


def test_a_default_that_answers_late_and_fast_is_the_result():
    """Law 5 where the verification was over before the default came in."""
    space = MADE["gemm"]
    plan = Plan(space, strategies.instance(("random_search", 0), space), Budget(seconds=10.0))
    shell = shells.HandShell(plan, lambda trial, n: Timed((1.0, 1.1, 1.2)) if trial.id == 0 else Timed((5.0, 5.5, 5.2)))
    shell.ask()
    shell.ask()
    default = shell.flying.pop(0)
    while shell.finish(0):
        pass
    shell.clock = 9.6
    shell.ticks()
    shell.run()
    shell.happens(Observed(shell.clock, default.id, shell.outcome(default)))
    shell.run()
    found = result(shell.search)
    assert found.default is not None
    assert found.best.time_ms <= found.default.time_ms == 1.1


def test_time_is_kept_for_building_finalists_only_where_that_is_done_again():
    space = MADE["gemm"]
    ends = {}
    for rebuild in (True, False):
        strategy = strategies.instance(("random_search", 0), space)
        shell = shells.HandShell(
            Plan(space, strategy, Budget(seconds=100.0), settings=Settings(rebuild=rebuild)),
            lambda trial, n: Timed((1.0, 1.1, 1.2), compile_s=2.0),
        )
        for _ in range(4):
            shell.ask()
            shell.finish(0)
        ends[rebuild] = search_deadline(shell.search)
    assert ends[False] == 95.0, "the reserve is enough"
    assert ends[True] is not None
    assert ends[True] < 88.0


def test_a_comparison_that_ends_after_it_was_given_up_is_no_verification():
    space = MADE["gemm"]
    plan = Plan(
        space, strategies.instance(("random_search", 0), space), Budget(seconds=10.0), settings=Settings(reserve=0.5)
    )
    shell = shells.HandShell(plan, lambda trial, n: Timed((2.0 + (trial.id == 0), 2.1 + (trial.id == 0))))
    while shell.search.comparing is None:
        shell.ask()
        if shell.search.comparing is None:
            shell.finish(0)
    stale = shell.search.comparing
    assert stale.purpose == "confirm"
    shell.clock = 6.0
    shell.ticks()
    shell.ask()  # Conclude
    shell.compared(stale)
    assert getattr(shell.ask(), "purpose", "") == "qualify"
    stale = shell.search.comparing
    assert stale is not None
    shell.clock = 9.0
    shell.compared(stale)
    assert getattr(shell.ask(), "purpose", "") == "verify"


def test_a_verification_of_which_nothing_works_any_more_leaves_the_rest():
    space = MADE["gemm"]
    plan = Plan(
        space, strategies.instance(("random_search", 0), space), settings=Settings(confirm_times=0, contenders=1)
    )

    def outcome(trial: Trial, n: int) -> Outcome:
        time = 2.0 + trial.id if trial.id == 0 or trial.id >= 9 else 1.0
        return Failed("crash") if n and trial.id < 9 else Timed((time, time * 1.01, time * 1.02))

    shell = shells.HandShell(plan, outcome)
    shell.run()
    found = result(shell.search)
    assert isinstance(dict(shell.search.outcomes)[found.best.trial], Timed)
    assert found.default is None  # it worked at first and does not any more
    assert any("default" in line for line in found.notes)

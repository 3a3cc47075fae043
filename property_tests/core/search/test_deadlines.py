"""Laws 4 and 5 where the deadline, the default and the verification meet; `StrategyLaws` has the rest."""

import pytest

from autotune import Budget, Failed, Observed, Outcome, Plan, RandomSearch, Settings, Timed, result
from autotune.core.outcomes import Trial
from autotune.core.search.limits import search_deadline
from autotune.testing import HandShell, gemm_space

pytestmark = pytest.mark.filterwarnings("error")


def test_a_default_that_answers_late_and_fast_is_the_result():
    """Law 5 where the verification was over before the default came in."""
    space = gemm_space()
    plan = Plan(space, RandomSearch(14), Budget(seconds=10.0))
    shell = HandShell(plan, lambda trial, n: Timed((1.0, 1.1, 1.2)) if trial.id == 0 else Timed((5.0, 5.5, 5.2)))
    shell.ask()
    shell.ask()
    default = shell.flying.pop(0)
    while shell.finish(0):
        pass
    shell.clock = 9.6
    shell.tick()
    shell.run()
    shell.record(Observed(shell.clock, default.id, shell.outcome(default)))
    shell.run()
    found = result(shell.search)
    assert found.default is not None
    assert found.best.time_ms <= found.default.time_ms == 1.1


def test_time_is_kept_for_building_finalists_only_where_that_is_done_again():
    space = gemm_space()
    ends = {}
    for rebuild in (True, False):
        strategy = RandomSearch(14)
        shell = HandShell(
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
    space = gemm_space()
    plan = Plan(space, RandomSearch(14), Budget(seconds=10.0), settings=Settings(reserve=0.5))
    shell = HandShell(plan, lambda trial, n: Timed((2.0 + (trial.id == 0), 2.1 + (trial.id == 0))))
    while shell.search.comparing is None:
        shell.ask()
        if shell.search.comparing is None:
            shell.finish(0)
    stale = shell.search.comparing
    assert stale.purpose == "confirm"
    shell.clock = 6.0
    shell.tick()
    shell.ask()  # Conclude
    shell.finish_comparison(stale)
    assert getattr(shell.ask(), "purpose", "") == "qualify"
    stale = shell.search.comparing
    assert stale is not None
    shell.clock = 9.0
    shell.finish_comparison(stale)
    assert getattr(shell.ask(), "purpose", "") == "verify"


def test_a_verification_of_which_nothing_works_any_more_leaves_the_rest():
    space = gemm_space()
    plan = Plan(space, RandomSearch(14), settings=Settings(confirm_times=0, contenders=1))

    def outcome(trial: Trial, n: int) -> Outcome:
        time = 2.0 + trial.id if trial.id == 0 or trial.id >= 9 else 1.0
        return Failed("crash") if n and trial.id < 9 else Timed((time, time * 1.01, time * 1.02))

    shell = HandShell(plan, outcome)
    shell.run()
    found = result(shell.search)
    assert isinstance(dict(shell.search.outcomes)[found.best.trial], Timed)
    assert found.default is None  # it worked at first and does not any more
    assert any("default" in line for line in found.notes)

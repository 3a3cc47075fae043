"""A restart of any registered strategy: decided by the machine, told in the events; nothing is measured twice."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune import Asked, Budget, Conclude, Measure, Plan, Settings, Timed, advance, request, start
from autotune.core.strategies.registry import make_strategy
from property_tests import strategies
from property_tests.shells import HandShell, snapshot

EVERY = pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
MADE = {name: make() for name, make in strategies.SPACES.items()}


def lived(which, space, restarts, budget=None, pick=lambda n: 0, room=3, times=None):
    plan = Plan(
        space,
        strategies.instance(which, space),
        budget or Budget(),
        seed=2,
        settings=Settings(restarts=restarts, simplify_rounds=1),
    )
    shell = HandShell(plan, lambda trial, n: times[trial.id % len(times)] if times else timed(space, trial), room)
    shell.run(pick)
    return shell


def timed(space, trial):
    """Times that depend on the point alone, smoothly."""
    row = space.encode([trial.config])[0]
    return Timed((1.0 + float(((row - 1) ** 2).sum()),))


def restarts_of(shell):
    tasks = [event.task for event in shell.events if isinstance(event, Asked)]
    return [task.restart for task in tasks if isinstance(task, Measure) and task.restart]


def configs(shell):
    return [trial.config for trial in shell.search.trials if trial.origin == "strategy"]


@EVERY
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(list(MADE)),
    restarts=st.integers(1, 3),
    evaluations=st.none() | st.integers(1, 60),
    generations=st.none() | st.integers(1, 9),
    picks=st.lists(st.integers(0, 99), min_size=1, max_size=20),
    script=st.none() | strategies.scripts(),
)
def test_restarts_are_told_in_order_and_fold_like_any_event(
    which, name, restarts, evaluations, generations, picks, script
):
    """`HandShell` checks the rest at every step: valid and new points, budgets kept, one answer when asked twice."""
    turn = iter(picks * 500)
    budget = Budget(evaluations=evaluations, generations=generations)
    shell = lived(which, MADE[name], restarts, budget, lambda n: next(turn, 0) % n, times=script)
    begun = restarts_of(shell)
    assert begun == list(range(1, len(begun) + 1))
    assert len(begun) <= restarts
    assert shell.search.strategy_start.restarts == len(begun)
    folded = start(shell.plan)
    for event in shell.events:
        if isinstance(event, Asked):
            assert request(folded, event.room) == event.task
        folded = advance(folded, event)
    assert snapshot(folded) == snapshot(shell.search)
    shell.check_past()


@EVERY
@pytest.mark.parametrize("name", ["gemm", "mixed"])
def test_a_search_with_restarts_begins_like_one_without_and_goes_on(which, name):
    once, again = lived(which, MADE[name], 0), lived(which, MADE[name], 2)
    assert configs(again)[: len(configs(once))] == configs(once)
    ended = next(event.task for event in once.events if isinstance(event, Asked) and isinstance(event.task, Conclude))
    left = len(once.search.trials) < MADE[name].count() - 20
    if ended.reason == "strategy" and left and which[0] != "finite_search":
        assert restarts_of(again)[:1] == [1]
        assert len(configs(again)) > len(configs(once))
    assert restarts_of(once) == []


@EVERY
def test_a_restarted_strategy_sees_its_own_round_and_all_that_is_known(which):
    search = lived(which, MADE["mixed"], 2).search
    begun = search.strategy_start
    if not begun.restarts:
        return
    own = search.archive.since(begun.trial, begun.generation)
    assert len(own.whole) == len(search.archive) == begun.trial + len(own)
    assert (own.points == search.archive.points[begun.trial :]).all()
    asked = [trial.generation for trial in search.trials[begun.trial :] if trial.origin == "strategy"]
    assert sorted({int(g) for g in own.generation if g >= 0}) == sorted({g - begun.generation for g in asked})
    assert min(asked) == begun.generation == 1 + max(trial.generation for trial in search.trials[: begun.trial])


@pytest.mark.parametrize("which", ["pattern_search", "lfbo_pattern_search", "lfbo_tree_search"])
def test_walks_that_begin_again_begin_among_fewer_points(which):
    plan = Plan(
        MADE["gemm"],
        make_strategy(which, {"initial_population": 40, "max_generations": 1}),
        seed=2,
        settings=Settings(restarts=1, simplify_rounds=0),
    )
    shell = HandShell(plan, lambda trial, n: timed(MADE["gemm"], trial), 3)
    shell.run(lambda n: 0)
    generations = [trial.generation for trial in shell.search.trials if trial.origin == "strategy"]
    begun = shell.search.strategy_start
    assert begun.restarts == 1
    assert generations.count(0) + (shell.search.default_trial is not None) == 20  # the better half
    assert generations.count(begun.generation) <= 8

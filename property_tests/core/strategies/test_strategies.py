"""Laws 1 and 2 of every registered strategy, alone and within the machine, on spaces of every sort."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune import STRATEGIES, Failed, Observed, Plan, Settings, Timed, make_plan, start, tune
from autotune.core.history import Archive, Points, Records
from autotune.core.keys import fold, root
from autotune.core.outcomes import Trial
from autotune.core.points import first_of_each
from autotune.core.strategies.protocol import Ask, AwaitOutcome, Done, Observation, Proposals, Seeds
from autotune.core.strategies.registry import from_spec, make_strategy, name_of, to_spec
from property_tests import strategies
from property_tests.evaluators import EVALUATORS, TABLE
from property_tests.shells import HandShell

EVERY = pytest.mark.parametrize("which", strategies.INSTANCES, ids=strategies.called)
MADE = {name: make() for name, make in strategies.SPACES.items()}
PICKS, ROOMS = st.lists(st.integers(0, 99), min_size=1, max_size=30), st.integers(1, 9)


def fuzz(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(config, times=1.0):
    found = TABLE.outcome(config)
    return found if isinstance(found, Failed) else Timed((times * found.times_ms[0],), found.compile_s)


class Lone:
    """A strategy without the machine: the archive, and what is pending, kept by hand."""

    def __init__(self, strategy, space, seeds, key):
        self.strategy, self.space, self.key = strategy, space, key
        self.state = strategy.init(space, seeds, fold(key, "init"))
        self.points, self.records = Points(space.columns), Records()
        self.trials, self.flying = [], []

    def ask(self, room):
        pending = self.points.rows[[trial.id for trial in self.flying]]
        archive = Archive(self.records, self.points)
        return Ask(
            room=room, proposed=len(self.trials), outstanding=len(pending), evaluations=None, seconds=None,
            generations=None, archive=archive, fresh=self.points.unseen, find_pending=lambda: pending,
        )  # fmt: skip

    def propose(self, room):
        ask, key = self.ask(room), fold(self.key, "propose", len(self.trials))
        answer = self.strategy.propose(self.space, self.state, ask, key)
        again = self.strategy.propose(self.space, self.state, ask, key)
        assert type(again) is type(answer)
        if isinstance(answer, Proposals):
            assert (again.points == answer.points).all()
            assert (again.walk == answer.walk).all()
            assert (again.generation, again.why) == (answer.generation, answer.why)
        return answer

    def accept(self, answer):
        """The first law: in the space, valid, new, different, and a number for each."""
        rows = answer.points
        assert rows.ndim == 2
        assert rows.shape[1] == self.space.columns
        assert len(rows) == len(answer.walk) > 0
        configs = self.space.decode(rows)
        assert all(self.space.check(config) == config for config in configs)
        assert (self.space.encode(configs) == rows).all(), "rows that are not canonical"
        assert self.points.unseen(rows).all(), "an evaluated or pending point"
        assert len(first_of_each(rows)) == len(rows), "the same point twice in a batch"
        first = len(self.trials)
        new = [
            Trial(first + i, config, walk=int(walk), generation=answer.generation)
            for i, (config, walk) in enumerate(zip(configs, answer.walk, strict=True))
        ]
        self.points = self.points.append(rows)
        self.trials += new
        self.flying += new

    def observe(self, i, found):
        trial = self.flying.pop(i)
        timed = isinstance(found, Timed)
        time = found.time_ms if timed else 0.0
        self.records = self.records.append(
            (trial.id, timed, time, time, time, found.compile_s, trial.walk, trial.generation)
        )
        seen = Observation(trial, found)
        self.state = self.strategy.observe(self.space, self.state, (seen,))


def seeds_of(space):
    empty = space.encode([])
    return Seeds(default=space.encode([space.default] if space.default else []), user=empty, best=empty)


@EVERY
@fuzz(40)
@given(space=strategies.spaces() | st.sampled_from(list(MADE.values())), data=st.data())
def test_proposals_are_valid_new_and_distinct(which, space, data):
    lone = Lone(strategies.instance(which, space), space, seeds_of(space), root(data.draw(st.integers(0, 9))))
    picks = data.draw(st.lists(st.integers(0, 99), min_size=4, max_size=40))
    script = data.draw(strategies.scripts())
    for step in range(400):
        answer = lone.propose(room=1 + picks[step % len(picks)] % 5)
        if isinstance(answer, Proposals):
            lone.accept(answer)
        elif isinstance(answer, Done):
            assert answer.why
            if not lone.flying:
                break
        else:
            assert isinstance(answer, AwaitOutcome)
            assert lone.flying, "it waits for nothing"
        for pick in picks[: 1 + picks[-1 - step % len(picks)] % 7]:
            if lone.flying:
                i = pick % len(lone.flying)
                lone.observe(i, script[(lone.flying[i].id * 7) % len(script)])
    else:
        assert len(lone.trials) > 100, "it goes on without new points"


def history(search):
    return [(trial.config, trial.walk, trial.generation, trial.origin) for trial in search.trials]


def lived(plan, pick, room):
    shell = HandShell(plan, lambda trial, n: outcome(trial.config), room)
    shell.run(pick)
    return shell


@EVERY
@fuzz(15)
@given(
    name=st.sampled_from(list(MADE)),
    picks=st.lists(st.integers(0, 99), min_size=1, max_size=30),
    room=st.integers(1, 9),
)
def test_completion_order_and_room_cannot_matter_to_a_generational_strategy(which, name, picks, room):
    strategy = strategies.instance(which, MADE[name])
    if not strategies.generational(strategy, which[0]):
        return
    plan = Plan(MADE[name], strategy, seed=1, settings=Settings(simplify_rounds=1))
    one = lived(plan, lambda n: 0, 1)
    turn = iter(picks * 200)
    other = lived(plan, lambda n: next(turn, 0) % n, room)
    assert history(other.search) == history(one.search)


@EVERY
@fuzz(15)
@given(
    name=st.sampled_from(list(MADE)),
    picks=st.lists(st.integers(0, 99), min_size=1, max_size=30),
    room=st.integers(1, 6),
)
def test_the_same_events_give_the_same_requests(which, name, picks, room):
    """A second search told the same: every request is the same. (Within one search, `HandShell.ask` asks twice.)"""
    plan = Plan(MADE[name], strategies.instance(which, MADE[name]), seed=2)

    def once():
        turn = iter(picks * 200)
        return lived(plan, lambda n: next(turn, 0) % n, room)

    first, second = once(), once()
    assert first.events == second.events
    first.check_past()


@EVERY
def test_the_seed_matters_and_only_the_seed(which):
    space = MADE["mixed"]

    def points(seed):
        return history(lived(Plan(space, strategies.instance(which, space), seed=seed), lambda n: 0, 3).search)

    assert points(4) == points(4)
    if which[0] != "finite_search":
        assert points(4) != points(5)


@EVERY
def test_a_whole_small_space_can_be_tried_and_then_it_ends(which):
    for name in ("few points", "one point", "one point without a default"):
        space = MADE[name]
        shell = lived(Plan(space, strategies.instance(which, space)), lambda n: n - 1, 2)
        assert 1 <= len(shell.search.trials) <= space.count()


@EVERY
def test_user_seeds_are_tried_before_anything_is_learned(which):
    space = MADE["gemm"]
    seeds = space.decode(space.rows()[[3, 50, 101]])
    plan = make_plan(space, strategies.instance(which, space), effort="full", seeds=seeds)
    tried = [trial.config for trial in lived(plan, lambda n: 0, 4).search.trials]
    if which[0] != "finite_search":
        assert tried[:4] == [space.default, *seeds]


@EVERY
def test_a_strategy_is_data(which):
    strategy = strategies.instance(which, MADE["gemm"])
    assert from_spec(to_spec(strategy)) == strategy
    assert name_of(strategy) == which[0]
    with pytest.raises(AttributeError):
        strategy.anything = 1
    assert start(Plan(MADE["gemm"], strategy)) is not None


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_defaults_of_a_strategy_work_too(name):
    """As a user meets it: no setting given (but for the configs of a finite search), a budget of a hundred."""
    space = MADE["gemm"]
    settings_of = strategies.some_configs(space) if name == "finite_search" else {}
    plan = make_plan(space, make_strategy(name, dict(settings_of)), exact=True)
    shell = HandShell(plan, lambda trial, n: outcome(trial.config), 7)
    for _ in range(150):
        shell.ask()
        shell.finish(0)
    assert len(shell.search.trials) >= 9
    shell.check_past()


@EVERY
def test_observing_in_any_order_and_again_changes_no_earlier_version(which):
    space = MADE["gemm"]
    plan = Plan(space, strategies.instance(which, space), seed=3)
    shell = HandShell(plan, lambda trial, n: outcome(trial.config, 1 + n), 6)
    for i in range(40):
        shell.ask()
        shell.finish(i * 7)
        if i % 5 == 4 and shell.search.observed:
            trial = shell.search.trials[int(shell.search.archive.trials[0])]
            shell.happens(Observed(shell.clock, trial.id, shell.outcome(trial)))
    shell.run(lambda n: n // 2)
    shell.check_past()


def test_every_registered_strategy_runs_through_tune():
    space = MADE["gemm"]
    for which in strategies.INSTANCES:
        found = tune(space, EVALUATORS["simulated exact"](), strategies.instance(which, space), progress=False)
        assert found.complete
        assert found.best.time_ms <= found.default.time_ms if found.default else True

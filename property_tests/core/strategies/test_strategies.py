"""Every registered strategy keeps the laws of strategies."""

from collections.abc import Callable, Mapping

import pytest

<<<<<<< HEAD
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
=======
from autotune import STRATEGIES, Space, make_plan
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import make_strategy, name_of
from autotune.shell.evaluators.protocol import Evaluator
from autotune.testing import HandShell, JournalLaws, StrategyLaws, gemm_space
from autotune.testing.strategy_laws import hashed_outcome
from property_tests.registry import (
    EVALUATORS,
    INSTANCES,
    LISTED,
    REPEATABLE,
    TOPPING_UP,
    Which,
    called,
    instance,
    some_configs,
>>>>>>> 2710833 (autotune.testing: conformance suites for strategies, evaluators, parameter kinds and stores, used by our own tests; an unordered choice has no neighbours within radius 0)
)

SIMULATED = list(REPEATABLE)
REAL = [name for name in EVALUATORS if name not in REPEATABLE]


def by_turns(which: Which) -> list[str]:
    """Two simulated evaluators and one that measures in this process, others for each strategy."""
    i = INSTANCES.index(which)
    return [SIMULATED[i % len(SIMULATED)], SIMULATED[(i + 2) % len(SIMULATED)], REAL[i % len(REAL)]]


class TestRegisteredStrategies(StrategyLaws):
    which: Which

    @pytest.fixture(autouse=True, params=INSTANCES, ids=called)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.which = request.param
        name, _ = self.which
        strategy = self.make_strategy(gemm_space())
        self.generational = hasattr(strategy, "max_generations") and name not in TOPPING_UP
        self.random = self.takes_seeds = name not in LISTED

    def make_strategy(self, space: Space) -> AnyStrategy:
        return instance(self.which, space)

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        return {name: EVALUATORS[name] for name in by_turns(self.which)}

    def test_its_name_is_the_registered_one(self) -> None:
        assert name_of(self.make_strategy(gemm_space())) == self.which[0]


@pytest.mark.slow
class TestEveryStrategyWithEveryEvaluator(JournalLaws):
    which: Which
    evaluator: str

    @pytest.fixture(
        autouse=True,
        params=[(which, name) for which in INSTANCES for name in EVALUATORS if name not in by_turns(which)],
        ids=lambda pair: f"{called(pair[0])} {pair[1]}",
    )
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.which, self.evaluator = request.param

    def make_strategy(self, space: Space) -> AnyStrategy:
        return instance(self.which, space)

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        return {self.evaluator: EVALUATORS[self.evaluator]}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_defaults_of_a_strategy_work_too(name: str) -> None:
    """As a user meets it: no setting given (but for the configs of a finite search), a budget of a hundred."""
    space = gemm_space()
    settings = dict(some_configs(space)) if name in LISTED else {}
    plan = make_plan(space, make_strategy(name, settings), settings={"exact": True})
    shell = HandShell(plan, lambda trial, n: hashed_outcome(trial.config), 7)
    for _ in range(150):
        shell.ask()
        shell.finish(0)
    assert len(shell.search.trials) >= 9
    shell.check_past()

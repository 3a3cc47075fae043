"""The laws of a strategy: its proposals, the whole search around it, and its journals."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from autotune.core.config import Config
from autotune.core.history import Archive, Points, Records
from autotune.core.keys import Key, fold, root
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.search.limits import search_deadline
from autotune.core.search.messages import Asked, Compared, Conclude, Finished, Measure, Observed, Wait
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.request import request
from autotune.core.search.result import TuningFailed, result
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space
from autotune.core.strategies.protocol import (
    AnyStrategy,
    Ask,
    AwaitOutcome,
    Done,
    Observation,
    Proposals,
    Seeds,
    is_strategy,
)
from autotune.core.strategies.registry import from_spec, to_spec
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.plans import make_plan
from autotune.shell.tuning import tune
from autotune.testing.hand_shell import HandShell, snapshot
from autotune.testing.journal_laws import JournalLaws, register_temporarily
from autotune.testing.outcomes import HashedTable, outcome_scripts
from autotune.testing.spaces import SPACES, spaces

_TABLE = HashedTable()
_PICKS = st.lists(st.integers(0, 99), min_size=1, max_size=30)

ENVIRONMENT = {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "LC_ALL": "C"}
"""The environment of the process of `test_another_process_searches_the_same`; `TZ` and the folder are, too."""


EXTREME_OUTCOMES: dict[str, list[Outcome]] = {
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


@cache
def fixed_space(name: str) -> Space:
    """One of SPACES, built once."""
    return SPACES[name]()


_FIXED = st.sampled_from([fixed_space(name) for name in SPACES])


def _fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


class StrategyLaws(JournalLaws):
    """Laws 1 to 5 for a strategy. Subclass it under a name that begins with `Test`, and define `make_strategy`:

        class TestMySearch(StrategyLaws):
            def make_strategy(self, space):
                return MySearch(count=20)

    The settings should make the search small: a dozen to a hundred trials.
    """

    generational = False
    """Whether the strategy asks for the same trials under any completion order and any room."""

    random = True
    """Whether another seed gives other trials."""

    takes_seeds = True
    """Whether the default and the user's seeds are tried before anything else."""

    def make_strategy(self, space: Space) -> AnyStrategy:
        """The strategy to be tried on a space."""
        raise NotImplementedError(f"{type(self).__name__} must define make_strategy(self, space)")

    # Law 1

    @_fuzz(40)
    @given(space=spaces() | _FIXED, seed=st.integers(0, 9), picks=st.lists(st.integers(0, 99), min_size=4, max_size=40),
           script=outcome_scripts())  # fmt: skip
    def test_proposals_are_valid_new_and_distinct(
        self, space: Space, seed: int, picks: list[int], script: list[Outcome]
    ) -> None:
        """Law 1, by the strategy alone: the search would drop wrong proposals, here they fail."""
        alone = _Alone(self.make_strategy(space), space, root(seed))
        for step in range(400):
            answer = alone.propose(room=1 + picks[step % len(picks)] % 5)
            if isinstance(answer, Proposals):
                alone.accept(answer)
            elif isinstance(answer, Done):
                assert answer.why, "it ends without saying why"
                if not alone.flying:
                    break
            else:
                assert isinstance(answer, AwaitOutcome), f"propose returned {answer!r}"
                assert alone.flying, "it waits, and no trial is in flight"
            for pick in picks[: 1 + picks[-1 - step % len(picks)] % 7]:
                if alone.flying:
                    i = pick % len(alone.flying)
                    alone.observe(i, script[(alone.flying[i].id * 7) % len(script)])
        else:
            assert len(alone.trials) > 100, "it goes on without new points"

    # Law 2

    @_fuzz(15)
    @given(name=st.sampled_from(list(SPACES)), picks=_PICKS, room=st.integers(1, 6))
    def test_the_same_events_give_the_same_requests(self, name: str, picks: list[int], room: int) -> None:
        """Law 2, for two searches that are told the same. `HandShell.ask` asks one search twice, besides."""
        plan = Plan(space := fixed_space(name), self.make_strategy(space), seed=2)
        first, second = (search_to_end(plan, _cycle(picks), room) for _ in range(2))
        assert first.events == second.events
        first.check_past()

    @_fuzz(15)
    @given(name=st.sampled_from(list(SPACES)), picks=_PICKS, room=st.integers(1, 9))
    def test_a_generational_strategy_ignores_completion_order(self, name: str, picks: list[int], room: int) -> None:
        """Law 2 for generational strategies: neither the order of outcomes nor the room matters."""
        space = fixed_space(name)
        if not self.generational:
            return
        plan = Plan(space, self.make_strategy(space), seed=1, settings=Settings(simplify_rounds=1))
        one, other = search_to_end(plan, lambda n: 0, 1), search_to_end(plan, _cycle(picks), room)
        assert trials_of(other.search) == trials_of(one.search)

    def test_the_seed_decides(self) -> None:
        """Law 2: the same seed gives the same trials, and another one others."""
        space = fixed_space("mixed")
        found = [
            trials_of(search_to_end(Plan(space, self.make_strategy(space), seed=seed), lambda n: 0, 3).search)
            for seed in (4, 4, 5)
        ]
        assert found[0] == found[1]
        if self.random:
            assert found[0] != found[2], "the seed has no effect"

    def test_another_process_searches_the_same(self, tmp_path: Path) -> None:
        """Law 2 across processes: another hash seed, another number of threads, locale, time zone and folder."""
        plans = [Plan(space := fixed_space(name), self.make_strategy(space), seed=9) for name in ("gemm", "mixed")]
        assert digests_elsewhere(plans, tmp_path) == [plan_digest(plan) for plan in plans]

    # Law 3 is inherited: `JournalLaws`

    # Laws 4 and 5

    @_fuzz(40)
    @given(data=st.data())
    def test_no_history_breaks_the_search(self, data: st.DataObject) -> None:
        """Laws 3 to 5: outcomes, ticks, interrupts and resumes in any order; a few of them arrive late or twice."""
        plan = data.draw(plans(self.make_strategy, _FIXED))
        shell = HandShell(plan, partial(_scripted_outcome, data.draw(outcome_scripts())), data.draw(st.integers(1, 5)))
        live_through(shell, data.draw(ACTIONS))

    @pytest.mark.slow
    @_fuzz(300)
    @given(data=st.data())
    def test_no_history_breaks_the_search_in_any_space(self, data: st.DataObject) -> None:
        """The same in spaces of every kind of parameter and constraint."""
        plan = data.draw(plans(self.make_strategy, spaces() | _FIXED))
        shell = HandShell(plan, partial(_scripted_outcome, data.draw(outcome_scripts())), data.draw(st.integers(1, 5)))
        live_through(shell, data.draw(ACTIONS))

    @pytest.mark.parametrize("seconds", [None, 20.0])
    @pytest.mark.parametrize("exact", [False, True], ids=["noisy", "exact"])
    @pytest.mark.parametrize("outcomes", EXTREME_OUTCOMES)
    def test_extreme_outcomes_end_like_any_other(self, outcomes: str, exact: bool, seconds: float | None) -> None:
        """Law 4: all fail, all tie, all huge, all tiny, compiles without end, …"""
        space, machine = fixed_space("gemm"), Settings(exact=exact, simplify_rounds=1)
        budget = Budget(evaluations=40, seconds=seconds)
        plan = Plan(space, self.make_strategy(space), budget, 3, settings=machine)
        shell = HandShell(plan, partial(_scripted_outcome, EXTREME_OUTCOMES[outcomes]))
        shell.run(pick=lambda n: n - 1)
        shell.check_past()

    @pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11, 37])
    def test_an_evaluation_budget_is_kept_exactly(self, evaluations: int) -> None:
        """Law 4: never more trials than the budget, and hardly any left over when it ended the search."""
        plan = Plan(
            space := fixed_space("mixed"), self.make_strategy(space), Budget(evaluations),
            settings=Settings(simplify_rounds=2),
        )  # fmt: skip
        shell = HandShell(plan, lambda trial, n: Timed((1.0 + trial.id % 5,) * 3))
        end = shell.run()
        assert len(shell.search.trials) <= evaluations
        if end.reason == "evaluations":  # simplification is offered a tenth, and may have no use for it
            assert evaluations - len(shell.search.trials) <= evaluations // 10

    @pytest.mark.parametrize("silent", [0, 1, 3])
    def test_trials_that_never_end_cost_the_deadline_and_no_more(self, silent: int) -> None:
        """Law 4: two trials never answer. Nothing is asked for after the deadline less the reserve."""
        space = fixed_space("gemm")
        plan = Plan(space, self.make_strategy(space), Budget(seconds=10.0), settings=Settings(simplify_rounds=2))
        shell = HandShell(plan, lambda trial, n: Timed((1.0 + trial.id % 3, 1.5)))
        asked_last = 0.0
        while not isinstance(todo := shell.ask(), Finished):
            if isinstance(todo, Measure):
                asked_last = shell.clock
            speaking = [i for i, trial in enumerate(shell.flying) if trial.id < silent or trial.id >= silent + 2]
            if isinstance(todo, Wait) and (speaking or shell.search.comparing):
                shell.finish(speaking[0] if speaking else 0)
                shell.pass_time(0.05)
            elif isinstance(todo, Wait):
                assert todo.until is not None
                shell.clock = todo.until
                shell.tick()
        ends = search_deadline(shell.search)
        assert ends is not None
        assert asked_last < ends
        assert shell.clock <= 10.5
        try:
            assert result(shell.search).stopped in ("seconds", "strategy", "evaluations", "exhausted")
        except TuningFailed:
            assert silent == 0

    def test_a_small_space_is_tried_and_then_it_ends(self) -> None:
        """Law 4 in spaces of few points, or of one."""
        for name in ("few points", "one point", "one point without a default"):
            space = fixed_space(name)
            shell = search_to_end(Plan(space, self.make_strategy(space)), lambda n: n - 1, 2)
            assert 1 <= len(shell.search.trials) <= (space.count() or 0)

    def test_seeds_of_the_user_are_tried_first(self) -> None:
        """The default and the seeds are measured before the strategy's own proposals."""
        space = fixed_space("gemm")
        seeds = space.decode(space.rows()[[3, 50, 101]])
        plan = make_plan(space, self.make_strategy(space), effort="full", seeds=seeds)
        tried = [trial.config for trial in search_to_end(plan, lambda n: 0, 4).search.trials]
        if self.takes_seeds:
            assert tried[:4] == [space.default, *seeds]

    def test_observing_again_changes_no_earlier_state(self) -> None:
        """Outcomes in any order, some of them revised: older versions of the search stay as they were."""
        space = fixed_space("gemm")
        plan = Plan(space, self.make_strategy(space), seed=3)
        shell = HandShell(plan, lambda trial, n: hashed_outcome(trial.config, 1 + n), 6)
        for i in range(40):
            shell.ask()
            shell.finish(i * 7)
            if i % 5 == 4 and shell.search.observed:
                trial = shell.search.trials[int(shell.search.archive.trials[0])]
                shell.record(Observed(shell.clock, trial.id, shell.outcome(trial)))
        shell.run(lambda n: n // 2)
        shell.check_past()

    # Restarts

    @_fuzz(12)
    @given(
        name=st.sampled_from(list(SPACES)),
        restarts=st.integers(1, 3),
        evaluations=st.none() | st.integers(1, 60),
        generations=st.none() | st.integers(1, 9),
        picks=st.lists(st.integers(0, 99), min_size=1, max_size=20),
        script=st.none() | outcome_scripts(),
    )
    def test_restarts_are_events_like_any_other(
        self, name: str, restarts: int, evaluations: int | None, generations: int | None, picks: list[int],
        script: list[Outcome] | None,
    ) -> None:  # fmt: skip
        """Restarts are numbered in order, and folding the events again asks for the same."""
        budget = Budget(evaluations=evaluations, generations=generations)
        shell = self.search_with_restarts(fixed_space(name), restarts, budget, _cycle(picks), script)
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

    @pytest.mark.parametrize("name", ["gemm", "mixed"])
    def test_a_search_with_restarts_begins_like_one_without(self, name: str) -> None:
        """And it goes on where the other one ends by itself."""
        space = fixed_space(name)
        once, again = self.search_with_restarts(space, 0), self.search_with_restarts(space, 2)
        assert _own_configs(again)[: len(_own_configs(once))] == _own_configs(once)
        tasks = [event.task for event in once.events if isinstance(event, Asked)]
        ended = next(task for task in tasks if isinstance(task, Conclude))
        if ended.reason == "strategy" and len(once.search.trials) < (space.count() or 0) - 20 and self.takes_seeds:
            assert restarts_of(again)[:1] == [1]
            assert len(_own_configs(again)) > len(_own_configs(once))
        assert restarts_of(once) == []

    def test_a_restarted_strategy_sees_its_own_round_and_everything(self) -> None:
        """The archive begins anew with a restart; `archive.whole` holds all observations."""
        search = self.search_with_restarts(fixed_space("mixed"), 2).search
        begun = search.strategy_start
        if not begun.restarts:
            return
        own = search.archive.since(begun.trial, begun.generation)
        assert len(own.whole) == len(search.archive) == begun.trial + len(own)
        assert (own.points == search.archive.points[begun.trial :]).all()
        asked = [trial.generation for trial in search.trials[begun.trial :] if trial.origin == "strategy"]
        assert sorted({int(g) for g in own.generation if g >= 0}) == sorted({g - begun.generation for g in asked})
        assert min(asked) == begun.generation == 1 + max(trial.generation for trial in search.trials[: begun.trial])

    def search_with_restarts(
        self, space: Space, restarts: int, budget: Budget | None = None, pick: Callable[[int], int] = lambda n: 0,
        script: list[Outcome] | None = None,
    ) -> HandShell:  # fmt: skip
        """A finished search that may restart the strategy, with scripted times or smooth ones."""
        machine = Settings(restarts=restarts, simplify_rounds=1)
        plan = Plan(space, self.make_strategy(space), budget or Budget(), seed=2, settings=machine)
        shell = HandShell(plan, lambda trial, n: script[trial.id % len(script)] if script else smooth(space, trial), 3)
        shell.run(pick)
        return shell

    # Data

    def test_a_strategy_is_data(self) -> None:
        """It is frozen, equal to its copy, and the same after a journey as plain data through a journal."""
        strategy = self.make_strategy(fixed_space("gemm"))
        assert is_strategy(strategy)
        assert isinstance(strategy, msgspec.Struct), "declare it as class …(msgspec.Struct, frozen=True)"
        with register_temporarily(strategy):
            written = msgspec.json.encode(to_spec(strategy))
            assert from_spec(msgspec.json.decode(written, type=type(to_spec(strategy)))) == strategy
        assert pickle.loads(cloudpickle.dumps(strategy)) == strategy
        with pytest.raises(AttributeError):
            setattr(strategy, (*strategy.__struct_fields__, "anything")[0], None)

    def test_it_tunes(self) -> None:
        """As a user meets it: `tune` ends with a complete result, not slower than the default (law 5)."""
        space = fixed_space("gemm")
        found = tune(space, SimulatedEvaluator(_TABLE), self.make_strategy(space), progress=False, journal=False)
        assert found.complete
        assert found.default is not None
        assert found.best.time_ms <= found.default.time_ms


# A strategy alone


class _Alone:
    """A strategy without the search around it: the archive and the pending trials are kept here."""

    def __init__(self, strategy: AnyStrategy, space: Space, key: Key) -> None:
        empty = space.encode([])
        seeds = Seeds(default=space.encode([space.default] if space.default else []), user=empty, best=empty)
        self.strategy, self.space, self.key = strategy, space, key
        self.state = strategy.init(space, seeds, fold(key, "init"))
        self.points, self.records = Points(space.columns), Records()
        self.trials: list[Trial] = []
        self.flying: list[Trial] = []

    def ask(self, room: int) -> Ask:
        pending: Codes = self.points.rows[[trial.id for trial in self.flying]]
        return Ask(
            room=room, proposed=len(self.trials), outstanding=len(pending), evaluations=None, seconds=None,
            generations=None, archive=Archive(self.records, self.points), fresh=self.points.unseen,
            find_pending=lambda: pending,
        )  # fmt: skip

    def propose(self, room: int) -> Any:
        """The strategy's answer, which must be the same when it is asked again, and must leave its state alone."""
        ask, key = self.ask(room), fold(self.key, "propose", len(self.trials))
        before = repr(self.state)
        answer = self.strategy.propose(self.space, self.state, ask, key)
        again = self.strategy.propose(self.space, self.state, ask, key)
        assert repr(self.state) == before, "propose changed the state"
        assert type(again) is type(answer), "asked twice, another answer"
        if isinstance(answer, Proposals) and isinstance(again, Proposals):
            assert answer.points.shape == again.points.shape
            assert (again.points == answer.points).all(), "asked twice, other points"
            assert (again.walk == answer.walk).all()
            assert (again.generation, again.why) == (answer.generation, answer.why)
        return answer

    def accept(self, answer: Proposals) -> None:
        """Law 1: in the space, valid, new, distinct, and a walk for each."""
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

    def observe(self, i: int, found: Outcome) -> None:
        trial = self.flying.pop(i)
        timed = isinstance(found, Timed)
        time = found.time_ms if isinstance(found, Timed) else 0.0
        self.records = self.records.append(
            (trial.id, timed, time, time, time, found.compile_s, trial.walk, trial.generation)
        )
        before = repr(self.state)
        state = self.strategy.observe(self.space, self.state, (Observation(trial, found),))
        assert repr(self.state) == before, "observe changed the state that it was given"
        self.state = state


# A strategy in a search


def hashed_outcome(config: Config, factor: float = 1.0) -> Outcome:
    """The outcome of a config by `HashedTable`, its time multiplied by a factor."""
    found = _TABLE.outcome(config)
    return found if isinstance(found, Failed) else Timed((factor * found.times_ms[0],), found.compile_s)


def smooth(space: Space, trial: Trial) -> Outcome:
    """A time that depends on the point alone, smoothly."""
    row = space.encode([trial.config])[0]
    return Timed((1.0 + float(((row - 1) ** 2).sum()),))


def search_to_end(plan: Plan, pick: Callable[[int], int], room: int) -> HandShell:
    """A finished search with the outcomes of `hashed_outcome`."""
    shell = HandShell(plan, lambda trial, n: hashed_outcome(trial.config), room)
    shell.run(pick)
    return shell


def trials_of(search: Search) -> list[tuple[Config, int, int, str]]:
    """The requests, in order."""
    return [(trial.config, trial.walk, trial.generation, trial.origin) for trial in search.trials]


def restarts_of(shell: HandShell) -> list[int]:
    """The numbers of the restarts, in the order in which they were asked for."""
    tasks = [event.task for event in shell.events if isinstance(event, Asked)]
    return [task.restart for task in tasks if isinstance(task, Measure) and task.restart]


def _own_configs(shell: HandShell) -> list[Config]:
    return [trial.config for trial in shell.search.trials if trial.origin == "strategy"]


def _cycle(picks: Sequence[int]) -> Callable[[int], int]:
    """Picks by turns, as one of n."""
    turn = iter(list(picks) * 500)
    return lambda n: next(turn, 0) % n


def plan_digest(plan: Plan) -> str:
    """A digest of all trials of a finished search, with the bits of their times."""
    shell = search_to_end(plan, lambda n: n // 2, 3)
    text = repr([trials_of(shell.search), list(shell.search.outcomes)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digests_elsewhere(plans: list[Plan], folder: Path) -> list[str]:
    """The digests of plans in a fresh interpreter with the variables of ENVIRONMENT, running in `folder`."""
    told = [(plan.space, plan.strategy, plan.seed) for plan in plans]
    (folder / "plans").write_bytes(cloudpickle.dumps(told))
    environment = {**os.environ, **ENVIRONMENT, "TZ": "Asia/Kolkata"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ELSEWHERE, str(folder / "plans"), *sys.path], env=environment,
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


_ELSEWHERE = """
import pickle, sys
sys.path[:] = sys.argv[2:]
with open(sys.argv[1], "rb") as file:
    plans = pickle.load(file)
from autotune.core.search.plan import Plan
from autotune.testing.strategy_laws import plan_digest
print(*[plan_digest(Plan(space, strategy, seed=seed)) for space, strategy, seed in plans])
"""


# Histories


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
"""An action of a shell, the clock or the user at any time, with a number for the trial and the amount."""

_PASSES = (0.0, 1e-3, 0.4, 5.0, 1e6, 1e17)


@st.composite
def plans(draw: st.DrawFn, make_strategy: Callable[[Space], AnyStrategy], examples: st.SearchStrategy[Space]) -> Plan:
    """Plans for a strategy with any budget, settings and seeds."""
    space = draw(examples)
    machine = draw(SETTINGS)
    if space.default is None and not machine.search:
        machine = Settings()
    rows = space.rows()
    picked = draw(st.lists(st.integers(0, len(rows) - 1), max_size=3))
    return Plan(
        space,
        make_strategy(space),
        draw(BUDGETS),
        draw(st.integers(-1, 3)),
        seeds=tuple(space.decode(rows[picked[:2]])),
        best_available=tuple(space.decode(rows[picked[2:]])),
        settings=machine,
    )


def _scripted_outcome(script: list[Outcome], trial: Trial, n: int) -> Outcome:
    return script[(trial.id * 7 + n * 3) % len(script)]


def live_through(shell: HandShell, script: list[tuple[str, int]]) -> None:
    """Do the actions of a script, then run the search to its end, and report two lost trials after it."""
    for action, number in script:
        _act(shell, action, number)
    shell.room = max(shell.room, 1)
    shell.run()
    for trial in shell.lost[:2]:
        shell.record(Observed(shell.clock, trial.id, shell.outcome(trial)))
    note(str(shell.run()))
    assert isinstance(shell.ask(), Finished)
    shell.check_past()


def _act(shell: HandShell, action: str, number: int) -> None:
    match action:
        case "ask":
            shell.ask()
        case "finish":
            shell.finish(number)
        case "pass":
            shell.pass_time(_PASSES[number % len(_PASSES)])
        case "tick":
            shell.tick()
        case "back":
            shell.clock = max(shell.clock - 1.0, 0.0)
        case "interrupt":
            shell.interrupt()
        case "resume":
            shell.resume()
        case "room":
            shell.room = number % 6
        case _:
            _report_unexpectedly(shell, action, number)


def _report_unexpectedly(shell: HandShell, action: str, number: int) -> None:
    """Report an outcome that the search does not wait for, if there can be one."""
    trials = shell.search.trials
    match action:
        case "again":  # a second time, as a revision
            known = [trial for trial in trials if shell.search.records.has(trial.id)]
            if known:
                trial = known[number % len(known)]
                shell.record(Observed(shell.clock, trial.id, shell.outcome(trial)))
        case "late" if shell.lost:  # of a trial that was given up
            trial = shell.lost.pop(number % len(shell.lost))
            shell.record(Observed(shell.clock, trial.id, shell.outcome(trial)))
        case "late compare" if shell.search.comparing is not None:  # done just when it is given up
            task = shell.search.comparing
            shell.pass_time(_PASSES[number % len(_PASSES)])
            shell.ask()
            shell.finish_comparison(task)
        case "stale compare" if len(trials):  # of an earlier phase
            chosen = [trials[(number * i) % len(trials)] for i in range(1, 3)]
            found = tuple((trial.id, shell.outcome(trial)) for trial in dict.fromkeys(chosen))
            shell.record(Compared(shell.clock, found))

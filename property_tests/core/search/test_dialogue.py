"""Every strategy, led by asking and telling: any order of answers, known measurements, and a fold of its events."""

import random
from functools import reduce

import pytest

from autotune import Budget, Failed, Finished, Plan, Settings, Timed, Wait
from autotune.core.outcomes import Outcome, Trial
from autotune.core.search.dialogue import SETTINGS, Dialogue, answer, begin_dialogue, follow, next_step
from autotune.core.search.messages import Asked, Dispatched, Event
from autotune.core.search.request import request
from autotune.core.search.state import TOLD
from autotune.testing import HashedTable, gemm_space
from autotune.testing.hand_shell import check_finished, check_request, snapshot
from property_tests.registry import INSTANCES, Which, called, instance

TABLE = HashedTable()


def outcome_of(trial: Trial, draws: random.Random) -> Outcome:
    found = TABLE.outcome(trial.config)
    return found if isinstance(found, Failed) else Timed((found.time_ms * draws.uniform(0.97, 1.03),))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
@pytest.mark.parametrize("which", INSTANCES, ids=called)
def test_any_loop_comes_to_an_end_with_a_lawful_result(which: Which, seed: int) -> None:
    space, draws = gemm_space(), random.Random(seed)
    plan = Plan(space, instance(which, space), Budget(25), seed, settings=Settings(**SETTINGS))
    dialogue, events, out, now = begin_dialogue(plan), list[Event](), list[Trial](), 0.0
    known = space.decode(space.rows()[draws.sample(range(len(space.rows())), 3)])

    def record(dialogue: Dialogue, *news: Event) -> Dialogue:
        for event in news:
            if isinstance(event, Asked):
                check_request(dialogue.search, event.task, event.room)
                assert request(dialogue.search, event.room) == event.task, "a replay would diverge"
            events.append(event)
            dialogue = follow(dialogue, event)
        return dialogue

    for _ in range(1000):
        now += 0.01
        if known and draws.random() < 0.1 and dialogue.search.concluded is None:
            config = known.pop()
            dialogue = record(dialogue, *answer(dialogue, config, Timed((draws.uniform(1, 5),)), now))
            continue
        if out and draws.random() < 0.4:
            trial = out.pop(draws.randrange(len(out)))
            dialogue = record(dialogue, *answer(dialogue, trial.config, outcome_of(trial, draws), now))
            continue
        step = next_step(dialogue, draws.randint(1, 4), now)
        if isinstance(step, Finished):
            break
        if isinstance(step, Wait):
            assert out, "it waits, and nothing is out"
            trial = out.pop(0)
            dialogue = record(dialogue, *answer(dialogue, trial.config, outcome_of(trial, draws), now))
        elif isinstance(step, Trial):
            again = dialogue.search.comparing is not None
            assert again or step.id not in dialogue.held, "a trial was handed out twice"
            dialogue = record(dialogue, Dispatched(now, step.id))
            out.append(step)
        else:
            dialogue = record(dialogue, step)
    else:
        raise AssertionError("the loop has no end")
    search = dialogue.search
    told = [trial for trial in search.trials if trial.origin == TOLD]
    assert search.told == len(told)
    assert len(search.trials) - len(told) <= 25
    if not told:
        check_finished(search, step)
    folded = reduce(follow, events, begin_dialogue(plan))
    assert (folded.held, folded.samples) == (dialogue.held, dialogue.samples)
    assert snapshot(folded.search) == snapshot(search)

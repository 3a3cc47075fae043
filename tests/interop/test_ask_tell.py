"""The search behind an ask-and-tell interface, and the outcome of an objective."""

import pytest

from autotune import EvaluatorError, Failed, Timed
from autotune.interop.ask_tell import AskTellSearch, objective_outcome
from tests.interop.small_space import SPACE, slow


def test_a_search_asked_for_one_trial_at_a_time() -> None:
    search = AskTellSearch(SPACE, "pattern_search", seed=1, settings={"initial_population": 4, "copies": 1})
    trials = []
    while (trial := search.ask()) is not None or search.search.outstanding:
        if trial is None:  # it wants to hear of the pending ones first
            for pending in search.search.pending:
                search.tell(pending, Timed((slow(pending.config),)))
            continue
        trials.append(trial)
        if len(trials) == 200:
            break
    assert len({trial.config for trial in trials}) == len(trials) == 200
    assert not search.finished
    ends = AskTellSearch(SPACE, "random_search", settings={"count": 3, "restarts": 0})
    batch = ends.ask_batch()
    for trial in batch:
        ends.tell(trial, Failed("unknown"))
    assert len(batch) == 3
    assert ends.ask_batch() == []
    assert ends.finished


@pytest.mark.parametrize(("value", "maximize", "time"), [(2.0, False, 2.0), (4.0, True, 0.25)])
def test_a_time_or_a_rate_is_an_outcome(value: float, maximize: bool, time: float) -> None:
    assert objective_outcome(value, maximize) == Timed((time,))


def test_what_is_neither_time_nor_rate() -> None:
    assert isinstance(objective_outcome(None), Failed)
    assert isinstance(objective_outcome(float("nan")), Failed)
    for maximize in (False, True):
        for value in (0.0, -3.0):
            with pytest.raises(EvaluatorError, match="above zero"):
                objective_outcome(value, maximize)

"""Long parameters: searches over them stay cheap, and a long choice has few features."""

import time

import numpy as np
import pytest

from autotune import (
    Asked,
    Budget,
    Choice,
    Finished,
    Integer,
    ListOf,
    Observed,
    OptionalOf,
    Permutation,
    PowerOfTwo,
    Space,
    Timed,
    advance,
    make_plan,
    request,
    start,
)
from autotune.core.models.gp_features import feature_map
from autotune.core.parameters.choice import ONE_HOT_VALUES, SIGNS

STRINGS = tuple(f"schedule {i}" for i in range(5000))


def long_spaces() -> dict[str, Space]:
    block = PowerOfTwo(16, 256, role="block_size")
    return {
        "choice": Space({"s": Choice(STRINGS), "B": block}, [], {"s": STRINGS[0], "B": 32}),
        "three choices": Space({f"s{i}": Choice(STRINGS) for i in range(3)}),
        "optional choice": Space({"s": OptionalOf(Choice(STRINGS), "auto"), "B": block}),
        "permutation": Space({"order": Permutation(20), "B": block}),
        "list": Space({"list": ListOf(Integer(0, 9), 64)}),
        "list of choices": Space({"list": ListOf(Choice(tuple("abcdefgh")), 40)}),
        "ranges": Space({"a": Integer(1, 10**9), "b": Integer(-(10**9), 10**9)}),
        "200 parameters": Space({f"p{i}": Integer(1, 8) for i in range(200)}),
    }


def own_ms(space: Space, strategy: str, evaluations: int) -> float:
    """Milliseconds of processor time per evaluation, all but the outcomes themselves included."""
    began = time.process_time()
    search = start(make_plan(space, strategy, exact=True, budget=Budget(evaluations=evaluations), seed=1))
    while not isinstance(todo := request(search), Finished):
        search = advance(search, Asked(search.clock, 1, todo))
        for trial in getattr(todo, "trials", ()):
            row = space.encode([trial.config])[0]
            search = advance(search, Observed(search.clock, trial.id, Timed((1 + float((row % 7).sum()),))))
    return 1e3 * (time.process_time() - began) / len(search.trials)


@pytest.mark.parametrize("name", long_spaces())
def test_long_parameters_cost_little(name: str) -> None:
    space = long_spaces()[name]
    most = 40 if name == "200 parameters" else 20 if name == "three choices" else 10
    own_ms(space, "gaussian_process", 12)  # imports what is imported late
    assert min(own_ms(space, "gaussian_process", 30) for _ in range(2)) < most
    for strategy in ("pattern_search", "lfbo_tree_search", "de_surrogate_hybrid"):
        assert own_ms(space, strategy, 120) < 20


def test_a_long_choice_has_few_features_about_equally_far_apart() -> None:
    choice = Choice(STRINGS)
    codes = np.arange(len(STRINGS))[:, None]
    features = choice.encode_features(codes)
    assert features.shape == (5000, choice.features) == (5000, SIGNS)
    assert len(np.unique(features, axis=0)) == 5000
    axes = feature_map(Space({"s": choice, "b": Integer(0, 1)}))
    points = axes.features(np.concatenate([codes[:400], np.zeros((400, 1), np.int64)], axis=1))
    distances = np.square(points[:, None] - points).sum(axis=2)[np.triu_indices(400, 1)]
    assert distances.mean() == pytest.approx(1, abs=0.05)
    assert distances.std() < 0.2
    short = Choice(STRINGS[:ONE_HOT_VALUES])
    assert (short.encode_features(codes[:ONE_HOT_VALUES]) == np.eye(ONE_HOT_VALUES)).all()

"""Likelihood-free Bayesian optimisation: labels, candidates, selection, and whole searches."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autotune import (
    Budget,
    DESurrogateHybrid,
    LFBOPatternSearch,
    LFBOTreeSearch,
    Plan,
    RandomSearch,
    Settings,
    make_plan,
)
from autotune.core.keys import root
from autotune.core.models.forest import fit_classifier
from autotune.core.strategies.lfbo import follow_trees, label_good, plan_itineraries, select_diverse
from autotune.core.strategies.moves import coordinates


def test_good_configs_are_no_slower_than_the_quantile_and_count_for_their_gain(valley: Any) -> None:
    good, weights = label_good(valley.archive([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, None]), 0.3)
    threshold = np.quantile(np.arange(1.0, 11.0), 0.3)
    assert good.tolist() == [True] * 3 + [False] * 8
    assert weights[3:].tolist() == [1.0] * 8
    assert weights[:3] == pytest.approx((threshold - np.arange(1, 4)) / np.mean(threshold - np.arange(1, 4)))


def test_labels_of_extreme_times(valley: Any) -> None:
    for times in ([2.0, 2.0, 2.0], [5e-324, 1.0, 1e300, 1.7e308], [None, 3.0], [1e300] * 2 + [1.0]):
        good, weights = label_good(valley.archive(times), 0.1)
        assert good.any()
        assert not good[[i for i, time in enumerate(times) if time is None]].any()
        assert np.isfinite(weights).all()
        assert (weights > 0).all()
    assert not label_good(valley.archive([None, None]), 0.1)[0].any()


def test_an_itinerary_has_each_coordinate_once_the_path_first(valley: Any) -> None:
    parts = coordinates(valley.space)
    paths = np.array([[8, 8, 0, -1], [3, -1, -1, -1], [-1, -1, -1, -1]])  # features: layout is one-hot from 5 on
    order = plan_itineraries(parts, paths, root(0))
    for row, begins in zip(order, ([5, 0], [3], []), strict=True):
        visited = row[row >= 0].tolist()
        assert visited[: len(begins)] == begins
        assert len(set(visited)) == len(visited)
        assert 3 in visited
        assert any(part in visited for part in (0, 1, 2))


def test_trials_end_at_options_of_their_start_that_the_trees_prefer(valley: Any) -> None:
    space = valley.space
    points = space.sample_distinct(root(2), 150)
    times = np.array([valley.cost(row) for row in points])
    good = times <= np.quantile(times, 0.2)
    forest = fit_classifier(space.features(points), good, np.ones(len(points)), 12)
    starts, parts = points[np.argsort(times)[:3]], coordinates(space)
    rows, origin = follow_trees(space, forest, starts, 40, 2, root(7))
    assert origin.tolist() == [i for i in range(3) for _ in range(40)]
    before = forest.value[forest.leaves(space.features(starts))].max(axis=1)
    after = forest.value[forest.leaves(space.features(rows))].max(axis=1)
    assert (after >= np.minimum(before[origin], 1 - 1e-9)).mean() > 0.9
    assert forest.predict(space.features(rows)).mean() > forest.predict(space.features(points)).mean() + 0.2
    for row, i in zip(rows, origin, strict=True):
        for part in parts:
            reach = np.concatenate([starts[i][None], part.neighbours(starts[i], 2)])[:, part.columns]
            assert (reach == row[part.columns]).all(axis=1).any()


def test_the_selection_is_greedy_and_prefers_different_points() -> None:
    rng = np.random.default_rng(0)
    probability, leaves = rng.random(60).round(2), rng.integers(0, 3, (60, 20))
    for penalty in (0.0, 0.5, 1.0, 5.0):
        chosen: list[int] = []
        while len(chosen) < 12:
            likeness = (leaves[:, None] == leaves[None, chosen]).mean(axis=2).mean(axis=1) if chosen else np.zeros(60)
            score = (probability - penalty * likeness).round(9)
            score[chosen] = -np.inf
            chosen.append(int(np.argmax(score)))
        assert select_diverse(probability, leaves, 12, penalty).tolist() == chosen
    assert select_diverse(probability, leaves, 60, 1.0).tolist() != sorted(
        select_diverse(probability, leaves, 60, 1.0).tolist()
    )
    assert sorted(select_diverse(probability, leaves, 60, 1.0).tolist()) == list(range(60))


LEARNED = (LFBOPatternSearch, LFBOTreeSearch, DESurrogateHybrid)


@pytest.mark.parametrize("strategy", LEARNED)
def test_it_beats_random_search_on_a_valley(valley: Any, strategy: type) -> None:
    """Means of the best of 300 over seeds, above the optimum of 1; all begin with the same random points."""

    def best(kind: type, seed: int) -> float:
        plan = make_plan(valley.space, kind(), exact=True, budget=Budget(evaluations=300), seed=seed)
        return valley.search(plan).best_ms or np.inf

    mine, random = (np.mean([best(kind, seed) for seed in range(4)]) for kind in (strategy, RandomSearch))
    assert mine < 1 + 0.6 * (random - 1)


def test_a_generation_is_the_share_asked_for(valley: Any) -> None:
    search = valley.search(Plan(valley.space, LFBOTreeSearch(), Budget(evaluations=300), settings=Settings(exact=True)))
    own = search.archive.generation
    assert (own == 0).sum() == 50  # the better half of 100
    first = (own == 1) & (search.archive.walk == 0)
    assert 10 <= first.sum() <= 20  # a tenth of at most 200
    assert len(np.unique(search.archive.walk[own == 1])) == 5


def test_the_defaults_are_those_of_the_published_systems(valley: Any) -> None:
    quick = {
        name: make_plan(valley.space, name, effort="quick").strategy
        for name in ("lfbo_tree_search", "LFBOPatternSearch")
    }
    for strategy in quick.values():
        assert (strategy.initial_population, strategy.copies, strategy.max_generations) == (30, 2, 5)
    hybrid = make_plan(valley.space, "de_surrogate_hybrid", effort="quick").strategy
    assert (hybrid.population_size, hybrid.max_generations, hybrid.patience) == (20, 8, 3)
    pattern, tree = LFBOPatternSearch(), LFBOTreeSearch()
    assert (pattern.num_neighbors, tree.num_neighbors) == (300, 200)
    for strategy in (pattern, tree):
        shared = strategy.frac_selected, strategy.radius, strategy.quantile, strategy.patience
        assert (*shared, strategy.similarity_penalty) == (0.1, 2, 0.1, 1, 1.0)


PROGRAM = """
import json, sys
from autotune import *

blocks, modes = PowerOfTwo(1, 1024, role="block_size"), Choice(("a", "b", "c"))
space = Space({"block": blocks, "n": Integer(0, 60), "mode": modes, "list": ListOf(Integer(0, 4), 2)})
search = start(make_plan(space, sys.argv[1], exact=True, budget=Budget(evaluations=170), seed=5))
while not isinstance(todo := request(search, 8), Finished):
    search = advance(search, Asked(search.clock, 8, todo))
    for trial in getattr(todo, "trials", ()):
        row = space.encode([trial.config])[0]
        time = 1 + abs(row[0] - 6) + 0.01 * (row[1] - 17) ** 2 + (row[2] != 1) + 0.1 * row[3:].sum()
        search = advance(search, Observed(search.clock, trial.id, Timed((float(time),))))
print(json.dumps(search.points.rows.tolist()))
"""


@pytest.mark.slow  # shorter searches: property_tests/shell/test_determinism.py
@pytest.mark.parametrize("name", ["lfbo_tree_search", "de_surrogate_hybrid"])
def test_the_same_search_in_every_process_and_with_any_number_of_threads(name: str) -> None:
    runs = []
    for threads, seed in (("1", "0"), ("4", "77")):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, check=True)
        runs.append(json.loads(done.stdout))
    assert len(runs[0]) > 120
    assert runs[0] == runs[1]


def test_restarts_help_a_search_that_ends_early(valley: Any) -> None:
    strategy = LFBOTreeSearch(initial_population=30, copies=1)
    plan = make_plan(valley.space, strategy, exact=True, budget=Budget(400), seed=3)
    once = valley.search(plan)
    again = valley.search(replace(plan, settings=Settings(exact=True, restarts=20)))
    assert len(once.trials) < 300
    assert len(again.trials) == 400
    assert (again.best_ms or np.inf) <= (once.best_ms or 0.0)

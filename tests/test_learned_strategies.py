"""The learned strategies: what is promised of labels, walks, moves and selection, and that they find what there is."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from autotune import (
    Boolean,
    Budget,
    Choice,
    DESurrogateHybrid,
    Failed,
    Integer,
    LFBOPatternSearch,
    LFBOTreeSearch,
    ListOf,
    Observed,
    OptionalOf,
    Permutation,
    Plan,
    PowerOfTwo,
    RandomSearch,
    Search,
    Settings,
    Space,
    StrategyError,
    Timed,
    advance,
    make_plan,
    request,
    start,
)
from autotune.core.history import Archive, Points, Records
from autotune.core.keys import root
from autotune.core.models.forest import fit_classifier
from autotune.core.search.messages import Asked, Finished
from autotune.core.strategies.differential_evolution import fit_log_times
from autotune.core.strategies.lfbo import select_diverse, follow_trees, plan_itineraries, label_good
from autotune.core.strategies.moves import coordinates, perturb
from autotune.core.strategies.pattern_search import Walk, Walks
from autotune.core.strategies.population import current_members, derive_members

SPACE = Space(
    {
        "M": PowerOfTwo(16, 256, role="block_size"),
        "blocks": ListOf(PowerOfTwo(16, 256), 2, role="block_size"),
        "warps": PowerOfTwo(1, 16, role="num_warps"),
        "stages": Integer(1, 6),
        "layout": Choice(("row", "col", "tile", "flat")),
        "fast": Boolean(),
        "order": Permutation(3),
        "regs": OptionalOf(PowerOfTwo(32, 256)),
    }
)
LEARNED = (LFBOPatternSearch, LFBOTreeSearch, DESurrogateHybrid)


def archive(times: list[float | None], walks: list[int] | None = None, generations: list[int] | None = None) -> Archive:
    """Trials at different points; None failed."""
    n = len(times)
    points, records = Points(SPACE.columns).append(SPACE.sample_distinct(root(0), n)), Records()
    for i, time in enumerate(times):
        ok, value = time is not None, time or 0.0
        walk, generation = (walks or [0] * n)[i], (generations or [0] * n)[i]
        records = records.append((i, ok, value, value, value, 0.0, walk, generation))
    return Archive(records, points)


def cost(row: np.ndarray) -> float:
    """A valley over ordered coordinates, with a choice that matters only on one side of it."""
    m, a, b, warps, stages, layout, fast = row[:7].tolist()
    time = 1.0 + 0.3 * (m - 3) ** 2 + 0.2 * (a - b) ** 2 + 0.15 * (warps - 2) ** 2 + 0.1 * (stages - 4) ** 2
    return float(time + 0.5 * (layout != (2 if m > 2 else 1)) + 0.2 * (1 - fast) + 0.05 * row[10:].sum())


def searched(plan: Plan, room: int = 8) -> Search:
    """The plan carried out, all outcomes at once; what is too big fails."""
    search = start(plan)
    while not isinstance(todo := request(search, room), Finished):
        search = advance(search, Asked(search.clock, room, todo))
        for trial in getattr(todo, "trials", ()):
            row = plan.space.encode([trial.config])[0]
            outcome = Failed("compile_error") if row[0] + row[1] > 5 else Timed((cost(row),))
            search = advance(search, Observed(search.clock, trial.id, outcome))
    return search


# Labels


def test_what_is_no_slower_than_the_quantile_is_good_and_counts_for_its_gain() -> None:
    good, weights = label_good(archive([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, None]), 0.3)
    threshold = np.quantile(np.arange(1.0, 11.0), 0.3)
    assert good.tolist() == [True] * 3 + [False] * 8
    assert weights[3:].tolist() == [1.0] * 8
    assert weights[:3] == pytest.approx((threshold - np.arange(1, 4)) / np.mean(threshold - np.arange(1, 4)))


def test_labels_of_extreme_times() -> None:
    for times in ([2.0, 2.0, 2.0], [5e-324, 1.0, 1e300, 1.7e308], [None, 3.0], [1e300] * 2 + [1.0]):
        good, weights = label_good(archive(times), 0.1)
        assert good.any()
        assert not good[[i for i, time in enumerate(times) if time is None]].any()
        assert np.isfinite(weights).all()
        assert (weights > 0).all()
    assert not label_good(archive([None, None]), 0.1)[0].any()


# Walks


def walked(known: Archive, patience: int) -> Walks:
    """Where two walks have come to."""
    return derive_members(LFBOTreeSearch(copies=2, patience=patience), known.latest)


def test_a_walk_goes_to_its_best_and_has_patience() -> None:
    times = [5.0, 6.0, 7.0, 4.0, 6.5, 4.1, 5.9, None, 5.89]
    walks, generations = [0, 0, 0, 0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 2, 2, 3, 3]
    at = {patience: walked(archive(times, walks, generations), patience) for patience in (0, 1, 2)}
    assert [walk.trial for walk in at[1]] == [3, 8]
    assert [walk.alive for walk in at[1]] == [False, True]  # two generations without progress, and one with
    assert [walk.alive for walk in at[2]] == [True, True]
    assert [walk.trial for walk in at[0]] == [3, 1]
    assert [walk.alive for walk in at[0]] == [False, False]


def test_a_walk_without_proposals_ends() -> None:
    walks = walked(archive([5.0, 6.0, 4.0], [0, 0, 0], [0, 0, 1]), 1)
    assert walks == (Walk(2, 4.0, 0, True), Walk(1, 6.0, 0, False))


# Moves


def test_axes_take_block_sizes_apart_and_cover_everything() -> None:
    parts = coordinates(SPACE)
    assert [axis.role for axis in parts][:4] == ["block_size"] * 3 + ["num_warps"]
    assert len(parts) == 9
    assert [i for axis in parts for i in range(SPACE.columns)[axis.columns]] == list(range(SPACE.columns))
    width = len(SPACE.feature_names)
    assert [i for axis in parts for i in range(width)[axis.features]] == list(range(width))


def changed(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Which axes differ: [n, axes]."""
    return np.stack([(rows[:, axis.columns] != row[axis.columns]).any(axis=1) for axis in coordinates(SPACE)], axis=1)


def test_perturbed_points_move_a_block_the_warps_and_up_to_radius_others() -> None:
    row = SPACE.sample(root(4), 1)[0]
    rows = perturb(SPACE, row, 400, 2, root(1))
    moved = changed(rows, row)
    assert moved[:, 3].all()
    others = moved.sum(axis=1) - 2
    assert set(others.tolist()) == {0, 1, 2}
    assert (moved[:, :3].sum(axis=1) >= 1).all()
    for i, axis in enumerate(coordinates(SPACE)):
        reach = axis.near(row, 2 if axis.role else 1)
        assert {r.tobytes() for r in rows[moved[:, i]][:, axis.columns]} <= {
            r.tobytes() for r in reach[:, axis.columns]
        }
    assert (perturb(SPACE, row, 400, 2, root(1)) == rows).all()


def test_an_itinerary_names_each_axis_once_the_path_first() -> None:
    parts = coordinates(SPACE)
    paths = np.array([[8, 8, 0, -1], [3, -1, -1, -1], [-1, -1, -1, -1]])  # features: layout is one-hot from 5 on
    order = plan_itineraries(parts, paths, root(0))
    for row, begins in zip(order, ([5, 0], [3], []), strict=True):
        visited = row[row >= 0].tolist()
        assert visited[: len(begins)] == begins
        assert len(set(visited)) == len(visited)
        assert 3 in visited
        assert any(axis in visited for axis in (0, 1, 2))


def test_guided_moves_do_what_one_trial_at_a_time_would() -> None:
    """Each move taken apart: on every axis of the plan_itineraries, no option within the radius scores better by that tree."""
    points = SPACE.sample_distinct(root(2), 150)
    times = np.array([cost(row) for row in points])
    good = times <= np.quantile(times, 0.2)
    forest = fit_classifier(SPACE.features(points), good, np.ones(len(points)), 12)
    starts, parts = points[np.argsort(times)[:3]], coordinates(SPACE)
    rows, origin = follow_trees(SPACE, forest, starts, 40, 2, root(7))
    assert origin.tolist() == [i for i in range(3) for _ in range(40)]
    before = forest.value[forest.leaves(SPACE.features(starts))].max(axis=1)
    after = forest.value[forest.leaves(SPACE.features(rows))].max(axis=1)
    assert (after >= np.minimum(before[origin], 1 - 1e-9)).mean() > 0.9
    assert forest.predict_proba(SPACE.features(rows)).mean() > forest.predict_proba(SPACE.features(points)).mean() + 0.2
    for row, i in zip(rows, origin, strict=True):
        for axis in parts:
            reach = np.concatenate([starts[i][None], axis.near(starts[i], 2)])[:, axis.columns]
            assert (reach == row[axis.columns]).all(axis=1).any()


# Selection


def test_selection_is_greedy_and_likes_what_is_different() -> None:
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
    assert select_diverse(probability, leaves, 60, 1.0).tolist() != sorted(select_diverse(probability, leaves, 60, 1.0).tolist())
    assert sorted(select_diverse(probability, leaves, 60, 1.0).tolist()) == list(range(60))


# The whole searches


@pytest.mark.parametrize("strategy", LEARNED)
def test_it_beats_random_search_on_a_valley(strategy: type) -> None:
    """Means of the best of 300 over seeds, above the optimum of 1; all begin with the same random points."""

    def best(kind: type, seed: int) -> float:
        plan = make_plan(SPACE, kind(), exact=True, budget=Budget(evaluations=300), seed=seed)
        return searched(plan).best_ms or np.inf

    mine, random = (np.mean([best(kind, seed) for seed in range(4)]) for kind in (strategy, RandomSearch))
    assert mine < 1 + 0.6 * (random - 1)


def test_a_generation_is_the_share_asked_for() -> None:
    search = searched(Plan(SPACE, LFBOTreeSearch(), Budget(evaluations=300), settings=Settings(exact=True)))
    own = search.archive.generation
    assert (own == 0).sum() == 50  # the better half of 100
    first = (own == 1) & (search.archive.walk == 0)
    assert 10 <= first.sum() <= 20  # a tenth of at most 200
    assert len(np.unique(search.archive.walk[own == 1])) == 5


def test_the_surrogate_learns_when_it_is_due_and_from_failures_too() -> None:
    strategy = DESurrogateHybrid(population_size=10, surrogate_threshold=40, refit_frequency=3, patience=None)
    plan = Plan(SPACE, strategy, Budget(evaluations=130), settings=Settings(exact=True))
    search = searched(plan)
    batches = [event for event in np.unique(search.archive.generation) if event > 0]
    assert len(batches) == 12  # after 10 of 20 first points
    known = search.archive
    forest = fit_log_times(SPACE, known, 100, 20)
    predicted = forest.predict(SPACE.features(known.points[:100]))
    assert not known.ok[:100].all()
    assert predicted[~known.ok[:100]].mean() > predicted[known.ok[:100]].mean() + 0.3


def test_the_trial_of_a_surrogate_duels_with_its_own_parent() -> None:
    strategy = DESurrogateHybrid(population_size=8, surrogate_threshold=16, patience=None)
    search = searched(Plan(SPACE, strategy, Budget(evaluations=150), settings=Settings(exact=True)))
    known = search.archive
    for slot, member in enumerate(current_members(strategy.evolution, search.state)):
        tried = (known.generation > 0) & (known.walk == slot) & known.ok
        assert member.time_ms <= known.time_ms[tried].min(initial=np.inf)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frac_selected": 0.0}, "frac_selected"),
        ({"quantile": 1.0}, "quantile"),
        ({"radius": 0}, "radius"),
        ({"patience": -1}, "patience"),
        ({"similarity_penalty": -0.5}, "similarity_penalty"),
        ({"num_neighbors": 0}, "num_neighbors"),
        ({"copies": 0}, "copies"),
        ({"compile_timeout_quantile": 2.0}, "compile_timeout_quantile"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], words: str) -> None:
    for kind in (LFBOPatternSearch, LFBOTreeSearch):
        with pytest.raises(StrategyError, match=words):
            kind(**settings)


def test_settings_of_the_hybrid_out_of_range_are_named() -> None:
    for settings in ({"candidate_ratio": 0}, {"refit_frequency": 0}, {"n_estimators": 0}, {"population_size": 3}):
        with pytest.raises(StrategyError, match=rf"de_surrogate_hybrid: {next(iter(settings))}"):
            DESurrogateHybrid(**settings)


def test_the_defaults_are_those_of_the_published_systems() -> None:
    quick = {
        name: make_plan(SPACE, name, effort="quick").strategy for name in ("lfbo_tree_search", "LFBOPatternSearch")
    }
    for strategy in quick.values():
        assert (strategy.initial_population, strategy.copies, strategy.max_generations) == (30, 2, 5)
    hybrid = make_plan(SPACE, "de_surrogate_hybrid", effort="quick").strategy
    assert (hybrid.population_size, hybrid.max_generations, hybrid.patience) == (20, 8, 3)
    pattern, tree = LFBOPatternSearch(), LFBOTreeSearch()
    assert (pattern.num_neighbors, tree.num_neighbors) == (300, 200)
    for strategy in (pattern, tree):
        shared = strategy.frac_selected, strategy.radius, strategy.quantile, strategy.patience
        assert (*shared, strategy.similarity_penalty) == (0.1, 2, 0.1, 1, 1.0)


PROGRAM = """
import json, sys
from autotune import Budget, make_plan
from test_learned_strategies import SPACE, searched
plan = make_plan(SPACE, sys.argv[1], exact=True, budget=Budget(evaluations=170), seed=5)
print(json.dumps([list(row) for row in searched(plan).points.rows.tolist()]))
"""


@pytest.mark.parametrize("name", ["lfbo_tree_search", "de_surrogate_hybrid"])
def test_the_same_search_in_every_process_and_with_any_number_of_threads(name: str) -> None:
    runs = []
    for threads, seed in (("1", "0"), ("4", "77")):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": seed, "PYTHONPATH": "tests"}
        done = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, check=True)
        runs.append(json.loads(done.stdout))
    assert len(runs[0]) > 120
    assert runs[0] == runs[1]


def test_importing_and_naming_strategies_needs_no_scikit_learn() -> None:
    code = "import sys, autotune; autotune.STRATEGIES; autotune.LFBOTreeSearch(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_restarts_help_a_search_that_ends_early() -> None:
    plan = make_plan(SPACE, LFBOTreeSearch(initial_population=30, copies=1), exact=True, budget=Budget(400), seed=3)
    once = searched(plan)
    again = searched(replace(plan, settings=Settings(exact=True, restarts=20)))
    assert len(once.trials) < 300
    assert len(again.trials) == 400
    assert (again.best_ms or np.inf) <= (once.best_ms or 0.0)

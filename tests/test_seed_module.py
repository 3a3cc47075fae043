"""Every class, parameter and default of the module that this library began from, and that each has an effect."""

import inspect
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import (
    Asked,
    Boolean,
    Budget,
    Cache,
    CallableEvaluator,
    Compare,
    DESurrogateHybrid,
    DifferentialEvolutionSearch,
    Failed,
    Finished,
    GaussianProcessSearch,
    InitialPopulationStrategy,
    Integer,
    LFBOPatternSearch,
    LFBOTreeSearch,
    Limits,
    LooseKey,
    Measure,
    Observed,
    Outcome,
    PatternSearch,
    Plan,
    PowerOfTwo,
    Search,
    Settings,
    Space,
    StrategyError,
    StrictKey,
    Timed,
    Trial,
    advance,
    compute_leaf_similarity,
    installed_versions,
    key_for,
    make_plan,
    request,
    start,
    tune,
)
from autotune.cli import main
from autotune.core.errors import CacheError
from autotune.core.history import Archive, Records
from autotune.core.keys import fold, root, uniform
from autotune.core.search.effort import QUICK
from autotune.core.strategies.differential_evolution import find_members
from autotune.core.strategies.pattern_search import follow_walks
from autotune.shell.journal import read_journal

TIMEOUTS = {"compile_timeout_lower_bound": 30.0, "compile_timeout_quantile": 0.9}
WALKS = {"initial_population": 100, "copies": 5, "max_generations": 20, "min_improvement_delta": 0.001}
BEGINS = {"initial_population_strategy": None, **TIMEOUTS}
LEARNED = {"frac_selected": 0.1, "radius": 2, "quantile": 0.1, "patience": 1, "similarity_penalty": 1.0}
EVOLUTION = {"population_size": 40, "max_generations": 40, "crossover_rate": 0.8}
DEFAULTS: dict[str, dict[str, Any]] = {
    "PatternSearch": {**WALKS, "num_neighbors_cap": -1, **BEGINS},
    "LFBOPatternSearch": {**WALKS, **LEARNED, "num_neighbors": 300, **BEGINS},
    "LFBOTreeSearch": {**WALKS, **LEARNED, "num_neighbors": 200, **BEGINS},
    "DifferentialEvolutionSearch": {
        **EVOLUTION, "immediate_update": None, "min_improvement_delta": None, "patience": None, **BEGINS,
    },
    "DESurrogateHybrid": {
        **EVOLUTION, "surrogate_threshold": 100, "candidate_ratio": 3, "refit_frequency": 5, "n_estimators": 50,
        "min_improvement_delta": 0.001, "patience": 3, **BEGINS,
    },
    "RandomSearch": {"count": 1000},
    "FiniteSearch": {},
}  # fmt: skip
"""Where its text and its signatures differ, the signatures count."""

CONFIG = (
    "block_sizes", "num_threads", "loop_orders", "flatten_loops", "l2_groupings", "reduction_loops",
    "range_unroll_factors", "range_warp_specializes", "range_num_stages", "range_multi_buffers", "range_flattens",
    "static_ranges", "load_eviction_policies", "num_warps", "num_stages", "pid_type", "num_sm_multiplier", "maxnreg",
    "indexing", "advanced_controls_file",
)  # fmt: skip

BEGINNING = (
    "pattern_search", "lfbo_pattern_search", "lfbo_tree_search", "differential_evolution", "de_surrogate_hybrid",
    "gaussian_process",
)  # fmt: skip
"""The strategies that begin with a population or a design, the default one among them."""

SPACE = Space({"a": PowerOfTwo(1, 1024), "b": Integer(1, 50), "c": Integer(0, 9)}, [], {"a": 32, "b": 25, "c": 0})
EARLIER = [{"a": 2**i, "b": 40 + j, "c": 9} for i in range(6) for j in range(4)]


def every_beginning(test: Any) -> Any:
    return pytest.mark.parametrize("name", BEGINNING)(test)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_parameter_has_its_default(name: str) -> None:
    kind = getattr(autotune, name)
    ours = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
    for parameter, default in DEFAULTS[name].items():
        assert ours[parameter] == default, parameter
        assert type(ours[parameter]) is type(default), parameter


def test_the_order_of_parameters_that_may_be_given_without_a_name() -> None:
    evolution = ["population_size", "max_generations", "crossover_rate"]
    rest = ["min_improvement_delta", "patience", *BEGINS]
    surrogate = ["surrogate_threshold", "candidate_ratio", "refit_frequency", "n_estimators"]
    assert list(DifferentialEvolutionSearch.__struct_fields__)[:9] == [*evolution, "immediate_update", *rest]
    assert list(DESurrogateHybrid.__struct_fields__)[:12] == [*evolution, *surrogate, *rest]


def test_the_other_names_of_the_module() -> None:
    assert list(InitialPopulationStrategy) == ["from_random", "from_default", "from_best_available"]
    assert InitialPopulationStrategy("from_default") is InitialPopulationStrategy.FROM_DEFAULT
    config = autotune.KernelConfig(**dict.fromkeys(CONFIG, None), mine=1)
    assert all(getattr(config, name) is None for name in CONFIG)
    assert "mine" in repr(config)
    assert callable(config.minimize)
    saved = set(inspect.signature(autotune.SavedBestConfig).parameters)
    assert {"hardware", "specialization_key", "config", "flat_config"} <= saved
    assert "max_scan" in inspect.signature(autotune.iter_cache_entries).parameters
    assert len(inspect.signature(autotune.triton_cache_dir).parameters) == 1
    assert autotune.get_cache_dir().is_absolute()
    assert issubclass(autotune.StrictKey, object)


# Where a search begins, by every route


@every_beginning
def test_a_way_to_begin_that_there_is_not_is_told_at_once(name: str) -> None:
    kind = autotune.STRATEGIES[name]
    said = rf"{name}: initial_population_strategy = 'from_nothing' .*from_random, from_default, from_best_available"
    with pytest.raises(StrategyError, match=said):
        kind(initial_population_strategy="from_nothing")
    with pytest.raises(StrategyError, match=said):
        make_plan(SPACE, name, settings={"initial_population_strategy": "from_nothing"})
    one = kind(initial_population_strategy="from_default")
    assert one == kind(initial_population_strategy=InitialPopulationStrategy.FROM_DEFAULT)
    assert one.initial_population_strategy is InitialPopulationStrategy.FROM_DEFAULT


def begun(plan: Plan, room: int = 50) -> list[Trial]:
    """The trials that are asked for before anything has an outcome but the default."""
    search = start(plan)
    found: list[Trial] = []
    for _ in range(2):
        todo = request(search, room)
        assert isinstance(todo, Measure)
        search = advance(search, Asked(search.clock, room, todo))
        found += todo.trials
        if todo.trials[0].origin == "default":
            search = advance(search, Observed(search.clock, 0, Timed((1.0,))))
    return found


@every_beginning
def test_every_way_to_begin(name: str) -> None:
    def first(how: str, **given: Any) -> list[dict[str, Any]]:
        settings = {"initial_population_strategy": how, **given}
        plan = make_plan(
            SPACE, name, exact=True, settings=settings, best_available=EARLIER, seeds=[{**EARLIER[0], "c": 1}]
        )
        return [dict(trial.config) for trial in begun(plan)]

    of_earlier = first("from_best_available", pad=False)
    assert of_earlier[0] == SPACE.default
    assert of_earlier[1] == {**EARLIER[0], "c": 1}
    assert [config for config in of_earlier if config in EARLIER] == EARLIER[:20]
    drawn = first("from_random")
    assert not [config for config in drawn if config in EARLIER]
    assert {**EARLIER[0], "c": 1} in drawn
    assert len(drawn) > 4


@every_beginning
@pytest.mark.parametrize("route", ["constructor", "settings", "environment", "command line"])
def test_from_default_by_every_route(
    name: str, route: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "j"
    strategy, settings = name, {}
    match route:
        case "constructor":
            strategy = autotune.STRATEGIES[name](initial_population_strategy="from_default")
        case "settings":
            settings = {"initial_population_strategy": "from_default"}
        case "environment":
            monkeypatch.setenv("AUTOTUNE_INITIAL_POPULATION", "from_default")
    if route == "command line":
        given = ["--set", "initial_population_strategy=from_default", "--set", "compile_timeout_lower_bound=7"]
        assert main(["simulate", "builtin:matmul", "--strategy", name, "--evaluations", "5", *given]) == 0
        wrong = ["--set", "initial_population_strategy=x"]
        assert main(["simulate", "builtin:matmul", "--strategy", name, "--evaluations", "5", *wrong]) != 0
        assert f"{name}: initial_population_strategy = 'x'" in capfd.readouterr().err.replace("\n", " ")
        return
    from autotune.studies.recordings import load_recording
    from autotune.studies.simulation import Simulation

    simulation = Simulation.of(load_recording("builtin:matmul"))
    evaluator = autotune.SimulatedEvaluator(simulation.table)
    tune(simulation.space, evaluator, strategy, budget=Budget(evaluations=4), journal=journal, settings=settings)
    plan = read_journal(journal).plan()
    assert plan.strategy.initial_population_strategy is InitialPopulationStrategy.FROM_DEFAULT  # type: ignore[attr-defined]


def test_a_variable_that_cannot_be_heeded_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_INITIAL_POPULATION", "from_default")
    evaluator = CallableEvaluator(lambda config: lambda: None, isolation="in_process", timer=lambda run: 1.0)
    space, budget = Space({"a": Boolean()}, [], {"a": True}), Budget(evaluations=2)
    with pytest.warns(UserWarning, match="AUTOTUNE_INITIAL_POPULATION = from_default has no effect on random_search"):
        tune(space, evaluator, "random_search", budget=budget)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune(space, evaluator, "pattern_search", budget=budget)
        tune(space, evaluator, budget=budget)
        tune(space, evaluator, PatternSearch(initial_population_strategy="from_random"), budget=budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["random_search", "finite_search"])
@pytest.mark.parametrize("setting", ["initial_population", "compile_timeout_quantile", "initial_population_strategy"])
def test_a_setting_that_cannot_apply_is_an_error(name: str, setting: str) -> None:
    given = {"configs": EARLIER} if name == "finite_search" else {}
    with pytest.raises(StrategyError, match=f"{name} has no setting '{setting}'"):
        make_plan(SPACE, name, settings={setting: 1, **given})


def test_the_default_strategy_has_its_initial_population_by_either_name() -> None:
    for setting in ("initial_population", "initial_points"):
        plan = make_plan(SPACE, settings={setting: 17}, exact=True)
        assert plan.strategy == GaussianProcessSearch(initial_population=17)
        assert len(begun(plan)) == 17


# Compile timeouts


@every_beginning
def test_compile_timeouts_adapt(name: str) -> None:
    def limits(**given: float) -> list[Limits]:
        """Of every batch of a search in which compiling takes 2, 4, 6, … s."""
        size = {"population_size": 4} if "de" in name or "evolution" in name else {"initial_population": 8}
        settings = {**size, **given, "compile_timeout_s": 50.0}
        search, found = start(make_plan(SPACE, name, exact=True, budget=Budget(evaluations=40), settings=settings)), []
        while not isinstance(todo := request(search, 4), Finished):
            search = advance(search, Asked(search.clock, 4, todo))
            for trial in getattr(todo, "trials", ()):
                seconds = 2.0 * (trial.id % 10)
                outcome = Timed((1.0 + SPACE.encode([trial.config])[0].sum(),), compile_s=seconds)
                search = advance(search, Observed(search.clock, trial.id, outcome))
            if isinstance(todo, Measure) and todo.trials[0].origin == "strategy":
                found.append((todo.trials[0].generation, todo.limits))
        return [limit for generation, limit in found if generation > 0]

    assert {limit.compile_timeout_s for limit in limits()} == {30.0}
    assert {limit.compile_timeout_s for limit in limits(compile_timeout_lower_bound=45)} == {45.0}
    assert {limit.compile_timeout_s for limit in limits(compile_timeout_lower_bound=80)} == {50.0}
    adaptive = [
        limit.compile_timeout_s for limit in limits(compile_timeout_lower_bound=1, compile_timeout_quantile=0.5)
    ]
    assert all(1 <= (seconds or 0) < 12 for seconds in adaptive)
    with pytest.raises(StrategyError, match=f"{name}: compile_timeout_quantile = 2"):
        limits(compile_timeout_quantile=2.0)


# The share that is measured, and members that work


def searched(plan: Plan, failing: float = 0.0, room: int = 8) -> Search:
    """The plan carried out; this share of the points fails, as their rows have it."""
    search = start(plan)
    while not isinstance(todo := request(search, room), Finished):
        search = advance(search, Asked(search.clock, room, todo))
        for trial in getattr(todo, "trials", ()):
            row = plan.space.encode([trial.config])[0]
            luck = float(uniform(fold(root(plan.seed), "fails", row.tobytes()), 1)[0])
            outcome: Outcome = Failed("run_error") if luck < failing else Timed((1.0 + row.sum() + luck / 10,))
            search = advance(search, Observed(search.clock, trial.id, outcome))
    return search


@pytest.mark.parametrize("kind", [PatternSearch, LFBOPatternSearch, LFBOTreeSearch])
@pytest.mark.parametrize(("share", "measured"), [(None, 20), (1.0, 40), (0.25, 10)])
def test_the_share_of_the_initial_population_that_is_measured(kind: Any, share: float | None, measured: int) -> None:
    given = {} if share is None else {"initial_share": share}
    plan = make_plan(SPACE, kind(initial_population=40, max_generations=0, **given), exact=True)
    own = [
        trial for trial in searched(replace(plan, settings=Settings(exact=True))).trials if trial.origin != "simplify"
    ]
    assert len(own) == measured
    for wrong in (0.0, 1.5, -1.0):
        with pytest.raises(StrategyError, match=f"initial_share = {wrong}"):
            kind(initial_share=wrong)


@pytest.mark.parametrize("kind", [DifferentialEvolutionSearch, DESurrogateHybrid])
@pytest.mark.parametrize("failing", [0.0, 0.3, 0.6, 0.8])
def test_differential_evolution_has_as_many_different_working_members_as_it_says(kind: Any, failing: float) -> None:
    for seed in range(3):
        plan = Plan(SPACE, kind(max_generations=6), seed=seed, settings=Settings(exact=True))
        search = searched(replace(plan, budget=Budget(generations=1)), failing)
        members = find_members(search.archive.latest, 40).tolist()
        assert len(set(members)) == 40
        points = SPACE.encode([search.trials[member].config for member in members])
        assert len(np.unique(points, axis=0)) == 40
        assert len(search.trials) < 3 * 40 / (1 - failing)
    all_of_them = Plan(SPACE, kind(initial_share=1.0), Budget(generations=1), settings=Settings(exact=True))
    assert len(searched(all_of_them).trials) == 80


def test_a_population_smaller_than_asked_for_where_no_more_is_there() -> None:
    few = Space({"a": Integer(0, 9)}, [], {"a": 3})
    for failing in (0.0, 0.5, 1.0):
        search = searched(Plan(few, DifferentialEvolutionSearch(), settings=Settings(exact=True)), failing)
        assert len(search.trials) == 10
    lonely = make_plan(
        SPACE, "differential_evolution", settings={"initial_population_strategy": "from_default"}, exact=True
    )
    search = searched(replace(lonely, budget=Budget(generations=2), settings=Settings(exact=True)))
    assert len(search.trials) > 20, "a population of equals goes on"


def test_immediate_update_is_left_to_the_plan() -> None:
    for one, wanted in ((True, True), (False, None)):
        plan = make_plan(SPACE, "differential_evolution", one_at_a_time=one)
        assert plan.strategy.immediate_update is wanted  # type: ignore[attr-defined]
    for given in (True, False):
        plan = make_plan(SPACE, DifferentialEvolutionSearch(immediate_update=given), one_at_a_time=not given)
        assert plan.strategy.immediate_update is given  # type: ignore[attr-defined]
    assert CallableEvaluator(len).takes_one
    assert not CallableEvaluator(len, workers=2).takes_one


# Likeness and keys


def test_likeness_takes_a_fitted_forest_of_scikit_learn() -> None:
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier

    points = uniform(root(1), 60, 4)
    for forest in (RandomForestClassifier(30, random_state=0), ExtraTreesRegressor(20, random_state=0)):
        with pytest.raises(StrategyError, match="not fitted"):
            compute_leaf_similarity(forest, points)
        forest.fit(points, points[:, 0] > 0.5)
        leaves = forest.apply(points)
        expected = (leaves[:, None] == leaves[None]).mean(axis=2)
        assert compute_leaf_similarity(forest, points) == pytest.approx(expected)
        with pytest.raises(StrategyError, match=r"use an array \[n, 4\]"):
            compute_leaf_similarity(forest, points[:, :2])
    for wrong in (None, 5, RandomForestClassifier, [1.0]):
        with pytest.raises(StrategyError, match="compute_leaf_similarity"):
            compute_leaf_similarity(wrong, points)


def add(config: Any) -> Any:
    return lambda: None


def test_strict_keys_in_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = CallableEvaluator(add, isolation="in_process", timer=lambda run: 1.0)
    space, cache = Space({"a": Integer(0, 3)}, [], {"a": 0}), Cache(tmp_path)

    def events(key: Any) -> int:
        seen = []
        tune(space, evaluator, "random_search", cache=cache, key=key, progress=lambda search, event: seen.append(event))
        return len(seen)

    assert events("strict") > 0
    assert events("strict") == 0, "a hit"
    assert events("loose") == events(None) == 0
    other = autotune.Versions(torch="0.0.1")
    assert events(StrictKey(key_for(space, evaluator), other)) > 0
    monkeypatch.setattr("autotune.shell.cache.identity.installed_versions", lambda: autotune.Versions(torch="0.0.2"))
    assert events("strict") > 0, "another toolchain"
    assert isinstance(key_for(space, evaluator), LooseKey)
    assert installed_versions().autotune
    with pytest.raises(CacheError, match='"loose" or "strict"'):
        events("exact")


def test_quick_effort_knows_all_of_its_settings() -> None:
    for name, settings in QUICK.items():
        assert set(settings) <= set(autotune.STRATEGIES[name].__struct_fields__)


# What a strategy remembers


@every_beginning
def test_the_state_is_what_the_outcomes_make_of_it_revisions_included(name: str) -> None:
    """The members depend on the latest outcomes alone: one that changes later counts as if it had come at once."""
    if name == "gaussian_process":
        return
    size = {"population_size": 8} if "de" in name or "evolution" in name else {"initial_population": 16, "copies": 3}
    plan = make_plan(SPACE, name, budget=Budget(evaluations=120), settings={**size, "simplify_rounds": 0}, seed=3)
    search, n = start(plan), 0
    while not isinstance(todo := request(search, 8), Finished):
        search = advance(search, Asked(search.clock, 8, todo))
        outcomes = []
        for trial in getattr(todo, "trials", ()):
            n += 1
            noise = 1 + 0.1 * float(uniform(fold(root(7), n), 1)[0])
            time = (1.0 + SPACE.encode([trial.config])[0].sum()) * noise
            outcomes.append((trial.id, Timed((time, time * 1.2)) if n % 9 else Failed("run_error")))
        if isinstance(todo, Compare):
            search = advance(search, autotune.Compared(search.clock, tuple(outcomes)))
        else:
            for trial_id, outcome in reversed(outcomes):
                search = advance(search, Observed(search.clock, trial_id, outcome))
        at_once = Records()
        for record in search.archive.latest.tolist():
            at_once = at_once.append(record)
        table, direct = search.archive.latest, Archive(at_once, search.points).latest
        if not table["ok"].any():
            continue
        if "population_size" in size:
            assert find_members(table, 8).tolist() == find_members(direct, 8).tolist()
        else:
            assert follow_walks(table, 3, 0.001, 1) == follow_walks(direct, 3, 0.001, 1)
    assert len(search.records) > len(search.trials), "some were measured again"

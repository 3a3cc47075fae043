"""Our strategies inside other tuners: as a strategy of Kernel Tuner, as a sampler of Optuna."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from autotune import Boolean, Choice, EvaluatorError, Failed, Integer, Permutation, PowerOfTwo, Space, SpaceError, Timed
from autotune.interop.ask_tell import AskTellSearch, objective_outcome

SPACE = Space(
    {
        "block": PowerOfTwo(1, 64),
        "stages": Integer(0, 30, 3),
        "layout": Choice((None, "row", (1, 2))),
        "flag": Boolean(),
        "order": Permutation(3),
    },
    ["block * stages < 600"],
)

STRATEGIES = ["lfbo_tree_search", "pattern_search", "differential_evolution", "gaussian_process", "random_search"]


def slow(config: Any) -> float:
    """Fastest, at 1, for one config of the space."""
    near = abs(config["block"] - 16) + abs(config["stages"] - 9) + config["flag"]
    return float(1 + near + (config["order"] != (2, 1, 0)))


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


# Kernel Tuner


def cache_file(path: Path) -> tuple[Path, dict[str, list[Any]]]:
    """A recorded kernel of 4 x 8 x 2 points, those with few threads left out."""
    values = {"block_size_x": [16, 32, 64, 128], "tile": [1, 2, 3, 4, 5, 6, 7, 8], "use_pad": [0, 1]}
    cache = {}
    for x in values["block_size_x"]:
        for tile in values["tile"]:
            for pad in values["use_pad"]:
                if x * tile < 64:
                    continue
                time: Any = 1 + abs(x - 64) / 16 + abs(tile - 5) + pad
                time = "RuntimeFailedConfig" if x * tile > 900 else time
                timings = {"compile_time": 1.0, "verification_time": 0.0, "benchmark_time": 1.0}
                point = {"block_size_x": x, "tile": tile, "use_pad": pad}
                cache[f"{x},{tile},{pad}"] = {**point, "time": time, "times": [time], **timings}
                cache[f"{x},{tile},{pad}"]["GFLOP/s"] = time if isinstance(time, str) else 100 / time
    kernel = {
        "device_name": "simulated", "kernel_name": "toy", "problem_size": 1, "objective": "time",
        "tune_params_keys": list(values), "tune_params": values, "cache": cache,
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode(kernel))
    return path, values


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("objective", [("time", False), ("GFLOP/s", True)])
def test_tune_kernel_with_our_strategy(strategy: str, objective: tuple[str, bool], tmp_path: Path) -> None:
    kernel_tuner = pytest.importorskip("kernel_tuner")
    from autotune.interop.kernel_tuner import kernel_tuner_strategy

    cache, values = cache_file(tmp_path / "cache.json")

    def tuned(seed: int, evaluations: int) -> list[dict[str, Any]]:
        results, _ = kernel_tuner.tune_kernel(
            "toy", "void toy() {}", 1, [], values, lang="C", restrictions=["block_size_x * tile >= 64"],
            strategy=kernel_tuner_strategy(strategy, seed=seed), strategy_options={"max_fevals": evaluations},
            cache=str(cache), simulation_mode=True, quiet=True, objective=objective[0],
            objective_higher_is_better=objective[1],
        )  # fmt: skip
        return [result for result in results if "strategy_time" in result]

    few, again, other = tuned(1, 20), tuned(1, 20), tuned(2, 20)

    def points(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [tuple(result[name] for name in values) for result in results]

    assert len(set(points(few))) == len(few) == 20
    assert points(few) == points(again) != points(other)
    every = tuned(1, 1_000)
    assert len(set(points(every))) == 56
    assert (64, 5, 0) in points(every)


def test_the_space_of_a_kernel_tuner_search_space() -> None:
    pytest.importorskip("kernel_tuner")
    from kernel_tuner.searchspace import Searchspace

    from autotune.interop.kernel_tuner import valid_space

    values = {"block_size_x": [32, 64, 128], "mode": ["a", "b"], "unroll": [0, 1]}
    whole = valid_space(Searchspace(values, [], 1024))
    assert whole.count() == 12
    assert not whole.constraints
    assert [type(p).__name__ for p in whole.parameters.values()] == ["PowerOfTwo", "Choice", "Choice"]
    assert whole.parameters["block_size_x"].role == "block_size"
    part = valid_space(Searchspace(values, ["block_size_x * (unroll + 1) <= 64"], 1024))
    assert {(c["block_size_x"], c["unroll"]) for c in part.enumerate()} == {(32, 0), (32, 1), (64, 0)}


# Optuna


@pytest.fixture
def optuna() -> Any:
    module = pytest.importorskip("optuna")
    module.logging.set_verbosity(module.logging.ERROR)
    return module


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_study_with_our_sampler(strategy: str, optuna: Any) -> None:
    from autotune.interop.optuna import StrategySampler, suggest

    def objective(trial: Any) -> float:
        config = suggest(trial, SPACE)
        assert SPACE.check(config) == config
        if config["layout"] == (1, 2):
            raise optuna.TrialPruned
        return slow(config)

    def configs(seed: int, trials: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=StrategySampler(SPACE, strategy, seed=seed))
        study.optimize(objective, n_trials=trials)
        return [trial.params for trial in study.trials]

    found, others = configs(3, 150), configs(4, 150)
    assert found == configs(3, 150) != others
    assert len({str(params) for params in found}) == 150
    if strategy != "random_search":  # one search in fifteen misses
        both = [{**p, "order": (2, 1, 0) if p["order"] == "(2, 1, 0)" else None} for p in (*found, *others)]
        assert min(map(slow, both)) <= 3


def test_rates_are_maximised_and_a_strategy_that_has_ended_stops_the_study(optuna: Any) -> None:
    from autotune.interop.optuna import StrategySampler, suggest

    space = Space({"x": Integer(1, 40), "y": Integer(1, 40)})
    settings = {"initial_population": 10, "restarts": 0}
    study = optuna.create_study(
        direction="maximize", sampler=StrategySampler(space, "pattern_search", settings=settings)
    )
    study.optimize(lambda trial: 100 / (1 + sum(abs(v - 20) for v in suggest(trial, space).values())), n_trials=1_000)
    assert len(study.trials) < 500
    assert study.best_value > 50


def test_threads_and_asking_ahead(optuna: Any) -> None:
    from autotune.interop.optuna import StrategySampler, suggest

    study = optuna.create_study(sampler=StrategySampler(SPACE, "lfbo_tree_search", settings={"initial_population": 10}))
    study.optimize(lambda trial: slow(suggest(trial, SPACE)), n_trials=80, n_jobs=3)
    assert len(study.trials) == 80
    by_hand = optuna.create_study(sampler=StrategySampler(SPACE, "pattern_search", settings={"initial_population": 5}))
    ahead = [by_hand.ask() for _ in range(12)]  # more than the strategy wants before it hears of any
    configs = [suggest(trial, SPACE) for trial in ahead]
    for trial, config in zip(ahead, configs, strict=True):
        by_hand.tell(trial, slow(config))
    assert all(SPACE.check(config) for config in configs)
    assert by_hand.best_value == min(map(slow, configs))


def test_mistakes_are_named(optuna: Any) -> None:
    from autotune.interop.optuna import StrategySampler, suggest

    study = optuna.create_study(sampler=StrategySampler(Space({"x": Integer(1, 4)}), "random_search"))
    with pytest.raises(SpaceError, match="not 'y'"):
        study.optimize(lambda trial: trial.suggest_int("y", 1, 4), n_trials=1)
    with pytest.raises(SpaceError, match="suggest its parameters"):
        study.optimize(lambda trial: trial.suggest_int("x", 9, 12), n_trials=1)
    with pytest.raises(EvaluatorError, match="above zero"):
        study.optimize(lambda trial: -1.0 * suggest(trial, Space({"x": Integer(1, 4)}))["x"], n_trials=1)
    with pytest.raises(SpaceError, match="tune it with `tune`"):
        StrategySampler(Space({"p": Permutation(9)}))


AWKWARD = Space(
    {
        "numbers": Choice((1, 1.0, True, "1", "true", None, "None")),
        "zeros": Choice((0.0, -0.0, False)),
        "tuples": Choice(((1, 2), "(1, 2)", (1.0, 2))),
        "plain": Choice((None, "row", (1, 2))),
    }
)


def test_values_that_optuna_would_mix_up_have_labels_of_their_own(optuna: Any) -> None:
    from autotune.core.config import token
    from autotune.interop.optuna import StrategySampler, distributions, suggest

    for name, distribution in distributions(AWKWARD).items():
        parameter = AWKWARD.parameters[name]
        assert len(set(distribution.choices)) == parameter.size
        seen = set()
        for label in distribution.choices:
            fixed = optuna.trial.FixedTrial(
                {**{other: d.choices[0] for other, d in distributions(AWKWARD).items()}, name: label}
            )
            seen.add(token(suggest(fixed, AWKWARD)[name]))
        assert seen == {token(value) for value in parameter.values}
    assert distributions(AWKWARD)["plain"].choices == (None, "row", "(1, 2)"), "as earlier studies have them"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=StrategySampler(AWKWARD, "random_search", seed=1))
    configs = []
    study.optimize(lambda trial: configs.append(suggest(trial, AWKWARD)) or 1.0, n_trials=AWKWARD.size)
    assert len(set(configs)) == AWKWARD.size, "each config once, as the strategy asked for it"

"""Our strategies as a sampler of Optuna."""

from typing import Any

import pytest

from autotune import Choice, EvaluatorError, Integer, Permutation, Space, SpaceError
from tests.interop.small_space import SPACE, STRATEGIES, slow


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

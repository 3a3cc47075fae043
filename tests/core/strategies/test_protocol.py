"""Settings of strategies: their types and bounds."""

from typing import Annotated, Any

import pytest
from msgspec import Meta

from autotune import (
    DESurrogateHybrid,
    DifferentialEvolutionSearch,
    GaussianProcessSearch,
    InitialPopulationStrategy,
    LFBOPatternSearch,
    LFBOTreeSearch,
    PatternSearch,
    RandomSearch,
    StrategyError,
)
from autotune.core.strategies.protocol import CheckedSettings

WALKS = [
    ({"frac_selected": 0.0}, "a number above 0 up to 1"),
    ({"quantile": 1.0}, "a number between 0 and 1"),
    ({"radius": 0}, "at least 1"),
    ({"patience": -1}, "at least 0"),
    ({"similarity_penalty": -0.5}, "at least 0"),
    ({"similarity_penalty": float("inf")}, "at least 0"),
    ({"num_neighbors": 0}, "at least 1"),
    ({"copies": 0}, "at least 1"),
    ({"compile_timeout_quantile": 2.0}, "a number from 0 to 1"),
    ({"initial_share": float("nan")}, "a number above 0 up to 1"),
]


@pytest.mark.parametrize(
    ("kind", "name", "settings", "allowed"),
    [
        *((LFBOPatternSearch, "lfbo_pattern_search", *case) for case in WALKS),
        *((LFBOTreeSearch, "lfbo_tree_search", *case) for case in WALKS),
        (RandomSearch, "random_search", {"count": 0}, "at least 1"),
        (PatternSearch, "pattern_search", {"num_neighbors_cap": 0}, "at least 1, or -1 for all neighbours"),
        (PatternSearch, "pattern_search", {"compile_timeout_lower_bound": 0.0}, "a number above 0"),
        (DifferentialEvolutionSearch, "differential_evolution", {"population_size": 3}, "at least 4"),
        (DifferentialEvolutionSearch, "differential_evolution", {"patience": 0}, "at least 1, or None"),
        (DESurrogateHybrid, "de_surrogate_hybrid", {"candidate_ratio": 0}, "at least 1"),
        (DESurrogateHybrid, "de_surrogate_hybrid", {"refit_frequency": 0}, "at least 1"),
        (DESurrogateHybrid, "de_surrogate_hybrid", {"n_estimators": 0}, "at least 1"),
        (GaussianProcessSearch, "gaussian_process", {"initial_points": 0}, "at least 1, or None"),
    ],
)
def test_a_setting_out_of_range_is_told_with_its_range(
    kind: Any, name: str, settings: dict[str, float], allowed: str
) -> None:
    (setting,) = settings
    with pytest.raises(StrategyError, match=f"^{name}: {setting} = .* is out of range; use {allowed}$"):
        kind(**settings)


def test_a_class_without_a_tag_is_named_itself() -> None:
    class Own(CheckedSettings, frozen=True):
        share: Annotated[float, Meta(gt=0, le=1)] = 0.5
        kind: InitialPopulationStrategy | None = None

    assert Own(1).share == 1.0
    assert Own(kind="from_default").kind is InitialPopulationStrategy.FROM_DEFAULT  # type: ignore[arg-type]
    with pytest.raises(StrategyError, match=r"^Own: share = 2 is out of range; use a number above 0 up to 1$"):
        Own(2)
    with pytest.raises(StrategyError, match=r"^Own: kind = 'x' is unknown; use one of from_random, .*, or None$"):
        Own(kind="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"copies": "many"}, {"copies": 2**70}, {"quantile": "0.1"}, {"radius": 1.5}])
def test_a_setting_of_another_type_is_told(settings: dict[str, Any]) -> None:
    (setting,) = settings
    with pytest.raises(StrategyError, match=f"^lfbo_tree_search: {setting} is .*; give a"):
        LFBOTreeSearch(**settings)

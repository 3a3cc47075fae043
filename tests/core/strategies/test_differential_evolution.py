"""The hybrid: when and from which trials its forest learns, and that a trial duels with its own parent."""

from typing import Any

import numpy as np

from autotune import Budget, DESurrogateHybrid, Plan, Settings
from autotune.core.strategies.differential_evolution import find_members, fit_log_times


def test_the_surrogate_learns_when_it_is_due_and_from_failures_too(valley: Any) -> None:
    strategy = DESurrogateHybrid(population_size=10, surrogate_threshold=40, refit_frequency=3, patience=None)
    search = valley.search(Plan(valley.space, strategy, Budget(evaluations=130), settings=Settings(exact=True)))
    batches = [generation for generation in np.unique(search.archive.generation) if generation > 0]
    assert len(batches) == 12  # after 10 of 20 first points
    known = search.archive
    forest = fit_log_times(valley.space, known, 100, 20)
    predicted = forest.predict(valley.space.features(known.points[:100]))
    assert not known.ok[:100].all()
    assert predicted[~known.ok[:100]].mean() > predicted[known.ok[:100]].mean() + 0.3


def test_the_trial_of_a_surrogate_duels_with_its_own_parent(valley: Any) -> None:
    strategy = DESurrogateHybrid(population_size=8, surrogate_threshold=16, patience=None)
    search = valley.search(Plan(valley.space, strategy, Budget(evaluations=150), settings=Settings(exact=True)))
    known = search.archive
    for slot, member in enumerate(find_members(known.latest, strategy.population_size).tolist()):
        tried = (known.generation > 0) & (known.walk == slot) & known.ok
        assert known.time_ms[member] <= known.time_ms[tried].min(initial=np.inf)

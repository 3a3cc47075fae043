"""Our strategies in Kernel Tuner: `tune_kernel(…, strategy=kernel_tuner_strategy("lfbo_tree_search"))`.

Needs `pip install 'autotune-kernels[kernel-tuner]'`.
"""

import sys
from collections.abc import Mapping
from math import prod
from operator import itemgetter
from typing import Any

import numpy as np
from kernel_tuner.searchspace import Searchspace
from kernel_tuner.strategies.common import CostFunc
from kernel_tuner.strategies.wrapper import OptAlg, OptAlgWrapper

from autotune.core.constraints import Members
from autotune.core.outcomes import Failed, Outcome
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.interop.ask_tell import AskTellSearch, objective_outcome
from autotune.studies.recordings.recording import parameter_for_values, role_for_name

_FAILED_COST = sys.float_info.max
"""The cost that Kernel Tuner gives to a config that failed."""


def kernel_tuner_strategy(
    strategy: str | AnyStrategy = DEFAULT_STRATEGY,
    *,
    seed: int = 0,
    effort: str = "full",
    settings: Mapping[str, Any] | None = None,
) -> OptAlgWrapper:
    """A strategy of ours for Kernel Tuner's argument `strategy`; the budget is in `strategy_options` there.

    Arguments as for `tune`. A strategy that ends by itself begins again, until Kernel Tuner stops it or every
    config was tried; settings={"restarts": 0} lets it end. The objective is a time, or a rate to maximise.
    """
    return OptAlgWrapper(StrategyOptimizer(strategy, seed=seed, effort=effort, settings=settings))


class StrategyOptimizer(OptAlg):  # type: ignore[misc]  # Kernel Tuner asks for its own base
    """A strategy of ours behind Kernel Tuner's interface for optimisation algorithms."""

    def __init__(
        self,
        strategy: str | AnyStrategy = DEFAULT_STRATEGY,
        *,
        seed: int = 0,
        effort: str = "full",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._strategy, self._seed, self._effort, self._settings = strategy, seed, effort, settings

    def __call__(self, func: CostFunc, searchspace: Searchspace) -> tuple[tuple[Any, ...], float]:
        """The best config found and its cost; Kernel Tuner's own exception ends it when its budget is used up."""
        space = valid_space(searchspace)
        search = AskTellSearch(space, self._strategy, seed=self._seed, effort=self._effort, settings=self._settings)
        best: tuple[tuple[Any, ...], float] = ((), _FAILED_COST)
        while batch := search.ask_batch():
            points = [tuple(trial.config[name] for name in space.names) for trial in batch]
            for trial, point, cost in zip(batch, points, func.eval_all(points), strict=True):
                best = min(best, (point, cost), key=itemgetter(1))
                search.tell(trial, _outcome(cost))
        return best


def valid_space(searchspace: Searchspace) -> Space:
    """A space of the same parameters, with Kernel Tuner's list of valid configs as its constraint."""
    parameters = {
        name: parameter_for_values(_plain(values), role_for_name(name))
        for name, values in searchspace.tune_params.items()
    }
    if searchspace.size == prod(len(values) for values in searchspace.tune_params.values()):
        return Space(parameters)
    names = tuple(parameters)
    rows = Space(parameters).encode([dict(zip(names, _plain(point), strict=True)) for point in searchspace.list])
    return Space(parameters, [Members.of(parameters, names, rows)])


def _plain(values: Any) -> tuple[Any, ...]:
    """Values without numpy's types."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)


def _outcome(cost: float) -> Outcome:
    """The outcome for a cost of Kernel Tuner, which is negative for an objective to maximise."""
    if cost == _FAILED_COST:
        return Failed("unknown", "failed in Kernel Tuner")
    return objective_outcome(-cost, maximize=True) if cost < 0 else objective_outcome(cost)

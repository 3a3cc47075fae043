"""Our strategies as a sampler of Optuna: `create_study(sampler=StrategySampler(space, "lfbo_tree_search"))`.

Needs `pip install 'autotune-kernels[optuna]'`. In the objective, `suggest(trial, space)` gives the config.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from autotune.core.config import Config, Value, token
from autotune.core.errors import SpaceError
from autotune.core.keys import fold, root
from autotune.core.outcomes import Failed, Trial
from autotune.core.parameters import Integer, Parameter
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.interop.ask_tell import AskTellSearch, objective_outcome

_MAX_VALUES = 10_000
"""Optuna lists the values of a parameter that is not a range of integers: at most so many."""


def suggest(trial: OptunaTrial, space: Space) -> Config:
    """The config of a trial: its parameters suggested one by one, with their `distributions`. Any sampler will do."""
    values: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Integer):
            values[name] = trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step)
        else:
            labels = _labels(name, parameter)
            values[name] = labels[trial.suggest_categorical(name, list(labels))]
    return Config(values)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The parameters as Optuna has them: ranges of integers, and lists of values for all others.

    A tuple is listed as its text. Where Optuna would take two values of a parameter for one (1, 1.0 and True; a tuple
    and a string that reads the same), all values of that parameter are listed as their JSON texts.
    Raises SpaceError for a parameter with too many values to list.
    """
    return {name: _distribution(name, parameter) for name, parameter in space.parameters.items()}


def _distribution(name: str, parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, step=parameter.step)
    return CategoricalDistribution(list(_labels(name, parameter)))


def _labels(name: str, parameter: Parameter) -> dict[Any, Value]:
    """The labels under which Optuna lists the values of a parameter, in order, with the values."""
    if parameter.size > _MAX_VALUES:
        raise SpaceError(f"Optuna would have to list {parameter.size} values of {name!r}; tune it with `tune` instead")
    values = parameter.decode(parameter.unrank(np.arange(parameter.size)))
    labels = {str(value) if isinstance(value, tuple) else value: value for value in values}
    return labels if len(labels) == len(values) else {token(value).decode(): value for value in values}


class StrategySampler(BaseSampler):  # type: ignore[misc]  # Optuna asks for its own base
    """A strategy of ours as a sampler, for one study in one process; threads may share it.

    space: with its constraints; the objective suggests its parameters (`suggest`). Other arguments as for
    `tune`. The study has one objective, a time to minimise or a rate to maximise; a trial that fails or is
    pruned teaches the strategy that the config fails.
    A strategy that ends by itself begins again, until every config was tried; settings={"restarts": 0} lets it end.
    When it has ended, the study is told to stop. Trials asked for after that, or while the strategy waits for pending
    ones, are random valid configs; the strategy does not hear of them.
    """

    def __init__(
        self,
        space: Space,
        strategy: str | AnyStrategy = DEFAULT_STRATEGY,
        *,
        seed: int = 0,
        effort: str = "full",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._space, self._distributions = space, distributions(space)
        self._labels = {
            name: {token(value): label for label, value in _labels(name, parameter).items()}
            for name, parameter in space.parameters.items()
            if not isinstance(parameter, Integer)
        }
        self._search = AskTellSearch(space, strategy, seed=seed, effort=effort, settings=settings)
        self._key = fold(root(seed), "optuna")
        self._trials: dict[int, Trial] = {}
        self._lock = threading.Lock()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        with self._lock:
            asked = self._search.ask()
            if asked is not None:
                self._trials[trial.number] = asked
        if asked is None:
            config = self._space.decode(self._space.sample(fold(self._key, trial.number), 1))[0]
        else:
            config = asked.config
        return {
            name: self._labels[name][token(value)] if name in self._labels else value for name, value in config.items()
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        known = self._distributions.get(param_name)
        if known is None:
            has = f"has {', '.join(self._space.names)}, and not {param_name!r}"
        else:
            has = f"has {param_name!r} as {known}, not as {param_distribution}"
        raise SpaceError(f"the space of the sampler {has}; suggest its parameters: suggest(trial, space)")

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        with self._lock:
            asked = self._trials.pop(trial.number, None)
            if asked is not None and state == TrialState.COMPLETE and values:
                self._search.tell(asked, objective_outcome(values[0], study.direction == StudyDirection.MAXIMIZE))
            elif asked is not None:
                self._search.tell(asked, Failed("unknown", f"the trial ended as {state.name}"))
            over = not self._trials and not self._search.has_next()
        if over:
            with suppress(RuntimeError):  # asked and told by hand, there is no loop to stop
                study.stop()

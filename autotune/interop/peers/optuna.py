"""`optuna:NAME`: samplers of Optuna, asked and told one point at a time.

A parameter whose values have an order is an integer, its rank; any other is categorical. A point that failed, or was
not recorded, is reported as infinitely slow, because Optuna learns nothing from a trial that failed.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from math import inf
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from autotune._extras import install_command
from autotune.core.config import Config, Value
from autotune.core.errors import StrategyError
from autotune.core.parameters import Choice, Integer, Parameter, PowerOfTwo
from autotune.interop.peers.accounting import PeerBudget, run_peer, take_restarts
from autotune.studies.peers import Peer
from autotune.studies.simulation import Simulation, Trace

_SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "nsga2": "NSGAIISampler",
    "qmc": "QMCSampler",
}

_MAX_FREE = 500
"""Free answers in succession after which a sampler is stopped; fewer than for others, as each makes the next slower."""


def make_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """settings: arguments of the sampler, and `restarts`."""
    full = f"optuna:{name}"
    if name not in _SAMPLERS:
        raise StrategyError(f"Optuna has no sampler {name!r} for a study; there are {', '.join(_SAMPLERS)}")
    if name == "cmaes" and find_spec("cmaes") is None:
        raise StrategyError(f"{full} needs cmaes; {install_command('optuna')}")
    kind = getattr(optuna.samplers, _SAMPLERS[name])
    allowed = [option for option in inspect.signature(kind).parameters if option != "seed"]
    options, restarts = take_restarts(full, settings, allowed)
    return _OptunaPeer(name, kind, options, restarts)


class _OptunaPeer:
    def __init__(self, name: str, kind: type[Any], options: dict[str, Any], restarts: bool) -> None:
        self._name, self._kind, self._options, self._restarts = name, kind, options, restarts

    @property
    def version(self) -> str:
        return f"optuna {metadata.version('optuna')}"

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        space = simulation.space
        kinds = {name: _distribution(parameter) for name, parameter in space.parameters.items()}
        values = {name: _values(parameter) for name, parameter in space.parameters.items()}

        def search(budget: PeerBudget, number: int) -> None:
            study = optuna.create_study(sampler=self._kind(seed=number, **self._options))
            while True:  # until the budget ends it
                trial = study.ask(dict(kinds))
                config = {name: values[name][trial.params[name]] for name in space.names}
                time_ms = budget.measure(simulation.table.row(Config(config)))
                study.tell(trial, inf if time_ms is None else time_ms)

        name, restarts = f"optuna:{self._name}", self._restarts
        with _silent():
            return run_peer(
                name, simulation, search, evaluations=evaluations, seed=seed, restarts=restarts, max_free=_MAX_FREE
            )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna from logging, and from warning that a sampler is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(parameter: Parameter) -> BaseDistribution:
    """The distribution of the ranks of a parameter's values."""
    match parameter:
        case Integer() | PowerOfTwo() | Choice(ordered=True):
            return IntDistribution(0, parameter.size - 1)
    return CategoricalDistribution(range(parameter.size))


def _values(parameter: Parameter) -> list[Value]:
    """The values by rank."""
    return parameter.decode(parameter.unrank(np.arange(parameter.size)))

"""`kernel_tuner:NAME`: the strategies of Kernel Tuner, each by the name that Kernel Tuner gives it.

The strategy is Kernel Tuner's own, with its own search space, cost function and budget; only the runner, which would
compile and time a kernel, looks the point up in the recording instead.
"""

import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from kernel_tuner.interface import _STRATEGY_IMPORTS, Options
from kernel_tuner.runners.runner import Runner
from kernel_tuner.searchspace import Searchspace
from kernel_tuner.util import InvalidConfig, RuntimeFailedConfig, StopCriterionReached, TuningBudget

from autotune.core.errors import StrategyError
from autotune.interop.peers.accounting import (
    BudgetSpent,
    PeerBudget,
    run_peer,
    seed_globally,
    take_restarts,
)
from autotune.studies.peers import Peer
from autotune.studies.recordings import Recording
from autotune.studies.simulation import Simulation, Trace

_NEEDS = {"skopt": ("skopt", "scikit-optimize"), "pyatf_strategies": ("pyatf", "pyatf")}
"""Strategies that need a package which Kernel Tuner does not install: the package's module and its distribution."""

_LAZY = ("scipy.stats.qmc", "scipy.optimize", "scipy.spatial.distance")
"""Modules that strategies import in the middle of a run, and that draw from the global random state on import."""

_OBJECTIVE = "time"


def make_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """settings: the strategy's own options (`strategy_options` in Kernel Tuner), and `restarts`."""
    full = f"kernel_tuner:{name}"
    if name not in _STRATEGY_IMPORTS:
        raise StrategyError(f"Kernel Tuner has no strategy {name!r}; it has {', '.join(sorted(_STRATEGY_IMPORTS))}")
    module, package = _NEEDS.get(name, ("kernel_tuner", ""))
    if find_spec(module) is None:
        raise StrategyError(f"{full} needs {package}, which no extra has; pip install {package}")
    with seed_globally(0):
        strategy, *_ = [import_module(module) for module in (_STRATEGY_IMPORTS[name], *_LAZY)]
    options, restarts = take_restarts(full, settings, sorted(getattr(strategy, "_options", {})))
    return _KernelTunerPeer(name, strategy, options, restarts)


class _KernelTunerPeer:
    def __init__(self, name: str, strategy: ModuleType, options: dict[str, Any], restarts: bool) -> None:
        self._name, self._strategy, self._options, self._restarts = name, strategy, options, restarts

    @property
    def version(self) -> str:
        return f"kernel_tuner {metadata.version('kernel_tuner')}"

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        recording = simulation.recording

        def search(budget: PeerBudget, number: int) -> None:
            space, runner = _recorded_searchspace(recording), _RecordingRunner(recording, budget)
            options = _tuning_options(space, self._name, self._options, budget.left, number)
            with warnings.catch_warnings(action="ignore"):
                self._strategy.tune(space, runner, options)

        name, restarts = f"kernel_tuner:{self._name}", self._restarts
        return run_peer(name, simulation, search, evaluations=evaluations, seed=seed, restarts=restarts)


def _recorded_searchspace(recording: Recording) -> Searchspace:
    """Kernel Tuner's search space of the recorded points, built as from a cache file of its own."""
    values = {name: list(column) for name, column in zip(recording.parameters, recording.values, strict=True)}
    points = [recording.config(row) for row in range(len(recording))]
    cache = {recording.key(row): {name: point[name] for name in values} for row, point in enumerate(points)}
    return Searchspace(None, None, None, from_cache={"tune_params": values, "cache": cache})


def _tuning_options(space: Searchspace, name: str, options: Mapping[str, Any], evaluations: int, seed: int) -> Options:
    """The options that `tune_kernel` hands to a strategy, with `max_fevals` among them where the strategy takes it."""
    limit = {} if name == "brute_force" else {"max_fevals": evaluations}
    return Options(
        strategy=name,
        strategy_options=Options({**options, **limit}),
        tune_params=space.tune_params,
        restrictions=[],
        restrictions_unmodified=[],
        objective=[_OBJECTIVE],
        objective_higher_is_better=[False],
        budget=TuningBudget(max_fevals=evaluations),
        max_fevals=evaluations,
        simulation_mode=True,
        cache={},
        seed=seed,
        verbose=False,
    )


class _RecordingDevice:
    """The attributes of a device that strategies read."""

    max_threads = 1_000_000_000
    name = "recording"


class _RecordingRunner(Runner):  # type: ignore[misc]  # Kernel Tuner asks for its own base
    def __init__(self, recording: Recording, budget: PeerBudget) -> None:
        super().__init__()
        self.dev = _RecordingDevice()
        self._budget = budget
        self._parameters = recording.parameters
        points = [tuple(recording.config(row).values()) for row in range(len(recording))]
        self._rows = {_exact_key(point): row for row, point in enumerate(points)}
        self._near_rows = {_near_key(point): row for row, point in enumerate(points)}

    def get_device_info(self) -> _RecordingDevice:
        return self.dev

    def get_environment(self, tuning_options: Options) -> dict[str, Any]:
        return {}

    def run(self, parameter_space: Iterable[Any], tuning_options: Options) -> list[dict[str, Any] | None]:
        """A result for each point; None where no evaluation was left for it. Raises StopCriterionReached."""
        results: list[dict[str, Any] | None] = []
        for point in parameter_space:
            known = self._budget.left
            try:
                results.append(self._result(tuple(point)))
            except BudgetSpent:
                if known:
                    raise StopCriterionReached("nothing new for a long time") from None
                results.append(None)
            tuning_options.budget.add_evaluations(known - self._budget.left)
        return results

    def _result(self, point: tuple[Any, ...]) -> dict[str, Any]:
        row = self._rows.get(_exact_key(point))
        if row is None:  # Kernel Tuner keeps points in numpy arrays too, where 1 among numbers can become 1.0
            row = self._near_rows.get(_near_key(point))
        time_ms = self._budget.measure(row)
        result = dict(zip(self._parameters, point, strict=True))
        if row is None:
            return {**result, "__error__": InvalidConfig()}
        return {**result, **({"__error__": RuntimeFailedConfig()} if time_ms is None else {_OBJECTIVE: time_ms})}


def _exact_key(values: Iterable[Any]) -> tuple[Any, ...]:
    """A key that tells 1, 1.0 and True apart, and does not mind numpy's numbers."""
    return tuple((type(value), value) for value in _without_numpy(values))


def _near_key(values: Iterable[Any]) -> tuple[Any, ...]:
    """A key that tells True from 1, but not 1 from 1.0."""
    return tuple((isinstance(value, bool), value) for value in _without_numpy(values))


def _without_numpy(values: Iterable[Any]) -> Iterable[Any]:
    return (value.item() if isinstance(value, np.generic) else value for value in values)

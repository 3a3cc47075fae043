"""`helion:NAME`: the search classes of Helion, each by its own name.

The class is Helion's own with its own defaults, and so is the kernel it is told to tune: the one that Helion has for
kernels of other libraries. Only the benchmark provider, which would compile and time, looks the config up in the
recording. A point that was not recorded fails to build, as far as Helion can tell. A space becomes one fragment of
Helion for each parameter, of the kind that moves as the parameter does.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from math import inf
from typing import Any

import numpy as np
import torch
from helion import Config as HelionConfig
from helion import exc
from helion.autotuner import search_algorithms
from helion.autotuner.benchmark_provider import BenchmarkProvider, BenchmarkResult
from helion.autotuner.config_fragment import (
    BlockSizeFragment,
    BooleanFragment,
    ConfigSpecFragment,
    EnumFragment,
    IntegerFragment,
    NumWarpsFragment,
    PermutationFragment,
    PowerOfTwoFragment,
)
from helion.autotuner.external import _ExternalKernelAdapter, create_user_config_spec

from autotune.core.config import Config, Value
from autotune.core.errors import StrategyError
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space
from autotune.interop.peers.accounting import PeerBudget, run_peer, take_restarts
from autotune.studies.peers import Peer
from autotune.studies.simulation import Simulation, Trace

_SEARCHES = (
    "LFBOTreeSearch", "LFBOPatternSearch", "PatternSearch", "DifferentialEvolutionSearch", "DESurrogateHybrid",
    "RandomSearch",
)  # fmt: skip
"""The classes that search a space by themselves. The others of Helion take their configs from a list or from a language
model."""

_NOT_SETTINGS = ("self", "kernel", "args", "initial_population_strategy", "flash_structural_search")
"""Arguments of the classes that are no settings."""

_POWERS: dict[str | None, type[PowerOfTwoFragment]] = {"block_size": BlockSizeFragment, "num_warps": NumWarpsFragment}

_MAX_VALUES = 1_000
"""A parameter of a kind that Helion does not have becomes a list of at most so many values."""


def make_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """settings: arguments of the class, and `restarts`."""
    if name not in _SEARCHES:
        raise StrategyError(f"Helion has no search {name!r} for a study; there are {', '.join(_SEARCHES)}")
    arguments = inspect.signature(search_algorithms[name]).parameters
    allowed = [option for option in arguments if option not in _NOT_SETTINGS]
    options, restarts = take_restarts(f"helion:{name}", settings, allowed)
    return _HelionPeer(name, options, restarts)


class _HelionPeer:
    def __init__(self, name: str, options: dict[str, Any], restarts: bool) -> None:
        self._name, self._options, self._restarts = name, options, restarts

    @property
    def version(self) -> str:
        return f"helion {metadata.version('helion')} torch {metadata.version('torch')}"

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        fragments = parameter_fragments(simulation.space)

        def search(budget: PeerBudget, number: int) -> None:
            kernel = _recorded_kernel(simulation, fragments, number)
            tuner = search_algorithms[self._name](kernel, (), **self._options)
            tuner._benchmark_provider_cls = partial(_RecordingProvider, simulation, fragments, budget)
            with suppress(exc.NoConfigFound):  # nothing in the initial population worked: the search ends there
                tuner.autotune()

        name, restarts = f"helion:{self._name}", self._restarts
        return run_peer(name, simulation, search, evaluations=evaluations, seed=seed, restarts=restarts)


@dataclass(frozen=True)
class _ParameterFragment:
    """One parameter as Helion has it: its name in the space, its fragment, and the two ways between their values."""

    name: str
    fragment: ConfigSpecFragment
    encode: Callable[[Value], Any]
    decode: Callable[[Any], Value]


def parameter_fragments(space: Space) -> dict[str, _ParameterFragment]:
    """The parameters by the names p0, p1, … that they have for Helion, which uses some names itself; StrategyError for
    a parameter that it cannot have."""
    return {f"p{i}": _fragment(name, parameter) for i, (name, parameter) in enumerate(space.parameters.items())}


def _fragment(name: str, parameter: Parameter) -> _ParameterFragment:
    match parameter:
        case Boolean():
            return _ParameterFragment(name, BooleanFragment(), _same, _same)
        case PowerOfTwo(low=low, high=high, role=role):
            return _ParameterFragment(name, _POWERS.get(role, PowerOfTwoFragment)(low, high), _same, _same)
        case Permutation(n=n):
            return _ParameterFragment(name, PermutationFragment(n), list, tuple)
        case Integer() | Choice(ordered=True):
            return _ranked_fragment(name, parameter, IntegerFragment(0, parameter.size - 1))
    if parameter.size > _MAX_VALUES:
        raise StrategyError(f"Helion has no fragment for the parameter {name!r}: {parameter.describe()}; leave it out")
    return _ranked_fragment(name, parameter, EnumFragment(tuple(range(parameter.size))))


def _same(value: Any) -> Any:
    return value


def _ranked_fragment(name: str, parameter: Parameter, fragment: ConfigSpecFragment) -> _ParameterFragment:
    """Helion sees the ranks of the values: 0, 1, 2, …"""
    values = parameter.decode(parameter.unrank(np.arange(parameter.size)))

    def rank(value: Value) -> int:
        return int(parameter.rank(np.array([parameter.encode(value)]))[0])

    return _ParameterFragment(name, fragment, rank, values.__getitem__)


def _recorded_kernel(
    simulation: Simulation, fragments: Mapping[str, _ParameterFragment], seed: int
) -> _ExternalKernelAdapter:
    """The kernel to tune, as Helion sees it: the fragments of the space, and settings that log nothing."""
    default = simulation.space.default
    seeds = None
    if default is not None:
        encoded = {name: fragment.encode(default[fragment.name]) for name, fragment in fragments.items()}
        seeds = [HelionConfig.from_dict(encoded)]
    kernel = _ExternalKernelAdapter(
        create_user_config_spec({name: fragment.fragment for name, fragment in fragments.items()}),
        _refuse_to_compile,
        (),
        device=torch.device("cpu"),
        autotune_random_seed=seed,
        autotune_effort="full",
        autotune_log_level=0,
        autotune_progress_bar=False,
        autotune_benchmark_fn=_benchmark_again,
        autotune_seed_configs=seeds,
    )
    kernel.settings.autotune_precompile = "fork"  # Helion's default, which decides how differential evolution updates
    return kernel


def _refuse_to_compile(config: HelionConfig) -> Callable[..., Any]:
    raise RuntimeError("a recording has nothing to compile")


class _RecordingProvider(BenchmarkProvider):  # type: ignore[misc]  # Helion asks for its own base
    mutated_arg_indices: Sequence[int] = ()

    def __init__(
        self, simulation: Simulation, fragments: Mapping[str, _ParameterFragment], budget: PeerBudget, **context: Any
    ) -> None:
        self._table, self._fragments, self._budget = simulation.table, fragments, budget

    def setup(self) -> None:
        """There is nothing to prepare."""

    def cleanup(self) -> None:
        """There is nothing to release."""

    def benchmark(
        self, configs: list[HelionConfig], *, desc: str = "", raise_if_no_viable_config: bool = True
    ) -> list[BenchmarkResult]:
        return [self._look_up(config) for config in configs]

    def _look_up(self, config: HelionConfig) -> BenchmarkResult:
        named = {fragment.name: fragment.decode(config.config[name]) for name, fragment in self._fragments.items()}
        row = self._table.row(Config(named))
        time_ms = self._budget.measure(row)
        perf = inf if time_ms is None else time_ms
        return BenchmarkResult(
            config, partial(_recorded_time, perf), perf, "error" if time_ms is None else "ok", None, time.perf_counter()
        )


def _benchmark_again(fns: Sequence[Callable[[], float]], **how: Any) -> list[float]:
    """Measuring again gives the same times, and costs nothing."""
    return [fn() for fn in fns]


def _recorded_time(perf: float, *args: Any) -> float:
    """Stands for a compiled kernel: it knows its time."""
    return perf

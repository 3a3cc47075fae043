"""`helion:NAME`: the search classes of Helion, each by its own name.

The class is Helion's own with its own defaults, and so is the kernel it is told to tune: the one that Helion has for
kernels that are not its own. Only the benchmark provider, which would compile and time, looks the config up in the
recording. A point that was not recorded fails to build, as far as Helion can tell.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from math import inf
from typing import Any

import torch
from helion import Config as HelionConfig
from helion import exc
from helion.autotuner import search_algorithms
from helion.autotuner.benchmark_provider import BenchmarkProvider, BenchmarkResult
from helion.autotuner.external import _ExternalKernelAdapter, create_user_config_spec

from autotune.core.config import Config
from autotune.core.errors import StrategyError
from autotune.interop.peers.accounting import Ledger, run_peer, take_restarts
from autotune.interop.peers.fragments import Field, fields_of
from autotune.studies.peers import Peer
from autotune.studies.simulation import Simulation, Trace

NAMES = (
    "LFBOTreeSearch", "LFBOPatternSearch", "PatternSearch", "DifferentialEvolutionSearch", "DESurrogateHybrid",
    "RandomSearch",
)  # fmt: skip
"""Those that search a space by themselves. The others of Helion are told what to try, by a list or a language model."""

MACHINERY = ("self", "kernel", "args", "initial_population_strategy", "flash_structural_search")
"""Arguments of the classes that are no settings."""


def make_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """settings: arguments of the class, and `restarts`."""
    full = f"helion:{name}"
    if name not in NAMES:
        raise StrategyError(f"Helion has no search {name!r} for a study; there are {', '.join(NAMES)}")
    options, restarts = take_restarts(full, settings)
    allowed = [option for option in inspect.signature(search_algorithms[name]).parameters if option not in MACHINERY]
    for option in options:
        if option not in allowed:
            raise StrategyError(f"{full} has no setting {option!r}; it has {', '.join([*allowed, 'restarts'])}")
    return HelionPeer(name, options, restarts)


class HelionPeer:
    """One search class of Helion with its arguments."""

    def __init__(self, name: str, options: dict[str, Any], restarts: bool) -> None:
        self._name, self._options, self._restarts = name, options, restarts

    @property
    def version(self) -> str:
        return f"helion {metadata.version('helion')} torch {metadata.version('torch')}"

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        fields = fields_of(simulation.space)

        def search(ledger: Ledger, number: int) -> None:
            kernel = kernel_of(simulation, fields, number)
            searching = search_algorithms[self._name](kernel, (), **self._options)
            searching._benchmark_provider_cls = partial(Replay, simulation, fields, ledger)
            with suppress(exc.NoConfigFound):  # nothing in the initial population worked: that is its end
                searching.autotune()

        name, restarts = f"helion:{self._name}", self._restarts
        return run_peer(name, simulation, search, evaluations=evaluations, seed=seed, restarts=restarts)


def kernel_of(simulation: Simulation, fields: Mapping[str, Field], seed: int) -> _ExternalKernelAdapter:
    """The kernel to tune, as Helion sees it: the fragments of the space, and settings that log nothing."""
    default = simulation.space.default
    kernel = _ExternalKernelAdapter(
        create_user_config_spec({name: field.fragment for name, field in fields.items()}),
        _never_called,
        (),
        device=torch.device("cpu"),
        autotune_random_seed=seed,
        autotune_effort="full",
        autotune_log_level=0,
        autotune_progress_bar=False,
        autotune_benchmark_fn=_again,
        autotune_seed_configs=None if default is None else [_theirs(default, fields)],
    )
    kernel.settings.autotune_precompile = "fork"  # Helion's default, which decides how differential evolution updates
    return kernel


def _never_called(config: HelionConfig) -> Callable[..., Any]:
    raise RuntimeError("a recording has nothing to compile")


def _theirs(config: Config, fields: Mapping[str, Field]) -> HelionConfig:
    return HelionConfig.from_dict({name: field.encode(config[field.name]) for name, field in fields.items()})


class Replay(BenchmarkProvider):  # type: ignore[misc]  # Helion asks for its own base
    """Answers from the ledger."""

    mutated_arg_indices: Sequence[int] = ()

    def __init__(self, simulation: Simulation, fields: Mapping[str, Field], ledger: Ledger, **context: Any) -> None:
        self._table, self._fields, self._ledger = simulation.table, fields, ledger

    def setup(self) -> None:
        """There is nothing to prepare."""

    def cleanup(self) -> None:
        """There is nothing to release."""

    def benchmark(
        self, configs: list[HelionConfig], *, desc: str = "", raise_if_no_viable_config: bool = True
    ) -> list[BenchmarkResult]:
        return [self._result(config) for config in configs]

    def _result(self, config: HelionConfig) -> BenchmarkResult:
        named = {field.name: field.decode(config.config[name]) for name, field in self._fields.items()}
        row = self._table.row(Config(named))
        time_ms = self._ledger.measure(row)
        perf = inf if time_ms is None else time_ms
        return BenchmarkResult(
            config, partial(_timed, perf), perf, "error" if time_ms is None else "ok", None, time.perf_counter()
        )


def _again(fns: Sequence[Callable[[], float]], **how: Any) -> list[float]:
    """Measuring again gives the same times, and costs nothing."""
    return [fn() for fn in fns]


def _timed(perf: float, *args: Any) -> float:
    """What stands for a compiled kernel: it knows its time."""
    return perf

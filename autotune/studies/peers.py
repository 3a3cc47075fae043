"""Strategies of other tuners in a study: `PREFIX:NAME`, looked up when a study asks for one and never before."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from autotune.core.errors import StrategyError
from autotune.studies.simulation import Simulation, Trace

PEERS: dict[str, tuple[str, str]] = {
    "helion": ("autotune.interop.peers.helion", "helion"),
    "kernel_tuner": ("autotune.interop.peers.kernel_tuner", "kernel-tuner"),
    "optuna": ("autotune.interop.peers.optuna", "optuna"),
}
"""Prefix to the module of its adapter and to the extra that installs what it needs. A module of an adapter has

    make_peer(name: str, settings: Mapping[str, Any]) -> Peer

which raises ImportError where the tuner is not installed, and StrategyError for a name or setting it does not have.
"""


class Peer(Protocol):
    """A strategy of another tuner on the same recordings, by the same accounting: each distinct recorded point counts
    once, repeats and points outside of the recording are free."""

    @property
    def version(self) -> str:
        """Of the tuner: runs of another version are other runs."""

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        """One search of at most so many evaluations; `keys` of the trace in the order they were measured."""


def is_peer(name: str) -> bool:
    """Whether the name is of the form PREFIX:NAME."""
    return ":" in name


def find_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """The peer of that name; raises StrategyError that says what to install where its tuner is missing."""
    prefix, _, own = name.partition(":")
    if prefix not in PEERS:
        raise StrategyError(f"no tuner is called {prefix!r} (in {name!r}); there are {', '.join(PEERS)}")
    module, extra = PEERS[prefix]
    try:
        peer: Peer = import_module(module).make_peer(own, settings)
    except ImportError as error:
        if (error.name or "").startswith("autotune"):
            raise StrategyError(f"{name}: this version of autotune has no adapter for {prefix}; update it") from None
        raise StrategyError(f"{name} needs {error.name or prefix}; pip install 'autotune[{extra}]'") from None
    return peer

"""Strategies of other tuners in a study: `PREFIX:NAME`, looked up when a study asks for one and never before.

A prefix belongs to a factory that was registered in this process (`register_peer`), or to an entry point of an
installed package in the group `autotune.peers`, such as

    [project.entry-points."autotune.peers"]
    optuna = "autotune.interop.peers:make_optuna_peer"
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from autotune.core.errors import StrategyError
from autotune.studies.simulation import Simulation, Trace

_GROUP = "autotune.peers"


class Peer(Protocol):
    """A strategy of another tuner on the same recordings, by the same accounting: each distinct recorded point counts
    once, repeats and points outside of the recording are free."""

    @property
    def version(self) -> str:
        """The version of the tuner: runs of another version are other runs."""

    def run(self, simulation: Simulation, evaluations: int, seed: int, batch: int | None) -> Trace:
        """One search of at most so many evaluations; `keys` of the trace in the order they were measured."""


PeerFactory = Callable[[str, Mapping[str, Any]], Peer]
"""The peer of a name, without the prefix, with the settings of the study. Raises StrategyError, in one sentence, for a
name or setting that the tuner does not have and for a tuner that is not installed."""

_registered: dict[str, PeerFactory] = {}


def register_peer(prefix: str, factory: PeerFactory) -> None:
    """Make `PREFIX:NAME` known to the studies of this process and of the processes they start."""
    if not prefix or ":" in prefix:
        raise StrategyError(f"the prefix {prefix!r} of a peer is empty or has a colon; give a word")
    _registered[prefix] = factory


def registered_peers() -> dict[str, PeerFactory]:
    """The factories that `register_peer` was called with, by prefix."""
    return dict(_registered)


def is_peer(name: str) -> bool:
    """Whether the name is of the form PREFIX:NAME."""
    return ":" in name


def find_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """The peer of that name; raises StrategyError, with the extra or package to install where its tuner is missing."""
    prefix, _, tuner_name = name.partition(":")
    factory = _registered.get(prefix)
    if factory is None:
        found = {entry.name: entry for entry in entry_points(group=_GROUP)}
        if prefix not in found:
            known = ", ".join(sorted({*_registered, *found})) or "none"
            raise StrategyError(f"no tuner is called {prefix!r} (in {name!r}); there are {known}; install its package")
        try:
            factory = found[prefix].load()
        except ImportError as error:
            raise StrategyError(f"{name}: {found[prefix].value} cannot be imported ({error}); install it") from None
    peer: Peer = factory(tuner_name, settings)
    return peer

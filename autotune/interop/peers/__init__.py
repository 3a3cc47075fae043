"""Strategies of other tuners, run on recordings: `optuna:NAME`, `kernel_tuner:NAME`, `helion:NAME` in a study.

pyproject.toml registers the factories as entry points of the group `autotune.peers`; `register_peers` does the same for
a process in which the package's metadata is missing or out of date.
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from autotune._extras import install_command
from autotune.core.errors import StrategyError
from autotune.studies.peers import Peer, PeerFactory, register_peer


def register_peers() -> None:
    """Make the prefixes known to the studies of this process."""
    register_peer("helion", make_helion_peer)
    register_peer("kernel_tuner", make_kernel_tuner_peer)
    register_peer("optuna", make_optuna_peer)


def _make(prefix: str, extra: str, name: str, settings: Mapping[str, Any]) -> Peer:
    """The peer that the adapter of a tuner makes; raises StrategyError that names the extra where it is missing."""
    try:
        adapter = import_module(f"{__name__}.{prefix}")
    except ImportError as error:
        if (error.name or "").startswith("autotune"):
            raise
        raise StrategyError(f"{prefix}:{name} needs {error.name or prefix}; {install_command(extra)}") from None
    peer: Peer = adapter.make_peer(name, settings)
    return peer


make_helion_peer: PeerFactory = partial(_make, "helion", "helion")
make_kernel_tuner_peer: PeerFactory = partial(_make, "kernel_tuner", "kernel-tuner")
make_optuna_peer: PeerFactory = partial(_make, "optuna", "optuna")

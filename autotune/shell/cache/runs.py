"""The provenance of measurements, and the entry of a search as it stands."""

import os
import platform
import time
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec.structs import replace

from autotune.core.outcomes import Detail
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search
from autotune.core.strategies.registry import to_spec
from autotune.shell.cache.entries import Entry, Measurement, Run, make_entry
from autotune.shell.cache.keys import StrictKey
from autotune.version import __version__

CACHED = "cached"
"""The detail of an outcome that was taken from the cache instead of measured; its value is the run that measured it."""


def new_run(evaluator: Mapping[str, Detail] | None = None, effort: str = "full", journal: str = "") -> Run:
    """A run that begins now, on this host."""
    host = {"system": platform.system(), "machine": platform.machine(), "node": platform.node()}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "msgspec": msgspec.__version__}
    now = time.time()
    return Run(
        os.urandom(8).hex(), now, now, effort=effort, evaluator=dict(evaluator or {}), host=host,
        versions={"autotune": __version__, **versions}, journal=journal,
    )  # fmt: skip


def entry_of(search: Search, key: StrictKey, run: Run) -> Entry:
    """What a search has measured itself so far, and its result where it has one."""
    plan, concluded = search.plan, search.concluded
    found = _result(search)
    stopped = "interrupted" if search.interrupted else concluded.reason if concluded is not None else None
    now = replace(
        run, written_at=time.time(), stopped=stopped, strategy=to_spec(plan.strategy), budget=plan.budget,
        seed=plan.seed,
    )  # fmt: skip
    taken = tuple(search.trials[i].config.digest for i, o in dict(search.outcomes).items() if CACHED in o.details)
    return make_entry(key, now, measured(search), space=plan.space.spec, result=found, taken=taken)


def measured(search: Search) -> tuple[Measurement, ...]:
    """The latest outcome of every trial that was measured and not taken from the cache, in the order of asking."""
    latest = dict(search.outcomes)
    return tuple(
        Measurement(trial.config, latest[trial.id], trial.origin)
        for trial in search.trials
        if trial.id in latest and CACHED not in latest[trial.id].details
    )


def _result(search: Search) -> Result | None:
    """The result of a search that is over."""
    if not search.interrupted and search.concluded is None:
        return None
    try:
        return result(search)
    except TuningFailed:
        return None

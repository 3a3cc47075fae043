"""A hit that was made with another toolchain: its config is measured again before it is believed."""

import time
import warnings
from collections.abc import Callable

from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.outcomes import Failed
from autotune.core.search.effort import settings_for
from autotune.core.search.messages import Event
from autotune.core.search.plan import Plan
from autotune.core.search.result import Measured, Result, TuningFailed
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell.cache.entries import Entry, make_entry
from autotune.shell.cache.keys import Versions
from autotune.shell.cache.nearness import changed_versions
from autotune.shell.cache.runs import measured, new_run
from autotune.shell.cache.use import Memory, noted, save, usable, where_from
from autotune.shell.driver import Watch
from autotune.shell.evaluators.protocol import Evaluator


def checked(
    memory: Memory, entry: Entry, space: Space, evaluator: Evaluator, run: Callable[[Plan, Watch], Result]
) -> Result | None:
    """The result of an entry, its config measured again beside the default, and kept for the installed toolchain.

    None, with a warning, where the config fails now. run: carries out a plan and tells a watch of every event.
    """
    best = usable(entry, space)
    assert best is not None
    last: list[Search] = []

    def watch(search: Search, event: Event) -> None:
        last[:] = [search]

    try:
        found = run(_plan(space, best, evaluator.exact), watch)
    except TuningFailed:
        found = None
    if not last or (found is not None and not found.complete):
        return None  # interrupted: nothing was found out
    failure = _failure(last[0], best)
    changed = ", ".join(changes(entry.key.versions, memory.strict.versions))
    if found is None or failure is not None:
        why = "nothing works" if failure is None else f"{failure.kind}: {failure.message}".rstrip(": ")
        warnings.warn(
            f"the cached config of {memory.key.loose.kernel} fails since the toolchain changed ({changed}): "
            f"{best}: {why}; it is tuned again",
            stacklevel=3,
        )
        return None
    believed = replace(entry.result or found, best=_as_measured(found, best), default=found.default)
    believed = replace(believed, speedup=found.speedup, finalists=())
    now = time.time()
    fresh = new_run(evaluator.describe(), entry.run.effort)
    kept = replace(
        entry.run, id=fresh.id, began_at=fresh.began_at, written_at=now, host=fresh.host, evaluator=fresh.evaluator,
        versions=fresh.versions, journal="",
    )  # fmt: skip
    save(memory.cache, make_entry(memory.strict, kept, measured(last[0]), space=space.spec, result=believed))
    return noted(believed, where_from(entry), f"its config was measured again, as the toolchain changed: {changed}")


def changes(before: Versions, now: Versions) -> list[str]:
    """What has another version, such as "triton 3.5.0 to 3.6.0"."""
    names = changed_versions(before, now)
    return [f"{name} {getattr(before, name) or 'none'} to {getattr(now, name) or 'none'}" for name in names]


def _plan(space: Space, best: Config, exact: bool) -> Plan:
    """Measure this config and the default, and compare them side by side."""
    count = len({best, *([] if space.default is None else [space.default])})
    settings = settings_for("full", {"simplify_rounds": 0, "exact": exact})
    return Plan(space, RandomSearch(count=count), seeds=(best,), settings=settings)


def _failure(search: Search, best: Config) -> Failed | None:
    latest = dict(search.outcomes)
    outcome = next((latest.get(trial.id) for trial in search.trials if trial.config == best), None)
    return outcome if isinstance(outcome, Failed) else None


def _as_measured(found: Result, best: Config) -> Measured:
    """The config as it was measured now, whether or not the default beat it."""
    known = [found.best, *(f.measured for f in found.finalists), *([found.default] if found.default else [])]
    return next((m for m in known if m.config == best), found.best)

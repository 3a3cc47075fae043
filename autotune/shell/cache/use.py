"""What `tune` does with a cache: a hit, answers from what was measured, a warm start, and an entry at the end."""

import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from autotune.core.arguments import shown
from autotune.core.config import Config, Value
from autotune.core.errors import CacheError, ConfigError
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed
from autotune.core.search.effort import EFFORTS
from autotune.core.search.messages import Event
from autotune.core.search.plan import Budget
from autotune.core.search.result import Result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.shell.cache.devices import installed_versions
from autotune.shell.cache.entries import Entry, Run
from autotune.shell.cache.keys import Key, StrictKey
from autotune.shell.cache.layers import Cache, Known
from autotune.shell.cache.origin import Origin
from autotune.shell.cache.runs import CACHED, entry_of, new_run
from autotune.shell.cache.warm_start import WarmStart, best_available
from autotune.shell.evaluators.protocol import Evaluator

Use = Literal["normal", "force", "skip"]
USES: tuple[Use, ...] = get_args(Use)

LASTING: frozenset[FailureKind] = frozenset({"compile_error", "run_error", "wrong_answer"})
"""Failures that would come again; the others may be the machine's, and are tried anew."""

SAVE_EVERY_S = 30.0
"""A search under way is put into the cache this often, so that a killed one leaves what it measured."""


@dataclass(frozen=True)
class Memory:
    """A cache, a key in it, and how it may be used: normal; force: nothing is read, what is there is replaced."""

    cache: Cache
    key: Key
    use: Use = "normal"

    @cached_property
    def strict(self) -> StrictKey:
        """The key with the installed toolchain, under which is written and measurements are taken over."""
        return self.key if isinstance(self.key, StrictKey) else StrictKey(self.key, installed_versions())

    def hit(self, effort: str, budget: Budget, wanted: Iterable[Mapping[str, Value]] = ()) -> Entry | None:
        """An entry of a search that did at least what is asked for now, and measured the configs `wanted`."""
        if self.use == "force":
            return None
        configs = [Config(config) for config in wanted]
        return self.cache.find(self.key, lambda entry: sufficient(entry, effort, budget, configs))

    def answers(self) -> dict[Config, Outcome]:
        """Outcomes that need not be measured again: times, and failures of runs in which something worked."""
        if self.use == "force":
            return {}
        known = self.cache.measurements(self.strict)
        working = {k.run.id for k in known.values() if isinstance(k.measurement.outcome, Timed)}
        return {config: _marked(k) for config, k in known.items() if _lasts(k, working)}

    def best_available(self, space: Space, options: WarmStart | None) -> tuple[Origin, ...]:
        """What a search may begin with."""
        return () if self.use == "force" else best_available(self.cache, self.key.loose, space, options)

    def superseded(self) -> tuple[str, ...]:
        """The entries that a forced search replaces: those of the same toolchain that are there now."""
        return tuple(entry.name for entry in self.cache.entries(self.strict)) if self.use == "force" else ()

    def recorder(self, evaluator: Evaluator, effort: str, journal: str) -> "Recorder":
        """Keeps a search in the cache from now on."""
        return Recorder(self.cache, self.strict, new_run(evaluator.describe(), effort, journal), self.superseded())


def sufficient(entry: Entry, effort: str, budget: Budget, configs: Iterable[Config] = ()) -> bool:
    """Whether a finished search did at least what this effort and budget ask for, and measured these configs."""
    return not shortfall(entry, effort, budget, configs)


def shortfall(entry: Entry, effort: str, budget: Budget, configs: Iterable[Config] = ()) -> str:
    """What a search did less than this effort and budget and these configs ask for, in words; "" where nothing.

    A search that ended by itself did all it could, whatever it was allowed. Of configs that are more than the budget
    allows to measure, as many will do as it allows: a tenth of it may go into simplification, and one is the default.
    """
    run = entry.run
    if not entry.finished:
        return "it did not come to its end"
    if EFFORTS.index(run.effort) < EFFORTS.index(effort):
        return f"its effort was {run.effort!r}, and {effort!r} is asked for"
    if run.stopped not in ("strategy", "exhausted", "effort") and not _allows(run.budget, budget):
        return f"it was allowed {_limits(run.budget)}, and {_limits(budget)} is asked for"
    wanted = {config.digest for config in configs}
    measured = wanted & {*entry.taken, *(m.config.digest for m in entry.measurements)} if wanted else wanted
    room = budget.evaluations
    needed = len(wanted) if room is None else min(len(wanted), max(room - 1 - room // 10, 1))
    if len(measured) < needed:
        return f"it measured {len(measured)} of the {len(wanted)} configs that are asked for"
    return ""


def _limits(budget: Budget) -> str:
    limits = {name: getattr(budget, name) for name in Budget.__struct_fields__}
    said = [f"{limit:g} {name}" for name, limit in limits.items() if limit is not None]
    return " and ".join(said) or "no limit"


def _allows(had: Budget, asked: Budget) -> bool:
    """Whether one budget has at least the limits of another."""
    limits = ((getattr(had, name), getattr(asked, name)) for name in Budget.__struct_fields__)
    return all(mine is None or (other is not None and mine >= other) for mine, other in limits)


def _lasts(known: Known, working: set[str]) -> bool:
    outcome = known.measurement.outcome
    return isinstance(outcome, Timed) or (outcome.kind in LASTING and known.run.id in working)


def _marked(known: Known) -> Outcome:
    outcome = known.measurement.outcome
    return msgspec.structs.replace(outcome, details={**outcome.details, CACHED: known.run.id})


class Recorder:
    """A watch that puts a search into the cache: now and then while it goes on, and when it is over."""

    def __init__(self, cache: Cache, key: StrictKey, run: Run, supersedes: tuple[str, ...] = ()) -> None:
        self._cache = cache
        self._key = key
        self._run = run
        self._supersedes = supersedes
        self.last: Search | None = None
        self._saved = 0
        self._next = time.monotonic() + SAVE_EVERY_S

    def __call__(self, search: Search, event: Event) -> None:
        self.last = search
        if time.monotonic() >= self._next and search.observed > self._saved:
            self._save(search)
            self._next = time.monotonic() + SAVE_EVERY_S

    def close(self) -> None:
        """The search is over, or something ended it."""
        if self.last is not None and self.last.observed:
            self._save(self.last)

    def _save(self, search: Search) -> None:
        self._saved = search.observed
        entry = entry_of(search, self._key, self._run)
        if entry.finished:  # what did not come to its end replaces nothing
            entry = replace(entry, supersedes=self._supersedes)
        if not save(self._cache, entry):
            self._next = float("inf")


def save(cache: Cache, entry: Entry) -> bool:
    """Put an entry into the cache; a warning and False where it cannot be written: the result is there all the same."""
    try:
        cache.publish(entry)
    except CacheError as error:
        warnings.warn(str(error), stacklevel=2)
        return False
    return True


def lost(search: Search, origins: Iterable[Origin]) -> list[tuple[Origin, Failed]]:
    """The configs of earlier runs that worked there and failed here."""
    latest = dict(search.outcomes)
    failed = {t.config: o for t in search.trials if isinstance(o := latest.get(t.id), Failed)}
    return [(origin, failed[config]) for origin in origins if (config := Config(origin.config)) in failed]


def noted(result: Result, *notes: str) -> Result:
    """A result with more notes."""
    return replace(result, notes=(*result.notes, *notes))


def where_from(entry: Entry) -> str:
    """An entry in words, for a note."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.run.began_at))
    node = entry.run.host.get("node", "another machine")
    return f"from the cache: measured {when} UTC on {node}, run {entry.run.id}"


def usable(entry: Entry, space: Space) -> Config | None:
    """The best config of an entry in the form of the space; None where it is no point of it."""
    try:
        return None if entry.best is None else space.check(entry.best)
    except ConfigError:
        return None


def checked_use(use: str) -> Use:
    for known in USES:
        if isinstance(use, str) and use == known:
            return known
    raise CacheError(f"no use of the cache is called {shown(use)}; there are {', '.join(USES)}")

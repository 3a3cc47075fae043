"""The use of a cache by a search, in the order in which it happens.

`keyed_cache` opens the cache that `tune` was told to use. `remembered_result` gives the result of an earlier search
that will do; one of another toolchain is measured again first. Where a search is needed, `warm_start` gives its
first configs, `use_cache` answers from earlier measurements, and a `Recorder` puts the search into the cache.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from msgspec.structs import replace

from autotune.core.arguments import check_kind, short_repr
from autotune.core.config import Config, Value
from autotune.core.errors import CacheError, ConfigError, PlanError
from autotune.core.outcomes import Failed, Outcome
from autotune.core.search.effort import settings_for
from autotune.core.search.messages import Event
from autotune.core.search.plan import Plan
from autotune.core.search.report import MeasuredConfig, Result, SearchRecord, TrialRecord, with_record
from autotune.core.search.result import TuningFailed
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.population import POPULATION_SETTING, InitialPopulationStrategy
from autotune.core.strategies.random_search import FiniteSearch, RandomSearch
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.cached_evaluator import CachedEvaluator
from autotune.shell.cache.entries import (
    CACHED,
    Entry,
    Provenance,
    entry_of_search,
    make_entry,
    new_run,
    own_measurements,
)
from autotune.shell.cache.hit_rule import Requirements, reusable, shortfall
from autotune.shell.cache.identity import installed_versions, resolve_key
from autotune.shell.cache.keys import Key, KeyKind, StrictKey, Versions, changed_versions
from autotune.shell.cache.warm_start import WarmStart, best_available
from autotune.shell.driver import Watch
from autotune.shell.evaluators.protocol import Evaluator
from autotune.shell.files import PathLike
from autotune.shell.journal import Origin
from autotune.shell.options import Options, leaves_population_to_effort
from autotune.shell.settings import Environment
from autotune.shell.warn import warn_user

Use = Literal["normal", "force", "skip"]
USES: tuple[Use, ...] = get_args(Use)

SAVE_EVERY_S = 30.0
"""A search is put into the cache this often, so that a killed one leaves its measurements."""

Validate = Callable[[Config], str | None]
"""Checks a remembered config: None if it still works, else the reason why not."""


RunPlan = Callable[[Plan, Evaluator, Options], Result]
"""Carries out a plan."""


class Hit(NamedTuple):
    """An entry whose result will do, and its best config in the form of the space."""

    entry: Entry
    config: Config


@dataclass(frozen=True)
class KeyedCache:
    """A cache, a key in it, and how it may be used: normal; force: read nothing, replace the entries."""

    cache: Cache
    key: Key
    use: Use = "normal"

    @cached_property
    def strict(self) -> StrictKey:
        """The key with the installed toolchain: entries are written and measurements are reused under this one."""
        return self.key if isinstance(self.key, StrictKey) else StrictKey(self.key, installed_versions())

    def hit(
        self,
        wanted: Requirements | None,
        space: Space,
        *,
        same_versions: bool = False,
        validate: Validate | None = None,
    ) -> Hit | None:
        """The entry whose result stands in for a search; None where there is none, or its config is no point of the
        space.

        wanted: the least that the search must have done; None: any finished search. same_versions: only entries of the
        installed toolchain. validate: called with the config of each candidate; a config that does not work is
        rejected, on disk if the cache may be written to, and the next entry is tried.
        """
        if self.use == "force":
            return None

        def will_do(entry: Entry) -> bool:
            return not (same_versions and entry.key.versions != self.strict.versions) and (
                wanted is None or not shortfall(entry, wanted)
            )

        while (entry := self.cache.find(self.key, will_do)) is not None:
            config = usable_config(entry, space)
            wrong = None if config is None or validate is None else validate(config)
            if wrong is None:
                return None if config is None else Hit(entry, config)
            assert config is not None
            self.reject(config, wrong)
        return None

    def reject(self, config: Config, why: str) -> None:
        """Reject a remembered config that does not work any more; see `Cache.reject`."""
        self.cache.reject(self.key, config, why)

    def outcomes(self) -> dict[Config, Outcome]:
        """Outcomes that need not be measured again, with the detail that names the run that measured each."""
        if self.use == "force":
            return {}
        outcomes: dict[Config, Outcome] = {}
        for measurement, run, _ in reusable(self.cache.measurements(self.strict).values()):
            details = {**measurement.outcome.details, CACHED: run.id}
            outcomes[measurement.config] = replace(measurement.outcome, details=details)
        return outcomes

    def best_available(self, space: Space, options: WarmStart | None) -> tuple[Origin, ...]:
        """The configs of earlier runs that a search may begin with."""
        return () if self.use == "force" else best_available(self.cache, self.key.loose, space, options)


def usable_config(entry: Entry, space: Space) -> Config | None:
    """The best config of an entry in the form of the space; None where it is no point of it."""
    try:
        return None if entry.best is None else space.check(entry.best)
    except ConfigError:
        return None


def keyed_cache(
    env: Environment,
    cache: Cache | PathLike | bool | None,
    key: Key | KeyKind | None,
    use: Use | None,
    space: Space,
    evaluator: Evaluator,
) -> KeyedCache | None:
    """The cache that the arguments of `tune` name; None without one, or if it must not be used.

    Raises CacheError where no key can be made of the evaluator, and for a use that there is not.
    """
    if cache is None or cache is False:
        return None
    asked = checked_use(use if use is not None else "skip" if env.skip_cache else "force" if env.force else "normal")
    if asked == "skip":
        return None
    opened = cache if isinstance(cache, Cache) else Cache(None if cache is True else cache)
    if opened.mode == "off":
        return None
    return KeyedCache(opened, resolve_key(key, space, evaluator), asked)


def checked_use(use: object) -> Use:
    """A use of the cache by its name; raises CacheError for any other value."""
    for known in USES:
        if isinstance(use, str) and use == known:
            return known
    raise CacheError(f"no use of the cache is called {short_repr(use)}; there are {', '.join(USES)}")


def requirements(options: Options, seeds: Sequence[Mapping[str, Value]]) -> Requirements:
    """The requirements that a call of `tune` has of an earlier search."""
    listed = options.strategy.configs if isinstance(options.strategy, FiniteSearch) else ()
    configs = tuple(map(Config, (*seeds, *listed)))
    return Requirements(effort=options.effort, budget=options.budget, configs=configs)


def remembered_result(
    keyed: KeyedCache,
    options: Options,
    seeds: Sequence[Mapping[str, Value]],
    space: Space,
    evaluator: Evaluator,
    run: RunPlan,
) -> Result | None:
    """The result of an earlier search that meets the requirements, or None.

    The config of one that was made with another toolchain is measured again first; where it fails now, there is a
    warning.
    """
    hit = keyed.hit(requirements(options, seeds), space)
    if hit is None or hit.entry.result is None:
        return None
    if hit.entry.key.versions == keyed.strict.versions:
        return _with_record(_with_notes(hit.entry.result, origin_note(hit.entry)), hit.entry, space)
    return _measured_again(keyed, hit, options, space, evaluator, run)


def _measured_again(
    keyed: KeyedCache, hit: Hit, options: Options, space: Space, evaluator: Evaluator, run: RunPlan
) -> Result | None:
    """The result of an entry whose config was measured again beside the default, published for the installed toolchain.

    None, with a warning, where the config fails now; None where the measurement was interrupted.
    """
    entry, best = hit
    last: list[Search] = []

    def watch(search: Search, event: Event) -> None:
        last[:] = [search]

    try:
        quiet = dataclasses.replace(options, journal=None, progress=watch)
        found = run(_plan_to_compare(space, best, evaluator.exact), evaluator, quiet)
    except TuningFailed:
        found = None
    if not last or (found is not None and not found.complete):
        return None
    failure = _failure(last[0], best)
    changed = ", ".join(version_changes(entry.key.versions, keyed.strict.versions))
    if found is None or failure is not None:
        why = "nothing works" if failure is None else f"{failure.kind}: {failure.message}".rstrip(": ")
        warn_user(
            f"the cached config of {keyed.key.loose.kernel} fails since the toolchain changed ({changed}): "
            f"{best}: {why}; it is tuned again",
        )
        return None
    result = replace(entry.result or found, best=_measurement_of(found, best), default=found.default)
    result = replace(result, speedup=found.speedup, finalists=())
    fresh = new_run(evaluator.describe(), entry.run.effort)
    kept = replace(
        entry.run, id=fresh.id, began_at=fresh.began_at, written_at=time.time(), host=fresh.host,
        evaluator=fresh.evaluator, versions=fresh.versions, journal="",
    )  # fmt: skip
    _publish(keyed.cache, make_entry(keyed.strict, kept, own_measurements(last[0]), space=space.spec, result=result))
    again = f"its config was measured again, as the toolchain changed: {changed}"
    return _with_record(_with_notes(result, origin_note(entry), again), entry, space)


def version_changes(before: Versions, now: Versions) -> list[str]:
    """The parts of the toolchain that have another version, such as "triton 3.5.0 to 3.6.0"."""
    names = changed_versions(before, now)
    return [f"{name} {getattr(before, name) or 'none'} to {getattr(now, name) or 'none'}" for name in names]


def _plan_to_compare(space: Space, best: Config, exact: bool) -> Plan:
    """Measure this config and the default, and compare them side by side."""
    count = len({best, *([] if space.default is None else [space.default])})
    settings = settings_for("full", {"simplify_rounds": 0, "exact": exact})
    return Plan(space, RandomSearch(count=count), seeds=(best,), settings=settings)


def _failure(search: Search, best: Config) -> Failed | None:
    latest = dict(search.outcomes)
    outcome = next((latest.get(trial.id) for trial in search.trials if trial.config == best), None)
    return outcome if isinstance(outcome, Failed) else None


def _measurement_of(found: Result, best: Config) -> MeasuredConfig:
    """The measurement of this config, whether or not the default beat it."""
    known = [found.best, *(f.measured for f in found.finalists), *([found.default] if found.default else [])]
    return next((m for m in known if m.config == best), found.best)


def _with_notes(result: Result, *notes: str) -> Result:
    return replace(result, notes=(*result.notes, *notes))


def _with_record(result: Result, entry: Entry, space: Space) -> Result:
    """The result with the measurements of its entry, which cannot tell batches."""

    def find_trials() -> tuple[TrialRecord, ...]:
        known = enumerate(entry.measurements)
        return tuple(TrialRecord.of(i, one.config, one.outcome, one.origin, None) for i, one in known)

    strategy = entry.run.strategy
    return with_record(
        result, SearchRecord(space=space, strategy="" if strategy is None else strategy.name, find_trials=find_trials)
    )


def origin_note(entry: Entry) -> str:
    """When, where and in which run an entry was measured, as a note for people."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.run.began_at))
    node = entry.run.host.get("node", "another machine")
    return f"from the cache: measured {when} UTC on {node}, run {entry.run.id}"


def check_allowed(env: Environment, keyed: KeyedCache | None) -> None:
    """Raises PlanError where a search would begin and the environment forbids it."""
    if not env.disallow:
        return
    why = "this search has no cache" if keyed is None else f"the cache has no result for {keyed.key.loose.kernel}"
    raise PlanError(f"AUTOTUNE_DISALLOW is set and {why}; tune it where that is allowed, or unset the variable")


class Beginning(NamedTuple):
    """The configs of earlier runs that a search begins with, and the settings that make it do so."""

    origins: tuple[Origin, ...]
    settings: dict[str, Value]


def warm_start(keyed: KeyedCache | None, options: Options, space: Space, wanted: WarmStart | None) -> Beginning:
    """The beginning of a search. Where a warm start is asked for, the strategy's population comes from it, too."""
    settings = dict(options.settings)
    if wanted is not None:
        check_kind(wanted, WarmStart, "warm_start", "a WarmStart, or leave it out", PlanError)
    if keyed is None:
        if wanted is not None:
            raise PlanError("a warm start was asked for without a cache to take it from; pass cache=True")
        return Beginning((), settings)
    origins = keyed.best_available(space, wanted)
    if wanted is not None:
        settings.setdefault("pad", wanted.pad)
        if leaves_population_to_effort(options.strategy, settings):
            settings[POPULATION_SETTING] = InitialPopulationStrategy.FROM_BEST_AVAILABLE
    return Beginning(origins, settings)


def use_cache(
    stack: ExitStack, keyed: KeyedCache, evaluator: Evaluator, options: Options, origins: tuple[Origin, ...]
) -> tuple[Evaluator, Watch]:
    """The evaluator with the answers of the cache, and the watch that puts the search into the cache.

    stack: at its end the search is published, and there is a warning of `origins` that fail here.
    """
    journal = "" if options.journal is None else str(options.journal)
    recorder = Recorder(keyed, new_run(evaluator.describe(), options.effort, journal))
    stack.callback(recorder.close)
    stack.callback(lambda: _warn_of_failed(recorder.last, origins))
    outcomes = keyed.outcomes()
    return (CachedEvaluator(evaluator, outcomes) if outcomes else evaluator), recorder


class Recorder:
    """A watch that puts a search into the cache: now and then while it goes on, and when it is over.

    A forced search replaces the entries of the same toolchain that are there when it begins.
    """

    def __init__(self, keyed: KeyedCache, run: Provenance) -> None:
        self._cache, self._key, self._run = keyed.cache, keyed.strict, run
        forced = keyed.use == "force"
        self._supersedes = tuple(entry.name for entry in keyed.cache.entries(keyed.strict)) if forced else ()
        self.last: Search | None = None
        self._saved = 0
        self._next = time.monotonic() + SAVE_EVERY_S

    def __call__(self, search: Search, event: Event) -> None:
        self.last = search
        if time.monotonic() >= self._next and search.observed > self._saved:
            self._save(search)
            self._next = time.monotonic() + SAVE_EVERY_S

    def close(self) -> None:
        """The search is over, or an error ended it."""
        if self.last is not None and self.last.observed:
            self._save(self.last)

    def _save(self, search: Search) -> None:
        self._saved = search.observed
        entry = entry_of_search(search, self._key, self._run)
        if entry.finished:  # an unfinished search replaces nothing
            entry = replace(entry, supersedes=self._supersedes)
        if not _publish(self._cache, entry):
            self._next = float("inf")


def _publish(cache: Cache, entry: Entry) -> bool:
    """Put an entry into the cache; where it cannot be written a warning, and False: the result is still there."""
    try:
        cache.publish(entry)
    except CacheError as error:
        warn_user(str(error))
        return False
    return True


def failed_origins(search: Search, origins: Iterable[Origin]) -> list[tuple[Origin, Failed]]:
    """The configs of earlier runs that worked there and failed here."""
    latest = dict(search.outcomes)
    failed = {t.config: o for t in search.trials if isinstance(o := latest.get(t.id), Failed)}
    return [(origin, failed[config]) for origin in origins if (config := Config(origin.config)) in failed]


def _warn_of_failed(search: Search | None, origins: tuple[Origin, ...]) -> None:
    failed = [] if search is None else failed_origins(search, origins)
    if failed:
        origin, outcome = failed[0]
        why = f"{outcome.kind}: {outcome.message}".rstrip(": ")
        warn_user(
            f"{len(failed)} of {len(origins)} configs of earlier runs fail here, such as {origin.config} "
            f"of run {origin.run} on {origin.hardware} ({why})",
        )


def combine_watches(first: Watch, second: Watch) -> Watch:
    """One watch that passes every event to both."""

    def watch(search: Search, event: Event) -> None:
        first(search, event)
        second(search, event)

    return watch

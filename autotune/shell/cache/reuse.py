"""What `tune` does with a cache: a hit, answers from what was measured, a warm start, and an entry at the end.

An evaluator that answers from the cache what the cache knows, and has the rest measured.

A hit that was made with another toolchain: its config is measured again before it is believed.

`tune` with a cache: which one, what it answers at once, what it begins with, and what is kept in it.

The cache itself is imported only where one is used.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args
from warnings import warn

import msgspec
from msgspec.structs import replace

from autotune.core.arguments import of_kind, shown
from autotune.core.config import Config, Value
from autotune.core.errors import CacheError, ConfigError, PlanError
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Timed, Trial
from autotune.core.search.effort import EFFORTS, settings_for
from autotune.core.search.messages import Asked, Compare, Compared, Event, Limits, Measure, Observed
from autotune.core.search.plan import Budget, Plan
from autotune.core.search.result import MeasuredConfig, Result, TuningFailed
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.population import POPULATION_SETTING, InitialPopulationStrategy
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell.cache.cache import Cache, Known
from autotune.shell.cache.entries import CACHED, Entry, Run, entry_of, make_entry, measured, new_run
from autotune.shell.cache.identity import installed_versions
from autotune.shell.cache.keys import Key, StrictKey, Versions, changed_versions
from autotune.shell.cache.warm_start import WarmStart, best_available
from autotune.shell.driver import Watch
from autotune.shell.evaluators.protocol import Evaluator, Session
from autotune.shell.options import Options, PathLike, leaves_population_to_effort
from autotune.shell.origin import Origin
from autotune.shell.settings import Environment

if TYPE_CHECKING:
    from autotune.shell.cache.cache import Cache
    from autotune.shell.cache.entries import Entry
    from autotune.shell.cache.keys import Key, KeyKind
    from autotune.shell.cache.warm_start import WarmStart
    from autotune.shell.origin import Origin


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


@dataclass(frozen=True)
class RememberingEvaluator:
    """answers: outcomes by config, each with the detail that says which run measured it. Comparisons are measured."""

    inner: Evaluator
    answers: Mapping[Config, Outcome]

    @property
    def exact(self) -> bool:
        return self.inner.exact

    @property
    def recovers(self) -> bool:
        return self.inner.recovers

    def describe(self) -> dict[str, Detail]:
        return self.inner.describe()

    def open(self, space: Space, past: Sequence[Event] = ()) -> "RememberingSession":
        return RememberingSession(self.inner.open(space, without_cached(past)), self.answers)


class RememberingSession(Session):
    """Trials whose outcome is known are reported at the next poll; the others go on to the inner session."""

    def __init__(self, inner: Session, answers: Mapping[Config, Outcome]) -> None:
        self._inner = inner
        self._answers = answers
        self._known: list[Trial] = []

    @property
    def room(self) -> int:
        return self._inner.room

    @property
    def idle(self) -> bool:
        return not self._known and self._inner.idle

    def now(self) -> float:
        return self._inner.now()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._known += [trial for trial in trials if trial.config in self._answers]
        rest = [trial for trial in trials if trial.config not in self._answers]
        if rest:
            self._inner.submit(rest, limits)

    def compare(self, task: Compare) -> None:
        self._inner.compare(task)

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        if not self._known:
            return self._inner.poll(timeout_s)
        known, self._known = self._known, []
        return [Observed(self.now(), trial.id, self._answers[trial.config]) for trial in known]

    def abandon(self) -> None:
        self._known.clear()
        self._inner.abandon()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)


def without_cached(events: Sequence[Event]) -> tuple[Event, ...]:
    """What the inner session saw of these events: without the trials that the cache answered."""
    cached = {e.trial for e in events if isinstance(e, Observed) and CACHED in e.outcome.details}
    if not cached:
        return tuple(events)
    return tuple(seen for event in events if (seen := _seen(event, cached)) is not None)


def _seen(event: Event, cached: set[int]) -> Event | None:
    match event:
        case Observed(trial=trial) if trial in cached and CACHED in event.outcome.details:
            return None
        case Asked(task=Measure() as task):
            rest = tuple(trial for trial in task.trials if trial.id not in cached)
            return replace(event, task=replace(task, trials=rest)) if rest else None
    return event


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


def _as_measured(found: Result, best: Config) -> MeasuredConfig:
    """The config as it was measured now, whether or not the default beat it."""
    known = [found.best, *(f.measured for f in found.finalists), *([found.default] if found.default else [])]
    return next((m for m in known if m.config == best), found.best)


class Warm(NamedTuple):
    """What a search begins with, and the settings that make it do so."""

    origins: "tuple[Origin, ...]"
    settings: dict[str, Value]


def memory_for(
    env: Environment,
    cache: "Cache | PathLike | bool | None",
    key: "Key | KeyKind | None",
    use: "Use | None",
    space: Space,
    evaluator: Evaluator,
) -> "Memory | None":
    """The cache that the arguments name and how it may be used; None where there is none, or it is to be left alone.

    Raises CacheError where no key can be made of the evaluator, or the word for one is none.
    """
    if cache is None or cache is False:
        return None
    from autotune.shell.cache.cache import Cache
    from autotune.shell.cache.identity import made_key

    asked = use if use is not None else ("skip" if env.skip_cache else "force" if env.force else "normal")
    if checked_use(asked) == "skip":
        return None
    opened = cache if isinstance(cache, Cache) else Cache(None if cache is True else cache)
    if opened.mode == "off":
        return None
    return Memory(opened, made_key(key, space, evaluator), checked_use(asked))


def wanted_configs(options: Options, seeds: Sequence[Mapping[str, Value]]) -> list[Mapping[str, Value]]:
    """The configs that a search must have measured to do in place of this one."""
    return [*seeds, *getattr(options.strategy, "configs", ())]


def hit_for(memory: "Memory", options: Options, seeds: Sequence[Mapping[str, Value]], space: Space) -> "Entry | None":
    """The entry whose result `tune` gives instead of a search, None where it searches: what `explain` says, too."""

    entry = memory.hit(options.effort, options.budget, wanted_configs(options, seeds))
    return None if entry is None or usable(entry, space) is None else entry


def cached_result(
    memory: "Memory",
    options: Options,
    seeds: Sequence[Mapping[str, Value]],
    space: Space,
    evaluator: Evaluator,
    run: Callable[[Plan, Evaluator, Options], Result],
) -> Result | None:
    """The result of an earlier search that did at least what is asked for now, or None.

    One that was made with another toolchain is measured again first; where its config fails now, that is warned about.
    run: carries out a plan.
    """

    entry = hit_for(memory, options, seeds, space)
    if entry is None or entry.result is None:
        return None
    if entry.key.versions == memory.strict.versions:
        return noted(entry.result, where_from(entry))

    def run_watched(plan: Plan, watch: Watch) -> Result:
        return run(plan, evaluator, dataclasses.replace(options, journal=None, progress=watch))

    return checked(memory, entry, space, evaluator, run_watched)


def check_allowed(env: Environment, memory: "Memory | None") -> None:
    """Raises PlanError where the environment forbids to tune and a search would begin."""
    if not env.disallow:
        return
    why = "this search has no cache" if memory is None else f"the cache has no result for {memory.key.loose.kernel}"
    raise PlanError(f"AUTOTUNE_DISALLOW is set and {why}; tune it where that is allowed, or unset the variable")


def warm(memory: "Memory | None", options: Options, space: Space, wanted: "WarmStart | None") -> Warm:
    """What the cache has to begin with. A warm start that was asked for is what strategies begin with, too."""
    settings = dict(options.settings)
    if wanted is not None:
        from autotune.shell.cache.warm_start import WarmStart

        of_kind(wanted, WarmStart, "warm_start", "a WarmStart, or leave it out", PlanError)
    if memory is None:
        if wanted is not None:
            raise PlanError("a warm start was asked for without a cache to take it from; pass cache=True")
        return Warm((), settings)
    origins = memory.best_available(space, wanted)
    if wanted is not None:
        settings.setdefault("pad", wanted.pad)
        if leaves_population_to_effort(options.strategy, settings):
            settings[POPULATION_SETTING] = InitialPopulationStrategy.FROM_BEST_AVAILABLE
    return Warm(origins, settings)


def remembered(
    stack: ExitStack, memory: "Memory", evaluator: Evaluator, options: Options, origins: "tuple[Origin, ...]"
) -> tuple[Evaluator, Watch]:
    """The evaluator with what the cache can answer, and the watch that keeps the search in the cache."""

    journal = "" if options.journal is None else str(options.journal)
    recorder = memory.recorder(evaluator, options.effort, journal)
    stack.callback(recorder.close)
    stack.callback(lambda: _lament(recorder.last, origins))
    answers = memory.answers()
    return (RememberingEvaluator(evaluator, answers) if answers else evaluator), recorder


def _lament(search: Search | None, origins: "tuple[Origin, ...]") -> None:
    """Say so where what worked in an earlier run fails now."""

    failed = [] if search is None else lost(search, origins)
    if failed:
        origin, outcome = failed[0]
        why = f"{outcome.kind}: {outcome.message}".rstrip(": ")
        warn(
            f"{len(failed)} of {len(origins)} configs of earlier runs fail here, such as {origin.config} "
            f"of run {origin.run} on {origin.hardware} ({why})",
            stacklevel=2,
        )


def watched_by(*watches: Watch) -> Watch:
    """One watch that tells all of these."""
    if len(watches) == 1:
        return watches[0]

    def watch(search: Search, event: Event) -> None:
        for each in watches:
            each(search, event)

    return watch

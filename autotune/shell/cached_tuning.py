"""`tune` with a cache: which one, what it answers at once, what it begins with, and what is kept in it.

The cache itself is imported only where one is used.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from warnings import warn

from autotune.core.arguments import of_kind
from autotune.core.config import Value
from autotune.core.errors import PlanError
from autotune.core.search.messages import Event
from autotune.core.search.plan import Plan
from autotune.core.search.result import Result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.population import POPULATION, InitialPopulationStrategy
from autotune.shell.driver import Watch
from autotune.shell.evaluators.protocol import Evaluator
from autotune.shell.options import Options, PathLike, leaves_population_to_effort
from autotune.shell.settings import Environment

if TYPE_CHECKING:
    from autotune.shell.cache.entries import Entry
    from autotune.shell.cache.keys import Key, KeyKind
    from autotune.shell.cache.layers import Cache
    from autotune.shell.cache.origin import Origin
    from autotune.shell.cache.use import Memory, Use
    from autotune.shell.cache.warm_start import WarmStart


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
    from autotune.shell.cache.identity import made_key
    from autotune.shell.cache.layers import Cache
    from autotune.shell.cache.use import Memory, checked_use

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
    from autotune.shell.cache.use import usable

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
    from autotune.shell.cache.checking import checked
    from autotune.shell.cache.use import noted, where_from

    entry = hit_for(memory, options, seeds, space)
    if entry is None or entry.result is None:
        return None
    if entry.key.versions == memory.strict.versions:
        return noted(entry.result, where_from(entry))

    def run_watched(plan: Plan, watch: Watch) -> Result:
        return run(plan, evaluator, replace(options, journal=None, progress=watch))

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
            settings[POPULATION] = InitialPopulationStrategy.FROM_BEST_AVAILABLE
    return Warm(origins, settings)


def remembered(
    stack: ExitStack, memory: "Memory", evaluator: Evaluator, options: Options, origins: "tuple[Origin, ...]"
) -> tuple[Evaluator, Watch]:
    """The evaluator with what the cache can answer, and the watch that keeps the search in the cache."""
    from autotune.shell.cache.remembering import RememberingEvaluator

    journal = "" if options.journal is None else str(options.journal)
    recorder = memory.recorder(evaluator, options.effort, journal)
    stack.callback(recorder.close)
    stack.callback(lambda: _lament(recorder.last, origins))
    answers = memory.answers()
    return (RememberingEvaluator(evaluator, answers) if answers else evaluator), recorder


def _lament(search: Search | None, origins: "tuple[Origin, ...]") -> None:
    """Say so where what worked in an earlier run fails now."""
    from autotune.shell.cache.use import lost

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

"""`tune` and `resume`: a search with an evaluator, a journal, a cache, and a way to watch it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from autotune.core.config import Config, Value
from autotune.core.errors import JournalError
from autotune.core.outcomes import Detail
from autotune.core.parameters import Parameter
from autotune.core.search.messages import Event, Finished, Reported, Resumed
from autotune.core.search.plan import Budget, Plan
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, result, result_digest
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space, as_space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import name_of
from autotune.shell.cache.cached_evaluator import drop_cached
from autotune.shell.cache.reuse import (
    KeyedCache,
    Use,
    check_allowed,
    combine_watches,
    keyed_cache,
    remembered_result,
    use_cache,
)
from autotune.shell.cache.reuse import warm_start as beginning_of
from autotune.shell.callbacks import OnTrial, check_callbacks, watch_for
from autotune.shell.driver import Driver, Interruption, Watch, begin_search, ignore_event
from autotune.shell.evaluators.callable import as_evaluator
from autotune.shell.evaluators.protocol import Evaluator, rebuilds, takes_one
from autotune.shell.existing_journal import check_on_existing, choose_journal
from autotune.shell.files import PathLike, as_path
from autotune.shell.journal import ASK_TELL, Journal, JournalWriter, header_for, read_journal
from autotune.shell.options import Options, resolve_options
from autotune.shell.options import Progress as Progress
from autotune.shell.plans import as_configs, make_plan
from autotune.shell.progress import show_progress
from autotune.shell.progress_state import opening
from autotune.shell.settings import OnExisting, environment, resolve_setting
from autotune.shell.warn import warn_user

if TYPE_CHECKING:
    from autotune.shell.cache.cache import Cache
    from autotune.shell.cache.keys import Key, KeyKind
    from autotune.shell.cache.warm_start import WarmStart
    from autotune.shell.journal import Origin


def tune(
    space: Space | Mapping[str, Parameter],
    evaluator: Evaluator | Callable[[Config], Callable[..., Any]],
    strategy: str | AnyStrategy | type[AnyStrategy] | None = None,
    *,
    effort: str | None = None,
    budget: Budget | int | None = None,
    seed: int | None = None,
    journal: PathLike | Literal[False] | None = None,
    seeds: Iterable[Mapping[str, Value]] = (),
    best_available: Iterable[Mapping[str, Value]] = (),
    settings: Mapping[str, Any] | None = None,
    progress: Progress = None,
    cache: "Cache | PathLike | bool | None" = None,
    key: "Key | KeyKind | None" = None,
    cache_use: Use | None = None,
    warm_start: "WarmStart | None" = None,
    on_existing: OnExisting | None = None,
    callbacks: Iterable[OnTrial] = (),
) -> Result:
    """Find the fastest config of `space` as `evaluator` measures it.

    space: a Space, or parameters by name where there are no constraints. evaluator: an evaluator; a function becomes
    CallableEvaluator(function): from a config it makes a function of no arguments, which is timed.
    strategy: a name ("pattern_search", …), a class, or a strategy with its settings, such as PatternSearch(copies=3);
    your own strategy needs a name (`register`) where there is a journal or a cache.
    effort: "none" measures the default config, "quick" searches a little, "full" takes the time it needs.
    budget: limits on evaluations, seconds or generations, whichever is reached first; a number: of evaluations.
    seed: any integer.
    journal: a file that receives every event; `resume` and `replay` read it. False: no journal in any case.
    seeds: configs to try first. best_available: the best of earlier runs, for from_best_available.
    settings: single settings of the strategy or of the machine that override the effort's.
    progress: True, False, None (only on a terminal and in a notebook), "brief" (there, and elsewhere failures and
    the beginning of a long search alone), or a callable told of every event.
    cache: a Cache, its directory, or True for the user's. A remembered result is returned at once, earlier
    measurements are not repeated, and the search is kept. None or False: no cache.
    key: what the measurements belong to. "strict": this kernel, device and space with the installed torch, triton,
    driver and autotune; "loose" or None: with any of these; or your own LooseKey or StrictKey.
    cache_use: "normal"; "force": ignore the entries of the key and replace them; "skip": neither read nor write.
    warm_start: which earlier runs the first configs come from; None: runs on the same device, arguments and space.
    on_existing: what to do where the journal exists: "continue" its search, which must be this one; write to a "new"
    file beside it; or raise an "error". None: go on with the same search, and leave any other for a new file.
    callbacks: functions that are called with the TrialRecord of each config once it is measured. The first exception
    of each is a warning, and the search goes on.
    Arguments that are left out come from the environment (AUTOTUNE_EFFORT, …; see `autotune env`), then from defaults.

    Ctrl-C ends the search cleanly with the best so far (`complete` is False); a second one raises KeyboardInterrupt.
    Raises TuningFailed when no config could be timed, and another AutotuneError for arguments that cannot work.
    """
    env, space, evaluator = environment(), as_space(space), as_evaluator(evaluator)
    called = check_callbacks(callbacks)
    keyed = keyed_cache(env, cache, key, cache_use, space, evaluator)
    label = "search" if keyed is None else keyed.key.loose.kernel
    options = resolve_options(env, strategy, effort, budget, seed, journal, settings, progress, label)
    seeds, best_available = as_configs(seeds, "seeds"), as_configs(best_available, "best_available")
    if not isinstance(options.strategy, str) and (keyed is not None or options.journal is not None):
        name_of(options.strategy)  # by which a cache or a journal refers to it
    if keyed is not None:
        found = remembered_result(keyed, options, seeds, space, evaluator, run_plan)
        if found is not None:
            return found
    check_allowed(env, keyed)
    beginning = beginning_of(keyed, options, space, warm_start)
    plan = make_plan(
        space, options.strategy, exact=evaluator.exact, rebuild=rebuilds(evaluator),
        one_at_a_time=takes_one(evaluator), effort=options.effort,
        budget=options.budget, seed=options.seed, seeds=seeds,
        best_available=(*best_available, *(o.config for o in beginning.origins)), settings=beginning.settings,
    )  # fmt: skip
    if options.journal is not None:
        choice = resolve_setting(check_on_existing(on_existing), env.on_existing, None)
        path, known = choose_journal(
            options.journal, plan, _describe(evaluator), choice, quiet=options.progress is False
        )
        if known:
            return resume(path, evaluator, space=plan.space, progress=options.progress, callbacks=called)
        options = dataclasses.replace(options, journal=path)
    try:
        return run_plan(plan, evaluator, options, keyed, beginning.origins, called)
    except TuningFailed as failed:
        raise failed.with_traceback(None) from None  # frames of this library say nothing about configs that fail


@dataclass(frozen=True)
class Problem:
    """A tuning problem in a Python file, which `autotune tune FILE` looks for.

    The fields are the arguments of `tune`. The command line goes before them; None leaves a field to the environment
    and the defaults.

    >>> problem = Problem(space, CallableEvaluator(build, args=(a, b)))  # doctest: +SKIP
    """

    space: Space
    evaluator: Evaluator
    strategy: str | AnyStrategy | None = None
    effort: str | None = None
    budget: Budget | int | None = None
    seed: int | None = None
    seeds: tuple[Mapping[str, Value], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def run_plan(
    plan: Plan,
    evaluator: Evaluator,
    options: Options,
    keyed: KeyedCache | None = None,
    origins: "tuple[Origin, ...]" = (),
    callbacks: tuple[OnTrial, ...] = (),
) -> Result:
    """Carry out a plan, with a journal and a cache if there are any. origins: of its best available configs."""
    with ExitStack() as stack:
        watch = stack.enter_context(show_progress(options.progress, opening(plan, _label(evaluator), options.journal)))
        watch = combine_watches(watch, watch_for(callbacks))
        recorder: Watch | None = None
        if keyed is not None:
            evaluator, recorder = use_cache(stack, keyed, evaluator, options, origins)
        interruption = stack.enter_context(Interruption().listen())
        session = stack.enter_context(evaluator.open(plan.space))
        search = begin_search(plan, session, interruption)  # on the session's clock: drawing configs takes time
        writer = None
        if options.journal is not None:
            header = header_for(plan, _describe(evaluator), origins)
            writer = stack.enter_context(JournalWriter.create(options.journal, header))
        if recorder is not None:
            watch = combine_watches(watch, recorder)
        driver = Driver(search, session, writer.write if writer else ignore_event, watch)
        return _finish(driver, interruption, writer)


def resume(
    journal: PathLike,
    evaluator: Evaluator,
    *,
    space: Space | None = None,
    progress: Progress = None,
    callbacks: Iterable[OnTrial] = (),
) -> Result:
    """Go on with the search of a journal, however it ended, in that same journal.

    Outcomes are kept, pending trials are submitted again, and the effects of an interrupt are undone.
    space: needed where a constraint is a Python function; must be the space of the journal. callbacks: as for `tune`.
    Raises JournalError for a journal that is damaged, in use, or of another space or evaluator.
    """
    read, evaluator = read_journal(as_path(journal, "journal", JournalError)), as_evaluator(evaluator)
    called, plan = check_callbacks(callbacks), read.plan(None if space is None else as_space(space))
    _check_evaluator(read, evaluator)
    if plan.settings.exact != evaluator.exact:
        kinds = {True: "an exact evaluator", False: "an evaluator with noise"}
        raise JournalError(
            f"{read.path} was made with {kinds[plan.settings.exact]} and this is {kinds[evaluator.exact]}; "
            "use the evaluator that it was made with"
        )
    search = fold(plan, read.events)
    past = drop_cached(read.events)
    if isinstance(done := request(search, 0), Finished) and done.complete:
        if read.header.version > 1 and not isinstance(read.events[-1], Reported):  # it was killed just before that
            with JournalWriter.append_to(read) as writer:
                writer.write(Reported(search.clock, result_digest(search)))
        return result(search)
    with ExitStack() as stack:
        writer = stack.enter_context(JournalWriter.append_to(read))
        watch = stack.enter_context(show_progress(progress, opening(plan, _label(evaluator), read.path)))
        watch = combine_watches(watch, watch_for(called))
        interruption = stack.enter_context(Interruption().listen())
        session = stack.enter_context(evaluator.open(plan.space, past))
        driver = Driver(search, session, writer.write, watch)
        if read.events:
            driver.step(Resumed(session.now()))
            if not evaluator.recovers:
                driver.resubmit()
        return _finish(driver, interruption, writer)


def _check_evaluator(journal: Journal, evaluator: Evaluator) -> None:
    """Refuse another kind of evaluator; warn of other code and other settings, with which times may not compare."""
    before, now = journal.header.evaluator, _describe(evaluator)
    if before.get("kind") == ASK_TELL:
        raise JournalError(
            f"{journal.path} was made by asking and telling; go on with AskTell.resume, or `autotune ask` and `tell`"
        )
    if before.get("kind") != now.get("kind"):
        raise JournalError(
            f"{journal.path} was made with the evaluator {before.get('kind')!r} and this is {now.get('kind')!r}; "
            "use the evaluator that it was made with"
        )
    if "code" in before and before["code"] != now.get("code"):
        warn_user(
            f"the code of the functions that {journal.path} was made with has changed since; measurements from here"
            " on are of the new code, so search anew if it does something else",
        )
    changed = [name for name in sorted({*before, *now} - {"code"}) if before.get(name) != now.get(name)]
    if changed:
        shown = ", ".join(f"{name} = {now.get(name)!r} (was {before.get(name)!r})" for name in changed)
        warn_user(f"{journal.path} goes on with another evaluator: {shown}")


def _describe(evaluator: Evaluator) -> dict[str, Detail]:
    """Kind and settings of an evaluator, and the digest of its code."""
    from autotune.shell.cache.sources import code_digest

    code = code_digest(evaluator)
    return evaluator.describe() if code is None else {**evaluator.describe(), "code": code}


def _label(evaluator: Evaluator) -> str:
    """The name of what is tuned: of the function, else of the kind of evaluator."""
    described = evaluator.describe()
    name = str(described.get("build", described.get("kernel", described.get("kind", "a kernel"))))
    return name.rpartition(".")[2]


def fold(plan: Plan, events: Iterable[Event]) -> Search:
    """The search that these events lead to."""
    return reduce(advance, events, start(plan))


def _finish(driver: Driver, interruption: Interruption, writer: JournalWriter | None) -> Result:
    """Run to the end, and write the digest of the result to the journal, for replay to compare."""
    search = driver.run(interruption)
    if writer is not None:
        writer.write(Reported(search.clock, result_digest(search)))
    return result(search)


def read_search(journal: PathLike, space: Space | None = None) -> tuple[Journal, Search]:
    """A journal and the search that its events lead to, without measuring anything."""
    read = read_journal(journal)
    return read, fold(read.plan(space), read.events)

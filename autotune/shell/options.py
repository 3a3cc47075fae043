"""The options of a search: the arguments of `tune`, with those left out filled in from the environment."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from autotune.core.arguments import argument_error, check_integer
from autotune.core.errors import JournalError, PlanError
from autotune.core.search.effort import OF_THEIR_OWN
from autotune.core.search.plan import Budget, as_budget
from autotune.core.strategies.population import POPULATION_SETTING, BeginsWithPopulation
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY, STRATEGIES, as_strategy, canonical_name
from autotune.shell.driver import Watch
from autotune.shell.files import PathLike as PathLike
from autotune.shell.files import as_path, translate_os_error
from autotune.shell.settings import Environment, resolve_setting
from autotune.shell.warn import warn_user

Progress = bool | None | Literal["brief"] | Watch
"""True, False, None (on a terminal and in a notebook), "brief" (there, and elsewhere failures and
the beginning of a long search alone), or a function that is called with every event."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `tune` that the environment may set too, resolved."""

    strategy: str | AnyStrategy
    effort: str
    budget: Budget
    seed: int
    journal: Path | None
    settings: dict[str, Any]
    progress: Progress


def resolve_options(
    env: Environment,
    strategy: str | AnyStrategy | type[AnyStrategy] | None,
    effort: str | None,
    budget: Budget | int | None,
    seed: int | None,
    journal: PathLike | Literal[False] | None = False,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = False,
    label: str = "",
) -> Options:
    """The options of a search: arguments go before the environment, that before the defaults.

    label: part of the name of a journal that only the environment asks for. Raises PlanError, StrategyError or
    JournalError for arguments that cannot work.
    """
    own = as_settings(settings)
    picked = as_strategy((env.strategy or DEFAULT_STRATEGY) if strategy is None else strategy)
    brief = isinstance(progress, str) and progress == "brief"
    if not (progress is None or isinstance(progress, bool) or brief or callable(progress)):
        raise argument_error(
            "progress", progress, 'True, False, None, "brief", or a function that is told of every event', PlanError
        )
    if env.compile_timeout is not None:
        own.setdefault("compile_timeout_s", env.compile_timeout)
    if env.initial_population is not None:
        if leaves_population_open(picked, own):
            own[POPULATION_SETTING] = env.initial_population
        elif POPULATION_SETTING not in own and not takes_population(picked):
            _warn_of_population(picked, env.initial_population)
    return Options(
        strategy=picked,
        effort=resolve_setting(effort, env.effort, "full"),
        budget=as_budget(
            resolve_setting(
                budget, None if env.budget_seconds is None else Budget(seconds=env.budget_seconds), Budget()
            )
        ),
        seed=check_integer(resolve_setting(seed, env.random_seed, 0), "seed", PlanError),
        journal=_journal(journal, env.log, label),
        settings=own,
        progress=env.progress if progress is None or (brief and env.progress is not None) else progress,
    )


def as_settings(given: object) -> dict[str, Any]:
    """A copy of settings by name; raises PlanError for anything else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise argument_error("settings", given, "single settings by name, such as {'verify_rounds': 9}", PlanError)
    return dict(given)


def takes_population(strategy: str | AnyStrategy) -> bool:
    """Whether a strategy has an initial population that can be chosen."""
    kind = _strategy_class(strategy)
    return issubclass(kind, Struct) and POPULATION_SETTING in kind.__struct_fields__


def _strategy_class(strategy: str | AnyStrategy) -> type[Any]:
    return STRATEGIES[canonical_name(strategy)] if isinstance(strategy, str) else type(strategy)


def leaves_population_open(strategy: str | AnyStrategy, settings: Mapping[str, Any]) -> bool:
    """Whether a strategy has an initial population that neither its settings nor `settings` choose."""
    if settings.get(POPULATION_SETTING) is not None:
        return False
    if isinstance(strategy, str):
        return takes_population(strategy)
    return isinstance(strategy, BeginsWithPopulation) and strategy.initial_population_strategy is None


def leaves_population_to_effort(strategy: str | AnyStrategy, settings: Mapping[str, Any]) -> bool:
    """Whether the effort chooses the initial population of a strategy, as nothing else does."""
    return leaves_population_open(strategy, settings) and _strategy_class(strategy) not in OF_THEIR_OWN


def _warn_of_population(strategy: str | AnyStrategy, asked: str) -> None:
    """A variable holds for every search of a process, so a strategy without an initial population is no error; but the
    user should know that the variable has no effect."""
    name = canonical_name(strategy) if isinstance(strategy, str) else type(strategy).__name__
    warn_user(
        f"AUTOTUNE_INITIAL_POPULATION = {asked} has no effect on {name}, which has no initial population; unset it, or "
        f"name a strategy that has one, such as {DEFAULT_STRATEGY}",
    )


def _journal(argument: PathLike | Literal[False] | None, log: Path | None, label: str) -> Path | None:
    if argument is False:
        return None
    if argument is not None:
        return as_path(argument, "journal", JournalError)
    return None if log is None else new_journal_path(log, label)


def new_journal_path(folder: Path, label: str) -> Path:
    """The path of a new journal in a folder; its name holds the label, the time in UTC and the process.

    Raises JournalError where the folder cannot be made.
    """
    folder = folder.expanduser()
    what = f"the directory {folder}, which AUTOTUNE_LOG names, cannot be made"
    with translate_os_error(JournalError, what, "name another"):
        folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", label)[-60:] or "search"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return folder / f"{stem}-{stamp}-{os.getpid()}-{os.urandom(2).hex()}.journal.jsonl"

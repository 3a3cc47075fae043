"""Plans of searches from the arguments of users."""

from collections.abc import Iterable, Mapping
from typing import Any

from autotune.core.arguments import check_bool, check_integer, check_items
from autotune.core.config import Config, Value, as_config
from autotune.core.errors import PlanError
from autotune.core.parameters import Parameter
from autotune.core.search.effort import check_effort, settings_for, strategy_for
from autotune.core.search.plan import Budget, Plan, Settings, as_budget
from autotune.core.space import Space, as_space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell.options import as_settings


def make_plan(
    space: Space | Mapping[str, Parameter],
    strategy: str | AnyStrategy = DEFAULT_STRATEGY,
    *,
    exact: bool = False,
    rebuild: bool = True,
    one_at_a_time: bool = False,
    effort: str = "full",
    budget: Budget | int | None = None,
    seed: int = 0,
    seeds: Iterable[Mapping[str, Value]] = (),
    best_available: Iterable[Mapping[str, Value]] = (),
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of a search, to step it by hand; arguments as for `tune`.

    exact: whether the evaluator always gives a config the same time. rebuild: whether it has to build a config again
    to compare it. one_at_a_time: whether it takes one config at a time. Raises StrategyError or PlanError.
    """
    level, space, given = check_effort(effort), as_space(space), as_settings(settings)
    machine = {name: value for name, value in given.items() if name in Settings.__struct_fields__}
    own = {name: value for name, value in given.items() if name not in machine}
    return Plan(
        space,
        strategy_for(strategy, level, own, one_at_a_time),
        as_budget(budget),
        check_integer(seed, "seed", PlanError),
        as_configs(seeds, "seeds"),
        as_configs(best_available, "best_available"),
        settings_for(level, {"rebuild": rebuild, **machine, "exact": check_bool(exact, "exact", PlanError)}),
    )


def as_configs(given: object, what: str) -> tuple[Config, ...]:
    """The configs of a list; raises PlanError, which names the argument, for anything else."""
    found = check_items(given, what, "a list of configs", PlanError)
    return tuple(Config(as_config(config, f"{what}: config {i}")) for i, config in enumerate(found))

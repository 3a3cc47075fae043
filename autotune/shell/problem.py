"""A tuning problem as one value in a Python file: what `autotune tune FILE` looks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autotune.core.config import Value
from autotune.core.search.plan import Budget
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.shell.evaluators.protocol import Evaluator


@dataclass(frozen=True)
class Problem:
    """Space and evaluator, and how to search unless the command line says otherwise. The fields are those of `tune`;
    what is None is left to the environment and the defaults.

    >>> problem = Problem(space, CallableEvaluator(build, args=(a, b)))  # doctest: +SKIP
    """

    space: Space
    evaluator: Evaluator
    strategy: str | AnyStrategy | None = None
    effort: str | None = None
    budget: Budget | None = None
    seed: int | None = None
    seeds: tuple[Mapping[str, Value], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

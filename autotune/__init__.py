"""autotune finds the fastest configuration of a kernel.

The search is a pure function of what has been measured (`autotune.core`); a thin shell compiles, times and writes files
(`autotune.shell`). In one line: `tune(space, evaluator, strategy)`.
"""

from autotune.core.config import Config
from autotune.core.errors import (
    AutotuneError,
    ConfigError,
    EvaluatorError,
    JournalError,
    PlanError,
    RecordingError,
    SpaceError,
    StrategyError,
)
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Boolean, Choice, Integer, ListOf, OptionalOf, Permutation, PowerOfTwo
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Conclude,
    Finished,
    Interrupted,
    Limits,
    Measure,
    Observed,
    Resumed,
    Ticked,
    Wait,
)
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space
from autotune.core.strategies.differential_evolution import DifferentialEvolutionSearch
from autotune.core.strategies.finite_search import FiniteSearch
from autotune.core.strategies.pattern_search import PatternSearch
from autotune.core.strategies.random_search import RandomSearch
from autotune.core.strategies.registry import STRATEGIES, register
from autotune.shell.evaluators.callable import CallableEvaluator
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.problem import Problem
from autotune.shell.replay import Replay, replay
from autotune.shell.tuning import make_plan, resume, tune
from autotune.version import __version__

__all__ = [
    "STRATEGIES",
    "Asked",
    "AutotuneError",
    "Boolean",
    "Budget",
    "CallableEvaluator",
    "Choice",
    "Compare",
    "Compared",
    "Conclude",
    "Config",
    "ConfigError",
    "DifferentialEvolutionSearch",
    "EvaluatorError",
    "Failed",
    "Finished",
    "FiniteSearch",
    "Integer",
    "Interrupted",
    "JournalError",
    "Limits",
    "ListOf",
    "Measure",
    "Observed",
    "OptionalOf",
    "Outcome",
    "PatternSearch",
    "Permutation",
    "Plan",
    "PlanError",
    "PowerOfTwo",
    "Problem",
    "RandomSearch",
    "RecordingError",
    "Replay",
    "Result",
    "Resumed",
    "Search",
    "Settings",
    "SimulatedEvaluator",
    "Space",
    "SpaceError",
    "StrategyError",
    "Ticked",
    "Timed",
    "Trial",
    "TuningFailed",
    "Wait",
    "__version__",
    "advance",
    "make_plan",
    "register",
    "replay",
    "request",
    "result",
    "resume",
    "start",
    "tune",
]

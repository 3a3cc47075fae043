"""Conformance suites: they hold strategies, evaluators, parameter kinds and cache stores against the library's laws.

A suite is a base class of tests for pytest. Subclass it under a name that begins with `Test`, and say what is tried:

    from autotune.testing import StrategyLaws

    class TestMySearch(StrategyLaws):
        def make_strategy(self, space):
            return MySearch(count=20)

The library's own tests use the same suites, so what passes here is held to the same standard. docs/testing.md explains
them. They need Hypothesis and pytest: pip install 'autotune[testing]'.
"""

try:
    import hypothesis  # noqa: F401
    import pytest
except ImportError as _error:
    raise ImportError(f"autotune.testing needs {_error.name}; pip install 'autotune[testing]'") from None

pytest.register_assert_rewrite(  # so that a broken law shows the values that break it
    *(f"{__name__}.{room}" for room in (
        "evaluator_laws", "hand_shell", "journal_laws", "parameter_laws", "store_laws", "strategy_laws",
    ))
)  # fmt: skip

from autotune.testing.cache_entries import numbered_entry, numbered_key  # noqa: E402
from autotune.testing.evaluator_laws import EvaluatorLaws, SessionLaws, check_outcome  # noqa: E402
from autotune.testing.hand_shell import HandShell, Oracle, snapshot  # noqa: E402
from autotune.testing.journal_laws import JournalLaws  # noqa: E402
from autotune.testing.kernels import (  # noqa: E402
    FAULTS,
    HARMLESS_FAULTS,
    KERNELS,
    build_kernel,
    fault_configs,
    kernel_space,
)
from autotune.testing.outcomes import HashedTable, failed_outcomes, outcome_scripts, timed_outcomes  # noqa: E402
from autotune.testing.parameter_laws import ParameterLaws  # noqa: E402
from autotune.testing.spaces import SPACES, gemm_space, mixed_space, parameters, parameters_of_kind, spaces  # noqa: E402
from autotune.testing.statistics import is_uniform  # noqa: E402
from autotune.testing.store_laws import EntryStore, StoreLaws  # noqa: E402
from autotune.testing.strategy_laws import StrategyLaws  # noqa: E402

__all__ = [
    "FAULTS",
    "HARMLESS_FAULTS",
    "KERNELS",
    "SPACES",
    "EntryStore",
    "EvaluatorLaws",
    "HandShell",
    "HashedTable",
    "JournalLaws",
    "Oracle",
    "ParameterLaws",
    "SessionLaws",
    "StoreLaws",
    "StrategyLaws",
    "build_kernel",
    "check_outcome",
    "failed_outcomes",
    "fault_configs",
    "gemm_space",
    "is_uniform",
    "kernel_space",
    "mixed_space",
    "numbered_entry",
    "numbered_key",
    "outcome_scripts",
    "parameters",
    "parameters_of_kind",
    "snapshot",
    "spaces",
    "timed_outcomes",
]

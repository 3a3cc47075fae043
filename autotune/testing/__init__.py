"""Conformance suites: they hold strategies, evaluators, parameter kinds and cache stores against the library's laws.

A suite is a base class of tests for pytest. Subclass it under a name that begins with `Test`, and say what is tried:

    from autotune.testing import StrategyLaws

    class TestMySearch(StrategyLaws):
        def make_strategy(self, space):
            return MySearch(count=20)

The library's own tests use the same suites, so they hold other code to the same standard. docs/howto/test_your_part.md
explains them. They need Hypothesis and pytest: pip install 'autotune-kernels[testing]'.
"""

from typing import TYPE_CHECKING

from autotune._extras import install_command
from autotune._lazy import lazy_names

try:
    import hypothesis  # noqa: F401
    import pytest
except ImportError as _error:
    raise ImportError(f"autotune.testing needs {_error.name}; {install_command('testing')}") from None

pytest.register_assert_rewrite(  # so that a broken law shows the values that break it
    *(f"{__name__}.{room}" for room in (
        "evaluator_laws", "hand_shell", "journal_laws", "parameter_laws", "store_laws", "strategy_laws",
    ))
)  # fmt: skip

if TYPE_CHECKING:
    from autotune.testing.cache_entries import numbered_entry as numbered_entry
    from autotune.testing.cache_entries import numbered_key as numbered_key
    from autotune.testing.evaluator_laws import EvaluatorLaws as EvaluatorLaws
    from autotune.testing.evaluator_laws import SessionLaws as SessionLaws
    from autotune.testing.evaluator_laws import check_outcome as check_outcome
    from autotune.testing.hand_shell import HandShell as HandShell
    from autotune.testing.hand_shell import Oracle as Oracle
    from autotune.testing.hand_shell import snapshot as snapshot
    from autotune.testing.journal_laws import JournalLaws as JournalLaws
    from autotune.testing.kernels import FAULTS as FAULTS
    from autotune.testing.kernels import HARMLESS_FAULTS as HARMLESS_FAULTS
    from autotune.testing.kernels import KERNELS as KERNELS
    from autotune.testing.kernels import build_kernel as build_kernel
    from autotune.testing.kernels import fault_configs as fault_configs
    from autotune.testing.kernels import kernel_space as kernel_space
    from autotune.testing.outcomes import HashedTable as HashedTable
    from autotune.testing.outcomes import failed_outcomes as failed_outcomes
    from autotune.testing.outcomes import outcome_scripts as outcome_scripts
    from autotune.testing.outcomes import timed_outcomes as timed_outcomes
    from autotune.testing.parameter_laws import ParameterLaws as ParameterLaws
    from autotune.testing.spaces import SPACES as SPACES
    from autotune.testing.spaces import gemm_space as gemm_space
    from autotune.testing.spaces import mixed_space as mixed_space
    from autotune.testing.spaces import parameters as parameters
    from autotune.testing.spaces import parameters_of_kind as parameters_of_kind
    from autotune.testing.spaces import spaces as spaces
    from autotune.testing.statistics import is_uniform as is_uniform
    from autotune.testing.store_laws import EntryStore as EntryStore
    from autotune.testing.store_laws import StoreLaws as StoreLaws
    from autotune.testing.strategy_laws import StrategyLaws as StrategyLaws
else:
    __getattr__, __dir__ = lazy_names(__name__)

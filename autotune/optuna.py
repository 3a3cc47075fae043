"""Our strategies as a sampler of Optuna: `create_study(sampler=StrategySampler(space, "lfbo_tree_search"))`.

Needs `pip install 'autotune-kernels[optuna]'`.
"""

from typing import TYPE_CHECKING

from autotune._lazy import lazy_names

if TYPE_CHECKING:
    from autotune.interop.optuna import StrategySampler as StrategySampler
    from autotune.interop.optuna import distributions as distributions
    from autotune.interop.optuna import suggest as suggest
else:
    __getattr__, __dir__ = lazy_names(__name__, extra="optuna")

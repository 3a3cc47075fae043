"""Our strategies in Kernel Tuner: `tune_kernel(…, strategy=kernel_tuner_strategy("lfbo_tree_search"))`.

Needs `pip install 'autotune-kernels[kernel-tuner]'`.
"""

from typing import TYPE_CHECKING

from autotune._lazy import lazy_names

if TYPE_CHECKING:
    from autotune.interop.kernel_tuner import StrategyOptimizer as StrategyOptimizer
    from autotune.interop.kernel_tuner import kernel_tuner_strategy as kernel_tuner_strategy
else:
    __getattr__, __dir__ = lazy_names(__name__, extra="kernel-tuner")

"""Helion's kernels tuned by our strategies: `helion.kernel(…, autotuner_fn=autotune.helion.autotuner(…))`.

Needs Helion: install the extra `helion`.
"""

from typing import TYPE_CHECKING, Any

from autotune.backends.helion.prestart import prepare

if TYPE_CHECKING:
    from autotune.backends.helion.autotuner import autotuner

__all__ = ["autotuner", "prepare"]


def __getattr__(name: str) -> Any:
    """Import `autotuner` on first use: it imports torch and Helion, and `prepare` must not wait for them."""
    if name != "autotuner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autotune.backends.helion.autotuner import autotuner

    return autotuner

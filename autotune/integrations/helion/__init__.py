"""Our strategies as Helion's autotuner: `helion.kernel(…, autotuner_fn=autotune.integrations.helion.autotuner(…))`.

Needs `pip install 'autotune[helion]'`.
"""

from typing import TYPE_CHECKING, Any

from autotune.integrations.helion.prepared import prepare

if TYPE_CHECKING:
    from autotune.integrations.helion.plugin import autotuner

__all__ = ["autotuner", "prepare"]


def __getattr__(name: str) -> Any:
    """`autotuner` imports torch and Helion, for which `prepare` is not to wait."""
    if name != "autotuner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autotune.integrations.helion.plugin import autotuner

    return autotuner

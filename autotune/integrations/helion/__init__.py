"""Our strategies as Helion's autotuner: `helion.kernel(…, autotuner_fn=autotune.integrations.helion.autotuner(…))`.

Needs `pip install 'autotune[helion]'`.
"""

from autotune.integrations.helion.plugin import autotuner

__all__ = ["autotuner"]

"""Our strategies as Helion's autotuner: `helion.kernel(…, autotuner_fn=autotune.integrations.helion.autotuner(…))`.

Needs `pip install 'autotune[helion]'`.
"""

from autotune.integrations.helion.plugin import autotuner
from autotune.integrations.helion.prepared import prepare

__all__ = ["autotuner", "prepare"]

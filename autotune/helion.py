"""Helion's kernels tuned by our strategies: `helion.kernel(…, autotuner_fn=autotune.helion.autotuner(…))`.

Needs `pip install 'autotune-kernels[helion]'`.
"""

from typing import TYPE_CHECKING

from autotune._lazy import lazy_names
from autotune.backends.helion.prestart import prepare as prepare  # neither this nor its import waits for torch

if TYPE_CHECKING:
    from autotune.backends.helion.autotuner import autotuner as autotuner
else:
    __getattr__, __dir__ = lazy_names(__name__, eager=("prepare",), extra="helion")

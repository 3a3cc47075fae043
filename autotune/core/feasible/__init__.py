"""The feasible set of a space: its points are enumerated, counted, tested and sampled.

`Feasible` is for all; the modules of this package are its own. In the order of the work: `packing`, `compiled`,
`intervals` and `equations`, `filters`, `order`, `enumerate`, `sample`, `feasible`.
"""

from autotune.core.feasible.feasible import Feasible

__all__ = ["Feasible"]

"""The feasible set of a space: its points enumerated, counted, tested and sampled."""

from autotune.core.feasible.feasible import Feasible

__all__ = ["Feasible"]

"""The parts of a strategy of your own: the protocol, its arguments and answers, and random numbers from a key.

docs/reference/strategies.md describes it; `autotune.register` gives a strategy a name that journals can use.
"""

from autotune.core.history import Archive
from autotune.core.keys import Key, fold, integers, permutation, root, uniform
from autotune.core.strategies.protocol import (
    Ask,
    AwaitOutcome,
    CheckedSettings,
    Done,
    Observation,
    Proposals,
    Seeds,
    Strategy,
)

__all__ = [
    "Archive",
    "Ask",
    "AwaitOutcome",
    "CheckedSettings",
    "Done",
    "Key",
    "Observation",
    "Proposals",
    "Seeds",
    "Strategy",
    "fold",
    "integers",
    "permutation",
    "root",
    "uniform",
]

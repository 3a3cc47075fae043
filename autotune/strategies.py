"""What a strategy of your own is made of: the protocol, what it gets and returns, and how a key gives random numbers.

docs/strategies.md describes it; `autotune.register` gives a strategy a name that journals can use.
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

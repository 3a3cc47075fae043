"""The rounds of a comparison: in which order its configs run, and whether more rounds would tell anything.

Whatever runs second may find a warmer device, a cache that was filled, a clock that has just been raised. In one order
for all rounds that is a difference between two equal configs; in an order drawn anew for each round it is noise, and
what the samples say of the ratio stays true. Every evaluator follows `order_of_round`, and a journal can be checked.
"""

from collections.abc import Iterable, Sequence

from autotune.core.keys import Key, fold, permutation
from autotune.core.search.messages import Compare, Purpose
from autotune.core.search.state import Search
from autotune.core.statistics import EQUAL, middle, paired_ratio

CERTAIN = 0.999
"""The level at which a comparison may end early. It is looked at many times, and each look may be wrong once in so
many: the level of what is reported is kept only if such looks hardly ever end it by chance."""


ORDER_BITS = 53
"""Of the key of an order: as many as every reader of JSON keeps."""


def comparison(search: Search, trials: Iterable[int], rounds: int, purpose: Purpose, until: float | None) -> Compare:
    """The comparison of these trials that a search asks for now, with a key of its own for its order."""
    order = fold(search.key, "order", search.asks) % 2**ORDER_BITS
    return Compare(tuple(search.trials[i] for i in trials), rounds, purpose, until, order)


def order_of_round(task: Compare, number: int) -> tuple[int, ...]:
    """In which order the trials of a comparison run in its round `number` (from 0), as positions in `task.trials`.

    A task without a key, as journals of earlier versions hold, runs in the order of its trials in every round.
    """
    count = len(task.trials)
    if task.order is None:
        return tuple(range(count))
    return tuple(permutation(fold(Key(task.order), "round", number), count).tolist())


def decided(samples: Sequence[Sequence[float]]) -> bool:
    """Whether more rounds would tell nothing about which is the fastest: each other config is certainly slower than it,
    or equal for all practical purposes. samples: of each config, one a round."""
    if len(samples) < 2:
        return True
    first, *others = sorted(samples, key=middle)
    return all(_settled(other, first) for other in others)


def _settled(other: Sequence[float], first: Sequence[float]) -> bool:
    if paired_ratio(other, first, CERTAIN).low > 1:
        return True
    known = paired_ratio(other, first)
    return known.low > 1 - EQUAL and known.high < 1 + EQUAL

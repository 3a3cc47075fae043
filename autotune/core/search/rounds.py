"""The rounds of a comparison: how many, in which order configs run in each, and when more rounds tell nothing new.

A config that runs second may find a warmer device, a filled cache or a raised clock. In one order for all rounds that
is a difference between two equal configs; in an order drawn anew for each round it is noise, and the ratio of the
samples stays true. Every evaluator follows `order_of_round`, and a journal can be checked against it.
"""

from collections.abc import Iterable, Sequence
from math import ceil

from msgspec import Struct
from msgspec.structs import replace

from autotune.core.keys import Key, fold, permutation
from autotune.core.outcomes import Timed
from autotune.core.search.limits import sample_seconds
from autotune.core.search.messages import Compare, Purpose
from autotune.core.search.plan import SHORT
from autotune.core.search.state import Search
from autotune.core.statistics import EQUAL, HARMLESS, finite_median, finite_ratio, paired_ratio, quantile

CERTAIN = 0.999
"""The level at which a comparison may end early. It is checked after every round, and every check may be wrong: the
reported level holds only if such checks hardly ever end a comparison by chance."""

LONGER, LONGER_S = 5, 1.0
"""Where times are noisy: at most this many times the rounds of the setting, in at least this many seconds."""

WIDTH = 2 * 1.2533 * 2**0.5
"""Half the interval of the median of n ratios, times the root of n, in standard deviations of a time: the median's own
is 1.2533 times the mean's (Laplace), a ratio's 2 ** 0.5 times a time's."""

FASTEST = 15
"""How many of the fastest configs show how noisy times are: the few samples of one config say little."""

ORDER_BITS = 53
"""Bits of the key of an order: as many as every JSON reader keeps."""


def request_comparison(
    search: Search, trials: Iterable[int], rounds: int, purpose: Purpose, until: float | None, *, fixed: bool = False
) -> Compare:
    """The comparison of these trials; the key of its order comes from the search's key and its count of requests."""
    order = fold(search.key, "order", search.asks) % 2**ORDER_BITS
    return Compare(tuple(search.trials[i] for i in trials), rounds, purpose, until, order, fixed)


def count_rounds(search: Search, count: int, least: int, difference: float = HARMLESS) -> int:
    """How many rounds a comparison of `count` configs needs to show this relative difference, by the search's noise.

    At least `least`; more only within LONGER_S seconds or the share `reserve` of the search, and at most LONGER times
    the verification's. The number is fixed before the comparison begins, so its own samples cannot end it.
    """
    most = LONGER * search.plan.settings.verify_rounds
    if search.plan.settings.verify_rounds < SHORT:
        return least
    scatter = _sample_noise(search)
    wanted = ceil(min((WIDTH * scatter / difference) ** 2, most))
    seconds = max(LONGER_S, search.plan.settings.reserve * search.clock)
    each_s = count * sample_seconds(search)
    affordable = int(min(seconds / each_s, most)) if each_s > 0 else most
    return max(least, min(wanted, affordable))


def _sample_noise(search: Search) -> float:
    """The relative standard deviation of a sample, by the quartiles of the fastest configs; 0 where too few exist."""
    archive, latest = search.archive, dict(search.outcomes)
    found = []
    for trial in archive.trials[archive.ranking()[:FASTEST]].tolist():
        outcome = latest[trial]
        if isinstance(outcome, Timed) and len(outcome.times_ms) > 2:
            ordered = sorted(outcome.times_ms)
            spread = quantile(ordered, 0.75) - quantile(ordered, 0.25)
            found.append(min(finite_ratio(spread / 1.349, quantile(ordered, 0.5)), 1.0))
    return finite_median(found) if found else 0.0


def order_of_round(task: Compare, number: int) -> tuple[int, ...]:
    """The order in which the trials of a comparison run in round `number` (from 0), as positions in `task.trials`.

    A task without a key, as in journals of earlier versions, runs in the order of its trials in every round.
    """
    count = len(task.trials)
    if task.order is None:
        return tuple(range(count))
    return tuple(permutation(fold(Key(task.order), "round", number), count).tolist())


EXTRA_TIMES, EXTRA_S = 5, 10.0
"""How many times the rounds that were asked for, and how many seconds beyond these, an extended comparison takes at
most: five times the rounds make an interval less than half as wide, and ten seconds are little beside a search."""


class Rounds(Struct, frozen=True, kw_only=True):
    """Where a comparison stands between two rounds. Times are in seconds on the search's clock.

    least: rounds that were asked for. most: rounds that it may take while the fastest config is not decided.
    until: when it must be over; None: no such time. began_at: when the latest round began. longest_s: the longest
    round so far. extended_at: when the rounds that were asked for were over.
    """

    least: int
    most: int
    until: float | None = None
    began_at: float | None = None
    longest_s: float = 0.0
    extended_at: float | None = None


def rounds_of(task: Compare, extend: bool = False) -> Rounds:
    """The rounds of a comparison before the first one.

    extend: go on beyond the rounds that were asked for until it is decided which config is the fastest, within
    EXTRA_TIMES and EXTRA_S, unless the number of rounds is fixed.
    """
    most = task.rounds * (EXTRA_TIMES if extend and not task.fixed else 1)
    return Rounds(least=task.rounds, most=most, until=task.until)


def next_round(rounds: Rounds, done: int, now: float, samples: Sequence[Sequence[float]]) -> Rounds | None:
    """The state once another round has begun at `now`; None where no further round begins.

    done: how many rounds are over. samples: of each config, one for each round in milliseconds. A round begins only if
    it would be over in time, going by the longest one so far; the first one always does.
    """
    longest = max(rounds.longest_s, 0.0 if rounds.began_at is None else now - rounds.began_at)
    late = rounds.until is not None and now + longest > rounds.until
    if done >= rounds.most or (late and done > 0):
        return None
    extended_at = rounds.extended_at
    if done >= rounds.least:
        extended_at = now if extended_at is None else extended_at
        if now - extended_at > EXTRA_S or is_decided(samples):
            return None
    return replace(rounds, began_at=now, longest_s=longest, extended_at=extended_at)


def is_decided(samples: Sequence[Sequence[float]]) -> bool:
    """Whether more rounds would not change the fastest: every other config is certainly slower, or equal for all
    practical purposes. samples [configs][rounds]: times in milliseconds."""
    if len(samples) < 2:
        return True
    first, *others = sorted(samples, key=finite_median)
    return all(_is_settled(other, first) for other in others)


def _is_settled(other: Sequence[float], first: Sequence[float]) -> bool:
    if paired_ratio(other, first, CERTAIN).low > 1:
        return True
    known = paired_ratio(other, first)
    return known.low > 1 - EQUAL and known.high < 1 + EQUAL

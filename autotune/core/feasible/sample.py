"""Drawing valid points of one component: from its table, by rejection, or by constraint-directed construction.

Which one depends on the component alone, never on what was asked before, so that a key always gives the same points.
"""

from dataclasses import dataclass

import numpy as np

from autotune.core.cancellation import checkpoint
from autotune.core.errors import SpaceError
from autotune.core.feasible.enumerate import (
    Block,
    Component,
    Enumerated,
    OutOfWork,
    Work,
    extend,
    grow,
    options,
    refuse_raising,
    start,
    told,
)
from autotune.core.feasible.order import Step
from autotune.core.feasible.packing import Ranks
from autotune.core.keys import Key, fold, integers, root, words
from autotune.core.parameters import Codes

SMALL = 1 << 14
"""A component of so few raw points is enumerated at once."""

PROBE = 4096
GOOD, FAIR = 0.05, 0.001
"""Acceptance from which rejection is preferred to enumeration; and from which it is preferred to construction."""

TABLE_WORK, TABLE_POINTS = 20_000_000, 5_000_000
SEARCH_WORK = 40_000_000
"""How many candidates a construction looks at before it gives up: some seconds each."""

LANE_WORK = 40_000_000
SHOWN = 12
BATCH = 1 << 17
WIDTHS = (4, 16, 64, 256)
FAN = 256
DRY, FEW = 0.05, 64
BLOCKS = 64


@dataclass(frozen=True)
class Free:
    """No constraint: the parameter samples itself."""


@dataclass(frozen=True)
class Tabled:
    """Rows of the component's table."""

    table: Enumerated


@dataclass(frozen=True)
class Rejection:
    """Draw and test; about this share passes."""

    acceptance: float


@dataclass(frozen=True)
class Construction:
    """Bind parameters one by one to random values that constraints leave open. Not uniform."""


Method = Free | Tabled | Rejection | Construction


def method(component: Component) -> Method:
    """How to draw points of a component; SpaceError where it is found to have none."""
    if not component.judges:
        return Free()
    small = component.raw <= SMALL
    acceptance = 0.0 if small else float(component.valid(_draw(component, fold(root(0), "probe"), PROBE)).mean())
    many = acceptance >= FAIR and acceptance * component.raw > TABLE_POINTS
    if acceptance >= GOOD or many:  # a table is not worth its while, or would be too long
        return Rejection(acceptance)
    table = component.enumerate(TABLE_WORK, TABLE_POINTS)
    if table is not None:
        return Tabled(table)
    return Rejection(acceptance) if acceptance >= FAIR or not component.ranked else Construction()


def draw(component: Component, how: Method, key: Key, n: int) -> dict[str, Codes]:
    """`n` valid points of a component, as codes [n, width] by name."""
    match how:
        case Free():
            return _draw(component, key, n)
        case Tabled(table):
            chosen = integers(key, table.count, n)
            return _codes(component, [word[chosen] for word in table.words])
        case Rejection(acceptance):
            return _reject(component, acceptance, key, n)
        case Construction():
            return _codes(component, construct(component, key, n))


def _codes(component: Component, packed: list[Ranks]) -> dict[str, Codes]:
    return {name: component.layout.codes(name, packed) for name in component.names}


def _draw(component: Component, key: Key, n: int) -> dict[str, Codes]:
    return {name: parameter.sample(fold(key, name), n) for name, parameter in component.parameters.items()}


def _reject(component: Component, acceptance: float, key: Key, n: int) -> dict[str, Codes]:
    found: list[dict[str, Codes]] = []
    count = tried = 0
    while count < n:
        checkpoint()
        size = min(BATCH, max(256, int(1.1 * (n - count) / max(acceptance, FAIR)) + 1))
        drawn = _draw(component, fold(key, len(found)), size)
        keep = np.flatnonzero(component.valid(drawn))[: n - count]
        found.append({name: codes[keep] for name, codes in drawn.items()})
        count, tried = count + len(keep), tried + size
        if not count and tried > SEARCH_WORK // (100 * component.weight):
            raise _rare(component, tried)
    return {name: np.concatenate([part[name] for part in found]) for name in component.names}


def _rare(component: Component, tried: int) -> SpaceError:
    names = component.names if len(component.names) <= SHOWN else (*component.names[:SHOWN], "…")
    return SpaceError(
        f"no valid point of ({', '.join(names)}) was found among {tried:,} candidates; loosen one of "
        f"{told(component.judges, ', ')}, or narrow these parameters"
    )


def construct(component: Component, key: Key, n: int) -> list[Ranks]:
    """The words of `n` valid points, each grown on its own from random choices that no constraint excludes.

    Every point is a lane: a few partial points, of which a random few survive each step. Lanes that run dry start
    again, wider; what then remains is left to a complete search in random order.
    """
    found: list[list[Ranks]] = []
    count, left, work = 0, n, Work(LANE_WORK)
    for turn, width in enumerate(WIDTHS):
        lanes = max(1, BATCH // (width * 32))
        for batch, first in enumerate(range(0, left, lanes)):
            found.append(_lanes(component, fold(key, turn, batch), min(lanes, left - first), width, work))
        passed = sum(len(part[0]) for part in found) - count
        count, left = count + passed, n - count - passed
        if not left:
            break
        if work.left < 0:
            break
        if passed < DRY * (left + passed):  # nearly all run dry: a few wide lanes tell whether width helps
            left = min(left, FEW)
    if count < min(n, FEW):
        found.append(_search(component, fold(key, "search"), n, SEARCH_WORK // (20 if count else 1)))
        count += len(found[-1][0])
    if not count:
        raise _rare(component, SEARCH_WORK // component.weight)
    pool = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    again = integers(fold(key, "again"), count, max(0, n - count))  # too few lanes finished: their points serve again
    return [np.concatenate([word, word[again]])[:n] for word in pool]


def _lanes(component: Component, key: Key, n: int, width: int, work: Work) -> list[Ranks]:
    """The words of at most one point for each of `n` lanes; of none where the work is spent."""
    plan, layout = component.plan, component.layout
    block, lane = start(plan, layout), np.repeat(np.arange(n), width if plan.seed is not None else 1)
    block = block.take(integers(fold(key, "seed"), block.n, len(lane))) if block.n else block
    for depth, step in enumerate(plan.steps):
        if not block.n:
            break
        counts, values = _some(block, step, fold(key, "values", depth))
        try:
            grown, kept = extend(block, step, layout, counts, values, work)
        except OutOfWork:
            return [word[:0] for word in block.words]
        lane = np.repeat(lane, counts)
        lane = lane if kept is None else lane[kept]
        chosen = _few(lane, fold(key, "lanes", depth), width)
        block, lane = grown.take(chosen), lane[chosen]
    if not block.n:
        return [word[:0] for word in block.words]
    block = block.take(_few(lane, fold(key, "last"), 1))
    refuse_raising(plan, layout, block)
    return block.words


def _some(block: Block, step: Step, key: Key) -> tuple[Ranks, Ranks]:
    """The values to try for each point: all of a few, a random choice of many."""
    if step.allowed is not None:
        return step.allowed.some(block.live, block.n, FAN, key)
    if step.size > FAN:
        return np.full(block.n, FAN), integers(key, step.size, block.n * FAN)
    return options(block, step, 0, step.size)


def _few(lane: Ranks, key: Key, width: int) -> Ranks:
    """The positions of at most `width` random entries of each lane."""
    order = np.lexsort((words(key, len(lane)), lane))
    lanes = lane[order]
    fresh = np.flatnonzero(np.r_[True, lanes[1:] != lanes[:-1]]) if len(lanes) else lanes
    place = np.arange(len(lanes)) - np.repeat(fresh, np.diff(np.r_[fresh, len(lanes)]))
    return np.sort(order[place < width])


def _search(component: Component, key: Key, n: int, work: int) -> list[Ranks]:
    """Some valid points from a complete search in random order; SpaceError where it finds that there are none."""
    found = [start(component.plan, component.layout).take(slice(0)).words]
    count = 0
    try:
        for block in grow(component.plan, component.layout, Work(work // component.weight), 1 << 12, key):
            found.append(block)
            count += len(block[0])
            if count >= n or len(found) > BLOCKS:
                break
    except OutOfWork:
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]
    if not count:
        raise component.unsatisfiable()
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]

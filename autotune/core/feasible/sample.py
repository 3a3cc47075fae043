"""Samples of a component's valid points: from its table, by rejection, or by constraint-directed construction.

The method depends on the component alone, never on earlier questions, so that a key always gives the same points.
"""

from dataclasses import dataclass

import numpy as np

from autotune.core.cancellation import checkpoint
from autotune.core.errors import SpaceError
from autotune.core.feasible.enumerate import (
    Component,
    OutOfWork,
    PartialPoints,
    PointTable,
    WorkBudget,
    bind,
    candidate_values,
    check_raising,
    enumerate_points,
    initial_points,
    name_constraints,
)
from autotune.core.feasible.order import BindingStep, Choices
from autotune.core.feasible.packing import Words
from autotune.core.keys import Key, fold, integers, root, words
from autotune.core.parameters import Codes
from autotune.core.points import Ranks

SMALL = 1 << 14
"""A component of no more points than this, constraints aside, is enumerated at once."""

PROBE = 4096
"""Points drawn to estimate the share of valid ones."""

GOOD, FAIR = 0.05, 0.001
"""The acceptance from which rejection is preferred to enumeration, and from which it is preferred to construction."""

TABLE_WORK, TABLE_POINTS = 20_000_000, 5_000_000
"""A table takes no more candidates (about a second) and no more points (40 MB) than this."""

SEARCH_WORK, LANE_WORK = 40_000_000, 40_000_000
"""Candidates that a complete search, and the lanes of a construction, look at before they give up: seconds each."""

BATCH = 1 << 17
"""The most points drawn, or candidates bound, at once."""

WIDTHS = (4, 16, 64, 256)
"""Partial points of a lane, wider each time that lanes run dry."""

FAN = 256
"""The most values tried for one partial point at a step of a lane."""

DRY, FEW = 0.05, 64
"""If fewer lanes than this share finish, a few wide lanes are enough to tell whether width helps."""

MOST_BLOCKS, MOST_NAMES = 64, 12
"""Blocks of points that a random search collects, and names that an error shows."""


@dataclass(frozen=True)
class Unconstrained:
    """The component is one parameter without constraints, which samples itself."""


@dataclass(frozen=True)
class Tabled:
    """Points of the component's table."""

    table: PointTable


@dataclass(frozen=True)
class Rejection:
    """Points drawn without regard to the constraints, of which about this share is valid and kept."""

    acceptance: float


@dataclass(frozen=True)
class Construction:
    """Points built by binding one parameter after another to random values that constraints leave open. Not uniform."""


SamplingMethod = Unconstrained | Tabled | Rejection | Construction


def choose_method(component: Component) -> SamplingMethod:
    """The method for a component; SpaceError if it is found to have no valid point."""
    if not component.constraints:
        return Unconstrained()
    small = component.raw_count <= SMALL
    acceptance = 0.0 if small else float(component.valid(_draw_raw(component, fold(root(0), "probe"), PROBE)).mean())
    many = acceptance >= FAIR and acceptance * component.raw_count > TABLE_POINTS
    if acceptance >= GOOD or many:  # a table costs more than it saves, or would be too long
        return Rejection(acceptance)
    table = component.enumerate(TABLE_WORK, TABLE_POINTS)
    if table is not None:
        return Tabled(table)
    return Rejection(acceptance) if acceptance >= FAIR or not component.ranked else Construction()


def sample_component(component: Component, method: SamplingMethod, key: Key, n: int) -> dict[str, Codes]:
    """`n` valid points of a component, as codes [n, width] by name; SpaceError if none is found."""
    match method:
        case Unconstrained():
            return _draw_raw(component, key, n)
        case Rejection(acceptance):
            return _reject(component, acceptance, key, n)
        case Tabled(table):
            chosen = integers(key, table.count, n)
            packed = [word[chosen] for word in table.words]
        case Construction():
            packed = _construct(component, key, n)
    return {name: component.packing.codes(name, packed) for name in component.names}


def _draw_raw(component: Component, key: Key, n: int) -> dict[str, Codes]:
    """`n` points drawn uniformly, constraints aside."""
    return {name: parameter.sample(fold(key, name), n) for name, parameter in component.parameters.items()}


def _reject(component: Component, acceptance: float, key: Key, n: int) -> dict[str, Codes]:
    """Draws batches until `n` points are valid."""
    found: list[dict[str, Codes]] = []
    count = tried = 0
    while count < n:
        checkpoint()
        size = min(BATCH, max(256, int(1.1 * (n - count) / max(acceptance, FAIR)) + 1))
        drawn = _draw_raw(component, fold(key, len(found)), size)
        keep = np.flatnonzero(component.valid(drawn))[: n - count]
        found.append({name: codes[keep] for name, codes in drawn.items()})
        count, tried = count + len(keep), tried + size
        if not count and tried > SEARCH_WORK // (100 * component.candidate_cost):
            raise _no_point_found(component, tried)
    return {name: np.concatenate([part[name] for part in found]) for name in component.names}


def _no_point_found(component: Component, tried: int) -> SpaceError:
    names = component.names if len(component.names) <= MOST_NAMES else (*component.names[:MOST_NAMES], "…")
    return SpaceError(
        f"no valid point of ({', '.join(names)}) was found among {tried:,} candidates; loosen one of "
        f"{name_constraints(component.constraints, ', ')}, or narrow these parameters"
    )


def _construct(component: Component, key: Key, n: int) -> Words:
    """`n` valid points, packed, each grown on its own from random choices that no constraint excludes.

    Every point has a lane: a few partial points, of which a random few survive each step. Lanes that run dry start
    again, wider. A complete search in random order takes over if hardly any lane finishes.
    """
    found: list[Words] = []
    count, left, budget = 0, n, WorkBudget(LANE_WORK)
    for turn, width in enumerate(WIDTHS):
        lanes = max(1, BATCH // (width * 32))
        for batch, first in enumerate(range(0, left, lanes)):
            found.append(_run_lanes(component, fold(key, turn, batch), min(lanes, left - first), width, budget))
        passed = sum(len(part[0]) for part in found) - count
        count, left = count + passed, n - count - passed
        if not left or budget.left < 0:
            break
        if passed < DRY * (left + passed):
            left = min(left, FEW)
    if count < min(n, FEW):
        found.append(_search(component, fold(key, "search"), n, SEARCH_WORK // (20 if count else 1)))
        count += len(found[-1][0])
    if not count:
        raise _no_point_found(component, SEARCH_WORK // component.candidate_cost)
    pool = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    again = integers(fold(key, "again"), count, max(0, n - count))  # too few points: some serve several times
    return [np.concatenate([word, word[again]])[:n] for word in pool]


def _run_lanes(component: Component, key: Key, n: int, width: int, budget: WorkBudget) -> Words:
    """At most one point, packed, for each of `n` lanes; none if the budget is spent."""
    order, packing = component.order, component.packing
    points, lane = initial_points(order, packing), np.repeat(np.arange(n), width if order.seed is not None else 1)
    points = points.take(integers(fold(key, "seed"), points.n, len(lane))) if points.n else points
    for depth, step in enumerate(order.steps):
        if not points.n:
            break
        choices = _some_values(points, step, fold(key, "values", depth))
        try:
            grown, kept = bind(points, step, packing, choices, budget)
        except OutOfWork:
            return [word[:0] for word in points.words]
        lane = np.repeat(lane, choices[0])
        lane = lane if kept is None else lane[kept]
        chosen = _some_of_each(lane, fold(key, "lanes", depth), width)
        points, lane = grown.take(chosen), lane[chosen]
    if not points.n:
        return [word[:0] for word in points.words]
    points = points.take(_some_of_each(lane, fold(key, "last"), 1))
    check_raising(order, packing, points)
    return points.words


def _some_values(points: PartialPoints, step: BindingStep, key: Key) -> Choices:
    """The values to try for each point: all of a few, a random choice of many."""
    if step.candidates is not None:
        return step.candidates.some(points.live, points.n, FAN, key)
    if step.size > FAN:
        return np.full(points.n, FAN), integers(key, step.size, points.n * FAN)
    return candidate_values(points, step, 0, step.size)


def _some_of_each(lane: Ranks, key: Key, width: int) -> Ranks:
    """The ascending positions of at most `width` random entries of each lane; lane: the lane of every entry [m]."""
    order = np.lexsort((words(key, len(lane)), lane))
    lanes = lane[order]
    starts = np.flatnonzero(np.r_[True, lanes[1:] != lanes[:-1]]) if len(lanes) else lanes
    place = np.arange(len(lanes)) - np.repeat(starts, np.diff(np.r_[starts, len(lanes)]))
    return np.sort(order[place < width])


def _search(component: Component, key: Key, n: int, work: int) -> Words:
    """Some valid points, packed, from a complete search in random order; SpaceError if it finds that there are none."""
    found = [initial_points(component.order, component.packing).take(slice(0)).words]
    count, budget = 0, WorkBudget(work // component.candidate_cost)
    try:
        for block in enumerate_points(component.order, component.packing, budget, 1 << 12, key):
            found.append(block)
            count += len(block[0])
            if count >= n or len(found) > MOST_BLOCKS:
                break
        if not count:
            raise component.unsatisfiable()
    except OutOfWork:
        pass
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]

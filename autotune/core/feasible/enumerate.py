"""The enumeration of a component: partial points grow by one parameter a step, many at a time.

A component is a set of parameters that constraints tie together; a space is the product of its components. Partial
points grow breadth first within a chunk and depth first over chunks, so that memory stays bounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.cancellation import checkpoint
from autotune.core.constraints.kinds import evaluation_error
from autotune.core.constraints.verdicts import NO, RAISES, decode
from autotune.core.errors import SpaceError
from autotune.core.feasible.compiled import CompiledConstraint
from autotune.core.feasible.order import BindingOrder, BindingStep, Choices, plan_order
from autotune.core.feasible.packing import Packing, Words, sort_points
from autotune.core.keys import Key, fold, permutation
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter
from autotune.core.points import Ranks

CHUNK = 1 << 17
"""Candidates of one step at a time: some MB, which stay in the processor's cache."""

STACK_BYTES = 256_000_000
"""The partial points of all depths take about this much memory; with many names a chunk is smaller."""

TABLE_BYTES = 400_000_000
"""The table of a component's points takes no more memory than this."""

MANY_LIVE = 16
"""The ranks of up to this many live names cost next to nothing; more are copied for every candidate."""

STEP_COST = 2000
"""A step takes as long as this many candidates, however few it has."""

CALL_COST = 100
"""A call of Python takes as long as this many candidates."""

DENSE = 0.6
"""If fewer candidates than this share pass a filter, the passing ones are copied before the next filter."""

CONFLICT_WORK, CONFLICT_CONSTRAINTS, NAMED_CONSTRAINTS = 2_000_000, 32, 5
"""To name a conflict, each of up to 32 constraints is left out of a search of up to 2 million candidates, which takes
some tenths of a second; an error names up to five constraints."""


@dataclass(frozen=True, eq=False)
class PartialPoints:
    """n partial points: their words, and the ranks [n] of the live names, which later steps need."""

    n: int
    words: Words
    live: dict[str, Ranks]

    def take(self, where: "slice | Ranks") -> "PartialPoints":
        """The points at these positions."""
        words = [word[where] for word in self.words]
        return PartialPoints(len(words[0]), words, {name: ranks[where] for name, ranks in self.live.items()})


@dataclass
class WorkBudget:
    """The number of candidates that a search may still look at."""

    left: int

    def spend(self, n: int) -> None:
        """Count n candidates; raises OutOfWork when there are none left."""
        checkpoint()
        self.left -= n
        if self.left < 0:
            raise OutOfWork


class OutOfWork(Exception):
    """A search has spent its budget, and its answer is unknown."""


@dataclass(frozen=True)
class PointTable:
    """All valid points of a component, packed and in order. spent: the work that took."""

    words: Words
    spent: int

    @property
    def count(self) -> int:
        """The number of points."""
        return len(self.words[0])


@dataclass(frozen=True, eq=False)
class Component:
    """Parameters by name, in the order of the space, and the constraints that read them. packing: the space's."""

    parameters: dict[str, Parameter]
    constraints: tuple[CompiledConstraint, ...]
    packing: Packing

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the space."""
        return tuple(self.parameters)

    @memo
    def raw_count(self) -> int:
        """The number of points without the constraints."""
        return prod(parameter.size for parameter in self.parameters.values())

    @property
    def ranked(self) -> bool:
        """Whether every parameter has ranks, so that the component can be searched."""
        return all(name in self.packing.place for name in self.parameters)

    @memo
    def candidate_cost(self) -> int:
        """About how much more a candidate costs than one that a table or a column program decides."""
        calls = CALL_COST if not all(constraint.fast for constraint in self.constraints) else 1
        return calls * max(parameter.width for parameter in self.parameters.values())

    @memo
    def order(self) -> BindingOrder:
        """The order in which its search binds the parameters."""
        return plan_order(self.parameters, self.constraints)

    def enumerate(self, work: int, most: int) -> PointTable | None:
        """All valid points; None past `work` candidates, by their cost, or `most` points; SpaceError without any."""
        if not self.ranked:
            return None
        budget, blocks, count = WorkBudget(work // self.candidate_cost), [], 0
        most = min(most, TABLE_BYTES // (8 * self.packing.words))
        try:
            for block in enumerate_points(self.order, self.packing, budget):
                blocks.append(block)
                count += len(block[0])
                if count > most:
                    return None
        except OutOfWork:
            return None
        if not blocks:
            raise self.unsatisfiable()
        joined = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        return PointTable(sort_points(joined), work - budget.left * self.candidate_cost)

    def valid(self, codes: Mapping[str, Codes]) -> NDArray[np.bool_]:
        """Which of n points, codes [n, width] by name, satisfy every constraint; SpaceError where one raises."""
        return satisfies_all(self.constraints, codes, len(codes[self.names[0]]))

    def unsatisfiable(self) -> SpaceError:
        """The error that names constraints which no point satisfies together."""
        conflict = name_constraints(_find_conflict(self.constraints, self.packing), " and ")
        return SpaceError(f"no point of the space satisfies {conflict}; relax a constraint or widen its parameters")


def split_components(
    parameters: Mapping[str, Parameter], constraints: Sequence[CompiledConstraint], packing: Packing
) -> tuple[Component, ...]:
    """The connected components of the graph whose edges are constraints, in the order of their first parameters."""
    group = {name: {name} for name in parameters}
    for constraint in constraints:
        joined = set[str]().union(*(group[name] for name in constraint.names))
        for name in joined:
            group[name] = joined
    components, seen = [], set[str]()
    for name, names in group.items():
        if name not in seen:
            seen |= names
            own = tuple(constraint for constraint in constraints if constraint.names[0] in names)
            components.append(Component({n: p for n, p in parameters.items() if n in names}, own, packing))
    return tuple(components)


def enumerate_points(
    order: BindingOrder, packing: Packing, budget: WorkBudget, chunk: int = CHUNK, shuffle: Key | None = None
) -> Iterator[Words]:
    """The complete points, packed, in blocks; raises OutOfWork, or SpaceError where a constraint raises.

    shuffle: the key of a random order in which to go through partial points, so that the first points lie anywhere.
    """
    stack, turn = [(0, initial_points(order, packing), 0)], 0
    chunk = min(chunk, max(1, STACK_BYTES // (8 * sum(packing.words + len(step.live) for step in order.steps) + 8)))
    while stack:
        depth, points, first = stack.pop()
        if not points.n:  # a seed may be empty
            continue
        if depth == len(order.steps):
            check_raising(order, packing, points)
            yield points.words
            continue
        step = order.steps[depth]
        fan = max(1, step.size) if step.candidates is None else step.candidates.fan
        room = max(1, chunk // fan)
        if points.n > room:
            stack.append((depth, points.take(slice(room, None)), first))
            points = points.take(slice(room))
        last = min(step.size, first + chunk)
        if step.candidates is None and last < step.size:  # one point at a time, a slice of its many values at a time
            stack.append((depth, points, last))
        grown, _ = bind(points, step, packing, candidate_values(points, step, first, last), budget)
        if shuffle is not None:
            grown, turn = grown.take(permutation(fold(shuffle, turn), grown.n)), turn + 1
        if grown.n:
            stack.append((depth + 1, grown, 0))


def initial_points(order: BindingOrder, packing: Packing) -> PartialPoints:
    """The points that a search starts from: the seed rows, or one point that binds nothing."""
    if order.seed is None:
        return PartialPoints(1, packing.pack({}, 1), {})
    n = len(next(iter(order.seed.values())))
    return PartialPoints(n, packing.pack(order.seed, n), order.seed)


def candidate_values(points: PartialPoints, step: BindingStep, first: int, last: int) -> Choices:
    """All values that each point may take at a step; if it may take any value, those from first to last."""
    if step.candidates is None:
        return np.full(points.n, last - first), np.tile(np.arange(first, last), points.n)
    return step.candidates.all(points.live, points.n)


def bind(
    points: PartialPoints, step: BindingStep, packing: Packing, choices: Choices, budget: WorkBudget
) -> tuple[PartialPoints, Ranks | None]:
    """The points with one more parameter bound to these values, and the positions of the candidates that passed the
    filters (None: all). Raises OutOfWork."""
    counts, values = choices
    budget.spend(max(len(values), STEP_COST) * (1 + len(points.live) // MANY_LIVE))
    keep, ranks = None, values if step.stride == 1 else values * step.stride
    if step.continued:
        ranks = ranks + np.repeat(points.live[step.name], counts)
    if step.below is not None and int(ranks.max(initial=0)) >= step.below:
        keep = np.flatnonzero(ranks < step.below)
    if step.filters:
        needed = {name for check in step.filters for name in check.names if name != step.name}
        candidates = {name: np.repeat(points.live[name], counts) for name in needed}
        keep = _passing({**candidates, step.name: ranks}, step, keep)
    word, stride = packing.place[step.name]
    words = [np.repeat(part, counts) for part in points.words]
    words[word] += values * (step.stride * stride)
    live = {name: np.repeat(ranks, counts) for name, ranks in points.live.items() if name in step.live}
    if step.name in step.live:
        live[step.name] = ranks
    grown = PartialPoints(len(values), words, live)
    return (grown, None) if keep is None else (grown.take(keep), keep)


def _passing(candidates: dict[str, Ranks], step: BindingStep, alive: Ranks | None) -> Ranks:
    """The positions of the candidates that pass every filter of the step, among those at `alive` (None: all)."""
    keep = np.ones(len(candidates[step.name] if alive is None else alive), bool)
    for check in step.filters:
        count = int(np.count_nonzero(keep))
        if not count:
            break
        if count < DENSE * len(keep):
            alive = np.flatnonzero(keep) if alive is None else alive[keep]
            keep = np.ones(count, bool)
        named = {name: candidates[name] if alive is None else candidates[name][alive] for name in check.names}
        keep &= check.keep(named)
    return np.flatnonzero(keep) if alive is None else alive[keep]


def check_raising(order: BindingOrder, packing: Packing, points: PartialPoints) -> None:
    """Raises SpaceError for a complete point at which one constraint raises: no other constraint forbids it."""
    for constraint in order.raising:
        verdicts = constraint.verdicts_of_ranks({name: packing.ranks(name, points.words) for name in constraint.names})
        where = np.flatnonzero(verdicts == RAISES)[:1]
        if len(where):
            words = [word[where] for word in points.words]
            read = constraint.constraint.names  # of the whole constraint, of which this may be one conjunct
            row = decode(packing.parameters, {name: packing.codes(name, words) for name in read})[0]
            raise evaluation_error(constraint.constraint, row)


def satisfies_all(constraints: Sequence[CompiledConstraint], codes: Mapping[str, Codes], n: int) -> NDArray[np.bool_]:
    """Which of n points every constraint allows, shape [n]; SpaceError where one raises and no other says no."""
    alive, raised = np.arange(n), []
    for constraint in sorted(constraints, key=lambda constraint: not constraint.fast):
        whole = len(alive) == n
        read = {name: codes[name] if whole else codes[name][alive] for name in constraint.names}
        verdicts = constraint.verdicts(read)
        if (verdicts == RAISES).any():
            raised.append((constraint, alive[verdicts == RAISES]))
        alive = alive[verdicts != NO]
    for constraint, where in raised:
        for row in where[np.isin(where, alive)][:1]:
            point = {name: codes[name][row : row + 1] for name in constraint.names}
            raise evaluation_error(constraint.constraint, decode(constraint.parameters, point)[0])
    mask = np.zeros(n, bool)
    mask[alive] = True
    return mask


def name_constraints(constraints: Sequence[CompiledConstraint], join: str) -> str:
    """Constraints in an error message; of many the first few."""
    shown = join.join(repr(one.constraint.describe()) for one in constraints[:NAMED_CONSTRAINTS])
    others = len(constraints) - NAMED_CONSTRAINTS
    return shown if others <= 0 else f"{shown} and {others} others"


def _find_conflict(constraints: Sequence[CompiledConstraint], packing: Packing) -> tuple[CompiledConstraint, ...]:
    """A small set of constraints that no point satisfies: each is left out in turn, and for good if the rest still have
    no point (a deletion filter; Chinneck and Dravnieks, ORSA Journal on Computing 3, 1991). All of them if there are
    too many to try."""
    kept = list(constraints)
    if len(constraints) > CONFLICT_CONSTRAINTS:
        return tuple(kept)
    for constraint in constraints:
        rest = [other for other in kept if other is not constraint]
        if rest and not _may_be_satisfiable(rest, packing):
            kept = rest
    return tuple(kept)


def _may_be_satisfiable(constraints: Sequence[CompiledConstraint], packing: Packing) -> bool:
    """False only if it is certain that no point satisfies them."""
    read = {name for constraint in constraints for name in constraint.names}
    order = plan_order({name: p for name, p in packing.parameters.items() if name in read}, constraints)
    try:
        return next(enumerate_points(order, packing, WorkBudget(CONFLICT_WORK)), None) is not None
    except (OutOfWork, SpaceError):
        return True

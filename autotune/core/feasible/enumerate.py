"""Growing partial points, breadth first within a chunk and depth first over chunks, so that memory stays bounded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.cancellation import checkpoint
from autotune.core.constraints.kinds import failure
from autotune.core.constraints.verdicts import NO, RAISES, decode
from autotune.core.errors import SpaceError
from autotune.core.feasible.compiled import Judge
from autotune.core.feasible.order import Plan, Step, plan
from autotune.core.feasible.packing import Layout, Ranks, in_order
from autotune.core.keys import Key, fold, permutation
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter

CHUNK = 1 << 17
STACK_BYTES = 256_000_000
"""About how much the partial points of all depths may take together: a chunk is smaller where there are many names."""

LIGHT = 16
"""Up to so many names that are still needed cost next to nothing; more are copied for every candidate."""

LEAST = 2000
"""A step takes as long as this many candidates, however few it has."""

DENSE = 0.6


@dataclass(frozen=True, eq=False)
class Block:
    """n partial points: their words, and the ranks [n] of the names that are still needed."""

    n: int
    words: list[Ranks]
    live: dict[str, Ranks]

    def take(self, where: "slice | Ranks") -> "Block":
        """The points at these positions."""
        words = [word[where] for word in self.words]
        return Block(len(words[0]), words, {name: ranks[where] for name, ranks in self.live.items()})


@dataclass
class Work:
    """How many candidates may still be looked at; running out means: unknown."""

    left: int

    def spend(self, n: int) -> None:
        """Count n candidates; raises OutOfWork when there are none left."""
        checkpoint()
        self.left -= n
        if self.left < 0:
            raise OutOfWork


class OutOfWork(Exception):
    """The search would look at more candidates than it may."""


def grow(
    plan: Plan, layout: Layout, work: Work, chunk: int = CHUNK, shuffle: Key | None = None
) -> Iterator[list[Ranks]]:
    """The complete points, as words, in blocks; raises OutOfWork, or SpaceError where a constraint raises.

    shuffle: the key of a random order in which to go through partial points, so that the first ones found lie anywhere.
    """
    stack, turn = [(0, start(plan, layout), 0)], 0
    chunk = min(chunk, max(1, STACK_BYTES // (8 * sum(layout.words + len(step.live) for step in plan.steps) + 8)))
    while stack:
        depth, block, first = stack.pop()
        if not block.n:  # a seed may be empty
            continue
        if depth == len(plan.steps):
            refuse_raising(plan, layout, block)
            yield block.words
            continue
        step = plan.steps[depth]
        room = max(1, chunk // _fan(step))
        if block.n > room:
            stack.append((depth, block.take(slice(room, None)), first))
            block = block.take(slice(room))
        last = min(step.size, first + chunk)
        if step.allowed is None and last < step.size:  # one point at a time, a slice of its many values at a time
            stack.append((depth, block, last))
        grown, _ = extend(block, step, layout, *options(block, step, first, last), work)
        if shuffle is not None:
            grown, turn = grown.take(permutation(fold(shuffle, turn), grown.n)), turn + 1
        if grown.n:
            stack.append((depth + 1, grown, 0))


def _fan(step: Step) -> int:
    """About how many candidates one point makes."""
    return max(1, step.size) if step.allowed is None else step.allowed.fan


def start(plan: Plan, layout: Layout) -> Block:
    """What a plan starts from: its seed rows, or one point that binds nothing."""
    if plan.seed is None:
        return Block(1, [np.zeros(1, np.int64) for _ in range(layout.words)], {})
    n = len(next(iter(plan.seed.values())))
    return Block(n, layout.pack(list(plan.seed), plan.seed, n), plan.seed)


def options(block: Block, step: Step, first: int, last: int) -> tuple[Ranks, Ranks]:
    """How many values each point may take at a step, shape [n], and all of them, one point after another."""
    if step.allowed is None:
        return np.full(block.n, last - first), np.tile(np.arange(first, last), block.n)
    return step.allowed.all(block.live, block.n)


def extend(
    block: Block, step: Step, layout: Layout, counts: Ranks, values: Ranks, work: Work
) -> tuple[Block, Ranks | None]:
    """The block with one more parameter bound to these values, and which of the candidates passed (None: all)."""
    work.spend(max(len(values), LEAST) * (1 + len(block.live) // LIGHT))
    keep, ranks = None, values if step.stride == 1 else values * step.stride
    if step.continued:
        ranks = ranks + np.repeat(block.live[step.name], counts)
    if step.below is not None and int(ranks.max(initial=0)) >= step.below:
        keep = np.flatnonzero(ranks < step.below)
    if step.filters:
        needed = {name for check in step.filters for name in check.names if name != step.name}
        candidates = {name: np.repeat(block.live[name], counts) for name in needed}
        keep = surviving({**candidates, step.name: ranks}, step, keep)
    word, stride = layout.place[step.name]
    words = [np.repeat(part, counts) for part in block.words]
    words[word] += values * (step.stride * stride)
    live = {name: np.repeat(ranks, counts) for name, ranks in block.live.items() if name in step.live}
    if step.name in step.live:
        live[step.name] = ranks
    grown = Block(len(values), words, live)
    return (grown, None) if keep is None else (grown.take(keep), keep)


def surviving(candidates: dict[str, Ranks], step: Step, alive: Ranks | None = None) -> Ranks:
    """The positions of the candidates that pass every filter of the step, among those that are alive (None: all)."""
    keep = np.ones(len(candidates[step.name] if alive is None else alive), bool)
    for check in step.filters:
        count = int(np.count_nonzero(keep))
        if not count:
            break
        if count < DENSE * len(keep):  # few enough are left to be worth copying
            alive = np.flatnonzero(keep) if alive is None else alive[keep]
            keep = np.ones(count, bool)
        named = {name: candidates[name] if alive is None else candidates[name][alive] for name in check.names}
        keep &= check.keep(named)
    return np.flatnonzero(keep) if alive is None else alive[keep]


def refuse_raising(plan: Plan, layout: Layout, block: Block) -> None:
    """A point that every constraint allows, save that one raises there, is an error of that constraint."""
    for judge in plan.raising:
        if judge.safe:
            continue
        verdicts = judge.ranks({name: layout.ranks(name, block.words) for name in judge.names})
        where = np.flatnonzero(verdicts == RAISES)[:1]
        if len(where):
            words = [word[where] for word in block.words]
            read = judge.constraint.names  # of the whole constraint, of which the judge may be a part
            row = decode(layout.parameters, {name: layout.codes(name, words) for name in read})[0]
            raise failure(judge.constraint, row)


BLAME_WORK, BLAMED, NAMED = 2_000_000, 32, 5
"""How many candidates tell whether one constraint is to blame; of how many that is asked; and how many are named."""

TABLE_BYTES = 400_000_000
"""A table of all points takes no more than this; many names make long points."""

SLOW = 100
"""A call of Python costs as much as this many candidates."""


@dataclass(frozen=True)
class Enumerated:
    """All valid points of a component, as sorted words; spent: how much work that took."""

    words: list[Ranks]
    spent: int

    @property
    def count(self) -> int:
        """How many points."""
        return len(self.words[0])


@dataclass(frozen=True, eq=False)
class Component:
    """Parameters by name, in the order of the space, and the judges that read them. layout: of the whole space."""

    parameters: dict[str, Parameter]
    judges: tuple[Judge, ...]
    layout: Layout

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the space."""
        return tuple(self.parameters)

    @memo
    def raw(self) -> int:
        """How many points there are without the constraints."""
        return prod(parameter.size for parameter in self.parameters.values())

    @property
    def ranked(self) -> bool:
        """Whether every parameter has ranks, so that the component can be searched at all."""
        return all(name in self.layout.place for name in self.parameters)

    @memo
    def weight(self) -> int:
        """About how much more a candidate costs than one that a table or a column expression decides."""
        calls = SLOW if not all(judge.fast for judge in self.judges) else 1
        return calls * max(parameter.width for parameter in self.parameters.values())

    @memo
    def plan(self) -> Plan:
        """The plan of its search."""
        return plan(self.parameters, self.judges)

    def enumerate(self, work: int, most: int) -> Enumerated | None:
        """All valid points; None past `work` candidates (weighted) or `most` points; SpaceError where there is none."""
        if not self.ranked:
            return None
        spending, blocks, count = Work(work // self.weight), [], 0
        most = min(most, TABLE_BYTES // (8 * self.layout.words))
        try:
            for block in grow(self.plan, self.layout, spending):
                blocks.append(block)
                count += len(block[0])
                if count > most:
                    return None
        except OutOfWork:
            return None
        if not blocks:
            raise self.unsatisfiable()
        joined = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        return Enumerated(in_order(joined), work - spending.left * self.weight)

    def valid(self, codes: Mapping[str, Codes]) -> NDArray[np.bool_]:
        """Which of n points, codes [n, width] by name, satisfy every constraint; SpaceError where one raises."""
        return valid(self.judges, codes, len(codes[self.names[0]]))

    def unsatisfiable(self) -> SpaceError:
        """The error that names the constraints to blame."""
        blamed = told(blame(self.judges, self.layout), " and ")
        return SpaceError(f"no point of the space satisfies {blamed}; relax a constraint or widen its parameters")


def valid(judges: Sequence[Judge], codes: Mapping[str, Codes], n: int) -> NDArray[np.bool_]:
    """Which of n points every judge allows, shape [n]; SpaceError where a judge raises and no other says no."""
    alive, raised = np.arange(n), []
    for judge in sorted(judges, key=lambda judge: not judge.fast):
        whole = len(alive) == n
        verdicts = judge.codes({name: codes[name] if whole else codes[name][alive] for name in judge.names})
        if (verdicts == RAISES).any():
            raised.append((judge, alive[verdicts == RAISES]))
        alive = alive[verdicts != NO]
    for judge, where in raised:
        for row in where[np.isin(where, alive)][:1]:
            point = {name: codes[name][row : row + 1] for name in judge.names}
            raise failure(judge.constraint, decode(judge.parameters, point)[0])
    mask = np.zeros(n, bool)
    mask[alive] = True
    return mask


def components(parameters: Mapping[str, Parameter], judges: Sequence[Judge], layout: Layout) -> tuple[Component, ...]:
    """The connected components of the graph whose edges are constraints, in the order of their first parameters."""
    group = {name: {name} for name in parameters}
    for judge in judges:
        joined = set[str]().union(*(group[name] for name in judge.names))
        for name in joined:
            group[name] = joined
    found, seen = [], set[str]()
    for name, names in group.items():
        if name not in seen:
            seen |= names
            own = tuple(judge for judge in judges if judge.names[0] in names)
            found.append(Component({n: p for n, p in parameters.items() if n in names}, own, layout))
    return tuple(found)


def told(judges: Sequence[Judge], join: str) -> str:
    """Constraints for people, the first few of many."""
    shown = join.join(repr(judge.constraint.describe()) for judge in judges[:NAMED])
    return shown if len(judges) <= NAMED else f"{shown} and {len(judges) - NAMED} others"


def blame(judges: Sequence[Judge], layout: Layout) -> tuple[Judge, ...]:
    """A small set of judges that no point satisfies: each is left out in turn, and for good if the rest still fail.

    All of them where there are too many to ask that of each.
    """
    if len(judges) > BLAMED:
        return tuple(judges)
    kept = list(judges)
    for judge in judges:
        rest = [other for other in kept if other is not judge]
        if rest and not _satisfiable(rest, layout):
            kept = rest
    return tuple(kept)


def _satisfiable(judges: Sequence[Judge], layout: Layout) -> bool:
    """False only when it is certain."""
    read = {name for judge in judges for name in judge.names}
    made = plan({name: p for name, p in layout.parameters.items() if name in read}, judges)
    try:
        return next(grow(made, layout, Work(BLAME_WORK)), None) is not None
    except (OutOfWork, SpaceError):
        return True

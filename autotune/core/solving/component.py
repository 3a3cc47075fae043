"""A component: parameters that constraints tie together, directly or through others. A space is their product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints import failure
from autotune.core.errors import SpaceError
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter
from autotune.core.solving.growth import OutOfWork, Work, grow
from autotune.core.solving.judges import Judge
from autotune.core.solving.layout import Layout, Ranks, in_order
from autotune.core.solving.plan import Plan, plan
from autotune.core.solving.verdicts import NO, RAISES, decode

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

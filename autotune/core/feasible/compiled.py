"""A constraint made ready for given parameters: its expression compiled once, then asked about many points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.constraints.by_column import Program, judged, program
from autotune.core.constraints.by_row import meaning
from autotune.core.constraints.column_ops import Unpromised
from autotune.core.constraints.kinds import Constraint, Expression, Members, among, joint_ranks, verdict
from autotune.core.constraints.syntax import Logical, Node, names
from autotune.core.constraints.verdicts import Verdicts, decode
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter

Ranks = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judge:
    """A constraint, or a part of its expression, with the parameters that it reads.

    tree: of an expression. program: of one that columns can promise.
    """

    constraint: Constraint
    names: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    tree: Node | None
    program: Program | None

    @property
    def fast(self) -> bool:
        """Whether a point costs nanoseconds rather than a call of Python."""
        return self.program is not None or isinstance(self.constraint, Members)

    @property
    def safe(self) -> bool:
        """Whether it surely raises nowhere."""
        return isinstance(self.constraint, Members) or (self.program is not None and self.program.truth.safe)

    def codes(self, codes: Mapping[str, Codes]) -> Verdicts:
        """The verdict on n points, from codes [n, width] by name; shape [n]."""
        read = {name: codes[name] for name in self.names}
        if isinstance(self.constraint, Members):
            return among(joint_ranks(self.parameters, read), self.constraint.table).astype(np.uint8)
        if len(read[self.names[0]]) == 1:  # as in a serial search: columns would cost many times more
            return np.array([self.by_row(row) for row in decode(self.parameters, read)], np.uint8)
        return judged(self.program, self.by_row, self.parameters, read)

    @memo
    def by_row(self) -> Callable[[Mapping[str, Value]], int]:
        """The verdict on one row of values."""
        if self.tree is not None:
            return verdict(meaning(self.tree))
        assert not isinstance(self.constraint, Members), "a set of rows is looked up, not evaluated"
        return self.constraint.verdict

    def ranks(self, ranks: Mapping[str, Ranks]) -> Verdicts:
        """The verdict on n points, from ranks [n] by name; shape [n]."""
        if self.program is not None and not self.program.direct:
            try:
                return self.program.run(len(ranks[self.names[0]]), ranks, {})
            except Unpromised:
                pass
        return self.codes({name: self.parameters[name].unrank(ranks[name]) for name in self.names})


def judge(constraint: Constraint, parameters: Mapping[str, Parameter]) -> Judge:
    """The constraint, compiled for these parameters."""
    if isinstance(constraint, Expression):
        return _judge(constraint, constraint.tree, parameters)
    return Judge(constraint, constraint.names, _of(constraint.names, parameters), None, None)


def _judge(constraint: Expression, tree: Node, parameters: Mapping[str, Parameter]) -> Judge:
    read = names(tree)
    return Judge(constraint, read, _of(read, parameters), tree, program(tree, parameters))


def _of(read: tuple[str, ...], parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return {name: parameters[name] for name in read}


def parts(whole: Judge) -> tuple[Judge, ...]:
    """The operands of a top-level `and` as judges of their own, which bind earlier; together they say the same.

    Only operands after which nothing can raise out of turn are split off: `b != 0 and a % b == 0` gives both, for where
    the second raises the first says no; of `a % b == 0 and c` nothing is split off, for it raises whatever `c` says.
    """
    tree = whole.tree
    if not isinstance(tree, Logical) or tree.op != "and" or not isinstance(whole.constraint, Expression):
        return (whole,)
    found: list[Judge] = []
    for i, operand in enumerate(tree.operands):
        part = _judge(whole.constraint, operand, whole.parameters)
        if not part.safe or not part.names:
            rest = tree.operands[i:]
            last = _judge(whole.constraint, rest[0] if len(rest) == 1 else Logical("and", rest), whole.parameters)
            return (*found, last) if last.names else (whole,)
        found.append(part)
    return tuple(found)

"""A constraint compiled for given parameters: its verdicts on many points at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autotune.core.config import Value
from autotune.core.constraints.by_column import ColumnProgram, compile_columns
from autotune.core.constraints.by_row import row_function, verdict_function
from autotune.core.constraints.column_ops import NotVectorisable
from autotune.core.constraints.kinds import Constraint, Expression, Members
from autotune.core.constraints.syntax import Logical, Node, find_names
from autotune.core.constraints.verdicts import Verdicts, decode, verdicts_by_row
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter
from autotune.core.points import Ranks, is_among, joint_ranks


@dataclass(frozen=True, eq=False, kw_only=True)
class CompiledConstraint:
    """A constraint, or one conjunct of its expression, for the parameters that it reads, by name.

    tree: the expression, if it is one. program: the expression over columns, if they can promise Python's answer.
    """

    constraint: Constraint
    parameters: Mapping[str, Parameter]
    tree: Node | None = None
    program: ColumnProgram | None = None

    @memo
    def names(self) -> tuple[str, ...]:
        """The parameters that it reads."""
        return tuple(self.parameters)

    @memo
    def sizes(self) -> list[int]:
        """The sizes of these parameters."""
        return [parameter.size for parameter in self.parameters.values()]

    @property
    def fast(self) -> bool:
        """Whether a point costs nanoseconds and not a call of Python."""
        return self.program is not None or isinstance(self.constraint, Members)

    @property
    def safe(self) -> bool:
        """Whether it certainly never raises."""
        return isinstance(self.constraint, Members) or (self.program is not None and self.program.truth.safe)

    def verdicts(self, codes: Mapping[str, Codes]) -> Verdicts:
        """The verdicts on n points, codes [n, width] by name; shape [n]."""
        read = {name: codes[name] for name in self.names}
        if isinstance(self.constraint, Members):
            return is_among(joint_ranks(self.parameters, read), self.constraint.table).astype(np.uint8)
        if len(read[self.names[0]]) == 1:  # as in a serial search: columns would cost many times more
            return np.array([self.verdict_of_row(row) for row in decode(self.parameters, read)], np.uint8)
        if self.program is not None:
            try:
                return self.program.run_on_codes(self.parameters, read)
            except NotVectorisable:
                pass
        return verdicts_by_row(self.verdict_of_row, self.parameters, read)

    def verdicts_of_ranks(self, ranks: Mapping[str, Ranks]) -> Verdicts:
        """The verdicts on n points, ranks [n] by name; shape [n]."""
        if self.program is not None and not self.program.by_value:
            try:
                return self.program.run(len(ranks[self.names[0]]), ranks, {})
            except NotVectorisable:
                pass
        return self.verdicts({name: self.parameters[name].unrank(ranks[name]) for name in self.names})

    @memo
    def verdict_of_row(self) -> Callable[[Mapping[str, Value]], int]:
        """The function from a row of values to its verdict."""
        if self.tree is not None:
            return verdict_function(row_function(self.tree))
        assert not isinstance(self.constraint, Members), "a set of rows is looked up, not evaluated"
        return self.constraint.verdict


def compile_constraint(
    constraint: Constraint, parameters: Mapping[str, Parameter], tree: Node | None = None
) -> CompiledConstraint:
    """The constraint compiled for these parameters. tree: the part of its expression that counts (None: all of it)."""
    if not isinstance(constraint, Expression):
        return CompiledConstraint(
            constraint=constraint, parameters={name: parameters[name] for name in constraint.names}
        )
    tree = tree or constraint.tree
    read = {name: parameters[name] for name in find_names(tree)}
    return CompiledConstraint(
        constraint=constraint, parameters=read, tree=tree, program=compile_columns(tree, parameters)
    )


def split_conjuncts(whole: CompiledConstraint) -> tuple[CompiledConstraint, ...]:
    """The operands of a top-level `and` as constraints of their own, which bind earlier; together they say the same.

    An operand is split off only if it never raises: of `b != 0 and a % b == 0` both become constraints, for wherever
    the second raises, the first says no; `a % b == 0 and c` stays whole, for it raises whatever `c` is.
    """
    tree = whole.tree
    if not isinstance(tree, Logical) or tree.op != "and":
        return (whole,)
    found: list[CompiledConstraint] = []
    for i, operand in enumerate(tree.operands):
        conjunct = compile_constraint(whole.constraint, whole.parameters, operand)
        if not conjunct.safe or not conjunct.names:
            rest = tree.operands[i:]
            remainder = rest[0] if len(rest) == 1 else Logical("and", rest)
            last = compile_constraint(whole.constraint, whole.parameters, remainder)
            return (*found, last) if last.names else (whole,)
        found.append(conjunct)
    return tuple(found)

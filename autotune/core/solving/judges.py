"""A constraint made ready for given parameters: its expression compiled once, then asked about many points."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.columnops import Unpromised
from autotune.core.columnwise import Program, judged, program
from autotune.core.constraints import Constraint, Expression, Members, among, joint_ranks
from autotune.core.parameters import Codes, Parameter
from autotune.core.verdicts import Verdicts

Ranks = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judge:
    """One constraint, its parameters, and (for an expression that columns can promise) its program."""

    constraint: Constraint
    parameters: Mapping[str, Parameter]
    program: Program | None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters it reads."""
        return self.constraint.names

    @property
    def fast(self) -> bool:
        """Whether a point costs nanoseconds rather than a call of Python."""
        return self.program is not None or isinstance(self.constraint, Members)

    def codes(self, codes: Mapping[str, Codes]) -> Verdicts:
        """The verdict on n points, from codes [n, width] by name; shape [n]."""
        read = {name: codes[name] for name in self.names}
        if isinstance(self.constraint, Members):
            return among(joint_ranks(self.parameters, read), self.constraint.table).astype(np.uint8)
        return judged(self.program, self.constraint.verdict, self.parameters, read)

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
    compiled = program(constraint.tree, parameters) if isinstance(constraint, Expression) else None
    return Judge(constraint, {name: parameters[name] for name in constraint.names}, compiled)

"""Constraints: the kinds, the syntax of expressions, and their evaluation on a row of values or on whole columns.

The names below are for all; the modules of this package serve `core.feasible` alone.
"""

from autotune.core.constraints.kinds import Constraint, Expression, Function, Members, as_constraint

__all__ = ["Constraint", "Expression", "Function", "Members", "as_constraint"]

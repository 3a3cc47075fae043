"""Constraints: the kinds, the syntax of expressions, and what they mean for a row of values or whole columns."""

from autotune.core.constraints.kinds import Constraint, Expression, Function, Members, as_constraint

__all__ = ["Constraint", "Expression", "Function", "Members", "as_constraint"]

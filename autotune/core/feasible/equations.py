"""Equations over a sum or a product of single parameters, such as `a * b * c == 4096`, and the values they can reach.

Intervals are blind to divisibility. But the unbound terms of an equation can contribute only a small set of values
(divisors of the right side, residues of a modulus, a range of sums). So the bound terms, combined, must be among the
values that this set completes to the target: the dynamic program of a subset sum, run backwards from the target.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autotune.core.constraints.syntax import Binary, ComparisonChain, Literal, Name, Node, Unary, find_names
from autotune.core.constraints.tables import BOOL, INT, SAFE, Array, value_table
from autotune.core.feasible.compiled import CompiledConstraint
from autotune.core.parameters import Parameter
from autotune.core.points import Ranks, sorted_unique

MOST_REACHABLE, MOST_PAIRS = 1 << 18, 1 << 22
"""Reachable values are tracked up to this many (2 MB), computed from up to this many pairs of values (32 MB)."""

MOST_VALUES = 1 << 20
"""A parameter of more values is no term of an equation."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Equation:
    """The sum (op "+") or product (op "*") of terms and a constant, modulo `modulus` if there is one, equals `target`.

    terms: for each name the values of its term by rank, int64.
    """

    op: str
    terms: dict[str, Array]
    constant: int
    modulus: int | None
    target: int

    def total(self, ranks: Mapping[str, Ranks], names: tuple[str, ...]) -> Ranks:
        """The terms of these names combined, for n points given by their ranks [n]; shape [n]."""
        total = self.terms[names[0]][ranks[names[0]]]
        for name in names[1:]:
            values = self.terms[name][ranks[name]]
            total = total + values if self.op == "+" else total * values
        return total


def completing_values(equation: Equation, bound: frozenset[str]) -> Array | None:
    """The ascending values that the bound terms, combined, may have: the others reach a value that completes each to
    the target. None where the others reach too many values."""
    reachable: Array | None = np.array([equation.constant], np.int64)
    for name, values in equation.terms.items():
        if name not in bound and reachable is not None:
            reachable = _combine(equation, reachable, sorted_unique(values))
    if reachable is None:
        return None
    target, modulus = equation.target, equation.modulus
    if modulus is None:
        return sorted_unique(target - reachable if equation.op == "+" else target // reachable)
    if modulus * len(reachable) > MOST_PAIRS:
        return None
    residues = np.arange(modulus)[:, None]
    total = (residues + reachable if equation.op == "+" else residues * reachable) % modulus
    return np.flatnonzero((total == target).any(axis=1))


def _combine(equation: Equation, left: Array, right: Array) -> Array | None:
    """The values that two sets reach together, without those that no completion can use; None if there are too many."""
    if len(left) * len(right) > MOST_PAIRS:
        return None
    if equation.modulus is not None:
        right = right % equation.modulus
    both = (left[:, None] + right if equation.op == "+" else left[:, None] * right).reshape(-1)
    if equation.modulus is not None:
        both = both % equation.modulus
    elif equation.op == "*":
        both = both[(both != 0) & (equation.target % np.where(both == 0, 1, both) == 0)]
    both = sorted_unique(both)
    return both if len(both) <= MOST_REACHABLE else None


def as_equation(constraint: CompiledConstraint) -> Equation | None:
    """The constraint as an equation; None where it is none, or where its integers could leave 62 bits."""
    left: Node
    right: Node
    match constraint.tree:
        case ComparisonChain(("==",), (Binary("%", left, Literal(int(modulus))), Literal(int(target)))) if (
            0 < modulus < MOST_REACHABLE
        ):
            right = Literal(0)
        case ComparisonChain(("==",), (left, right)):
            modulus = target = 0
        case _:
            return None
    product = isinstance(left, Binary) and left.op == "*" and not find_names(right)
    if product and not modulus:
        value = _constant(right)
        if not value:  # no integer, or zero, which any one factor may bring about
            return None
        target = value
    flat = _factors(left) if product else [*_summands(left, 1), *_summands(right, -1)]
    terms: dict[str, Array] = {}
    constant, size = (1 if product else 0), 1
    for sign, node in flat:
        value = _constant(node)
        if value is not None:
            constant = constant * value if product else constant + sign * value
            continue
        values = _term_values(node, constraint.parameters)
        if values is None or find_names(node)[0] in terms:
            return None
        terms[find_names(node)[0]] = values * sign
        biggest = max(1, int(np.abs(values).max()))
        size = size * biggest if product else size + biggest
    if product and not constant:
        return None
    if max(abs(constant), abs(target), 0 if product and not modulus else size + abs(constant)) > SAFE:
        return None  # a product without a modulus may wrap around: then it was no divisor of the target
    return Equation(op="*" if product else "+", terms=terms, constant=constant, modulus=modulus or None, target=target)


def _factors(node: Node) -> list[tuple[int, Node]]:
    """The factors of a product, each with the sign 1."""
    if isinstance(node, Binary) and node.op == "*":
        return _factors(node.left) + _factors(node.right)
    return [(1, node)]


def _summands(node: Node, sign: int) -> list[tuple[int, Node]]:
    """The terms of a sum, each with its sign."""
    match node:
        case Binary("+", left, right):
            return _summands(left, sign) + _summands(right, sign)
        case Binary("-", left, right):
            return _summands(left, sign) + _summands(right, -sign)
    return [(sign, node)]


def _constant(node: Node) -> int | None:
    """The value of an integer literal, or of a product or power of them."""
    match node:
        case Literal(bool()):
            return None
        case Literal(int(value)) if abs(value) <= SAFE:
            return value
        case Unary("-", operand):
            inner = _constant(operand)
            return None if inner is None else -inner
        case Binary("*" | "**" as op, left, right):
            a, b = _constant(left), _constant(right)
            if a is None or b is None or not (0 <= b <= 62 or op == "*"):
                return None
            result = a * b if op == "*" else int(a**b)
            return result if abs(result) <= SAFE else None
    return None


def _term_values(node: Node, parameters: Mapping[str, Parameter]) -> Array | None:
    """The integers, by rank, of a parameter or of a constant times one."""
    match node:
        case Name(name) if parameters[name].size <= MOST_VALUES:
            table = value_table(parameters[name])
            if table.kind not in (BOOL, INT):
                return None
            return table.payloads[table.kind].astype(np.int64)
        case Binary("*", left, right):
            factor = _constant(left)
            values = _term_values(right if factor is not None else left, parameters)
            factor = _constant(right) if factor is None else factor
            if values is None or factor is None or int(np.abs(values).max()) * abs(factor) > SAFE:
                return None
            return values * factor
    return None

"""Reachable values: equations over a sum or a product of single parameters, such as `a * b * c == 4096`.

Intervals are blind to divisibility. Yet what the unbound terms can still contribute is a small set (divisors of the
right side, residues of a modulus, a range of sums), so the bound terms are checked against the values that it
completes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import among
from autotune.core.constraints.syntax import Binary, Compare, Literal, Name, Node, Unary, names
from autotune.core.constraints.tables import BOOL, INT, SAFE, Array, leaf
from autotune.core.constraints.verdicts import unique
from autotune.core.feasible.compiled import Judge, Ranks
from autotune.core.parameters import Parameter

MOST = 1 << 18
VALUES = 1 << 20
"""At most so many reachable values are tracked, and so many of one parameter."""


@dataclass(frozen=True, eq=False)
class Equation:
    """op over terms, one a name, and a constant; modulo `modulus` if any; equals `target`."""

    op: str
    terms: dict[str, Array]
    constant: int
    modulus: int | None
    target: int

    def total(self, ranks: Mapping[str, Ranks], names: tuple[str, ...]) -> Ranks:
        """The terms of these names combined, for n points given by ranks; shape [n]."""
        total = self.terms[names[0]][ranks[names[0]]]
        for name in names[1:]:
            values = self.terms[name][ranks[name]]
            total = total + values if self.op == "+" else total * values
        return total


@dataclass(frozen=True, eq=False)
class Reach:
    """The bound terms of an equation, combined, must be among `wanted`, which is sorted."""

    names: tuple[str, ...]
    equation: Equation
    wanted: Ranks

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """Which of n partial points can still satisfy the equation, shape [n]."""
        total = self.equation.total(ranks, self.names)
        modulus = self.equation.modulus
        return among(total if modulus is None else total % modulus, self.wanted)


def equation(judge: Judge) -> Equation | None:
    """The constraint read as an equation; None where it is none."""
    return None if judge.tree is None else _equation(judge.tree, judge.parameters)


def reach(found: Equation, bound: frozenset[str]) -> Reach | None:
    """What an equation says of the bound names; None where too much is reachable."""
    free: Ranks | None = np.array([found.constant], np.int64)
    for name, values in found.terms.items():
        if name not in bound and free is not None:
            free = _combined(found, free, unique(values))
    wanted = None if free is None else _wanted(found, free)
    known = tuple(name for name in found.terms if name in bound)
    return None if wanted is None else Reach(known, found, wanted)


def _combined(equation: Equation, left: Ranks, right: Ranks) -> Ranks | None:
    """The values that two sets reach together, less those that no completion can use."""
    if len(left) * len(right) > 16 * MOST:
        return None
    if equation.modulus is not None:
        right = right % equation.modulus
    both = (left[:, None] + right if equation.op == "+" else left[:, None] * right).reshape(-1)
    if equation.modulus is not None:
        both = both % equation.modulus
    elif equation.op == "*":
        both = both[(both != 0) & (equation.target % np.where(both == 0, 1, both) == 0)]
    both = unique(both)
    return both if len(both) <= MOST else None


def _wanted(equation: Equation, free: Ranks) -> Ranks | None:
    """The values of the bound terms that some free value completes to the target."""
    target, modulus = equation.target, equation.modulus
    if modulus is None:
        return unique(target - free if equation.op == "+" else target // free)
    if modulus * len(free) > 16 * MOST:
        return None
    residues = np.arange(modulus)[:, None]
    total = (residues + free if equation.op == "+" else residues * free) % modulus
    return np.flatnonzero((total == target).any(axis=1))


def _equation(tree: Node, parameters: Mapping[str, Parameter]) -> Equation | None:
    """The constraint read as an equation; None where it is not one, or its integers could leave 62 bits."""
    sides: tuple[Node, Node]
    match tree:
        case Compare(("==",), (Binary("%", left, Literal(int(modulus))), Literal(int(target)))) if 0 < modulus < MOST:
            sides, goal, mod = (left, Literal(0)), target, modulus
        case Compare(("==",), (left, right)):
            sides, goal, mod = (left, right), 0, 0
        case _:
            return None
    product = isinstance(sides[0], Binary) and sides[0].op == "*" and not names(sides[1])
    op = "*" if product else "+"
    if product and not mod:
        value = _constant(sides[1])
        if not value:  # unknown, or zero, which any one factor may bring about
            return None
        goal = value
    flat = _factors(sides[0]) if product else [*_summands(sides[0], 1), *_summands(sides[1], -1)]
    terms: dict[str, Array] = {}
    constant, size = (1 if product else 0), 1
    for sign, node in flat:
        value = _constant(node)
        if value is not None:
            constant = constant * value if product else constant + sign * value
            continue
        values = _values(node, parameters)
        if values is None or names(node)[0] in terms:
            return None
        terms[names(node)[0]] = values * sign
        biggest = max(1, int(np.abs(values).max()))
        size = size * biggest if product else size + biggest
    if product and not constant:
        return None
    if max(abs(constant), abs(goal), 0 if product and not mod else size + abs(constant)) > SAFE:
        return None  # a product of divisors never leaves 62 bits where it matters: what wraps around was no divisor
    return Equation(op, terms, constant, mod or None, goal)


def _factors(node: Node) -> list[tuple[int, Node]]:
    if isinstance(node, Binary) and node.op == "*":
        return _factors(node.left) + _factors(node.right)
    return [(1, node)]


def _summands(node: Node, sign: int) -> list[tuple[int, Node]]:
    match node:
        case Binary("+", left, right):
            return _summands(left, sign) + _summands(right, sign)
        case Binary("-", left, right):
            return _summands(left, sign) + _summands(right, -sign)
    return [(sign, node)]


def _constant(node: Node) -> int | None:
    """The value of an integer literal, or of a product or power of such."""
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


def _values(node: Node, parameters: Mapping[str, Parameter]) -> Array | None:
    """The integers, by rank, of a parameter or of a constant times one."""
    match node:
        case Name(name) if parameters[name].size <= VALUES:
            table = leaf(parameters[name])
            if table.kind not in (BOOL, INT):
                return None
            return table.payloads[table.kind].astype(np.int64)
        case Binary("*", left, right):
            factor = _constant(left)
            values = _values(right if factor is not None else left, parameters)
            factor = _constant(right) if factor is None else factor
            if values is None or factor is None or int(np.abs(values).max()) * abs(factor) > SAFE:
                return None
            return values * factor
    return None

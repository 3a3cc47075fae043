"""The search space: named parameters, the constraints between them, and optionally a default config.

A point is a row of small integers (`columns` of them), a population an array [n, columns]. Configs exist only where
users and evaluators need them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import argument_error, check_codes, check_integer, check_items, plain, short_repr
from autotune.core.cancellation import checkpoint
from autotune.core.config import Config, Value, as_config, token
from autotune.core.constraints import Constraint, Function, as_constraint
from autotune.core.errors import ConfigError, SpaceError
from autotune.core.feasible import Feasible
from autotune.core.formatting import html_table
from autotune.core.keys import Key, fold, integers, permutation, uniform
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter
from autotune.core.points import first_of_each, joint_ranks
from autotune.core.space_spec import (
    SpaceSpec,
    constraint_spec,
    describe_constraint,
    describe_space,
    fingerprint,
    from_constraint_spec,
)

Unseen = Callable[[Codes], NDArray[np.bool_]]
"""From rows [n, columns] to whether each is new, a mask [n]."""

_ENUMERABLE = 1 << 21
"""If there are up to this many valid points (some 100 MB), a search for the last unseen ones lists them all."""


class Space:
    """Every config that a kernel may be built with. Immutable; spaces with the same content are equal and share a
    fingerprint.

    >>> space = Space({"BLOCK": PowerOfTwo(16, 128), "num_warps": PowerOfTwo(1, 8)}, ["BLOCK >= 16 * num_warps"])
    >>> space.count()
    10

    parameters: names to parameter kinds, in the order that configs are shown in.
    constraints: expressions over the names (strings), or functions of the named values, which cannot be written to a
    journal. A function belongs to the space with everything that it reaches when the space is made; if that changes
    afterwards, the space raises SpaceError.
    default: a complete valid config, if the kernel has one; it is the baseline of every search.
    Raises SpaceError for an impossible space and ConfigError for a default outside of it.
    """

    parameters: Mapping[str, Parameter]
    names: tuple[str, ...]
    slices: Mapping[str, slice]
    columns: int
    constraints: tuple[Constraint, ...]
    feasible: Feasible
    default: Config | None

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        constraints: Iterable[str | Callable[..., object] | Constraint] = (),
        default: Mapping[str, Value] | None = None,
    ) -> None:
        kinds = _check_parameters(parameters)
        if isinstance(constraints, str) or not isinstance(constraints, Iterable):
            raise SpaceError(
                f"constraints is {short_repr(constraints)}; "
                "give a list of expressions or functions, as ['a * b <= 4096']"
            )
        found = tuple(as_constraint(constraint, kinds) for constraint in constraints)
        feasible = Feasible(kinds, found)
        self.__dict__.update(
            parameters=MappingProxyType(kinds),
            names=tuple(kinds),
            slices=MappingProxyType(feasible.slices),
            columns=feasible.columns,
            constraints=found,
            feasible=feasible,
            default=None,
        )
        if default is not None:
            self.__dict__["default"] = self._validate(as_config(default, "default"), "the default config")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Space cannot be changed, and {name!r} was set; make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Space cannot be changed, and {name!r} was deleted; make another one")

    def __reduce__(self) -> tuple[Any, ...]:
        """A space is pickled as its arguments."""
        return Space, (dict(self.parameters), self.constraints, self.default)

    def __copy__(self) -> "Space":
        return self

    def __deepcopy__(self, memo: object) -> "Space":
        return self

    # Size and identity

    @memo
    def size(self) -> int:
        """The number of points, constraints aside."""
        return prod(parameter.size for parameter in self.parameters.values())

    def count(self) -> int | None:
        """The number of points that satisfy the constraints; None if that takes too long to count."""
        return self.feasible.count()

    @memo
    def spec(self) -> SpaceSpec:
        """The space as plain data, for journals and recordings."""
        default = None if self.default is None else dict(self.default)
        return SpaceSpec(dict(self.parameters), tuple(map(constraint_spec, self.constraints)), default)

    @classmethod
    def from_spec(cls, spec: SpaceSpec) -> "Space":
        """The space that `spec` describes; raises SpaceError if a constraint is a Python function."""
        return cls(spec.parameters, [from_constraint_spec(c) for c in spec.constraints], spec.default)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits, different for different spaces; the same in every process if the space is portable.

        SpaceError if a value that a constraint reads has changed since the space was made.
        """
        self.feasible.check_unchanged()
        return self._fingerprint

    @memo
    def _fingerprint(self) -> str:
        return fingerprint(self.spec)

    @property
    def portable(self) -> bool:
        """Whether other processes find the same fingerprint: not if a constraint reaches an open file, a lock, …"""
        return self.opaque is None

    @property
    def opaque(self) -> str | None:
        """The constraint that makes the space not portable, and the object that it reaches; None if it is portable."""
        functions = [constraint for constraint in self.constraints if isinstance(constraint, Function)]
        return next(
            (f"the constraint {one.describe()} reaches {one.identity.opaque[0]}" for one in functions
             if not one.identity.portable), None,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return self._fingerprint == other._fingerprint if isinstance(other, Space) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fingerprint)

    def __repr__(self) -> str:
        try:
            count = self.count()
        except SpaceError:  # a space without valid points can be shown, too
            count = None
        return describe_space(self.spec, self.size, count)

    def _repr_html_(self) -> str:
        rows = []
        for name, kind in self.parameters.items():
            default = "" if self.default is None else token(self.default[name]).decode()
            rows.append((name, type(kind).__name__, kind.describe(), kind.role or "", default))
        wheres = [("where", describe_constraint(constraint)) for constraint in self.spec.constraints]
        title = repr(self).partition("\n")[0]
        return html_table((title, "kind", "values", "role", "default"), rows) + html_table(None, wheres)

    def with_role(self, role: str) -> tuple[str, ...]:
        """The names of the parameters with a role, in order."""
        return tuple(name for name, kind in self.parameters.items() if isinstance(role, str) and kind.role == role)

    # Configs and rows

    def _row(self, config: Mapping[str, Value], whose: str) -> list[int]:
        """The codes of a config, constraints aside; ConfigError for a value that is missing, wrong or unknown."""
        row: list[int] = []
        for name, parameter in self.parameters.items():
            if name not in config:
                raise ConfigError(f"{whose} has no value for {name!r}; give it {parameter.describe()}")
            try:
                row.extend(parameter.encode(plain(config[name])))
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{whose} has {name} = {config[name]!r}, which is not {error}") from None
        if len(config) > len(self.names):
            extra = next(name for name in config if name not in self.parameters)
            near = get_close_matches(str(extra), self.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(self.names)}"
            raise ConfigError(f"{whose} has {extra!r}, which the space does not know; {hint}")
        return row

    def _validate(self, config: Mapping[str, Value], whose: str) -> Config:
        """The config in canonical order; ConfigError if it is no valid point."""
        row = np.array([self._row(config, whose)], np.int64)
        if not self.feasible.valid(row)[0]:
            broken = next(c for c in self.constraints if not Feasible(self.parameters, (c,)).valid(row)[0])
            raise ConfigError(f"{whose} ({Config(config)}) breaks the constraint {broken.describe()}")
        return self.decode(row)[0]

    def encode(self, configs: Sequence[Mapping[str, Value]]) -> Codes:
        """The rows [n, columns] of configs, constraints aside; raises ConfigError for values that no parameter has."""
        if isinstance(configs, Mapping):
            raise ConfigError("configs is one config; give a list of them")
        given = list(check_items(configs, "configs", "a list of configs", ConfigError))
        rows = [self._row(as_config(config), "the config") for config in given]
        return np.array(rows, np.int64).reshape(len(rows), self.columns)

    def contains(self, rows: Codes) -> NDArray[np.bool_]:
        """Which rows of integers [n, columns] are points, constraints aside: a mask [n]."""
        found = [kind.contains(rows[:, self.slices[name]]) for name, kind in self.parameters.items()]
        held: NDArray[np.bool_] = np.logical_and.reduce(found)
        return held

    def decode(self, rows: Codes) -> list[Config]:
        """The configs of rows [n, columns]."""
        rows = check_codes(rows, "rows", self.columns, SpaceError)
        values = [self.parameters[name].decode(rows[:, self.slices[name]]) for name in self.names]
        return [Config.of(dict(zip(self.names, row, strict=True))) for row in zip(*values, strict=True)]

    def check(self, config: Mapping[str, Value], whose: str = "the config") -> Config:
        """The config in canonical order; raises ConfigError, which names the fault, if it is no valid point."""
        return self._validate(as_config(config, whose), whose)

    def complete(self, config: Mapping[str, Value]) -> Config:
        """The config with missing values taken from the default: the inverse of `Config.minimize`."""
        return self._validate({**(self.default or {}), **as_config(config)}, "the config")

    def valid(self, rows: Codes) -> NDArray[np.bool_]:
        """Which of rows [n, columns] satisfy every constraint, as a mask [n]."""
        return self.feasible.valid(check_codes(rows, "rows", self.columns, SpaceError))

    def rank(self, rows: Codes) -> NDArray[np.int64]:
        """Positions [n] of rows in the order of the unconstrained product; raises SpaceError past 63 bits."""
        self._check_rankable()
        rows = check_codes(rows, "rows", self.columns, SpaceError)
        return joint_ranks(self.parameters, {name: rows[:, part] for name, part in self.slices.items()})

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        """The rows [n, columns] at these positions of the unconstrained product."""
        self._check_rankable()
        rest, parts = check_codes(ranks, "ranks", None, SpaceError, 1).copy(), []
        for parameter in reversed(list(self.parameters.values())):
            rest, digit = np.divmod(rest, parameter.size)
            parts.append(parameter.unrank(digit))
        return np.concatenate(parts[::-1], axis=1)

    def _check_rankable(self) -> None:
        if self.size >= 2**63:
            raise SpaceError("this space has too many points to number them with 63 bits; work with rows instead")

    # Populations

    def rows(self) -> Codes:
        """All valid points [count, columns], in the order of their ranks; raises SpaceError if there are too many."""
        return self.feasible.rows()

    def enumerate(self) -> list[Config]:
        """All valid configs, in the order of their ranks."""
        return self.decode(self.rows())

    def _check_count(self, n: int) -> int:
        """A number of points to draw; SpaceError for any other value, and for more points than fit into memory."""
        number = check_integer(n, "n", SpaceError, 0)
        if number > 2**40 // self.columns:
            raise argument_error("n", n, "a number of points that fit into memory", SpaceError)
        return number

    def sample(self, key: Key, n: int) -> Codes:
        """`n` valid points drawn independently, with repeats; uniformly unless `feasible.uniform` is False."""
        return self.feasible.sample(_as_key(key), self._check_count(n))

    def sample_distinct(self, key: Key, n: int, unseen: Unseen | None = None) -> Codes:
        """Up to `n` different valid points that are `unseen`; fewer only if hardly any are left."""
        key, n = _as_key(key), self._check_count(n)
        found, tries = np.empty((0, self.columns), np.int64), 0
        while len(found) < n and tries < 8:
            checkpoint()
            drawn = self.feasible.sample(fold(key, "draw", tries), 2 * (n - len(found)) + 8)
            if unseen is not None:
                drawn = drawn[unseen(drawn)]
            found = np.concatenate([found, drawn])
            found = found[first_of_each(found)]
            tries += 1
        if len(found) < n and (count := self.count()) is not None and count <= _ENUMERABLE:
            left = self.rows()
            left = left if unseen is None else left[unseen(left)]
            found = left[permutation(fold(key, "left"), len(left))]
        return found[:n]

    def moves(self, row: Codes, radius: int = 1) -> Codes:
        """The points [m, columns] that differ from one point [columns] in one parameter, by at most `radius`;
        constraints aside."""
        row, radius = check_codes(row, "row", self.columns, SpaceError, 1), check_integer(radius, "radius", SpaceError)
        return np.concatenate(
            [self.with_part(row, n, p.neighbours(row[self.slices[n]], radius)) for n, p in self.parameters.items()]
        )

    def neighbours(self, row: Codes, radius: int = 1) -> Codes:
        """The valid `moves` from one point [columns]: [m, columns]."""
        rows = self.moves(row, radius)
        return rows[self.valid(rows)]

    def with_part(self, row: Codes, name: str, codes: Codes) -> Codes:
        """Copies [m, columns] of one point with the codes [m, width] of one parameter replaced."""
        rows = np.tile(row, (len(codes), 1))
        rows[:, self.slices[name]] = codes
        return rows

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        """a + (b - c) parameter by parameter, row by row [n, columns]; constraints aside."""
        blocks = []
        for name, parameter in self.parameters.items():
            part = self.slices[name]
            blocks.append(parameter.mutate(a[:, part], b[:, part], c[:, part], fold(key, name)))
        return np.concatenate(blocks, axis=1)

    def crossover(self, x: Codes, mutant: Codes, rate: float, key: Key) -> Codes:
        """Rows of `x` with each parameter, and at least one, taken from `mutant` at this rate; constraints aside."""
        n, count = len(x), len(self.names)
        taken = uniform(fold(key, "rate"), n, count) < rate
        taken[np.arange(n), integers(fold(key, "one"), count, n)] = True
        widths = [parameter.width for parameter in self.parameters.values()]
        return np.where(np.repeat(taken, widths, axis=1), mutant, x)

    @memo
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of `features`, such as ("BLOCK", "layout[0]", "layout[1]")."""
        return tuple(
            name if parameter.features == 1 else f"{name}[{i}]"
            for name, parameter in self.parameters.items()
            for i in range(parameter.features)
        )

    def features(self, rows: Codes) -> NDArray[np.float64]:
        """Features for models, shape [n, len(feature_names)]: log2 of powers, values of integers, one-hot choices."""
        rows = check_codes(rows, "rows", self.columns, SpaceError)
        return np.concatenate(
            [p.encode_features(rows[:, self.slices[name]]) for name, p in self.parameters.items()], axis=1
        )


def _as_key(given: Any) -> Key:
    """A key for random numbers; SpaceError for any other value."""
    key = check_integer(given, "key", SpaceError, 0)
    if key >> 128:
        raise argument_error("key", given, "128 bits, as root(seed) gives them", SpaceError)
    return Key(key)


def as_space(given: Any) -> Space:
    """The space itself, or the space of all values of parameters by name; SpaceError for anything else."""
    if isinstance(given, Space):
        return given
    if isinstance(given, Mapping):
        return Space(given)
    raise argument_error("space", given, "a Space, or parameters by name", SpaceError)


def _check_parameters(given: object) -> dict[str, Parameter]:
    """The parameters by name, a copy; SpaceError for anything else."""
    if not isinstance(given, Mapping):
        raise SpaceError(
            f"parameters is {short_repr(given)}; give names with their kinds, such as {{'BLOCK': PowerOfTwo(16, 128)}}"
        )
    if not given:
        raise SpaceError("a space needs at least one parameter, such as {'BLOCK': PowerOfTwo(16, 128)}")
    for name, parameter in given.items():
        if not isinstance(name, str):
            raise SpaceError(f"a parameter has the name {short_repr(name)}; names are strings")
        if not isinstance(parameter, Parameter):
            raise SpaceError(f"parameter {name!r} is {short_repr(parameter)}; use PowerOfTwo, Integer, Choice, …")
    return dict(given)

"""A kernel's config spec as a space: a parameter for each free fragment, and Helion's repair as a projection.

Helion repairs a config before it uses it: it resets values that do not apply, and halves tiles that are too large, so
several points may mean one config. A repair of the form "with this value, that parameter is always the default" becomes
a constraint (`repair_rules`); other repairs show when a point is projected.

Helion lets a tile have up to 2**20 elements for any number of warps, and begins with draws that are far smaller. A
model that may ask for any tile would spend its first minutes on tiles that compile for a minute each and then spill. A
thread has 255 registers of 32 bits, so a constraint limits the elements of a tile that a thread holds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from helion import Config as HelionConfig
from helion import exc
from helion.autotuner.config_fragment import (
    BaseIntegerFragment,
    BooleanFragment,
    Category,
    ConfigSpecFragment,
    ListOf,
    NumThreadsFragment,
    PermutationFragment,
    PowerOfTwoFragment,
)
from helion.autotuner.config_generation import ConfigGeneration

from autotune.backends.helion.repair_rules import find_rules
from autotune.core.config import Config, Value, freeze, token
from autotune.core.constraints import Members
from autotune.core.errors import ConfigError, SpaceError
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space

Flat = list[Any]
"""A flat config of Helion's: a value for each fragment."""

_ROLES = {Category.BLOCK_SIZE: "block_size", Category.NUM_WARPS: "num_warps"}

_MOST_PER_THREAD = 256
"""Elements of one tile that a thread may hold: as many as it has registers."""

_ROLLED = 4
"""How many times as many if the tile may be a row that a loop goes through in parts: the parts are smaller tiles."""

_THREADS = 32
"""Threads of a warp."""

_PRODUCT = re.compile(r"(?:(?P<factor>\d+)\*)?(?P<blocks>[a-z_]\w*(?:\*[a-z_]\w*)*) <= \d+")

_MOST_ROWS = 100_000
"""Combinations of block sizes that are listed for one limit; a limit with more is left to the repair."""


@dataclass(frozen=True)
class FragmentField:
    """A fragment of Helion's spec as a parameter. theirs, ours: convert a value to Helion's form, and to ours."""

    parameter: Parameter
    theirs: Callable[[Value], Any]
    ours: Callable[[Any], Value]


def make_field(fragment: ConfigSpecFragment) -> FragmentField | None:
    """The field for a fragment that is not a list, None if there is nothing to choose. A fragment of an unknown kind is
    a choice of its values, or none."""
    role = _ROLES.get(fragment.category())
    match fragment:
        case BooleanFragment():
            return FragmentField(Boolean(), _same, _same)
        case PermutationFragment(length=length):
            return FragmentField(Permutation(length), list, tuple) if length > 1 else None
        case PowerOfTwoFragment(low=low, high=high):
            return FragmentField(PowerOfTwo(low, high, role=role), _same, _same) if low < high else None
        case BaseIntegerFragment(low=low, high=high):
            return FragmentField(Integer(low, high, role=role), _same, _same) if low < high else None
        case NumThreadsFragment():
            return _make_choice(tuple(fragment.search_values() or (0,)), ordered=True)
    return _make_choice(tuple(fragment.search_values() or ()))


def _same(value: Any) -> Any:
    return value


def _make_choice(values: tuple[Any, ...], ordered: bool = False) -> FragmentField | None:
    """A choice of values by themselves, or by their texts if JSON cannot hold them."""
    by_label = {token(_label(value)): value for value in values}
    labels = tuple({token(_label(value)): _label(value) for value in values}.values())

    def theirs(label: Value) -> Any:
        return by_label[token(label)]

    return FragmentField(Choice(labels, ordered=ordered), theirs, _label) if len(labels) > 1 else None


def _label(value: Any) -> Value:
    try:
        return freeze(value)
    except TypeError:
        return repr(value)


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The position of a parameter in a flat config: at `index`, or at `place` in the list at `index`."""

    name: str
    index: int
    place: int | None
    field: FragmentField

    def get(self, flat: Flat) -> Value:
        """The parameter's value; raises ValueError for a value that it does not have."""
        value = flat[self.index] if self.place is None else flat[self.index][self.place]
        ours = self.field.ours(value)
        self.field.parameter.encode(ours)
        return ours

    def put(self, flat: Flat, value: Value) -> None:
        theirs = self.field.theirs(value)
        if self.place is None:
            flat[self.index] = theirs
        else:
            flat[self.index][self.place] = theirs


def limit_tiles_per_thread(generation: Any, slots: Mapping[int, Slot], base: Sequence[Any]) -> Iterator[str]:
    """A constraint for each tile of the kernel: its elements divided by the threads.

    slots: by their positions in `base`, the repaired default.
    """
    warps_at = generation.num_warps_index
    if warps_at < 0:
        return
    warps = slots[warps_at].name if warps_at in slots else repr(base[warps_at])
    rolled = bool(generation.config_spec.reduction_loops)
    seen = set()
    for limit in generation.config_spec.tensor_numel_constraints:
        factor = product_factor(limit.expr_str, len(limit.block_indices))
        if factor is None:
            continue
        places = [generation.block_size_indices[i] for i in limit.block_indices]
        names = [slots[place].name for place in places if place in slots]
        for place in places:
            factor *= 1 if place in slots else base[place]
        most = _MOST_PER_THREAD * _THREADS * (_ROLLED if rolled and factor > 1 else 1)
        text = f"{' * '.join([str(factor), *names] if factor > 1 else names)} <= {most} * {warps}"
        if names and text not in seen:
            seen.add(text)
            yield text


def product_factor(text: str, count: int) -> int | None:
    """c of a limit `c*u0*u1*… <= most` on the product of `count` block sizes; None for a limit of another form."""
    found = _PRODUCT.fullmatch(text)
    if found is None or len(found["blocks"].split("*")) != count:
        return None
    return int(found["factor"] or 1)


@dataclass(frozen=True, kw_only=True)
class HelionSpace:
    """A space for a kernel, and the two ways between its points and Helion's configs.

    space: the free parameters, by their names in `KernelConfig` (`block_sizes_0`, `num_warps`). base: the repaired
    default.
    """

    space: Space
    slots: tuple[Slot, ...]
    base: Flat
    generation: ConfigGeneration

    def flat(self, config: Config) -> Flat:
        """The flat config of a point, not repaired."""
        return _fill(self.slots, self.base, config)

    def project(self, config: Config) -> HelionConfig | None:
        """The config that Helion makes of a point; None where it refuses."""
        try:
            repaired: HelionConfig = self.generation.unflatten(self.flat(config))
        except exc.InvalidConfig:
            return None
        return repaired

    def point(self, flat: Flat) -> Config | None:
        """The point of a flat config after the repair; None if it is outside of the space."""
        values = _repaired_values(self.generation, self.slots, flat)
        try:
            return None if values is None else self.space.check(values)
        except ConfigError:
            return None


def make_space(generation: ConfigGeneration, known: Sequence[Flat] = ()) -> HelionSpace:
    """The space of a kernel. Raises SpaceError if nothing is left to choose.

    known: flat configs that must have a point: a rule that excludes one of them is dropped.
    """
    slots = tuple(_slots(generation))
    if not slots:
        raise SpaceError("the config spec leaves nothing to choose; there is nothing to tune")
    base, _ = generation.canonicalize_flat(generation.default_flat())
    free = Space({slot.name: slot.field.parameter for slot in slots})
    default = {slot.name: slot.get(base) for slot in slots}
    points = [_repaired_values(generation, slots, flat) for flat in known]
    kept = [default, *(point for point in points if point is not None)]
    constraints = [c for c in _constraints(generation, slots, base, free, Config(default)) if _allows(free, c, kept)]
    return HelionSpace(
        space=Space(free.parameters, constraints, default), slots=slots, base=base, generation=generation
    )


def _repaired_values(generation: ConfigGeneration, slots: Sequence[Slot], flat: Flat) -> dict[str, Value] | None:
    """The values of a flat config after the repair; None where Helion refuses it or a parameter lacks its value."""
    try:
        canonical, _ = generation.canonicalize_flat(deepcopy(flat))
        return {slot.name: slot.get(canonical) for slot in slots}
    except (exc.InvalidConfig, ValueError, TypeError, AssertionError):
        return None


def _fill(slots: Sequence[Slot], base: Flat, config: Config) -> Flat:
    flat = deepcopy(base)
    for slot in slots:
        slot.put(flat, config[slot.name])
    return flat


def _slots(generation: ConfigGeneration) -> Iterator[Slot]:
    for key, (indices, is_sequence) in generation._key_to_flat_indices.items():
        for position, index in enumerate(indices):
            if index in generation.overridden_flat_indices:
                continue
            fragment = generation.flat_spec[index]
            items = [fragment.inner] * fragment.length if isinstance(fragment, ListOf) else [fragment]
            for place, item in enumerate(items):
                if (field := make_field(item)) is not None:
                    listed = isinstance(fragment, ListOf)
                    name = f"{key}_{place}" if listed else f"{key}_{position}" if is_sequence else key
                    yield Slot(name=name, index=index, place=place if listed else None, field=field)


def _constraints(
    generation: ConfigGeneration, slots: Sequence[Slot], base: Flat, free: Space, default: Config
) -> Iterator[str | Members]:
    yield from _sizes(generation, slots, base, free)
    yield from limit_tiles_per_thread(generation, {slot.index: slot for slot in slots}, base)

    def repair(config: Config) -> Config | None:
        values = _repaired_values(generation, slots, _fill(slots, base, config))
        return None if values is None else Config(values)

    yield from find_rules(free, default, repair)


def _sizes(generation: ConfigGeneration, slots: Sequence[Slot], base: Flat, free: Space) -> Iterator[Members]:
    """Helion's limits on the elements of tiles, as the combinations of block sizes that keep them."""
    blocks = {index: slot for index in generation.block_size_indices for slot in slots if slot.index == index}
    for limit in generation.config_spec.tensor_numel_constraints:
        indices = [generation.block_size_indices[i] for i in limit.block_indices]
        names = tuple(dict.fromkeys(blocks[i].name for i in indices if i in blocks))
        if not names or prod(free.parameters[name].size for name in names) > _MOST_ROWS:
            continue
        values = [_values(free.parameters[name]) for name in names]
        good = []
        for combination in product(*values):
            chosen = dict(zip(names, combination, strict=True))
            sizes = (chosen[blocks[i].name] if i in blocks else base[i] for i in indices)
            if limit.check_fn(*sizes):
                good.append([code for n in names for code in free.parameters[n].encode(chosen[n])])
        if 0 < len(good) < prod(len(v) for v in values):
            yield Members.of(free.parameters, names, np.array(good, np.int64))


def _values(parameter: Parameter) -> list[Value]:
    return parameter.decode(parameter.unrank(np.arange(parameter.size)))


def _allows(free: Space, constraint: str | Members, points: Sequence[dict[str, Value]]) -> bool:
    """Whether these points keep a constraint; if the default breaks it, say, it is no rule."""
    one = Space(free.parameters, [constraint])
    return bool(one.valid(one.encode(points)).all())

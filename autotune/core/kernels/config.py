"""The config of a tile kernel by its fields: lists of block sizes, loop orders, indexing, …, each checked.

A `KernelConfig` is a view of a core `Config`: in a space every item of a list is a parameter of its own
(`block_sizes_0`, `block_sizes_1`), and the view joins the items and takes them apart again. Names and values of the
fields are Helion's, so that a config converts in both directions.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from autotune.core.arguments import short_repr
from autotune.core.config import Config, Value, freeze, token
from autotune.core.errors import ConfigError
from autotune.core.space import Space

EvictionPolicy = Literal["", "first", "last"]
PidType = Literal["flat", "xyz", "persistent_blocked", "persistent_interleaved"]
Indexing = Literal["pointer", "tensor_descriptor", "block_ptr"]
SmMultiplier = Literal[1, 2, 4, 8]
MaxRegisters = Literal[32, 64, 128, 256]

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]

PERSISTENT: tuple[PidType, ...] = ("persistent_blocked", "persistent_interleaved")


class Field(NamedTuple):
    """One field of a kernel config.

    kind: the type of the whole value. wanted: that type in words. neutral: the value (of each item, in a listed field)
    that means the same as leaving the field out. required: no value means that. listed: the value is a list; `single`:
    or one value for all items.
    """

    kind: Any
    wanted: str
    neutral: Value = None
    listed: bool = True
    single: bool = False
    required: bool = False


def _literals(values: str) -> str:
    return f"a list, each of {values}"


EVICTIONS, INDEXINGS = "'', 'first', 'last'", "'pointer', 'tensor_descriptor', 'block_ptr'"

FIELDS: dict[str, Field] = {
    "block_sizes": Field(tuple[Positive, ...], "a list of positive integers", required=True),
    "num_threads": Field(
        Natural | tuple[Natural, ...], "an integer of at least 0 (0: automatic) or a list of them", 0, single=True
    ),
    "loop_orders": Field(tuple[tuple[Natural, ...], ...], "a list of orders, such as [[1, 0]]"),
    "flatten_loops": Field(tuple[bool, ...], _literals("True and False"), False),
    "l2_groupings": Field(tuple[Positive, ...], "a list of positive integers", 1),
    "reduction_loops": Field(tuple[Positive | None, ...], "a list of positive integers or None"),
    "range_unroll_factors": Field(tuple[Natural, ...], "a list of integers of at least 0", 0),
    "range_warp_specializes": Field(tuple[bool | None, ...], _literals("None, True, False")),
    "range_num_stages": Field(tuple[Natural, ...], "a list of integers of at least 0", 0),
    "range_multi_buffers": Field(tuple[bool | None, ...], _literals("None, True, False")),
    "range_flattens": Field(tuple[bool | None, ...], _literals("None, True, False")),
    "static_ranges": Field(tuple[bool, ...], _literals("True and False"), False),
    "load_eviction_policies": Field(tuple[EvictionPolicy, ...], _literals(EVICTIONS), ""),
    "num_warps": Field(Positive, "a positive integer", 4, listed=False),
    "num_stages": Field(Positive, "a positive integer", 1, listed=False),
    "pid_type": Field(
        PidType, "one of 'flat', 'xyz', 'persistent_blocked', 'persistent_interleaved'", "flat", listed=False
    ),
    "num_sm_multiplier": Field(SmMultiplier, "one of 1, 2, 4, 8", 1, listed=False),
    "maxnreg": Field(MaxRegisters, "one of 32, 64, 128, 256", listed=False),
    "indexing": Field(
        Indexing | tuple[Indexing, ...], f"one of {INDEXINGS}, or a list of these", "pointer", single=True
    ),
    "advanced_controls_file": Field(str, "a path, or '' for none", "", listed=False),
}
"""The fields, in the order of Helion's Config. Any other name is a field of the user."""


def check_field(name: str, value: object) -> Value:
    """The value of a field as a core config holds it; raises ConfigError, naming the type wanted, for another type."""
    if not name.isidentifier():
        raise ConfigError(f"the kernel config has a field {name!r}, which is not a name")
    try:
        frozen = freeze(value)
    except TypeError as error:
        raise ConfigError(f"the kernel config has {name} = {short_repr(value)}: {error}") from None
    field = FIELDS.get(name)
    if field is None:
        return frozen
    try:
        frozen = msgspec.convert(frozen, field.kind, strict=True)
    except msgspec.ValidationError:
        raise ConfigError(f"the kernel config has {name} = {short_repr(value)}; it takes {field.wanted}") from None
    if name == "loop_orders":
        for order in frozen:
            if sorted(order) != list(range(len(order))):
                raise ConfigError(
                    f"the kernel config has {name} = {short_repr(value)}; {list(order)} is no order of its loops"
                )
    return frozen


def is_neutral(name: str, value: Value) -> bool:
    """Whether the value means the same as leaving the field out."""
    field = FIELDS.get(name)
    if field is None or field.required:
        return False
    if not isinstance(value, tuple):
        return freeze(value) == field.neutral and type(value) is type(field.neutral)
    if name == "loop_orders":
        return all(order == tuple(range(len(order))) for order in value)
    return all(item == field.neutral and type(item) is type(field.neutral) for item in value)


ITEM = re.compile(r"(?P<field>.+)_(?P<place>0|[1-9]\d{0,3})")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class KernelConfig:
    """The options that a kernel is built with, by field; None: left out, which means the default. Any other name is a
    field of the user. Lists are kept as tuples.

    block_sizes: the size of each tile. num_threads: threads along each axis, where the backend asks for them.
    loop_orders: for each nest of tiles, the order of its loops. flatten_loops: whether a nest becomes one loop.
    l2_groupings: rows of programs that share the L2 cache. reduction_loops: for each reduction, the elements taken at a
    time; None: all at once. range_…: unrolling, warp specialisation, stages, multi-buffering and flattening of each
    device loop; 0 or None: the compiler's choice. static_ranges: loops unrolled at compile time.
    load_eviction_policies: the cache policy of each load. num_warps, num_stages: of the whole kernel.
    pid_type: the layout of programs. num_sm_multiplier: programs on each multiprocessor of a persistent kernel.
    maxnreg: most registers a thread. indexing: how each load and store addresses memory, loads first; a single value
    is for all of them. advanced_controls_file: a file for the assembler.
    Raises ConfigError, naming field and value, for a value that a field does not take.

    >>> KernelConfig(block_sizes=[64, 32], num_warps=8, split_k=2)
    KernelConfig(block_sizes=[64, 32], num_warps=8, split_k=2)
    """

    block_sizes: tuple[int, ...] | None
    num_threads: int | tuple[int, ...] | None
    loop_orders: tuple[tuple[int, ...], ...] | None
    flatten_loops: tuple[bool, ...] | None
    l2_groupings: tuple[int, ...] | None
    reduction_loops: tuple[int | None, ...] | None
    range_unroll_factors: tuple[int, ...] | None
    range_warp_specializes: tuple[bool | None, ...] | None
    range_num_stages: tuple[int, ...] | None
    range_multi_buffers: tuple[bool | None, ...] | None
    range_flattens: tuple[bool | None, ...] | None
    static_ranges: tuple[bool, ...] | None
    load_eviction_policies: tuple[EvictionPolicy, ...] | None
    num_warps: int | None
    num_stages: int | None
    pid_type: PidType | None
    num_sm_multiplier: SmMultiplier | None
    maxnreg: MaxRegisters | None
    indexing: Indexing | tuple[Indexing, ...] | None
    advanced_controls_file: str | None
    user: Mapping[str, Value]

    def __init__(self, **fields: Any) -> None:
        given = {
            name: check_field(name, value) for name, value in fields.items() if value is not None or name not in FIELDS
        }
        for name in FIELDS:
            object.__setattr__(self, name, given.get(name))
        user = {name: value for name, value in given.items() if name not in FIELDS}
        for name in user:
            _check_user(name)
        object.__setattr__(self, "user", MappingProxyType(user))

    @classmethod
    def of(cls, config: Mapping[str, Value]) -> "KernelConfig":
        """The view of a core `Config` of a `kernel_space`, or of a mapping of whole fields.

        Raises ConfigError for an item without those before it, or for a field given both whole and by items.
        """
        whole: dict[str, Any] = {}
        items: dict[str, dict[int, Value]] = {}
        for name, value in config.items():
            match = ITEM.fullmatch(name)
            if match and _is_listed(match["field"]):
                items.setdefault(match["field"], {})[int(match["place"])] = value
            else:
                whole[name] = value
        for name, at in items.items():
            if whole.get(name) is not None:
                raise ConfigError(f"the config has {name} both as a whole and by items; keep one of them")
            if len(at) != max(at) + 1:
                missing = next(i for i in range(max(at)) if i not in at)
                raise ConfigError(f"the config has {name}_{max(at)} and lacks {name}_{missing}; give it every item")
            whole[name] = tuple(at[i] for i in range(len(at)))
        return cls(**whole)

    def fields(self) -> dict[str, Value]:
        """The fields that are set, whole, in the order of the class; the user's fields come last."""
        known = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in {**known, **self.user}.items() if value is not None or name in self.user}

    def to_config(self) -> Config:
        """The core config, with an entry for every item of a list, whatever a space has."""
        entries: dict[str, Value] = {}
        for name, value in self.fields().items():
            entries.update(_entries(name, value))
        return Config.of(entries)

    def complete(self, space: Space) -> Config:
        """The config of `space` with these fields; fields left out come from the space's default.

        A field that the space lacks may be set if its value is neutral (`num_stages=1`, `indexing="pointer"`).
        Raises ConfigError for a value that the space does not have, or a field that the space lacks and that is not
        neutral.
        """
        entries: dict[str, Value] = {}
        for name, value in self.fields().items():
            count = _length(space, name)
            spread = (value,) * count if count and not isinstance(value, tuple) else value
            if count or name in space.names or not is_neutral(name, value):
                entries.update(_entries(name, spread))
        return space.complete(entries)

    def minimize(self, space: Space) -> "KernelConfig":
        """This config without the fields that equal their default (the space's, else the neutral value); `complete`
        puts them back."""
        default = {} if space.default is None else KernelConfig.of(space.default).fields()
        kept = {}
        for name, value in self.fields().items():
            count = _length(space, name)
            spread = (value,) * count if count and not isinstance(value, tuple) else value
            same = token(spread) == token(default[name]) if name in default else is_neutral(name, value)
            if not same:
                kept[name] = value
        return KernelConfig(**kept)

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_fields, (self.fields(),)

    def __eq__(self, other: object) -> bool:
        return self.to_config() == other.to_config() if isinstance(other, KernelConfig) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_config())

    def __repr__(self) -> str:
        return f"KernelConfig({', '.join(f'{name}={_show(value)}' for name, value in self.fields().items())})"


def _of_fields(fields: dict[str, Value]) -> KernelConfig:
    return KernelConfig(**fields)


def _check_user(name: str) -> None:
    match = ITEM.fullmatch(name)
    if name == "user" or (match and _is_listed(match["field"])):
        hint = "give the list as a whole" if match else "choose another"
        raise ConfigError(f"the kernel config cannot have a user field called {name!r}; {hint}")


def _is_listed(name: str) -> bool:
    return name in FIELDS and FIELDS[name].listed


def _length(space: Space, name: str) -> int:
    """How many items of a listed field the space has."""
    return sum(1 for _ in _items(space, name)) if _is_listed(name) else 0


def _items(space: Space, name: str) -> Iterator[str]:
    place = 0
    while (item := f"{name}_{place}") in space.parameters:
        yield item
        place += 1


def _entries(name: str, value: Value) -> dict[str, Value]:
    """The entries of a core config for one field; an empty list stays an entry, so that it is not lost."""
    if _is_listed(name) and isinstance(value, tuple) and value:
        return {f"{name}_{place}": item for place, item in enumerate(value)}
    return {name: value}


def _show(value: Value) -> str:
    return f"[{', '.join(map(_show, value))}]" if isinstance(value, tuple) else repr(value)

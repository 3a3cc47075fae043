"""The fields of a tile kernel's config: what each may hold, and what it means to leave it out.

The names and values are those of Helion's Config, so that a config can go from one to the other.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from autotune.core.arguments import shown
from autotune.core.config import Value, freeze
from autotune.core.errors import ConfigError

EvictionPolicy = Literal["", "first", "last"]
PidType = Literal["flat", "xyz", "persistent_blocked", "persistent_interleaved"]
Indexing = Literal["pointer", "tensor_descriptor", "block_ptr"]
SmMultiplier = Literal[1, 2, 4, 8]
MaxRegisters = Literal[32, 64, 128, 256]

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]

PERSISTENT: tuple[PidType, ...] = ("persistent_blocked", "persistent_interleaved")


class Field(NamedTuple):
    """kind: the type of the whole value. neutral: what a kernel does without it; of a listed field, for each item.

    required: nothing stands for it. listed: the value is a list, or (`single`) one value for all items.
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
"""In the order of the seed's Config. Any other name is a field of the user's own."""


def checked(name: str, value: object) -> Value:
    """The value of a field as a core config holds it; raises ConfigError, naming what is wanted, for any other."""
    if not name.isidentifier():
        raise ConfigError(f"the kernel config has a field {name!r}, which is not a name")
    try:
        frozen = freeze(value)
    except TypeError as error:
        raise ConfigError(f"the kernel config has {name} = {shown(value)}: {error}") from None
    field = FIELDS.get(name)
    if field is None:
        return frozen
    try:
        frozen = msgspec.convert(frozen, field.kind, strict=True)
    except msgspec.ValidationError:
        raise ConfigError(f"the kernel config has {name} = {shown(value)}; it takes {field.wanted}") from None
    if name == "loop_orders":
        for order in frozen:
            if sorted(order) != list(range(len(order))):
                raise ConfigError(
                    f"the kernel config has {name} = {shown(value)}; {list(order)} is no order of its loops"
                )
    return frozen


def is_neutral(name: str, value: Value) -> bool:
    """Whether a kernel does the same without this field."""
    field = FIELDS.get(name)
    if field is None or field.required:
        return False
    if not isinstance(value, tuple):
        return freeze(value) == field.neutral and type(value) is type(field.neutral)
    if name == "loop_orders":
        return all(order == tuple(range(len(order))) for order in value)
    return all(item == field.neutral and type(item) is type(field.neutral) for item in value)

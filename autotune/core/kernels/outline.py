"""The outline of a kernel: its axes and their nesting, its loads and stores, and the limits of its device."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

from autotune.core.arguments import argument_error, check_bool, check_integer, check_items, plain, short_repr
from autotune.core.errors import SpaceError
from autotune.core.memo import memo

LARGEST_BLOCK = 1 << 16


class Tile(Struct, frozen=True):
    """One tiled axis of a kernel. size: its extent. low, high: the least and the largest block, powers of two.

    low: 16, for instance, where the tile is an operand of a tensor core. high: None: as large as the axis.
    """

    size: int
    low: int = 1
    high: int | None = None

    def __post_init__(self) -> None:
        for name in ("size", "low", "high"):
            value = getattr(self, name)
            if value is None and name == "high":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpaceError(f"{short_repr(self)}: {name} must be a positive integer")
            if name != "size" and value & (value - 1):
                raise SpaceError(f"{short_repr(self)}: {name} must be a power of two")
        if self.low > self.largest:
            raise SpaceError(f"{self}: low is above the largest block, {self.largest}")

    @property
    def largest(self) -> int:
        """The largest block: a power of two."""
        return min(self.high or LARGEST_BLOCK, max(power_above(self.size), self.low), LARGEST_BLOCK)


Positive = Annotated[int, Meta(ge=1)]


class DeviceLimits(Struct, frozen=True):
    """The limits of one block of a kernel, and the features of the device.

    shared_bytes: bytes of shared memory. registers: registers of 32 bits. max_threads: threads in a block.
    tensor_elements: elements in one tile (Triton's limit). tensor_descriptors, warp_specialization: whether the
    hardware has them.
    """

    shared_bytes: Positive
    registers: Positive = 65536
    max_threads: Positive = 1024
    tensor_elements: Positive = 1 << 20
    tensor_descriptors: bool = False
    warp_specialization: bool = False


DEVICES: dict[str, DeviceLimits] = {
    "sm_70": DeviceLimits(98304),
    "sm_75": DeviceLimits(65536),
    "sm_80": DeviceLimits(166912),
    "sm_86": DeviceLimits(101376),
    "sm_89": DeviceLimits(101376),
    "sm_90": DeviceLimits(232448, tensor_descriptors=True),
    "sm_100": DeviceLimits(232448, tensor_descriptors=True, warp_specialization=True),
    "sm_120": DeviceLimits(101376, tensor_descriptors=True),
}
"""Limits of NVIDIA's devices, from the table of technical specifications in the CUDA C++ programming guide."""


def device_limits(device: str | DeviceLimits) -> DeviceLimits:
    """The limits of an architecture by its name; raises SpaceError for an unknown name."""
    if isinstance(device, DeviceLimits):
        return device
    if not isinstance(device, str) or device not in DEVICES:
        known = ", ".join(DEVICES)
        raise SpaceError(f"no device is called {short_repr(device)}; there are {known}, or give a DeviceLimits")
    return DEVICES[device]


def power_above(value: int) -> int:
    """The smallest power of two that is at least `value`, a positive integer."""
    return 1 << (value - 1).bit_length()


Nest = int | Tile | Sequence[int | Tile]
Accesses = int | Sequence[Sequence[int]]


MOST, MOST_ITEMS = 2**62, 1000
"""The largest size, and the most loops, loads or stores of a kernel: far beyond real ones, small enough for int64."""


@dataclass(frozen=True)
class Outline:
    """The outline of a kernel, checked.

    tiles: all tiles, numbered through. nests: the tiles of each nest; the first nest is the grid, the others are loops.
    reductions: their sizes. Axes are numbered: first the tiles, then the reductions. loads, stores: the axes of each;
    None where unknown. loops: the number of device loops: of the nests, of the reductions, and further ones.
    """

    tiles: tuple[Tile, ...]
    nests: tuple[tuple[int, ...], ...]
    reductions: tuple[int, ...]
    loads: tuple[tuple[int, ...] | None, ...]
    stores: tuple[tuple[int, ...] | None, ...]
    loops: int
    persistent: bool
    limits: DeviceLimits
    element_bytes: int

    @memo
    def accesses(self) -> tuple[tuple[int, ...] | None, ...]:
        """Loads, then stores: in the order of the field `indexing`."""
        return (*self.loads, *self.stores)

    @memo
    def loop_axes(self) -> tuple[tuple[int, ...], ...]:
        """The axes of the device loops that belong to a nest or a reduction."""
        first = len(self.tiles)
        return (*self.nests[1:], *((first + i,) for i in range(len(self.reductions))))

    def range_of(self, loop: int) -> int:
        """The place of a device loop in the range_… fields; a persistent kernel's loop over programs is place 0."""
        return loop + self.persistent

    @property
    def ranges(self) -> int:
        """The number of items of the range_… fields."""
        return self.loops + self.persistent

    def extent(self, axis: int) -> str:
        """The extent of an axis in one program, as an expression."""
        if axis < len(self.tiles):
            return f"block_sizes_{axis}"
        chunk = f"reduction_loops_{axis - len(self.tiles)}"
        return f"({self.longest(axis)} if {chunk} is None else {chunk})"

    def longest(self, axis: int) -> int:
        """The largest extent of an axis in one program."""
        if axis < len(self.tiles):
            return self.tiles[axis].largest
        return power_above(self.reductions[axis - len(self.tiles)])


def make_outline(
    tiles: Sequence[Nest],
    reductions: Sequence[int],
    loops: int | None,
    loads: Accesses,
    stores: Accesses,
    persistent: bool,
    limits: DeviceLimits,
    element_bytes: int,
) -> Outline:
    """The outline of a kernel; raises SpaceError, naming the argument, for a description that no kernel has."""
    wanted = "a list with the size of each tile, such as [(4096, 4096), 1024]"
    tiles = [plain(nest) for nest in check_items(tiles, "tiles", wanted, SpaceError)]
    if not tiles:
        raise argument_error("tiles", tiles, wanted, SpaceError)
    flat: list[Tile] = []
    nests: list[tuple[int, ...]] = []
    for nest in tiles:
        members = (
            [nest] if isinstance(nest, int | Tile) else list(check_items(nest, "tiles: a nest", wanted, SpaceError))
        )
        if not members:
            raise SpaceError(f"tiles = {tiles!r}: a nest has at least one tile")
        nests.append(tuple(range(len(flat), len(flat) + len(members))))
        flat.extend(tile if isinstance(tile, Tile) else Tile(tile) for tile in members)
    given = check_items(reductions, "reductions", "a list of their sizes", SpaceError)
    reductions = [_natural("a reduction", size, 1) for size in given]
    least = len(nests) - 1 + len(reductions)
    count = least if loops is None else _natural("loops", loops, 0)
    if count > MOST_ITEMS:
        raise argument_error("loops", loops, f"at most {MOST_ITEMS}", SpaceError)
    if count < least:
        raise SpaceError(f"loops = {loops}: the nests after the first and the reductions are {least} loops already")
    axes = len(flat) + len(reductions)
    return Outline(
        tuple(flat),
        tuple(nests),
        tuple(reductions),
        _accesses("loads", loads, axes),
        _accesses("stores", stores, axes),
        count,
        check_bool(persistent, "persistent", SpaceError),
        limits,
        _natural("element_bytes", element_bytes, 1),
    )


def _natural(what: str, value: object, least: int) -> int:
    number = check_integer(value, what, SpaceError, least)
    if number > MOST:
        raise argument_error(what, value, f"an integer of at most {MOST}", SpaceError)
    return number


def _accesses(what: str, given: Accesses, axes: int) -> tuple[tuple[int, ...] | None, ...]:
    given = plain(given)
    if isinstance(given, int):
        number = _natural(what, given, 0)
        if number > MOST_ITEMS:
            raise argument_error(what, given, f"at most {MOST_ITEMS}", SpaceError)
        return (None,) * number
    wanted = f"a number, or lists of axes from 0 to {axes - 1}, tiles first, then reductions"
    found: list[tuple[Any, ...]] = []
    for access in check_items(given, what, wanted, SpaceError):
        listed = isinstance(access, Iterable) and not isinstance(access, str)
        members = [plain(axis) for axis in access] if listed else [None]
        if any(not isinstance(axis, int) or axis not in range(axes) for axis in members):
            raise SpaceError(
                f"{what}: {short_repr(access)} is not a list of axes; the axes are 0 to {axes - 1}, tiles first, then "
                "reductions"
            )
        found.append(tuple(members))
    return tuple(found)

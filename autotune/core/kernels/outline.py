"""A described kernel, read and checked: which axes it has, how they are nested, what it loads and stores."""

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.core.errors import SpaceError
from autotune.core.kernels.description import DeviceLimits, Tile, power_above
from autotune.core.memo import memo

Nest = int | Tile | Sequence[int | Tile]
Accesses = int | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Outline:
    """tiles: all of them, numbered through. nests: the tiles of each nest; the first is the grid, the others are loops.

    Axes are the tiles, then the reductions. loads, stores: the axes of each; None where they are not known.
    loops: device loops: those of the nests, of the reductions, and any others.
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
        """The axes of each device loop, as far as it is one of a nest or a reduction."""
        first = len(self.tiles)
        return (*self.nests[1:], *((first + i,) for i in range(len(self.reductions))))

    def range_of(self, loop: int) -> int:
        """The place of a device loop in the range_… fields; place 0 is the loop over programs of a persistent one."""
        return loop + self.persistent

    @property
    def ranges(self) -> int:
        """How many items the range_… fields have."""
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


def outline(
    tiles: Sequence[Nest],
    reductions: Sequence[int],
    loops: int | None,
    loads: Accesses,
    stores: Accesses,
    persistent: bool,
    limits: DeviceLimits,
    element_bytes: int,
) -> Outline:
    """The kernel that these describe; raises SpaceError, naming the argument, for what cannot be."""
    if isinstance(tiles, int | Tile | str) or not tiles:
        raise SpaceError(f"tiles = {tiles!r}: give a list with the size of each tile, such as [(4096, 4096), 1024]")
    flat: list[Tile] = []
    nests: list[tuple[int, ...]] = []
    for nest in tiles:
        members = [nest] if isinstance(nest, int | Tile) else list(nest)
        if not members:
            raise SpaceError(f"tiles = {tiles!r}: a nest has at least one tile")
        nests.append(tuple(range(len(flat), len(flat) + len(members))))
        flat.extend(tile if isinstance(tile, Tile) else Tile(tile) for tile in members)
    for size in reductions:
        _natural("a reduction", size, 1)
    least = len(nests) - 1 + len(reductions)
    count = least if loops is None else _natural("loops", loops, 0)
    if count < least:
        raise SpaceError(f"loops = {loops}: the nests after the first and the reductions are {least} loops already")
    axes = len(flat) + len(reductions)
    return Outline(
        tuple(flat), tuple(nests), tuple(reductions), _accesses("loads", loads, axes),
        _accesses("stores", stores, axes), count, bool(persistent), limits, _natural("element_bytes", element_bytes, 1),
    )  # fmt: skip


def _natural(what: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SpaceError(f"{what} is {value!r}; give an integer of at least {least}")
    return value


def _accesses(what: str, given: Accesses, axes: int) -> tuple[tuple[int, ...] | None, ...]:
    if isinstance(given, int):
        return (None,) * _natural(what, given, 0)
    for access in given:
        if isinstance(access, int | str) or any(axis not in range(axes) for axis in access):
            raise SpaceError(
                f"{what}: {access!r} is not a list of axes; the axes are 0 to {axes - 1}, tiles first, then reductions"
            )
    return tuple(tuple(access) for access in given)

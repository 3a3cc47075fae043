"""`kernel_space`: the space over the fields of a kernel's config, from an outline of the kernel.

Three parts: the parameters, the constraints between them, and the default config. Constraints exclude two kinds of
points: configs that cannot run (a tile with too many elements, more shared memory than the device has, a descriptor of
a row that is too short), and configs that mean the same as another (an option of a persistent kernel on a kernel that
is not persistent).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import get_args

import numpy as np

from autotune.core.arguments import argument_error, check_bool, check_items, check_kind, check_text
from autotune.core.config import Config, Value
from autotune.core.constraints import Constraint
from autotune.core.errors import SpaceError
from autotune.core.kernels.config import FIELDS, ITEM, PERSISTENT, EvictionPolicy, KernelConfig, MaxRegisters
from autotune.core.kernels.outline import (
    Accesses,
    DeviceLimits,
    Nest,
    Outline,
    device_limits,
    make_outline,
    power_above,
)
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space

Parameters = dict[str, Parameter]

LARGEST_GROUP, MOST_WARPS, MOST_STAGES, MOST_UNROLLED = 64, 32, 8, 4
LEAST_CHUNK = 16
"""The ends of ranges that Helion's fragments have for the same fields."""

DESCRIPTOR_BYTES = 16
"""The smallest extent, in bytes, of the last axis of a tile that a tensor descriptor addresses (Triton's limit)."""

WARPS_TO_SPECIALIZE = 4
"""Fewest warps of a kernel with warp specialisation: one warp group (Triton)."""

RANGE_NEUTRAL = {
    "range_unroll_factors": "== 0", "range_num_stages": "== 0", "range_multi_buffers": "is None",
    "range_flattens": "is None", "range_warp_specializes": "is None",
}  # fmt: skip

GRID_ELEMENTS, LOOP_BLOCK, CHUNK = 1024, 32, 4096
"""Sizes of the default config: elements in a tile of the grid, the block of a loop, and the chunk of a reduction that
cannot be done all at once. Small enough for every device of DEVICES."""


def kernel_space(
    tiles: Sequence[Nest],
    *,
    reductions: Sequence[int] = (),
    loops: int | None = None,
    loads: Accesses = 0,
    stores: Accesses = 0,
    persistent: bool = False,
    device: str | DeviceLimits = "sm_80",
    element_bytes: int = 2,
    threads: bool = False,
    control_files: Sequence[str] = (),
    user: Mapping[str, Parameter] | None = None,
    constraints: Iterable[str | Callable[..., object] | Constraint] = (),
    default: KernelConfig | None = None,
) -> Space:
    """The space of a tile kernel's configs, over the fields of `KernelConfig`, with the constraints between them.

    tiles: the size of each tiled axis (an integer or a `Tile`), nested as the kernel tiles them: axes tiled at once are
    a tuple. The first nest is the grid, the others are loops inside it. reductions: the sizes of the reductions that
    may be done in chunks. loops: the number of device loops; None: those of the nests and the reductions.
    loads, stores: their number, or for each the axes that it reads or writes (tiles are numbered through, then the
    reductions); only with the axes can memory be limited.
    persistent: whether the kernel may run as a persistent one. device: an architecture such as "sm_90", or its limits.
    element_bytes: bytes of an element of the tiles. threads: whether the backend takes threads along each axis.
    control_files: files for the assembler to choose from. user: further parameters. constraints: further constraints.
    default: fields of the default config that differ from the library's choice.
    Raises SpaceError for a description that no kernel has, ConfigError for a default outside of the space.

    A matrix product: a grid over M and N, a loop over K, two loads and a store.

    >>> space = kernel_space([(4096, 4096), 1024], loads=[(0, 2), (2, 1)], stores=[(0, 1)], device="sm_90")
    >>> KernelConfig.of(space.default).block_sizes
    (32, 32, 32)
    """
    if user is not None and not (isinstance(user, Mapping) and all(isinstance(name, str) for name in user)):
        raise argument_error("user", user, "further parameters by name", SpaceError)
    files = [check_text(one, "a control file", "its path", SpaceError) for one in
             check_items(control_files, "control_files", "a list of paths", SpaceError)]  # fmt: skip
    if isinstance(constraints, str) or not isinstance(constraints, Iterable):
        raise argument_error("constraints", constraints, "a list of expressions or functions", SpaceError)
    if default is not None:
        check_kind(default, KernelConfig, "default", "a KernelConfig, or leave it out", SpaceError)
    threads = check_bool(threads, "threads", SpaceError)
    kernel = make_outline(tiles, reductions, loops, loads, stores, persistent, device_limits(device), element_bytes)
    parameters: Parameters = {}
    for part in (_tiles(kernel, threads), _loops(kernel), _memory(kernel), _launch(kernel, tuple(files))):
        parameters |= part
    for name, parameter in (user or {}).items():
        if name in parameters or name in FIELDS or _looks_like_an_item(name):
            raise SpaceError(f"the parameter {name!r} has the name of a field of the kernel; choose another")
        parameters[name] = parameter
    joined = [*make_constraints(kernel, set(parameters)), *constraints]
    free = Space(parameters, joined)
    return Space(parameters, joined, default_config(kernel, free, default))


def _looks_like_an_item(name: str) -> bool:
    match = ITEM.fullmatch(name)
    return match is not None and match["field"] in FIELDS


def _tiles(kernel: Outline, threads: bool) -> Parameters:
    found: Parameters = {}
    for i, tile in enumerate(kernel.tiles):
        found[f"block_sizes_{i}"] = PowerOfTwo(tile.low, tile.largest, role="block_size")
    if threads:
        most = kernel.limits.max_threads
        counts = (0, *(1 << i for i in range(most.bit_length())))
        found |= {f"num_threads_{i}": Choice(counts, ordered=True) for i in range(len(kernel.tiles))}
    joint = [nest for nest in kernel.nests if len(nest) > 1]
    found |= {f"loop_orders_{i}": Permutation(len(nest)) for i, nest in enumerate(joint)}
    found |= {f"flatten_loops_{i}": Boolean() for i in range(len(joint))}
    if len(kernel.nests[0]) > 1:
        found["l2_groupings_0"] = PowerOfTwo(1, LARGEST_GROUP)
    return found


def _loops(kernel: Outline) -> Parameters:
    found: Parameters = {f"reduction_loops_{i}": _chunks(kernel, size) for i, size in enumerate(kernel.reductions)}
    unset = Choice((None, False, True))
    kinds: Parameters = {"range_unroll_factors": Integer(0, MOST_UNROLLED)}
    if kernel.limits.warp_specialization:
        kinds["range_warp_specializes"] = unset
    kinds |= {"range_num_stages": Integer(0, MOST_STAGES // 2), "range_multi_buffers": unset, "range_flattens": unset}
    for name, kind in kinds.items():
        found |= {f"{name}_{place}": kind for place in range(kernel.ranges)}
    return found | {f"static_ranges_{place}": Boolean() for place in range(kernel.ranges)}


def _chunks(kernel: Outline, size: int) -> Parameter:
    """The chunks of a reduction, with None (all at once) as the largest where one tile can hold it."""
    whole, most = power_above(size), kernel.limits.tensor_elements
    if whole > most:
        return PowerOfTwo(LEAST_CHUNK, most)
    chunks = [1 << i for i in range(LEAST_CHUNK.bit_length() - 1, whole.bit_length() - 1)]
    return Choice((*chunks, None), ordered=True)


def _memory(kernel: Outline) -> Parameters:
    kinds = ("pointer", "block_ptr", *(("tensor_descriptor",) if kernel.limits.tensor_descriptors else ()))
    evictions = get_args(EvictionPolicy)
    return {
        **{f"load_eviction_policies_{i}": Choice(evictions) for i in range(len(kernel.loads))},
        **{f"indexing_{i}": Choice(kinds) for i in range(len(kernel.accesses))},
    }


def _launch(kernel: Outline, control_files: tuple[str, ...]) -> Parameters:
    layouts = ["flat"]
    if 1 < len(kernel.nests[0]) <= 3:
        layouts.append("xyz")
    if kernel.persistent:
        layouts.extend(PERSISTENT)
    found: Parameters = {
        "num_warps": PowerOfTwo(1, min(MOST_WARPS, kernel.limits.max_threads // 32), role="num_warps"),
        "num_stages": Integer(1, MOST_STAGES),
        "pid_type": Choice(tuple(layouts)),
    }
    if kernel.persistent:
        found["num_sm_multiplier"] = PowerOfTwo(1, 8)
        found["maxnreg"] = Choice((*get_args(MaxRegisters), None), ordered=True)
    if control_files:
        found["advanced_controls_file"] = Choice(("", *control_files))
    return found


def make_constraints(kernel: Outline, names: set[str]) -> list[str]:
    """The constraints between the parameters `names`, as expressions."""
    found = [
        *_elements(kernel),
        *_shared(kernel),
        *_descriptors(kernel, names),
        *_layout(kernel),
        *_ranges(kernel, names),
    ]
    if kernel.persistent:
        found += _persistent(kernel, names)
    return list(dict.fromkeys([*found, *_threads(kernel, names)]))


def _elements(kernel: Outline) -> Iterator[str]:
    """A tile has at most as many elements as the compiler takes."""
    for axes in (kernel.nests[0], *(axes for axes in kernel.accesses if axes)):
        if prod(map(kernel.longest, axes)) > kernel.limits.tensor_elements:
            yield f"{_product(kernel, axes)} <= {kernel.limits.tensor_elements}"


def _product(kernel: Outline, axes: tuple[int, ...]) -> str:
    return " * ".join(map(kernel.extent, axes))


def _shared(kernel: Outline) -> Iterator[str]:
    """The buffers of a pipelined loop fit into shared memory: `stages - 1` of them, the fewest that Triton needs."""
    for loop, axes in enumerate(kernel.loop_axes):
        loads = [load for load in kernel.loads if load and set(load) & set(axes)]
        if not loads:
            continue
        held = " + ".join(_product(kernel, load) for load in loads)
        own = f"range_num_stages_{kernel.range_of(loop)}"
        stages = f"((num_stages if {own} == 0 else {own}) - 1)"
        fits = f"({held}) * {kernel.element_bytes} * {stages} <= {kernel.limits.shared_bytes}"
        reduction = axes[0] - len(kernel.tiles)
        yield fits if reduction < 0 else f"reduction_loops_{reduction} is None or {fits}"


def _descriptors(kernel: Outline, names: set[str]) -> Iterator[str]:
    for place, axes in enumerate(kernel.accesses):
        if axes and kernel.limits.tensor_descriptors and f"indexing_{place}" in names:
            row = f"{kernel.extent(axes[-1])} * {kernel.element_bytes} >= {DESCRIPTOR_BYTES}"
            yield f"indexing_{place} != 'tensor_descriptor' or {row}"


def _layout(kernel: Outline) -> Iterator[str]:
    """A flattened grid, or a grid numbered by axes, has no groups of rows."""
    if len(kernel.nests[0]) > 1:
        yield "l2_groupings_0 == 1 or not flatten_loops_0"
        yield "l2_groupings_0 == 1 or pid_type != 'xyz'"
        yield "pid_type != 'xyz' or not flatten_loops_0"


def _ranges(kernel: Outline, names: set[str]) -> Iterator[str]:
    for place in range(kernel.ranges):
        neutral = _neutral_range(place, names)
        if f"static_ranges_{place}" in names:
            yield f"not static_ranges_{place} or ({neutral})"
        if f"range_warp_specializes_{place}" in names:
            yield f"range_warp_specializes_{place} is not True or num_warps >= {WARPS_TO_SPECIALIZE}"


def _neutral_range(place: int, names: set[str]) -> str:
    stated = [f"{name}_{place} {value}" for name, value in RANGE_NEUTRAL.items() if f"{name}_{place}" in names]
    return " and ".join(stated)


def _persistent(kernel: Outline, names: set[str]) -> Iterator[str]:
    """Only a persistent kernel has a multiple of programs, a limit on registers, and a loop over programs."""
    persistent = f"pid_type in {PERSISTENT!r}"
    yield f"num_sm_multiplier == 1 or {persistent}"
    yield f"maxnreg is None or {persistent}"
    yield f"maxnreg is None or maxnreg * num_warps * 32 <= {kernel.limits.registers}"
    yield f"{persistent} or ({_neutral_range(0, names)})"


def _threads(kernel: Outline, names: set[str]) -> Iterator[str]:
    asked = [f"num_threads_{i}" for i in range(len(kernel.tiles)) if f"num_threads_{i}" in names]
    for i, name in enumerate(asked):
        yield f"{name} <= block_sizes_{i}"
    if asked:
        yield f"{' * '.join(f'max({name}, 1)' for name in asked)} <= {kernel.limits.max_threads}"


def default_config(kernel: Outline, space: Space, given: KernelConfig | None) -> Config:
    """The default config: the user's fields, else neutral values; tiles (then chunks) are halved until the constraints
    hold."""
    values: dict[str, Value] = {name: _neutral_value(name, p) for name, p in space.parameters.items()} | _blocks(kernel)
    own = {} if given is None else dict(given.to_config())
    if own.get("maxnreg") is not None:
        raise SpaceError("the default of a kernel space has no maxnreg, which a config could not leave out; seed it")
    config = _merge_fields(values, own)
    while not space.valid(space.encode([config]))[0]:
        smaller = _halve_largest(kernel, space, config, own)
        if smaller is None:
            break  # Space raises the error
        config = smaller
    return Config(config)


def _blocks(kernel: Outline) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for nest in kernel.nests:
        grid = nest == kernel.nests[0]
        block = 1 << (GRID_ELEMENTS.bit_length() - 1) // len(nest) if grid else LOOP_BLOCK
        for i in nest:
            found[f"block_sizes_{i}"] = min(max(block, kernel.tiles[i].low), kernel.tiles[i].largest)
    return found


def _halve_largest(
    kernel: Outline, space: Space, config: Mapping[str, Value], own: Mapping[str, Value]
) -> dict[str, Value] | None:
    """The config with its largest tile halved, or its longest reduction once the tiles are as small as can be."""
    tiles = {f"block_sizes_{i}": i for i in range(len(kernel.tiles))}
    chunks = {f"reduction_loops_{i}": len(tiles) + i for i in range(len(kernel.reductions))}
    for axes in (tiles, chunks):
        halves = {n: (config[n] or kernel.longest(axis)) // 2 for n, axis in axes.items() if n not in own}
        possible = {name: half for name, half in halves.items() if _holds(space.parameters[name], half)}
        if possible:
            largest = max(possible, key=lambda name: possible[name])
            return {**config, largest: possible[largest]}
    return None


def _holds(parameter: Parameter, value: Value) -> bool:
    try:
        parameter.encode(value)
    except ValueError:
        return False
    return True


def _merge_fields(values: dict[str, Value], own: dict[str, Value]) -> dict[str, Value]:
    """The values with the user's in their place; a single value of a listed field goes to every item."""
    merged = dict(values)
    for name, value in own.items():
        items = [item for item in values if (m := ITEM.fullmatch(item)) and m["field"] == name]
        merged |= dict.fromkeys(items or [name], value)
    return merged


def _neutral_value(name: str, parameter: Parameter) -> Value:
    """The value that means leaving the field out; the parameter's first value where it has none."""
    match = ITEM.fullmatch(name)
    field = FIELDS.get(match["field"] if match else name)
    neutral = None if field is None else field.neutral
    if isinstance(parameter, Permutation):
        return tuple(range(parameter.n))
    if _holds(parameter, neutral):
        return neutral
    if isinstance(parameter, PowerOfTwo) and match and match["field"] == "reduction_loops":
        return min(CHUNK, parameter.high)
    return parameter.decode(parameter.unrank(np.zeros(1, np.int64)))[0]

"""What holds between the fields of a kernel's config, as constraints.

Two sorts: what cannot run (a tile with too many elements, more shared memory than there is, a descriptor of a row that
is too short), and what means nothing (an option of a persistent kernel on one that is not), which would only give
several points to one and the same kernel.
"""

from collections.abc import Iterator
from math import prod

from autotune.core.kernels.fields import PERSISTENT
from autotune.core.kernels.outline import Outline

DESCRIPTOR_BYTES = 16
"""The least extent of the last axis of a tile that a tensor descriptor addresses."""

WARPS_TO_SPECIALIZE = 4

RANGE_NEUTRAL = {
    "range_unroll_factors": "== 0", "range_num_stages": "== 0", "range_multi_buffers": "is None",
    "range_flattens": "is None", "range_warp_specializes": "is None",
}  # fmt: skip


def rules(kernel: Outline, names: set[str]) -> list[str]:
    """The constraints; `names` are the parameters that the space has."""
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
    """No tile has more elements than the compiler takes."""
    for axes in (kernel.nests[0], *(axes for axes in kernel.accesses if axes)):
        if prod(map(kernel.longest, axes)) > kernel.limits.tensor_elements:
            yield f"{_product(kernel, axes)} <= {kernel.limits.tensor_elements}"


def _product(kernel: Outline, axes: tuple[int, ...]) -> str:
    return " * ".join(map(kernel.extent, axes))


def _shared(kernel: Outline) -> Iterator[str]:
    """What a loop loads ahead fits into shared memory: `stages - 1` buffers, which is the least that is needed."""
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
    """A flattened grid, or one numbered by axes, has no groups of rows."""
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
    """Only a persistent kernel has programs to multiply, registers to ration among them, and a loop over programs."""
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

"""`kernel_space`: the space over the fields of a kernel's config, from a short description of the kernel."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from autotune.core.arguments import items, of_kind, refuse, text, truth
from autotune.core.constraints import Constraint
from autotune.core.errors import SpaceError
from autotune.core.kernels.config import ITEM, KernelConfig
from autotune.core.kernels.default import default_config
from autotune.core.kernels.description import DeviceLimits, limits_of, power_above
from autotune.core.kernels.fields import FIELDS, PERSISTENT, EvictionPolicy, MaxRegisters
from autotune.core.kernels.outline import Accesses, Nest, Outline, outline
from autotune.core.kernels.rules import rules
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space

Parameters = dict[str, Parameter]

LARGEST_GROUP, MOST_WARPS, MOST_STAGES, MOST_UNROLLED = 64, 32, 8, 4
LEAST_CHUNK = 16


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
    """The configs of a tile kernel, over the fields of `KernelConfig`, with the constraints between them.

    tiles: the size of each tiled axis (an integer or a `Tile`), nested as the kernel tiles them: what is tiled together
    is a tuple. The first nest is the grid, the others are loops inside of it. reductions: the sizes of the reductions
    that may be done in chunks. loops: device loops; None: those of the nests and the reductions.
    loads, stores: how many there are, or for each the axes that it reads or writes (tiles are numbered through, then
    come the reductions); only with the axes is it known what needs how much memory.
    persistent: whether the kernel may run as a persistent one. device: an architecture such as "sm_90", or limits.
    element_bytes: of an element of the tiles. threads: whether the backend takes threads along each axis.
    control_files: files for the assembler to choose from. user: parameters of your own. constraints: further ones.
    default: fields of the default config that are to differ from what the library would take.
    Raises SpaceError for a description that cannot be, ConfigError for a default outside of the space.

    A matrix product: a grid over M and N, a loop over K, two loads and a store.

    >>> space = kernel_space([(4096, 4096), 1024], loads=[(0, 2), (2, 1)], stores=[(0, 1)], device="sm_90")
    >>> KernelConfig.of(space.default).block_sizes
    (32, 32, 32)
    """
    if user is not None and not (isinstance(user, Mapping) and all(isinstance(name, str) for name in user)):
        raise refuse("user", user, "parameters of your own by name", SpaceError)
    files = [text(one, "a control file", "its path", SpaceError) for one in
             items(control_files, "control_files", "a list of paths", SpaceError)]  # fmt: skip
    if isinstance(constraints, str) or not isinstance(constraints, Iterable):
        raise refuse("constraints", constraints, "a list of expressions or functions", SpaceError)
    if default is not None:
        of_kind(default, KernelConfig, "default", "a KernelConfig, or leave it out", SpaceError)
    threads = truth(threads, "threads", SpaceError)
    kernel = outline(tiles, reductions, loops, loads, stores, persistent, limits_of(device), element_bytes)
    parameters: Parameters = {}
    for part in (_tiles(kernel, threads), _loops(kernel), _memory(kernel), _launch(kernel, tuple(files))):
        parameters |= part
    for name, parameter in (user or {}).items():
        if name in parameters or name in FIELDS or _looks_like_an_item(name):
            raise SpaceError(f"the parameter {name!r} has the name of a field of the kernel; choose another")
        parameters[name] = parameter
    joined = [*rules(kernel, set(parameters)), *constraints]
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
    """The chunks of a reduction, and None for all of it at once as the largest of them, where that is possible."""
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

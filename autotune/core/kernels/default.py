"""The default config of a described kernel: what it does when nothing is said, in tiles that fit."""

from collections.abc import Mapping

import numpy as np

from autotune.core.config import Config, Value
from autotune.core.errors import SpaceError
from autotune.core.kernels.config import ITEM, KernelConfig
from autotune.core.kernels.fields import FIELDS
from autotune.core.kernels.outline import Outline
from autotune.core.parameters import Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space

GRID_ELEMENTS, LOOP_BLOCK, CHUNK = 1024, 32, 4096
"""The default tile of a grid has about so many elements; a loop goes in steps of so many; and a reduction, where it
cannot be done all at once, in chunks of so many."""


def default_config(kernel: Outline, space: Space, given: KernelConfig | None) -> Config:
    """What is given, else neutral values, with tiles (then chunks) halved until the constraints hold."""
    values: dict[str, Value] = {name: _neutral(name, p) for name, p in space.parameters.items()} | _blocks(kernel)
    own = {} if given is None else dict(given.to_config())
    if own.get("maxnreg") is not None:
        raise SpaceError("the default of a kernel space has no maxnreg, which a config could not leave out; seed it")
    config = _spread(values, own)
    while not space.valid(space.encode([config]))[0]:
        smaller = _halved(kernel, space, config, own)
        if smaller is None:
            break  # the space will say what is wrong with it
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


def _halved(
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


def _spread(values: dict[str, Value], own: dict[str, Value]) -> dict[str, Value]:
    """The values with one's own put in; a single value of a listed field goes to every item."""
    merged = dict(values)
    for name, value in own.items():
        items = [item for item in values if (m := ITEM.fullmatch(item)) and m["field"] == name]
        merged |= dict.fromkeys(items or [name], value)
    return merged


def _neutral(name: str, parameter: Parameter) -> Value:
    """What stands for leaving the field out; of a parameter that has no such value, its first."""
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

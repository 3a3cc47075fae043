"""A kernel in a few words, as `kernel_space` takes it: its tiles, and what its device can hold."""

from typing import Annotated

from msgspec import Meta, Struct

from autotune.core.arguments import shown
from autotune.core.errors import SpaceError

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
                raise SpaceError(f"{shown(self)}: {name} must be a positive integer")
            if name != "size" and value & (value - 1):
                raise SpaceError(f"{shown(self)}: {name} must be a power of two")
        if self.low > self.largest:
            raise SpaceError(f"{self}: low is above the largest block, {self.largest}")

    @property
    def largest(self) -> int:
        """The largest block: a power of two."""
        return min(self.high or LARGEST_BLOCK, max(power_above(self.size), self.low), LARGEST_BLOCK)


Positive = Annotated[int, Meta(ge=1)]


class DeviceLimits(Struct, frozen=True):
    """What one block of a kernel may take, and what the device can do.

    shared_bytes: of shared memory. registers: of 32 bits. max_threads: in a block. tensor_elements: in one tile, the
    limit of Triton. tensor_descriptors, warp_specialization: whether the hardware has them.
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
"""NVIDIA's, from the table of technical specifications in the CUDA C++ programming guide."""


def limits_of(device: str | DeviceLimits) -> DeviceLimits:
    """The limits by the name of an architecture; raises SpaceError for one that is not known."""
    if isinstance(device, DeviceLimits):
        return device
    if not isinstance(device, str) or device not in DEVICES:
        known = ", ".join(DEVICES)
        raise SpaceError(f"no device is called {shown(device)}; there are {known}, or give a DeviceLimits of your own")
    return DEVICES[device]


def power_above(value: int) -> int:
    """The least power of two that is not below a positive integer."""
    return 1 << (value - 1).bit_length()

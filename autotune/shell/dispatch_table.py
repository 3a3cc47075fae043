"""A dispatch table: which of a few configs to launch for which shape, as one file that a package can ship."""

from collections.abc import Sequence
from math import inf

import msgspec
from msgspec import Struct

from autotune.core.config import Config
from autotune.core.errors import ConfigError
from autotune.shell.cache.keys import Device, LooseKey, Specialization, distance, only_sizes_differ
from autotune.shell.codec import encode, make_decoder
from autotune.shell.files import PathLike, as_path, read_regular, translate_os_error, write_output
from autotune.shell.signed_json import UNREADABLE

FORMAT, VERSION = "autotune-dispatch", 1


class DispatchRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A shape and the position of its config among those of the table.

    losses: of each config of the table, how much longer it takes than the fastest config that was measured there,
    relative; None where it fails or nothing is known. estimated: whether the loss of this row's config is an estimate.
    """

    specialization: Specialization
    config: int
    losses: tuple[float | None, ...]
    estimated: bool = False

    def times(self) -> dict[int, float]:
        """By the positions of the configs, their times as multiples of the fastest."""
        return {i: 1 + loss for i, loss in enumerate(self.losses) if loss is not None}


class DispatchTable(Struct, frozen=True, kw_only=True):
    """Configs of one kernel on one device, and the rows that choose among them. kernel: its name, for people. within:
    the loss that was aimed at."""

    format: str
    version: int
    kernel: str
    device: Device
    within: float
    configs: tuple[Config, ...]
    rows: tuple[DispatchRow, ...]

    def __post_init__(self) -> None:
        count = len(self.configs)
        if not all(0 <= row.config < count == len(row.losses) for row in self.rows) or not count:
            raise ValueError("a row names a config that the table does not have, or lacks the loss of one")
        if not all(0 <= loss < inf for row in self.rows for loss in row.losses if loss is not None):
            raise ValueError("a loss is below 0 or not finite")

    def find(self, specialization: Specialization) -> DispatchRow | None:
        """The row of a shape."""
        return next((row for row in self.rows if row.specialization == specialization), None)

    def order(self, specialization: Specialization) -> list[tuple[float, DispatchRow]]:
        """The rows that differ in sizes alone, with their distances, nearest first."""
        wanted = self.key(specialization)
        keyed = [(self.key(row.specialization), row) for row in self.rows]
        found = [(distance(wanted, key), row) for key, row in keyed if only_sizes_differ(wanted, key)]
        return sorted(found, key=lambda one: one[0])

    def key(self, specialization: Specialization) -> LooseKey:
        """The key of a shape; those of one table have no source and no space."""
        return LooseKey(kernel=self.kernel, source="", specialization=specialization, device=self.device, space="")


_decode = make_decoder(DispatchTable)


def make_table(
    kernel: str, device: Device, within: float, configs: Sequence[Config], rows: Sequence[DispatchRow]
) -> DispatchTable:
    """A table of the current format."""
    return DispatchTable(
        format=FORMAT, version=VERSION, kernel=kernel, device=device, within=within, configs=tuple(configs),
        rows=tuple(rows),
    )  # fmt: skip


def save_table(table: DispatchTable, path: PathLike) -> None:
    """Write a table to a file; raises ConfigError where that is not possible."""
    path = as_path(path, "path", ConfigError)
    with translate_os_error(ConfigError, f"the table cannot be written to {path}", "name another file"):
        write_output(path, msgspec.json.format(encode(table), indent=1) + b"\n")


def load_table(path: PathLike) -> DispatchTable:
    """The table of a file that `autotune cover --table` wrote; raises ConfigError for any other."""
    path = as_path(path, "configs", ConfigError)
    remedy = "write one with `autotune cover KERNEL --table FILE`"
    with translate_os_error(ConfigError, f"the dispatch table {path} cannot be read", remedy):
        text = read_regular(path)
    try:
        table = _decode.decode(text)
    except (*UNREADABLE, ConfigError, ValueError) as error:
        raise ConfigError(f"{path} is no dispatch table ({error}); {remedy}") from None
    if (table.format, table.version) != (FORMAT, VERSION):
        raise ConfigError(f"{path} is of {table.format} {table.version}, and {FORMAT} {VERSION} is read; {remedy}")
    return table

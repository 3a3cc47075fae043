"""`autotune cover KERNEL`: the fewest configs for all shapes, as a table, a list, or a file of another library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from autotune.backends.triton.launch_options import CONFIG_OPTIONS
from autotune.cli.cache import open_cache, size_field
from autotune.cli.export import ExportFormat, Rename
from autotune.cli.import_ import parse_format
from autotune.cli.options import AsJson, CacheDir, parse_pairs
from autotune.cli.output import print_json, print_labelled
from autotune.core.config import Config
from autotune.core.cover import Completed, Cover, Times, complete, left_out_losses, minimum_cover
from autotune.core.errors import CacheError, ConfigError, PlanError
from autotune.core.formatting import format_count
from autotune.interop.tuned_configs import write_tuned_configs
from autotune.shell.cache.cache import device_label
from autotune.shell.cache.inspect import list_current
from autotune.shell.cache.keys import fields_of
from autotune.shell.cache.shapes import ShapeTimes, shape_times
from autotune.shell.dispatch_table import DispatchRow, make_table, save_table
from autotune.shell.files import read_regular, translate_os_error, write_output
from autotune.shell.tables import print_table

_Losses = Sequence[float]


def cover(
    kernel: Annotated[str, typer.Argument(metavar="KERNEL", help="The kernel's name, or a part of it.")],
    cache_dir: CacheDir = None,
    device: Annotated[str, typer.Option(help="Only devices whose name contains this.")] = "",
    within: Annotated[float, typer.Option(min=0, help="The loss that is allowed: 0.05 is 5 %.")] = 0.05,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help='Weights of shapes, as JSON: {"m=16": 3}; of others 1.')
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a dispatch table, which autotune.triton reads.")
    ] = None,
    configs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a list of triton.Config, as Python.")
    ] = None,
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a file for --export-format.")] = None,
    export_format: ExportFormat = None,
    by: Annotated[str | None, typer.Option(metavar="FIELD", help="The size of a shape, for --export.")] = None,
    rename: Rename = None,
    as_json: AsJson = False,
) -> None:
    """Find the fewest configs that serve all cached shapes.

    A config serves a shape if it takes at most --within longer than the fastest config that was measured there. Times
    that were not measured are estimated, with a margin.
    """
    found = shape_times(list_current(open_cache(cache_dir).stores[0]), kernel, device)
    weight = _read_weights(weights, found.labels)
    completed = complete(found.times)
    chosen = minimum_cover(completed.losses, within, weight)
    left_out = left_out_losses(found.times, found.distances(), within, weight)
    written = [str(path) for path in (table, configs, export) if path is not None]
    if export is not None:
        _export(found, chosen, export, export_format, by, rename)
    if table is not None:
        _save_table(found, completed, chosen, within, table)
    if configs is not None:
        _save_configs(found, chosen, within, configs)
    if as_json:
        print_json(_fields(found, completed, chosen, left_out, written))
    else:
        _print_cover(found, completed, chosen, left_out, within, written)


def _read_weights(path: Path | None, labels: Sequence[str]) -> list[float] | None:
    """The weight of each shape; raises PlanError for another file and for a shape that there is not."""
    if path is None:
        return None
    with translate_os_error(PlanError, f"the weights {path} cannot be read", "check the path"):
        text = read_regular(path)
    try:
        given = msgspec.json.decode(text, type=dict[str, float])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(f'{path} holds no weights ({error}); write {{"{labels[0]}": 3}}, for example') from None
    odd = [label for label in given if label not in labels]
    if odd:
        raise PlanError(f"{path}: there is no shape {odd[0]!r}; there are {'; '.join(labels)}")
    return [given.get(label, 1.0) for label in labels]


# Files


def _save_table(found: ShapeTimes, completed: Completed, chosen: Cover, within: float, path: Path) -> None:
    rows = [
        DispatchRow(
            specialization=key.specialization, config=chosen.configs.index(column),
            losses=tuple(_or_none(round(float(completed.losses[i, c]), 4)) for c in chosen.configs),
            estimated=bool(completed.estimated[i, column]),
        )
        for i, (key, column) in enumerate(zip(found.keys, chosen.choice, strict=True))
        if column is not None
    ]  # fmt: skip
    key = found.keys[0]
    save_table(make_table(key.kernel, key.device, within, _chosen_configs(found, chosen), rows), path)


def _save_configs(found: ShapeTimes, chosen: Cover, within: float, path: Path) -> None:
    """Write the configs as Python text for `triton.autotune`."""
    key, shapes = found.keys[0], format_count(len(found.keys), "shape")
    lines = [
        f"# The fewest configs of {key.kernel} that serve {shapes} within {within * 100:.3g} %,",
        f"# measured on {device_label(key.device)} and found by `autotune cover`.",
        "import triton",
        "",
        "configs = [",
        *(f"    {_triton_text(config)}," for config in _chosen_configs(found, chosen)),
        "]",
    ]
    with translate_os_error(ConfigError, f"the configs cannot be written to {path}", "name another file"):
        write_output(path, "\n".join([*lines, ""]).encode())


def _triton_text(config: Config) -> str:
    values = {name: value for name, value in config.items() if name not in CONFIG_OPTIONS}
    options = [f", {name}={config[name]!r}" for name in CONFIG_OPTIONS if config.get(name) is not None]
    return f"triton.Config({values!r}{''.join(options)})"


def _export(
    found: ShapeTimes, chosen: Cover, path: Path, format: str | None, by: str | None, rename: list[str] | None
) -> None:
    """Write the config of each size as another library reads them. Raises CacheError where a size has two shapes."""
    named: dict[Any, tuple[str, Config]] = {}
    for key, label, column in zip(found.keys, found.labels, chosen.choice, strict=True):
        fields = fields_of(key)
        if by is None:
            raise CacheError(f"--export needs --by FIELD; the shapes have {', '.join(fields)}")
        size = size_field(fields, by)
        if size in named:
            raise CacheError(f"{named[size][0]} and {label} both have {by} = {size}; a file is for one of them")
        if column is not None:
            named[size] = label, found.configs[column]
    pairs = [(size, config) for size, (_, config) in named.items()]
    names = parse_pairs(rename or (), "--rename", "BLOCK_M=BLOCK_SIZE_M")
    write_tuned_configs(pairs, path, parse_format(format) or "vllm", rename=names)


def _chosen_configs(found: ShapeTimes, chosen: Cover) -> list[Config]:
    return [found.configs[column] for column in chosen.configs]


# Output


def _fields(
    found: ShapeTimes, completed: Completed, chosen: Cover, left_out: _Losses, written: list[str]
) -> dict[str, Any]:
    shapes = [
        {
            "shape": label,
            "config": None if column is None else chosen.configs.index(column),
            "loss": _or_none(loss),
            "estimated": column is not None and bool(completed.estimated[i, column]),
            "left_out_loss": _or_none(left),
        }
        for i, (label, column, loss, left) in enumerate(
            zip(found.labels, chosen.choice, chosen.losses, left_out, strict=True)
        )
    ]
    return {
        "kernel": found.keys[0].kernel,
        "device": device_label(found.keys[0].device),
        "measured_configs": len(found.configs),
        "estimated_times": int(completed.estimated.sum()),
        "configs": _chosen_configs(found, chosen),
        "exact": chosen.exact,
        "shapes": shapes,
        "written": written,
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _print_cover(
    found: ShapeTimes, completed: Completed, chosen: Cover, left_out: _Losses, within: float, written: list[str]
) -> None:
    key = found.keys[0]
    shapes, count = format_count(len(found.keys), "shape"), format_count(len(found.configs), "config")
    known, cells = int((~np.isnan(found.times)).sum()), found.times.size
    how = "no smaller number would do" if chosen.exact else "chosen greedily: fewer may do"
    rows = [
        ("kernel", f"{key.kernel} on {device_label(key.device)}"),
        ("measured", f"{shapes}, {count}: {known:,} of {cells:,} times"),
        ("estimated", _describe_estimates(completed, chosen)),
        ("cover", f"{format_count(len(chosen.configs), 'config')} within {within * 100:.3g} %; {how}"),
        ("loss", _describe_losses(chosen.losses)),
        ("one config", _describe_losses(_single_losses(completed.losses))),
        ("left out", f"each shape served by a table of the others: {_describe_losses(left_out)}"),
    ]
    if found.older:
        rows.append(("not used", f"{format_count(found.older, 'entry', 'entries')} of another source of the kernel"))
    print_labelled(rows + [("written", path) for path in written])
    print()
    cells_of = [
        (
            label,
            "-" if column is None else str(chosen.configs.index(column)),
            _percent(loss) + (" (estimated)" if column is not None and completed.estimated[i, column] else ""),
            _percent(left),
        )
        for i, (label, column, loss, left) in enumerate(
            zip(found.labels, chosen.choice, chosen.losses, left_out, strict=True)
        )
    ]
    print_table(("shape", "config", "loss", "left out"), cells_of)
    print()
    print_table(("config", ""), [(str(i), one.to_json()) for i, one in enumerate(_chosen_configs(found, chosen))])


def _describe_estimates(completed: Completed, chosen: Cover) -> str:
    total = int(completed.estimated.sum())
    if not total:
        return "nothing"
    used = sum(column is not None and bool(completed.estimated[i, column]) for i, column in enumerate(chosen.choice))
    return (
        f"{total:,} times, as a time of the shape and one of the config, to a factor of {np.exp(completed.spread):.3g};"
        f" the cover relies on {used:,} of them"
    )


def _describe_losses(losses: _Losses) -> str:
    known = [loss for loss in losses if np.isfinite(loss)]
    if not known:
        return "no shape can be told"
    text = (
        f"{_percent(float(np.expm1(np.mean(np.log1p(known)))))} in the geometric mean, {_percent(max(known))} at most"
    )
    fail, alone = sum(np.isposinf(losses)), sum(np.isnan(losses))
    text += f"; it fails on {format_count(int(fail), 'shape')}" if fail else ""
    return text + (f"; {format_count(int(alone), 'shape')} without a neighbour" if alone else "")


def _single_losses(losses: Times) -> _Losses:
    """The losses with the one config that fails on the fewest shapes, and is the fastest of those in the geometric
    mean."""
    fails = np.isinf(losses).sum(axis=0)
    means = np.log1p(np.where(np.isinf(losses), 0.0, losses)).mean(axis=0)
    best: list[float] = losses[:, np.lexsort((means, fails))[0]].tolist()
    return best


def _percent(loss: float) -> str:
    return "-" if np.isnan(loss) else "fails" if np.isinf(loss) else f"{loss * 100:.3g} %"

"""`autotune export OUT KEY=CONFIG…`: configs in the file of another library."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from autotune.cli.import_ import parse_format
from autotune.cli.options import AsJson, parse_pairs
from autotune.cli.output import print_json, print_labelled
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.formatting import format_count
from autotune.interop.tuned_configs import WRITABLE, write_tuned_configs
from autotune.shell.files import load_config

ExportFormat = Annotated[
    str | None, typer.Option("--export-format", metavar="NAME", help=f"Write OUT for a library: {', '.join(WRITABLE)}.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="OURS=THEIRS", help="Our name of a parameter, and theirs; repeatable."),
]
KernelName = Annotated[str, typer.Option("--kernel-name", help="For flash-linear-attention; without it OUT's name.")]
TritonVersion = Annotated[str, typer.Option("--triton-version", help="The version of Triton, for the file's header.")]


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, as the library names it.")],
    configs: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=CONFIG…", help="A size such as 16 (or a key as JSON), and a file that holds a config."
        ),
    ],
    format: Annotated[str, typer.Option("--format", metavar="NAME", help=f"{', '.join(WRITABLE)}.")] = "vllm",
    rename: Rename = None,
    kernel_name: KernelName = "",
    triton_version: TritonVersion = "",
    as_json: AsJson = False,
) -> None:
    """Write configs as another library reads them.

    Each is for a size, or for a key of Triton's autotuner: vLLM, SGLang and flash-linear-attention. The configs are
    files that `--save-config` wrote. `autotune cache export` writes configs of the cache.
    """
    named = parse_pairs(configs, "KEY=CONFIG", "16=best-16.json")
    read = [(_parse_key(key), load_config(file)) for key, file in named.items()]
    write_for_library(read, out, format, rename, kernel_name, triton_version, as_json)


def _parse_key(text: str) -> Any:
    """A key of JSON, such as 16 or [128, "torch.float16"]; None for "default"."""
    if text == "default":
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise PlanError(f"KEY=CONFIG {text}: the key is not JSON; write 16=best-16.json, for example") from None


def write_for_library(
    configs: Sequence[tuple[Any, Config]],
    out: Path,
    format: str,
    rename: Iterable[str] | None,
    kernel_name: str,
    triton_version: str,
    as_json: bool,
) -> None:
    """Write pairs of a size and a config to `out` as the options say, and print how many there are."""
    names = parse_pairs(rename or (), "--rename", "BLOCK_M=BLOCK_SIZE_M")
    chosen = parse_format(format) or "vllm"
    write_tuned_configs(configs, out, chosen, rename=names, kernel_name=kernel_name, triton_version=triton_version)
    if as_json:
        print_json({"out": str(out), "format": chosen, "configs": len(configs)})
    else:
        print_labelled([("exported", f"{format_count(len(configs), 'config')} to {out}, for {chosen}")])

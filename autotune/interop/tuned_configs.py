"""The files in which other libraries keep tuned configs: all are read, those whose format allows it are written.

vllm, sglang: a config for each size, such as M. vLLM: layers/fused_moe/configs, layers/quantization/utils/configs,
    layers/mamba/ops/configs, and with six nested sizes lora/ops/triton_ops. SGLang:
    layers/moe/fused_moe_triton/configs, in a folder for each version of Triton.
flash-linear-attention: a config for each key of Triton's autotuner. fla/ops/utils/cache.py,
    scripts/utils/autotune_export.py.
flashinfer: a tactic for each operation, runner and shapes. flashinfer/autotuner.py (save_configs, load_configs).
triton: all configs of a key with their times, KERNEL.autotune.json in Triton's cache. triton/runtime/autotuner.py.

The problem that a file is tuned for is partly in its name and folder. Nothing is executed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import md5
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from autotune.core.arguments import argument_error, check_items, check_text, short_repr
from autotune.core.config import Config, Value, as_config
from autotune.core.errors import AutotuneError, ConfigError
from autotune.shell.files import as_path, suffix_conflict, translate_os_error, write_output
from autotune.studies.recordings.files import read_text, without_non_finite
from autotune.studies.recordings.rows import FAILED_TIME

Format = Literal["vllm", "sglang", "flash-linear-attention", "flashinfer", "triton"]
FORMATS: tuple[Format, ...] = get_args(Format)

WRITABLE: tuple[Format, ...] = ("vllm", "sglang", "flash-linear-attention")
"""The formats that can be written. FlashInfer's tactics are numbers of its own kernels, valid
for one version of it; Triton's files are named by a digest of the compiler's state."""

_LORA = ("max_loras", "num_slices", "m", "k", "n", "i")
"""The nested sizes of vLLM's LoRA kernels."""

_MAX_LEVELS = 8
"""Levels of keys in a file of vLLM's family; the deepest, `_LORA`, has six."""

_LAUNCH_OPTIONS: dict[str, Value] = {"num_warps": 4, "num_stages": 3, "num_ctas": 1, "maxnreg": None}
"""The fields of a `triton.Config` beside the kernel's parameters, with Triton's defaults."""


class TunedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One config of a file. labels: the sizes or keys it was tuned for, such as M. time_ms: its time, where known."""

    labels: dict[str, Value]
    config: Config
    time_ms: float | None = None


class TunedConfigs(msgspec.Struct, frozen=True, kw_only=True):
    """The configs of a file, in its order.

    format: one of `FORMATS`, "recording" or "configs". about: facts from the file's name, folder and header, such as
    device_name, dtype and kernel_name.
    """

    format: str
    path: str
    about: dict[str, str]
    entries: tuple[TunedConfig, ...]

    def where(self, wanted: Mapping[str, Value]) -> "TunedConfigs":
        """The configs with these labels, compared as text. Raises ConfigError for a label that no config has."""
        for name in wanted:
            if not any(name in entry.labels for entry in self.entries):
                known = ", ".join(dict.fromkeys(label for entry in self.entries for label in entry.labels))
                raise ConfigError(f"{self.path}: its configs have no label {name!r}; they have {known or 'none'}")
        kept = [
            entry
            for entry in self.entries
            if all(_text(entry.labels.get(name)) == _text(value) for name, value in wanted.items())
        ]
        if wanted and not kept:
            texts = ", ".join(f"{name}={value}" for name, value in wanted.items())
            raise ConfigError(f"{self.path}: no config is labelled {texts}; leave it out to see all")
        return msgspec.structs.replace(self, entries=tuple(kept))


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def read_tuned_configs(path: Path | str, format: Format | None = None) -> TunedConfigs:
    """The tuned configs in a file; its format is recognised by its content, unless it is named.

    Raises ConfigError, one sentence with the file, the place and the remedy, for a file of no known format.
    """
    path = as_path(path, "path", ConfigError)
    file = _read_object(path)
    found = _recognise(path, file) if format is None else format
    if not isinstance(found, str) or found not in FORMATS:
        raise ConfigError(f"{path}: the format {short_repr(format)} is unknown; use one of {', '.join(FORMATS)}")
    read = {
        "vllm": _vllm_entries,
        "sglang": _vllm_entries,
        "flash-linear-attention": _fla_entries,
        "flashinfer": _flashinfer_entries,
        "triton": _triton_entries,
    }[found]
    try:
        entries = tuple(read(path, file))
    except (msgspec.MsgspecError, ConfigError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a file of {found}: {error}; correct it, or name another format") from None
    if not entries:
        raise ConfigError(f"{path}: it holds no config; name another file")
    return TunedConfigs(format=found, path=str(path), about=_about(path, file), entries=entries)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        text, cut = read_text(path)
    except AutotuneError as error:
        raise ConfigError(str(error)) from None
    try:
        if cut:
            raise ValueError("the gzip data ends too early")
        return msgspec.json.decode(without_non_finite(text), type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a JSON object ({error}); name a file of {', '.join(FORMATS)}") from None


def _recognise(path: Path, file: Mapping[str, Any]) -> Format:
    """The format of a file by its content; of vLLM and SGLang, which write the same, by its folder."""
    values = [value for name, value in file.items() if name not in ("triton_version", "_metadata")]
    if "configs_timings" in file:
        return "triton"
    if {"autotune_entries", "default_config"} & file.keys() or ("kwargs" in file and "num_warps" in file):
        return "flash-linear-attention"
    if any(name.startswith("('") for name in file) or "_metadata" in file:
        return "flashinfer"
    measured = file.keys() & {"tune_params", "tune_params_keys", "cache", "results", "Results"}
    if values and not measured and all(isinstance(value, dict) and value for value in values):
        return "sglang" if re.fullmatch(r"triton_\d+_\d+_\d+", path.absolute().parent.name) else "vllm"
    names = ", ".join(name[:40] for name in list(file)[:5])
    raise ConfigError(
        f"{path}: not tuned configs of {', '.join(FORMATS)}; it has the names {names or 'of an empty object'}"
    )


_PAIR = re.compile(r"(\w+)=(\[[^\]]*\]|[^,]*)")


def _about(path: Path, file: Mapping[str, Any]) -> dict[str, str]:
    """The NAME=VALUE pairs of the file's name, and the texts of its header."""
    stem = path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".autotune")
    down = {"projection": "down"} if stem.endswith("_down") else {}
    about = dict(_PAIR.findall(stem.removesuffix("_down"))) | down
    if (folder := re.fullmatch(r"triton_(\d+)_(\d+)_(\d+)", path.absolute().parent.name)) is not None:
        about["triton_version"] = ".".join(folder.groups())
    for name in ("triton_version", "kernel_name"):
        if isinstance(file.get(name), str):
            about[name] = file[name]
    metadata = file.get("_metadata")
    if isinstance(metadata, dict):
        about |= {name: value for name, value in metadata.items() if isinstance(value, str)}
    if "configs_timings" in file:
        about["kernel_name"] = stem
    return about


def _vllm_entries(path: Path, file: dict[str, Any]) -> Iterator[TunedConfig]:
    tree = {name: value for name, value in file.items() if name != "triton_version"}
    last = "M" if re.search(r"(^|,)[EN]=", path.name) else "key"
    for keys, config in _leaves(tree, ()):
        if len(keys) == 1:
            names: Sequence[str] = (last,)
        elif len(keys) >= 5:
            names = _LORA
        else:
            names = [*(f"level {i}" for i in range(1, len(keys))), last]
        sizes = [int(key) if re.fullmatch(r"\d{1,18}", key, re.ASCII) else key for key in keys]
        labels: dict[str, Value] = dict(zip(names, sizes, strict=False))
        yield TunedConfig(labels=labels, config=Config(config))


def _leaves(tree: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The configs of nested objects: the objects without an object as a value, each with the keys that lead to it."""
    if len(keys) >= _MAX_LEVELS:
        raise ValueError(f"configs are more than {_MAX_LEVELS} levels deep")
    for key, value in tree.items():
        if not isinstance(value, dict) or not value:
            raise ValueError(f"{' '.join((*keys, key))[:80]!r} holds no config")
        inner = [isinstance(part, dict) for part in value.values()]
        if any(inner):
            yield from _leaves(value, (*keys, key))
        else:
            yield (*keys, key), value


class _TritonConfig(msgspec.Struct, kw_only=True):
    kwargs: dict[str, Any]
    num_warps: int | None = None
    num_stages: int | None = None
    num_ctas: int | None = None
    maxnreg: int | None = None

    def flat(self) -> Config:
        options = {name: getattr(self, name) for name in _LAUNCH_OPTIONS}
        return Config({**self.kwargs, **{name: value for name, value in options.items() if value is not None}})


class _FlaEntry(msgspec.Struct):
    config: _TritonConfig
    autotune_key: Any = None
    best_timing: Any = None


class _FlaFile(msgspec.Struct):
    autotune_entries: dict[str, _FlaEntry] | None = None
    default_config: _TritonConfig | None = None


def _fla_entries(path: Path, file: dict[str, Any]) -> Iterator[TunedConfig]:
    """The configs by key, then the default; files of the first version hold one config alone."""
    if "kwargs" in file:
        yield TunedConfig(labels={"key": "default"}, config=msgspec.convert(file, _TritonConfig).flat())
        return
    parsed = msgspec.convert(file, _FlaFile)
    for entry in (parsed.autotune_entries or {}).values():
        labels = {"key": _text(entry.autotune_key)}
        yield TunedConfig(labels=labels, config=entry.config.flat(), time_ms=_timing(entry.best_timing))
    if parsed.default_config is not None:
        yield TunedConfig(labels={"key": "default"}, config=parsed.default_config.flat())


class _TritonFile(msgspec.Struct):
    configs_timings: list[tuple[_TritonConfig, Any]]
    key: Any = None


def _triton_entries(path: Path, file: dict[str, Any]) -> Iterator[TunedConfig]:
    """The configs that worked, fastest first; a failure has the time infinity."""
    parsed = msgspec.convert(file, _TritonFile)
    labels = {"key": _text(parsed.key)}
    timed = [(_timing(timing), config) for config, timing in parsed.configs_timings]
    worked = [(time, config) for time, config in timed if time is not None]
    for time, config in sorted(worked, key=itemgetter(0)):
        yield TunedConfig(labels=labels, config=config.flat(), time_ms=time)


def _timing(timing: Any) -> float | None:
    """The milliseconds in a timing of Triton's: a number, or quantiles of which the first is the median."""
    first = timing[0] if isinstance(timing, list) and timing else timing
    if not isinstance(first, int | float) or isinstance(first, bool) or not 0 < first < FAILED_TIME:
        return None
    return float(first)


_CALL = re.compile(r"\(\s*'([^']{1,300})',\s*'([^']{1,300})',\s*(.*)\)", re.DOTALL)


def _flashinfer_entries(path: Path, file: dict[str, Any]) -> Iterator[TunedConfig]:
    """A tactic for each call; the parts of a tactic of several numbers are parameters too: tactic.0, tactic.1, …"""
    for key, value in file.items():
        if key == "_metadata":
            continue
        call = _CALL.fullmatch(key)
        if call is None or not isinstance(value, list) or len(value) != 2:
            raise ValueError(
                f"{key[:80]!r} is no operation with its runner and shapes, or its value no runner and tactic"
            )
        runner, tactic = value
        parts = {f"tactic.{i}": part for i, part in enumerate(tactic)} if isinstance(tactic, list) else {}
        labels = {"op": call[1], "runner": call[2], "shapes": re.sub(r"\s", "", call[3])}
        yield TunedConfig(labels=labels, config=Config({"runner": runner, "tactic": tactic, **parts}))


def write_tuned_configs(
    configs: Iterable[tuple[Any, Mapping[str, Value]]],
    path: Path | str,
    format: Format,
    *,
    rename: Mapping[str, str] | None = None,
    kernel_name: str = "",
    triton_version: str = "",
) -> None:
    """Write configs as a library reads them; the file appears whole or not at all.

    configs: pairs of the size that a config was tuned for, such as M (or a tuple of sizes for nested levels), and the
    config; for flash-linear-attention the key of Triton's autotuner, as a list, or None for the default, stands in
    place of the size. rename: our name of a parameter to theirs. kernel_name: for flash-linear-attention, whose file is
    KERNEL_NAME.json. Raises ConfigError for a format that cannot be written, a size that is no whole number or occurs
    twice, and a file that cannot be written.
    """
    path = as_path(path, "path", ConfigError)
    if check_text(format, "format", f"one of {', '.join(WRITABLE)}", ConfigError) not in WRITABLE:
        reasons = {"flashinfer": "its tactics are valid for one build of it", "triton": "its file names are digests"}
        why = reasons.get(format, "it is unknown")
        raise ConfigError(f"{format} cannot be written ({why}); use one of {', '.join(WRITABLE)}")
    if (fault := suffix_conflict(path, ".json")) is not None:
        raise ConfigError(f"{path}: {fault}")
    if rename is not None and not isinstance(rename, Mapping):
        raise argument_error("rename", rename, "their names by ours", ConfigError)
    named = []
    for pair in check_items(configs, "configs", "pairs of a size and its config", ConfigError):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(f"configs holds {short_repr(pair)}; give pairs of a size and its config")
        named.append((pair[0], _rename(as_config(pair[1]), rename or {})))
    kernel_name = check_text(kernel_name, "kernel_name", "the name of a kernel", ConfigError)
    triton_version = check_text(triton_version, "triton_version", "a version", ConfigError)
    if not named:
        raise ConfigError(f"{path}: there is no config to write; tune for at least one size")
    if format == "flash-linear-attention":
        tree = _fla_tree(named, kernel_name or path.stem, triton_version)
    else:
        tree = {"triton_version": triton_version} if triton_version and format == "vllm" else {}
        tree |= _vllm_tree(named)
    with translate_os_error(ConfigError, f"{path} cannot be written", "name another file"):
        write_output(path, json.dumps(tree, indent=4).encode() + b"\n")


def _rename(config: Mapping[str, Value], rename: Mapping[str, str]) -> dict[str, Value]:
    for name in rename:
        if name not in config:
            raise ConfigError(f"a config has no {name!r} to rename; it has {', '.join(config)}")
    named = {rename.get(name, name): value for name, value in config.items()}
    if len(named) < len(config):
        raise ConfigError("two parameters would have one name; rename them otherwise")
    return named


def _vllm_tree(configs: Sequence[tuple[Any, dict[str, Value]]]) -> dict[str, Any]:
    """Objects in objects, with the sizes in ascending order on each level."""
    levels: dict[tuple[Any, ...], dict[str, Value]] = {}
    for key, config in configs:
        sizes = tuple(key) if isinstance(key, tuple | list) else (key,)
        if not sizes or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes):
            raise ConfigError(f"the key {key!r} is no size; give whole numbers such as M")
        if sizes in levels:
            raise ConfigError(f"two configs are for {key!r}; give one")
        levels[sizes] = config
    if len({len(sizes) for sizes in levels}) > 1:
        raise ConfigError("some keys have more sizes than others; give each as many")
    tree: dict[str, Any] = {}
    for sizes, config in sorted(levels.items()):
        place = tree
        for size in sizes[:-1]:
            place = place.setdefault(str(size), {})
        place[str(sizes[-1])] = config
    return tree


def _fla_tree(configs: Sequence[tuple[Any, dict[str, Value]]], kernel_name: str, triton_version: str) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    default: dict[str, Any] | None = None
    for key, config in configs:
        kwargs = {name: value for name, value in config.items() if name not in _LAUNCH_OPTIONS}
        full = {"kwargs": kwargs, **{name: config.get(name, default) for name, default in _LAUNCH_OPTIONS.items()}}
        if key is None:
            default = full
            continue
        listed = list(key) if isinstance(key, list | tuple) else [key]
        digest = md5(
            json.dumps(listed, separators=(",", ":"), sort_keys=True).encode(), usedforsecurity=False
        ).hexdigest()
        if digest in entries:
            raise ConfigError(f"two configs are for {listed!r}; give one")
        entries[digest] = {"autotune_key": listed, "config": full}
    header = {"kernel_name": kernel_name, **({"triton_version": triton_version} if triton_version else {})}
    if default is None:
        default = entries[min(entries)]["config"]
    return {**header, "default_config": default, "autotune_entries": {name: entries[name] for name in sorted(entries)}}

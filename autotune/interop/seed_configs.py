"""Configs to begin a search with, from files of other libraries, recordings and earlier results.

result = tune(space, evaluator, seeds=load_seeds("E=8,N=7168,device_name=NVIDIA_H100.json", space))
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from autotune.core.arguments import argument_error, check_integer, check_items, check_kind, check_text
from autotune.core.config import Config, Value, as_config
from autotune.core.errors import AutotuneError, ConfigError, RecordingError
from autotune.core.formatting import format_count
from autotune.core.space import Space
from autotune.interop.tuned_configs import Format, TunedConfig, TunedConfigs, read_tuned_configs
from autotune.shell.files import as_path, suffix_conflict, translate_os_error, write_output
from autotune.shell.warn import warn_user
from autotune.studies.recordings import load_recording
from autotune.studies.recordings.files import read_text
from autotune.studies.recordings.objective import Direction

AT_MOST = 20
"""Configs that `load_seeds` takes by default: as many as a search takes of the best configs of earlier runs."""

_NEUTRAL: dict[str, tuple[Value, ...]] = {"num_ctas": (1, None), "maxnreg": (None,), "waves_per_eu": (0, None)}
"""Values of other libraries' settings that are Triton's defaults: a space that lacks the settings loses nothing."""

_FORMAT: Literal["autotune-seeds"] = "autotune-seeds"

_MAX_COMPARED = 10_000
"""Configs of a file that are compared with the space."""

_MAX_REASONS = 5
"""Reasons that are given one by one."""


class SeedConfigs(msgspec.Struct, frozen=True, kw_only=True):
    """Configs of a space, each once; iterate over it, or give it to `tune` as `seeds`.

    left_out: a sentence for each reason why something did not fit. notes: sentences about the rest, such as names of
    parameters that were taken for others. source: the file.
    """

    configs: tuple[Config, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""

    def __iter__(self) -> Iterator[Config]:
        return iter(self.configs)

    def __len__(self) -> int:
        return len(self.configs)


class _SeedsFile(msgspec.Struct, kw_only=True):
    format: Literal["autotune-seeds"]
    version: int
    seeds: list[dict[str, Any]]
    source: str = ""


def load_seeds(
    path: Path | str,
    space: Space,
    *,
    format: Format | None = None,
    where: Mapping[str, Value] | None = None,
    rename: Mapping[str, str] | None = None,
    at_most: int = AT_MOST,
) -> SeedConfigs:
    """The configs in a file that are points of `space`, at most so many, in the file's order (of a recording the
    fastest).

    The file is one of vLLM, SGLang, flash-linear-attention, FlashInfer or Triton, a recording, a file of `write_seeds`
    or `save_config`, or a JSON list of configs. where: only configs with these labels, such as {"M": 16}. rename: the
    file's name of a parameter to the space's; names that differ in case, underscores or a SIZE alone are matched
    without it. Parameters that the space does not have are left out of a config; parameters that a config does not have
    get the default's values. A warning in one sentence names the misfits. Raises ConfigError where nothing
    fits.
    """
    path = as_path(path, "path", ConfigError)
    check_kind(space, Space, "space", "a Space", ConfigError)
    for what, given, wanted in (("where", where, 'labels such as {"M": 16}'), ("rename", rename, "ours by theirs")):
        if not isinstance(given, Mapping | None):
            raise argument_error(what, given, wanted, ConfigError)
    at_most = check_integer(at_most, "at_most", ConfigError)
    seeds = fit_seeds(read_seeds(path, format).where(where or {}), space, rename=rename, at_most=at_most)
    if seeds.left_out:
        warn_user(f"{path}: {'; '.join(seeds.left_out)}")
    return seeds


def read_seeds(
    path: Path | str,
    format: Format | None = None,
    *,
    objective: str | None = None,
    direction: Direction | None = None,
) -> TunedConfigs:
    """The configs in a file of any kind that `load_seeds` takes; its format may be "recording" or "configs" too.

    objective, direction: as for `load_recording`; the file is then read as a recording. Raises ConfigError, or
    RecordingError for a recording.
    """
    path = Path(path)
    if str(path).startswith("builtin:") or objective is not None or direction is not None:
        return _read_recording(path, objective, direction)
    if format is not None:
        return read_tuned_configs(path, format)
    plain = _read_plain(path)
    if plain is not None:
        entries = tuple(TunedConfig(labels={}, config=config) for config in plain)
        return TunedConfigs(format="configs", path=str(path), about={}, entries=entries)
    try:
        return read_tuned_configs(path)
    except ConfigError as error:
        try:
            return _read_recording(path, objective, direction)
        except RecordingError as other:
            if "not a recording" not in str(other):
                raise
            raise ConfigError(f"{error}, and is no recording nor a list of configs") from None


def _read_recording(path: Path, objective: str | None, direction: Direction | None) -> TunedConfigs:
    """The timed points of a recording, fastest first."""
    recording = load_recording(path, objective=objective, direction=direction)
    rows = np.flatnonzero(recording.timed)
    rows = rows[np.argsort(recording.time_ms[rows], kind="stable")]
    is_time = recording.objective.is_time
    entries = tuple(
        TunedConfig(labels={}, config=recording.config(row), time_ms=float(recording.time_ms[row]) if is_time else None)
        for row in rows.tolist()
    )
    header = {"kernel_name": recording.kernel, "device_name": recording.device, "problem": recording.problem}
    about = {name: text for name, text in header.items() if text}
    return TunedConfigs(format="recording", path=str(path), about=about, entries=entries)


def _read_plain(path: Path) -> list[Config] | None:
    """The configs of a file of seeds, of a list of configs, or of one config; None for another file."""
    try:
        text, _ = read_text(path)
    except AutotuneError as error:
        raise ConfigError(str(error)) from None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if isinstance(value, dict) and value.get("format") == _FORMAT:
        try:
            file = msgspec.convert(value, _SeedsFile)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}: a damaged list of seeds ({error}); write it again") from None
        if file.version != 1:
            raise ConfigError(f"{path}: seeds of version {file.version} where 1 is known; install a newer autotune")
        value = file.seeds
    elif isinstance(value, dict) and value and not any(isinstance(part, dict | list) for part in value.values()):
        value = [value]
    if not isinstance(value, list):
        return None
    configs = []
    for number, config in enumerate(value):
        if not isinstance(config, dict):
            raise ConfigError(f'{path}: item {number} is no config; write a list of objects such as {{"BLOCK": 64}}')
        try:
            configs.append(Config(config))
        except (ConfigError, RecursionError) as error:
            raise ConfigError(f"{path}: item {number}: {error}") from None
    return configs


def fit_seeds(
    found: TunedConfigs,
    space: Space,
    *,
    rename: Mapping[str, str] | None = None,
    at_most: int = AT_MOST,
) -> SeedConfigs:
    """The configs that are points of `space`; see `load_seeds`. Raises ConfigError where nothing fits."""
    if at_most < 1:
        raise ConfigError(f"at_most = {at_most}; use at least 1")
    entries = found.entries
    names = dict.fromkeys(name for entry in entries for name in entry.config)
    matched = _match_names(names, space.names, rename or {})
    notes = [
        f"{theirs} is taken for {ours}"
        for theirs, ours in matched.items()
        if theirs not in (rename or {}) and theirs != ours
    ]
    implied = _implied_names(entries, matched)
    unknown: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    seeds: dict[Config, None] = {}
    for entry in entries[:_MAX_COMPARED]:
        if len(seeds) == at_most:
            notes.append(f"the first {at_most} that fit are taken, of {len(entries):,} configs")
            break
        fitting = {matched[name]: value for name, value in entry.config.items() if name in matched}
        unknown.update(
            name
            for name, value in entry.config.items()
            if name not in matched and name not in implied and value not in _NEUTRAL.get(name, ())
        )
        try:
            seeds[space.check({**(space.default or {}), **fitting}, "a config")] = None
        except ConfigError as error:
            refused[str(error)] += 1
    reasons = refused.most_common(_MAX_REASONS)
    left_out = [f"{format_count(number, 'config')} left out: {reason}" for reason, number in reasons]
    if len(refused) > len(reasons):
        left_out.append(f"{format_count(sum(refused.values()) - sum(n for _, n in reasons), 'more config')} left out")
    if unknown:
        left_out.append(f"the space has no {', '.join(unknown)}, left out of the configs")
    if not seeds:
        raise ConfigError(f"{found.path}: no config fits the space: {'; '.join(left_out) or 'there is none'}")
    return SeedConfigs(configs=tuple(seeds), left_out=tuple(left_out), notes=tuple(notes), source=found.path)


def _implied_names(entries: Iterable[TunedConfig], matched: Mapping[str, str]) -> set[str]:
    """Names whose loss needs no warning: a runner of all configs, parts of a tactic, a tactic with parts in use."""
    parts = {name for entry in entries for name in entry.config if name.startswith("tactic.")}
    whole = {"tactic"} if any(name in matched for name in parts) else set()
    runners = {entry.config.get("runner") for entry in entries if "runner" in entry.labels}
    return parts | whole | ({"runner"} if len(runners) == 1 else set())


def _match_names(theirs: Iterable[str], ours: Iterable[str], rename: Mapping[str, str]) -> dict[str, str]:
    """Their names of parameters to ours: as `rename` has them, else the same name, else one of the same spelling."""
    theirs, ours = tuple(theirs), tuple(ours)
    for name, wanted in rename.items():
        if name not in theirs:
            raise ConfigError(f"no config has {name!r} to rename; there are {', '.join(theirs) or 'none'}")
        if wanted not in ours:
            raise ConfigError(f"the space has no {wanted!r}, which {name!r} would be; it has {', '.join(ours)}")
    found = dict(rename)
    for name in theirs:
        if name not in found and name in ours and name not in found.values():
            found[name] = name
    for name in theirs:
        alike = [other for other in ours if _spelling(other) == _spelling(name) and other not in found.values()]
        rivals = [other for other in theirs if _spelling(other) == _spelling(name)]
        if name not in found and len(alike) == 1 and len(rivals) == 1:
            found[name] = alike[0]
    return found


def _spelling(name: str) -> str:
    """One text for BLOCK_SIZE_M, BLOCK_M and block_m, and one for NUM_STAGE and num_stages."""
    return name.lower().replace("_", "").replace("size", "").removesuffix("s")


def rename_configs(found: TunedConfigs, rename: Mapping[str, str]) -> tuple[Config, ...]:
    """The configs with other names of parameters, each once; raises ConfigError for a name that no config has."""
    names = dict.fromkeys(name for entry in found.entries for name in entry.config)
    for name in rename:
        if name not in names:
            raise ConfigError(f"no config has {name!r} to rename; there are {', '.join(names)}")
    configs = (
        Config(
            {rename.get(name, name): value for name, value in entry.config.items() if not name.startswith("tactic.")}
        )
        for entry in found.entries
    )
    return tuple(dict.fromkeys(configs))


def write_seeds(configs: Iterable[Mapping[str, Value]], path: Path | str, source: str = "") -> None:
    """Write configs to a file that `load_seeds` and `autotune tune --seeds` take. Raises ConfigError."""
    path = as_path(path, "path", ConfigError)
    if (fault := suffix_conflict(path, ".json")) is not None:
        raise ConfigError(f"{path}: {fault}")
    seeds = [dict(Config(as_config(one))) for one in check_items(configs, "configs", "a list of configs", ConfigError)]
    source = check_text(source, "source", "the origin of the configs", ConfigError)
    file = _SeedsFile(format=_FORMAT, version=1, seeds=seeds, source=source)
    with translate_os_error(ConfigError, f"{path} cannot be written", "name another file"):
        write_output(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")

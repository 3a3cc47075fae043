"""A study as a TOML or JSON file: all that it takes to repeat it, beside the recordings it names."""

import os
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from autotune.core.errors import AutotuneError, PlanError
from autotune.core.search.effort import EFFORTS, Effort, check_effort, settings_for, strategy_for
from autotune.core.search.plan import Settings
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import STRATEGIES, canonical_name
from autotune.shell.evaluators.simulated import Noise
from autotune.shell.files import read_regular, translate_os_error
from autotune.studies.peers import is_peer
from autotune.studies.recordings.load import BUILTIN, builtin_recordings
from autotune.studies.simulation import WITHOUT_FINISH

MIN_EVALUATIONS = 800
"""`evaluations = "methodology"` means the budget of the methodology, and at least so many: the smallest budget of the
development recordings, 46, ends within the initial population of most strategies."""


class StudyError(AutotuneError):
    """A study that cannot be read, run or continued."""


class StrategyEntry(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One strategy of a study. name: a registered one, or PREFIX:NAME for a peer. label: its name in the tables.

    settings: of the strategy or of the search. effort: "quick" or "full"; None: the study's.
    """

    name: str
    label: str = ""
    settings: dict[str, Any] = {}
    effort: str | None = None


class StudySpec(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Strategies x recordings x seeds.

    recordings, exclude: paths or globs, relative to the study's file or to another folder; "builtin:NAME" or
    "builtin:*" for the recordings of the package. seeds: how many (0, 1, 2, …), or which. evaluations: for each run, or
    "methodology". batch: so many configs at a time, and wait for all; None: keep `compile_workers` and `devices` busy.
    noise: "off" or "resample", of `repeats` samples. effort: of all strategies that do not say otherwise. settings: for
    each strategy that has them. sweep: setting to values; each strategy that has the setting is run with each value.
    Neither concerns peers. Raises StudyError for an empty study and for numbers below 1.
    """

    strategies: tuple[StrategyEntry, ...]
    recordings: tuple[str, ...]
    name: str = "study"
    exclude: tuple[str, ...] = ()
    seeds: int | tuple[int, ...] = 20
    evaluations: int | Literal["methodology"] = "methodology"
    batch: int | None = 1
    noise: Noise = Noise.OFF
    repeats: int = 7
    compile_workers: int = 1
    devices: int = 1
    effort: str = "full"
    settings: dict[str, Any] = {}
    sweep: dict[str, tuple[Any, ...]] = {}

    def __post_init__(self) -> None:
        if not self.strategies or not self.recordings:
            raise StudyError("a study needs at least one strategy and one recording")
        if not self.seed_list or len(set(self.seed_list)) < len(self.seed_list):
            raise StudyError(f"seeds = {self.seeds!r}: give a number of at least 1, or distinct seeds")
        counts = {
            "evaluations": self.evaluations, "batch": self.batch, "repeats": self.repeats,
            "compile_workers": self.compile_workers, "devices": self.devices,
        }  # fmt: skip
        for name, value in counts.items():
            if isinstance(value, int) and value < 1:
                raise StudyError(f"{name} = {value}; use at least 1")
        if self.effort not in EFFORTS:
            raise StudyError(f"effort = {self.effort!r}; use one of {', '.join(EFFORTS)}")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


class Case(Struct, frozen=True, kw_only=True):
    """One strategy with all its settings: a row of the tables.

    base: the label of its entry. swept: the settings that a sweep gave it.
    """

    label: str
    base: str
    name: str
    settings: dict[str, Any]
    effort: Effort
    swept: dict[str, Any] = {}

    @property
    def is_peer(self) -> bool:
        return is_peer(self.name)


def load_study(path: Path | str) -> StudySpec:
    """The study in a .toml or .json file; raises StudyError, one sentence that names the fault."""
    path = Path(path)
    with translate_os_error(StudyError, f"{path}: cannot be read", "check the path"):
        text = read_regular(path)
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    try:
        return decode(text, type=StudySpec)
    except (msgspec.DecodeError, StudyError, ValueError, RecursionError) as error:  # ValueError: the TOML reader's own
        raise StudyError(f"{path}: {error}; docs/howto/compare_strategies.md lists the fields of a study") from None


def list_cases(spec: StudySpec) -> tuple[Case, ...]:
    """The strategies of a study, sweeps unfolded, in order.

    Raises StudyError for a label used twice or a sweep that fits no strategy, StrategyError for a wrong setting.
    """
    cases = [case for entry in spec.strategies for case in _sweep(spec, entry)]
    for setting in (*spec.sweep, *spec.settings):
        if not any(_has(case.name, setting) for case in cases):
            raise StudyError(f"no strategy of the study has a setting {setting!r}; check its name")
    labels = [case.label for case in cases]
    for label in labels:
        if labels.count(label) > 1:
            raise StudyError(f"two strategies are called {label!r}; give each a label of its own")
    for case in cases:
        if not case.is_peer:
            build_case(case)
        elif spec.noise != Noise.OFF:
            raise StudyError(
                f"{case.label}: strategies of other tuners are compared without noise; leave noise off, or leave it out"
            )
    return tuple(cases)


def build_case(case: Case) -> tuple[AnyStrategy, Settings]:
    """The strategy of a case that is no peer, and its search's settings; raises StrategyError or PlanError."""
    of_search = {name: value for name, value in case.settings.items() if name in Settings.__struct_fields__}
    of_strategy = {name: value for name, value in case.settings.items() if name not in of_search}
    try:
        return (
            strategy_for(case.name, case.effort, of_strategy),
            settings_for(case.effort, {**WITHOUT_FINISH, **of_search}),
        )
    except PlanError as error:
        raise PlanError(f"{case.label}: {error}") from None


def _sweep(spec: StudySpec, entry: StrategyEntry) -> list[Case]:
    name = entry.name if is_peer(entry.name) else canonical_name(entry.name)
    base = entry.label or entry.name
    effort = check_effort(entry.effort or spec.effort)
    shared = {setting: value for setting, value in spec.settings.items() if _has(name, setting)}
    settings = {**shared, **entry.settings}
    axes = {setting: values for setting, values in spec.sweep.items() if _has(name, setting)}
    cases = []
    for values in product(*axes.values()):
        swept = dict(zip(axes, values, strict=True))
        label = " ".join([base, *(f"{setting}={_format(value)}" for setting, value in swept.items())])
        case = Case(
            label=label, base=base, name=name, settings={**settings, **swept}, effort=effort, swept=swept
        )  # fmt: skip
        cases.append(case)
    return cases


def _has(name: str, setting: str) -> bool:
    """Whether the strategy or its search has the setting; the settings of a peer are not known here."""
    return not is_peer(name) and setting in (*STRATEGIES[name].__struct_fields__, *Settings.__struct_fields__)


def _format(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def recording_paths(spec: StudySpec, folder: Path) -> tuple[Path, ...]:
    """The files of the recordings in `folder`, sorted by name; raises StudyError for a pattern that fits none."""
    files: dict[Path, None] = {}
    excluded = {path for pattern in spec.exclude for path in _matching(folder, pattern)}
    for pattern in spec.recordings:
        paths = _matching(folder, pattern)
        if not paths:
            raise StudyError(f"no recording fits {pattern!r} in {folder}; check the path, or give --recordings FOLDER")
        files.update(dict.fromkeys(path for path in paths if path not in excluded))
    if not files:
        raise StudyError(f"all recordings in {folder} are excluded; shorten `exclude`")
    return tuple(sorted(files, key=lambda path: path.name))


def _matching(folder: Path, pattern: str) -> list[Path]:
    if pattern.startswith(BUILTIN):
        wanted = pattern.removeprefix(BUILTIN)
        return [path for name, path in builtin_recordings().items() if fnmatchcase(name, wanted)]
    path = Path(pattern)
    if path.is_absolute():
        folder, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    exact = folder / pattern
    return [exact] if os.path.isfile(exact) else sorted(found for found in folder.glob(pattern) if found.is_file())

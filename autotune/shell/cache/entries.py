"""An entry of the cache: the measurements of one run for one key, the run, and its result. One JSON file each.

Large fields come last and are decoded on demand; `EntryHead` has the first fields alone.
"""

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from math import inf
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.errors import AutotuneError, CacheError
from autotune.core.outcomes import Detail, Outcome, Timed
from autotune.core.search.messages import Reason
from autotune.core.search.plan import Budget
from autotune.core.search.result import Result, TuningFailed, is_undecided, result
from autotune.core.search.state import Search
from autotune.core.space_spec import SpaceSpec
from autotune.core.strategies.registry import StrategySpec, to_spec
from autotune.shell.cache.keys import StrictKey
from autotune.shell.codec import encode, make_decoder
from autotune.shell.signed_json import UNREADABLE, is_signed, sign
from autotune.version import __version__

FORMAT, VERSION = "autotune-cache", 1

_LARGE = (b',"space":{', b',"measurements":[')
"""The beginnings of the last fields of an entry, which are most of it."""

_LATEST = 253402300800.0
"""Seconds from 1970 to the year 10000, where `time.gmtime` ends."""

Found = TypeVar("Found", "Entry", "EntryHead")
NOTHING = msgspec.Raw(b"null")


class Provenance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run that made the measurements of an entry.

    id: 16 hexadecimal digits, drawn for each run. began_at, written_at: seconds since 1970, UTC. stopped: why the
    search ended; None while it goes on, and if it was killed. host, evaluator, strategy, effort, budget, seed: as in a
    journal's header. versions: of libraries that are not in the key. journal: its path, if any.
    """

    id: str
    began_at: float
    written_at: float
    stopped: Reason | None = None
    effort: str = "full"
    strategy: StrategySpec | None = None
    budget: Budget = Budget()
    seed: int = 0
    evaluator: dict[str, Detail] = {}
    host: dict[str, str] = {}
    versions: dict[str, str] = {}
    journal: str = ""

    def __post_init__(self) -> None:
        for name in ("began_at", "written_at"):
            if not 0 <= getattr(self, name) <= _LATEST:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which is no time in seconds since 1970")


class Measurement(Struct, frozen=True, omit_defaults=True):
    """A config and its latest outcome. origin: of the trial, such as "seed" or "strategy"."""

    config: Config
    outcome: Outcome
    origin: str = "strategy"


class _WithResult:
    """The parts of a result that an entry and its head give."""

    result: Any

    @property
    def best(self) -> Config | None:
        """The best config of the run; None if it has no result."""
        return None if self.result is None else self.result.best.config

    @property
    def finished(self) -> bool:
        """Whether the search came to its end, neither interrupted nor killed."""
        return self.result is not None and self.result.complete


class Entry(_WithResult, Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """One run on one key, from `make_entry` or `decode_entry`.

    result: None if the run was killed or found nothing. supersedes: names of entries that this one replaces; they no
    longer count, in any layer. rejects: configs that turned out not to work: no earlier entry whose best
    is one of them is a hit. barred: names of the entries that were rejected so, for the clock of the host that wrote
    one may be ahead. taken: digests of the configs whose outcomes the run took from the cache.
    """

    format: str
    version: int
    key: StrictKey
    run: Provenance
    result: Result | None = None
    supersedes: tuple[str, ...] = ()
    rejects: tuple[Config, ...] = ()
    barred: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    raw_space: msgspec.Raw = msgspec.field(name="space", default=NOTHING)
    raw_measurements: msgspec.Raw = msgspec.field(name="measurements", default=NOTHING)

    def __post_init__(self) -> None:
        found = () if self.result is None else (self.result.best, *(one.measured for one in self.result.finalists))
        if not all(0 < one.time_ms < inf for one in found):
            raise ValueError("its result has a time that is not above 0 and finite")

    @cached_property
    def name(self) -> str:
        """The name of its file: loose digest, start of the strict one, nanosecond of the beginning, run."""
        began = int(self.run.began_at * 1e9)
        return f"{self.key.loose.digest}-{self.key.digest[:8]}-{began:016x}-{self.run.id[:8]}.json"

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """In the order of asking. Raises CacheError where they cannot be decoded."""
        measurements: tuple[Measurement, ...] | None = _decode_part(_measurements, self.raw_measurements)
        return measurements or ()

    @cached_property
    def space(self) -> SpaceSpec | None:
        """The space as plain data; None if the entry has none. Raises CacheError where it cannot be decoded."""
        spec: SpaceSpec | None = _decode_part(_space, self.raw_space)
        return spec

    def ranking(self) -> list[tuple[Config, float]]:
        """The timed configs with their times in milliseconds, fastest first; of a finalist the verified time."""
        times = {m.config: m.outcome.time_ms for m in self.measurements if isinstance(m.outcome, Timed)}
        if self.result is not None:
            finals = (self.result.best, *(finalist.measured for finalist in self.result.finalists))
            times |= {final.config: final.time_ms for final in finals}
        return sorted(times.items(), key=lambda item: (item[1], item[0].digest))


class _BestOf(Struct, frozen=True):
    config: Config


class _ResultHead(Struct, frozen=True):
    best: _BestOf
    complete: bool = False


class EntryHead(_WithResult, Struct, frozen=True, kw_only=True):
    """The fields of an entry that say whether it is wanted: a third of the work of decoding it all."""

    format: str
    version: int
    key: StrictKey
    result: _ResultHead | None = None
    supersedes: tuple[str, ...] = ()


_entry = make_decoder(Entry)
_head = make_decoder(EntryHead)
_measurements: msgspec.json.Decoder[Any] = make_decoder(tuple[Measurement, ...] | None)  # type: ignore[arg-type]
_space: msgspec.json.Decoder[Any] = msgspec.json.Decoder(SpaceSpec | None)


def _decode_part(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except (*UNREADABLE, AutotuneError, ValueError) as error:
        raise CacheError(f"a part of a cache entry cannot be read ({error}); remove the entry") from None


def make_entry(
    key: StrictKey,
    run: Provenance,
    measurements: tuple[Measurement, ...],
    *,
    space: SpaceSpec | None = None,
    result: Result | None = None,
    supersedes: tuple[str, ...] = (),
    rejects: tuple[Config, ...] = (),
    barred: tuple[str, ...] = (),
    taken: tuple[str, ...] = (),
) -> Entry:
    """An entry of the current format; see `Entry` for the fields."""
    raw_space = NOTHING if space is None else msgspec.Raw(msgspec.json.encode(space))
    raw = msgspec.Raw(encode(measurements))
    return Entry(
        format=FORMAT, version=VERSION, key=key, run=run, result=result, supersedes=supersedes, rejects=rejects,
        barred=barred, taken=taken, raw_space=raw_space, raw_measurements=raw,
    )  # fmt: skip


def encode_entry(entry: Entry) -> bytes:
    """The content of its file: one JSON object with a checksum as its last field."""
    return sign(encode(entry)) + b"\n"


class _Version(Struct):
    format: str
    version: int


def decode_entry(text: bytes) -> Entry:
    """The entry in the content of a file; raises CacheError, without the file's name, for any other content."""
    return _decode_whole(text, _entry)


def decode_head(text: bytes) -> EntryHead:
    """The head of the entry in the content of a file; raises CacheError as `decode_entry`, but for the rest."""
    return _decode_whole(text, _head, _LARGE)


def _decode_whole(text: bytes, decoder: msgspec.json.Decoder[Found], until: tuple[bytes, ...] = ()) -> Found:
    """The entry or its head. until: texts that end the part that the decoder needs."""
    line, said = text.rstrip(b"\n"), None
    try:
        if is_signed(line):
            entry = _decode_first(line, decoder, until) or decoder.decode(line)
            if (entry.format, entry.version) == (FORMAT, VERSION):
                return entry
        said = msgspec.json.decode(line, type=_Version)
    except (*UNREADABLE, AutotuneError, ValueError) as error:
        said, why = _named_version(line), f"it cannot be decoded ({error})"
    else:
        why = "its checksum is wrong"
    if said is not None and said.format != FORMAT:
        why = f"it is not a cache entry but {said.format!r}"
    elif said is not None and said.version != VERSION:
        why = f"it is of cache format {said.version} and this autotune reads {VERSION}"
    raise CacheError(why)


def _decode_first(line: bytes, decoder: msgspec.json.Decoder[Found], until: tuple[bytes, ...]) -> Found | None:
    """The first part of a line, decoded; None where it is not complete, as a key may contain a text of `until`."""
    for mark in until:
        first, found, _ = line.partition(mark)
        if found:
            with suppress(*UNREADABLE, ValueError):
                return decoder.decode(first + b"}")
    return None


def _named_version(text: bytes) -> _Version | None:
    """The format and version that a file names; None if it names none."""
    try:
        return msgspec.json.decode(text, type=_Version)
    except UNREADABLE:
        return None


CACHED = "cached"
"""The detail of an outcome from the cache; its value is the run that measured it."""


def new_run(evaluator: Mapping[str, Detail] | None = None, effort: str = "full", journal: str = "") -> Provenance:
    """A run that begins now on this host."""
    host = {"system": platform.system(), "machine": platform.machine(), "node": platform.node()}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "msgspec": msgspec.__version__}
    now = time.time()
    return Provenance(
        id=os.urandom(8).hex(), began_at=now, written_at=now, effort=effort, evaluator=dict(evaluator or {}), host=host,
        versions={"autotune": __version__, **versions}, journal=journal,
    )  # fmt: skip


def entry_of_search(search: Search, key: StrictKey, run: Provenance) -> Entry:
    """The entry of a search as it stands: its own measurements, and its result if it is over."""
    plan, concluded = search.plan, search.concluded
    found = _result(search)
    stopped = "interrupted" if search.interrupted else concluded.reason if concluded is not None else None
    now = replace(
        run, written_at=time.time(), stopped=stopped, strategy=to_spec(plan.strategy), budget=plan.budget,
        seed=plan.seed,
    )  # fmt: skip
    taken = tuple(search.trials[i].config.digest for i, o in dict(search.outcomes).items() if CACHED in o.details)
    return make_entry(key, now, own_measurements(search), space=plan.space.spec, result=found, taken=taken)


def own_measurements(search: Search) -> tuple[Measurement, ...]:
    """The latest outcome of every trial that the search measured itself, in the order of asking."""
    latest = dict(search.outcomes)
    return tuple(
        Measurement(trial.config, latest[trial.id], trial.origin)
        for trial in search.trials
        if trial.id in latest and CACHED not in latest[trial.id].details
    )


def _result(search: Search) -> Result | None:
    """The result of a search; None while it goes on, and if no config could be timed.

    One that keeps the default for lack of samples is not complete: the next search goes on from its measurements.
    """
    if not search.interrupted and search.concluded is None:
        return None
    try:
        found = result(search)
        return replace(found, complete=False) if is_undecided(search) else found
    except TuningFailed:
        return None

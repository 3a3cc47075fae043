"""An entry: what one run measured for one key, where it came from, and what it found. One JSON file each.

The provenance of measurements, and the entry of a search as it stands.
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
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search
from autotune.core.space_spec import SpaceSpec
from autotune.core.strategies.registry import StrategySpec, to_spec
from autotune.shell.cache.keys import StrictKey
from autotune.shell.codec import encode, make_decoder
from autotune.shell.journal import SIGNED, UNREADABLE, signed
from autotune.version import __version__

FORMAT, VERSION = "autotune-cache", 1
LARGE = (b',"space":{', b',"measurements":[')
"""What comes last in an entry, and is most of it."""

LATEST = 253402300800.0
"""Seconds from 1970 to the year 10000, beyond which no calendar goes."""

Found = TypeVar("Found", "Entry", "EntryHead")
NOTHING = msgspec.Raw(b"null")


class Run(Struct, frozen=True, omit_defaults=True):
    """Where measurements come from.

    id: 16 hexadecimal digits, another for each run. began_at, written_at: seconds since 1970, UTC. stopped: why the
    search ended, None while it goes on or where it was killed. host, evaluator, strategy, effort, budget, seed: as in
    a journal's header. versions: of python, numpy and all else that is not in the key. journal: its path, if any.
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
            if not 0 <= getattr(self, name) <= LATEST:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which is no time in seconds since 1970")


class Measurement(Struct, frozen=True, omit_defaults=True):
    """A config and what became of it, the latest outcome where it was measured again. origin: who asked for it."""

    config: Config
    outcome: Outcome
    origin: str = "strategy"


class Entry(Struct, frozen=True, dict=True, omit_defaults=True):
    """One run on one key. Made by `make_entry` or `decode_entry`.

    result: what the run found, None where it was killed or found nothing; `finished` where it came to its end.
    supersedes: names of entries that this one replaces: they no longer count, wherever they are. rejects: configs that
    turned out not to work: no earlier entry with one of them as its best is a hit. barred: names of the entries that
    were rejected so, for the clock of the host that wrote one may be ahead. taken: digests of the configs whose
    outcomes the run took from the cache instead of measuring them. What is large is decoded on demand.
    """

    format: str
    version: int
    key: StrictKey
    run: Run
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
            raise ValueError("its result has a time that is none")

    @cached_property
    def name(self) -> str:
        """The name of its file: loose digest, start of the strict one, when it began in nanoseconds, run; in hex."""
        began = int(self.run.began_at * 1e9)
        return f"{self.key.loose.digest}-{self.key.digest[:8]}-{began:016x}-{self.run.id[:8]}.json"

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """In the order of asking. Raises CacheError where they are not what they should be."""
        measurements: tuple[Measurement, ...] | None = _decoded(_measurements, self.raw_measurements)
        return measurements or ()

    @cached_property
    def space(self) -> SpaceSpec | None:
        """The space as plain data; None where it was left out."""
        spec: SpaceSpec | None = _decoded(_space, self.raw_space)
        return spec

    @property
    def best(self) -> Config | None:
        """The config that the run found, None where it did not finish."""
        return None if self.result is None else self.result.best.config

    @property
    def finished(self) -> bool:
        """Whether the search came to its end: no interrupt, no kill."""
        return self.result is not None and self.result.complete

    def ranked(self) -> list[tuple[Config, float]]:
        """The timed configs with their times in milliseconds, fastest first; what was verified last counts."""
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


class EntryHead(Struct, frozen=True):
    """What of an entry says whether it is wanted: a third of the work of decoding it all."""

    format: str
    version: int
    key: StrictKey
    result: _ResultHead | None = None
    supersedes: tuple[str, ...] = ()

    @property
    def best(self) -> Config | None:
        """The config that the run found, None where it did not finish."""
        return None if self.result is None else self.result.best.config

    @property
    def finished(self) -> bool:
        """Whether the search came to its end: no interrupt, no kill."""
        return self.result is not None and self.result.complete


_entry = make_decoder(Entry)
_head = make_decoder(EntryHead)
_measurements: msgspec.json.Decoder[Any] = make_decoder(tuple[Measurement, ...] | None)  # type: ignore[arg-type]
_space: msgspec.json.Decoder[Any] = msgspec.json.Decoder(SpaceSpec | None)


def _decoded(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except (*UNREADABLE, AutotuneError, ValueError) as error:
        raise CacheError(f"a part of a cache entry cannot be read ({error}); remove the entry") from None


def make_entry(
    key: StrictKey,
    run: Run,
    measurements: tuple[Measurement, ...],
    *,
    space: SpaceSpec | None = None,
    result: Result | None = None,
    supersedes: tuple[str, ...] = (),
    rejects: tuple[Config, ...] = (),
    barred: tuple[str, ...] = (),
    taken: tuple[str, ...] = (),
) -> Entry:
    """An entry to be published."""
    raw_space = NOTHING if space is None else msgspec.Raw(msgspec.json.encode(space))
    raw = msgspec.Raw(encode(measurements))
    return Entry(
        format=FORMAT, version=VERSION, key=key, run=run, result=result, supersedes=supersedes, rejects=rejects,
        barred=barred, taken=taken, raw_space=raw_space, raw_measurements=raw,
    )  # fmt: skip


def encode_entry(entry: Entry) -> bytes:
    """The content of its file: one JSON object with a checksum as its last field."""
    return signed(encode(entry)) + b"\n"


class _Version(Struct):
    format: str
    version: int


def decode_entry(text: bytes) -> Entry:
    """The entry that a file holds; raises CacheError, without the file's name, for anything else."""
    return _whole(text, _entry)


def decode_head(text: bytes) -> EntryHead:
    """The head of the entry that a file holds; raises CacheError like `decode_entry`, but for what it leaves out."""
    return _whole(text, _head, LARGE)


def _whole(text: bytes, decoder: msgspec.json.Decoder[Found], until: tuple[bytes, ...] = ()) -> Found:
    """until: where what the decoder needs ends, if that can be told at a glance."""
    line, said = text.rstrip(b"\n"), None
    try:
        if line == signed(line.rpartition(SIGNED)[0] + b"}"):
            entry = _first(line, decoder, until) or decoder.decode(line)
            if (entry.format, entry.version) == (FORMAT, VERSION):
                return entry
        said = msgspec.json.decode(line, type=_Version)
    except (*UNREADABLE, AutotuneError, ValueError) as error:
        said, why = _version(line), f"it cannot be decoded ({error})"
    else:
        why = "its checksum is wrong"
    if said is not None and said.format != FORMAT:
        why = f"it is not a cache entry but {said.format!r}"
    elif said is not None and said.version != VERSION:
        why = f"it is of cache format {said.version} and this autotune reads {VERSION}"
    raise CacheError(why)


def _first(line: bytes, decoder: msgspec.json.Decoder[Found], until: tuple[bytes, ...]) -> Found | None:
    """What the first part of a line decodes to; None where it does not stand alone: a key may look like a mark."""
    for mark in until:
        first, found, _ = line.partition(mark)
        if found:
            with suppress(*UNREADABLE, ValueError):
                return decoder.decode(first + b"}")
    return None


def _version(text: bytes) -> _Version | None:
    """What a file says it is, if it says that at all."""
    try:
        return msgspec.json.decode(text, type=_Version)
    except UNREADABLE:
        return None


CACHED = "cached"
"""The detail of an outcome that was taken from the cache instead of measured; its value is the run that measured it."""


def new_run(evaluator: Mapping[str, Detail] | None = None, effort: str = "full", journal: str = "") -> Run:
    """A run that begins now, on this host."""
    host = {"system": platform.system(), "machine": platform.machine(), "node": platform.node()}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "msgspec": msgspec.__version__}
    now = time.time()
    return Run(
        os.urandom(8).hex(), now, now, effort=effort, evaluator=dict(evaluator or {}), host=host,
        versions={"autotune": __version__, **versions}, journal=journal,
    )  # fmt: skip


def entry_of_search(search: Search, key: StrictKey, run: Run) -> Entry:
    """What a search has measured itself so far, and its result where it has one."""
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
    """The latest outcome of every trial that was measured and not taken from the cache, in the order of asking."""
    latest = dict(search.outcomes)
    return tuple(
        Measurement(trial.config, latest[trial.id], trial.origin)
        for trial in search.trials
        if trial.id in latest and CACHED not in latest[trial.id].details
    )


def _result(search: Search) -> Result | None:
    """The result of a search that is over."""
    if not search.interrupted and search.concluded is None:
        return None
    try:
        return result(search)
    except TuningFailed:
        return None

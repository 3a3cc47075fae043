"""The result of a search as plain data, and how it reads: as a table, a line, records, JSON, and HTML for notebooks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune._extras import install_command
from autotune.core.certificate.claims import Certificate
from autotune.core.config import Config, Value, token
from autotune.core.errors import PlanError
from autotune.core.formatting import (
    escape_controls,
    format_count,
    format_duration,
    format_labelled,
    format_milliseconds,
    format_table,
    html_table,
)
from autotune.core.memo import memo
from autotune.core.models.importance import compute_importances
from autotune.core.outcomes import Detail, Outcome, Timed
from autotune.core.search.citations import MACHINE_REFERENCES, references_of
from autotune.core.search.messages import Reason
from autotune.core.space import Space
from autotune.core.statistics import Ratio, format_level

MOST_NAMED, LEAST_SHARE = 3, 0.05
"""`why` names at most so many parameters, and none with a smaller share of the variance."""


class MeasuredConfig(Struct, frozen=True):
    """A config and its final measurements: of the verification where it took part, else of the search.

    time_ms: the median, in milliseconds. low_ms, high_ms: its interval by order statistics, within the samples. level:
    how often such an interval holds the truth: 0.97 or a little more, less for six samples or fewer; 1: the time is
    exact; None: written by an older version that does not say. times_ms: the samples. details: further figures of the
    evaluator (registers, the time on each workload, …), the latest last. first_ms: the first timing in the search,
    taken alone.
    """

    trial: int
    config: Config
    time_ms: float
    low_ms: float
    high_ms: float
    times_ms: tuple[float, ...]
    details: dict[str, Detail] = {}
    level: float | None = None
    first_ms: float | None = None

    def __str__(self) -> str:
        return f"{format_measured(self)} with {escape_controls(str(self.config))}"


class Finalist(Struct, frozen=True):
    """A config that noise leaves equal to the best, and the ratio of its time to the best's (above 1: slower)."""

    measured: MeasuredConfig
    ratio: Ratio


class TrialRecord(Struct, frozen=True, kw_only=True):
    """One config that was tried, with its latest measurement.

    trial: its number, in the order of asking. origin: "default", "seed", "strategy", "simplify" or "told". batch: of
    the strategy; None for other origins. status: "timed", or the kind of failure. time_ms: the median; times_ms: the
    samples, empty for a failure. compile_s, run_s: seconds. message: of a failure. details: further figures of the
    evaluator.
    """

    trial: int
    config: Config
    origin: str
    batch: int | None
    status: str
    time_ms: float | None
    times_ms: tuple[float, ...]
    compile_s: float
    run_s: float
    message: str
    details: dict[str, Detail]

    @classmethod
    def of(cls, trial: int, config: Config, outcome: Outcome, origin: str, batch: int | None) -> "TrialRecord":
        timed, failed = (outcome, None) if isinstance(outcome, Timed) else (None, outcome)
        return cls(
            trial=trial,
            config=config,
            origin=origin,
            batch=batch,
            status="timed" if failed is None else failed.kind,
            time_ms=None if timed is None else timed.time_ms,
            times_ms=() if timed is None else timed.times_ms,
            compile_s=outcome.compile_s,
            run_s=outcome.run_s,
            message="" if failed is None else failed.message,
            details=dict(outcome.details),
        )


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """The search that a result comes from.

    strategy: its name. find_trials: looks up all that was tried. unused: evaluations of the budget that were kept for
    simplification, and that it did not need.
    """

    space: Space
    strategy: str
    find_trials: Callable[[], tuple[TrialRecord, ...]]
    unused: int = 0


class Result(Struct, frozen=True, dict=True):
    """The result of a search: `print(result)` is the table that the command line prints.

    best: the pick: the fastest and simplest config, or the default where nothing is certainly faster than it. default:
    the default config; None where it failed or the space has none. finalists: configs that noise leaves equal to the
    best. speedup: default time over best time, round by round, with its interval. counts: evaluations by outcome.
    evaluations: distinct configs measured. elapsed_s: seconds on the evaluator's clock. stopped, detail: why the search
    ended, as a word and as a sentence. complete: False when the search was interrupted. notes: sentences for people.
    drift: times in the last third of the verification's rounds over times in its first third; None without one.
    certificate: the claims about the best, each with its probability of error; None in results of earlier versions.
    """

    best: MeasuredConfig
    default: MeasuredConfig | None
    finalists: tuple[Finalist, ...]
    speedup: Ratio | None
    counts: dict[str, int]
    evaluations: int
    elapsed_s: float
    stopped: Reason
    detail: str
    complete: bool
    notes: tuple[str, ...] = ()
    drift: Ratio | None = None
    certificate: Certificate | None = None

    def trials(self) -> list[TrialRecord]:
        """Every config that was tried, in the order of asking. Raises PlanError for a result that was decoded from a
        file of your own: only `tune`, `resume`, `result` and the cache know the search."""
        return list(self._record.find_trials())

    def to_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists, numbers and texts, with `why`. Times end in _ms, other durations in _s."""
        fields = msgspec.to_builtins({name: getattr(self, name) for name in self.__struct_fields__}, enc_hook=dict)
        return {**fields, "why": self.why}

    def to_json(self) -> str:
        """`to_dict` as one JSON object; numbers that are not finite are null."""
        return msgspec.json.encode(self.to_dict()).decode()

    def to_frame(self) -> Any:
        """`trials()` as a pandas frame: a row for each config, a column for each parameter and each field.

        A parameter with the name of a field has its column under `config_NAME`. Raises PlanError where pandas is not
        installed.
        """
        try:
            import pandas
        except ImportError:
            raise PlanError(f"to_frame needs pandas; {install_command('frames')}") from None
        fields = [name for name in TrialRecord.__struct_fields__ if name != "config"]
        rows = []
        for one in self.trials():
            values = {f"config_{name}" if name in fields else name: value for name, value in one.config.items()}
            rows.append({"trial": one.trial, **values, **{name: getattr(one, name) for name in fields[1:]}})
        return pandas.DataFrame(rows)

    @memo
    def why(self) -> str:
        """What was tried, what mattered, what the pick gains, and why the search stopped, in a few sentences."""
        return " ".join(_sentences(self))

    def citations(self) -> tuple[str, ...]:
        """The papers that the search stands on: of its strategy, its model and its statistics. Raises PlanError for a
        result that was read from a file, which does not name its strategy."""
        return (*references_of(self._record.strategy), *MACHINE_REFERENCES)

    @property
    def _record(self) -> SearchRecord:
        record: SearchRecord | None = self.__dict__.get("record")
        if record is None:
            raise PlanError(
                "this result does not know its search: it was decoded from a file, or is a changed copy; take the one"
                " that tune, resume or the cache gives"
            )
        return record

    def __repr__(self) -> str:
        gain = "" if self.speedup is None else f", {self.speedup} over the default"
        time = format_milliseconds(self.best.time_ms)
        tried, config = format_count(self.evaluations, "config"), escape_controls(str(self.best.config))
        return f"<Result: {time}{gain}, {tried}, {config}>"

    def __str__(self) -> str:
        header, rows = config_table(self.best.config, None if self.default is None else self.default.config)
        return f"{format_table(header, rows)}\n\n{format_labelled(result_rows(self))}"

    def _repr_html_(self) -> str:
        header, rows = config_table(self.best.config, None if self.default is None else self.default.config)
        return html_table(header, rows) + html_table(None, result_rows(self))


def with_record(result: Result, record: SearchRecord) -> Result:
    """The result, which now knows its search. The record takes no part in comparisons, and is not written to files."""
    result.__dict__["record"] = record
    return result


# Texts


def config_table(best: Config, default: Config | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: a row for each parameter; the default's value only where it differs."""
    if default is None:
        return ("parameter", "best"), [(name, format_value(value)) for name, value in best.items()]
    return ("parameter", "best", "default"), [
        (name, format_value(value), "" if token(default[name]) == token(value) else format_value(default[name]))
        for name, value in best.items()
    ]


def format_value(value: Any) -> str:
    """A value of a config as JSON."""
    return token(value).decode()


def result_rows(result: Result) -> list[tuple[str, str]]:
    """The result in labelled lines, without the config itself."""
    rows = [("best", format_measured(result.best))]
    if result.default is not None and result.default.trial == result.best.trial:
        rows.append(("default", "is the best"))
    elif result.default is not None:
        rows.append(("default", format_measured(result.default)))
    if result.speedup is not None and result.default != result.best:
        rows.append(("speed-up", f"{result.speedup} over the default"))
    rows += _argument_rows(result)
    for finalist in result.finalists:
        changes = Config(
            {n: v for n, v in finalist.measured.config.items() if token(v) != token(result.best.config[n])}
        )
        rows.append(("as good", f"{format_measured(finalist.measured)} with {changes}"))
    if checked := result.best.details.get("checked"):
        rows.append(("checked", str(checked)))
    count, seconds = format_count(result.evaluations, "config"), format_duration(result.elapsed_s)
    spent = f"{count} in {seconds}: {format_counts(result.counts)}"
    rows += [("evaluated", spent), ("stopped", describe_ending(result))]
    return rows + [("note", text) for text in result.notes]


_OF_ARGUMENTS = ("ms[", "]")
"""Around the name of an argument set, in the name of the detail that holds the time with it."""


def _argument_rows(result: Result) -> Iterator[tuple[str, str]]:
    """A line for each of several argument sets: the best config's time with it, beside the default's."""
    other = result.default if result.default is not None and result.default.trial != result.best.trial else None
    first, last = _OF_ARGUMENTS
    for name, time_ms in result.best.details.items():
        if not (name.startswith(first) and name.endswith(last)) or not isinstance(time_ms, int | float):
            continue
        before = other.details.get(name) if other is not None else None
        beside = ""
        if isinstance(before, int | float) and time_ms > 0:
            beside = f", default {format_milliseconds(before)}, {before / time_ms:.3g}x"
        yield f"on {name[len(first) : -len(last)]}", format_milliseconds(time_ms) + beside


def format_measured(measured: MeasuredConfig) -> str:
    """The time with its interval, and the level of the interval where that is lower than usual."""
    middle = format_milliseconds(measured.time_ms)
    if measured.low_ms == measured.high_ms:
        return middle
    low, high = format_milliseconds(measured.low_ms), format_milliseconds(measured.high_ms)
    return f"{middle} ({low} to {high}{format_level(measured.level)})"


def format_counts(counts: Mapping[str, int]) -> str:
    """Outcomes by kind, such as "28 timed, 2 run error"."""
    return ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in counts.items()) or "none"


def _sentences(result: Result) -> Iterator[str]:
    record: SearchRecord | None = result.__dict__.get("record")
    by = "" if record is None or not record.strategy else f" by {record.strategy}"
    tried = f"{format_count(result.evaluations, 'config')} {'was' if result.evaluations == 1 else 'were'} tried{by}"
    yield f"{tried} in {format_duration(result.elapsed_s)}: {format_counts(result.counts)}."
    if record is not None and (matter := describe_importances(record)):
        yield matter
    time = format_milliseconds(result.best.time_ms)
    if result.default is not None and result.default.trial == result.best.trial:
        yield f"The pick is the default, {time}: nothing is certainly faster."
    elif result.speedup is not None:
        yield f"The pick takes {time}, {result.speedup} over the default."
    else:
        yield f"The pick takes {time}; there is no default to compare it with."
    if result.finalists:
        yield f"{format_count(len(result.finalists), 'other config')} cannot be told from it."
    ending = describe_ending(result)
    yield f"The search stopped because {ending}." if result.detail else f"The search stopped: {ending}."


def describe_ending(result: Result) -> str:
    """Why the search ended, with the evaluations that were kept for simplification and not used."""
    record: SearchRecord | None = result.__dict__.get("record")
    kept = 0 if record is None or result.stopped != "evaluations" else record.unused
    return (result.detail or result.stopped) + (f", less {kept} kept for simplification" if kept else "")


def describe_importances(record: SearchRecord) -> str:
    """The parameters that decide most about the time, in a sentence; "" where too few configs were timed to tell."""
    timed = [one for one in record.find_trials() if one.time_ms is not None]
    codes = np.stack([rank_values([one.config[name] for one in timed]) for name in record.space.names], axis=1)
    found = compute_importances(codes, np.array([one.time_ms for one in timed], np.float64))
    names = [
        f"{record.space.names[one.parameter]} ({one.share.value:.0%})"
        for one in found.parameters[:MOST_NAMED]
        if one.share.value >= LEAST_SHARE
    ]
    if found.doubt:
        return f"{found.doubt[:1].upper()}{found.doubt[1:]}."
    return f"Of the variance of the log times, most is due to {', '.join(names)}." if names else ""


def rank_values(values: list[Value]) -> NDArray[np.int64]:
    """The place [n] of each value among the distinct ones: numbers in order, others in the order of their JSON."""

    def place(value: Value) -> tuple[bool, float, bytes]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return not number, float(value) if number else 0.0, token(value)

    order = {key: i for i, key in enumerate(sorted({place(value) for value in values}))}
    return np.array([order[place(value)] for value in values], np.int64)

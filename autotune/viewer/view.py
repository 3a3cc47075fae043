"""A search or a recording as data to look at: what the page, the CSV file, the plots and `--json` show.

Nothing here reads a file. `journal_view.py` and `recording_view.py` make a `SearchView`.
"""

from typing import Any, Literal

from msgspec import Struct

from autotune.core.models.importance import Importances

State = Literal["finished", "interrupted", "unfinished", "recording"]
BatchKind = Literal["measure", "compare", "conclude"]

TIMED = 0
"""The entry of `Trials.kind` for a config that was timed; k > 0 stands for `SearchView.kinds[k]`."""

NONE = -1
"""The entry of a column of places where there is none: no message, no batch, no trial."""


class ParameterView(Struct, frozen=True, kw_only=True):
    """A parameter. values: those that occur, in the parameter's order. default: the place of the default's, or None."""

    name: str
    values: tuple[Any, ...]
    default: int | None = None


class Trials(Struct, frozen=True, kw_only=True):
    """The n measured configs in the order in which their outcomes came, as columns of n entries.

    number: of the trial in the search, or the row of the recording. codes: for each parameter a column of places in its
    values. kind: a place in `SearchView.kinds`. time_ms: the latest time, None for a failure. first_ms: the first one.
    at_s: seconds on the search's clock when the outcome came, None in a recording. message: a place in
    `SearchView.messages`, or NONE. batch: a place in `SearchView.batches`, or NONE. origin: a place in
    `SearchView.origins`. samples: how many samples the latest time has.
    """

    number: list[int]
    codes: tuple[list[int], ...]
    kind: list[int]
    time_ms: list[float | None]
    first_ms: list[float | None]
    compile_s: list[float]
    run_s: list[float]
    at_s: list[float | None]
    samples: list[int]
    message: list[int]
    batch: list[int]
    origin: list[int]


class Batch(Struct, frozen=True, kw_only=True):
    """A request of the search. why: the strategy's words, or the purpose of a comparison.

    trials: how many. best_ms: the fastest first timing of its trials, None where none was timed. failed: how many.
    """

    number: int
    kind: BatchKind
    at_s: float
    why: str
    trials: int
    failed: int = 0
    best_ms: float | None = None


class Improvement(Struct, frozen=True, kw_only=True):
    """A new best. evaluations: configs measured until then. at_s: None in a recording."""

    evaluations: int
    at_s: float | None
    time_ms: float
    trial: int


class FinalistView(Struct, frozen=True, kw_only=True):
    """A config of the final comparison and its samples, one a round. low_ms, high_ms: the interval of its median."""

    trial: int
    label: str
    time_ms: float
    low_ms: float
    high_ms: float
    samples_ms: tuple[float, ...]
    pick: bool
    default: bool


class Message(Struct, frozen=True, kw_only=True):
    """A message of failures, how many have it, and one trial that has."""

    text: str
    count: int
    trial: int


class Failures(Struct, frozen=True, kw_only=True):
    """The failures of one kind, their messages by frequency."""

    kind: str
    count: int
    messages: tuple[Message, ...]


class WorkSpan(Struct, frozen=True, kw_only=True, array_like=True):
    """Work of one process or device; in JSON an array of its fields, as there are thousands.

    lane: its name. what: "compile", "run", … trial: NONE where it is of several.
    """

    lane: str
    what: str
    trial: int
    start_s: float
    end_s: float


class SearchView(Struct, frozen=True, kw_only=True):
    """A search or a recording to look at.

    title: a name. path: of the file. facts: labelled lines. why: sentences on how it went and why it ended.
    unit: of the times, "ms" unless a recording has another objective; lower is better always, so values of an objective
    of which more is better appear as costs, and `unit` says so. best, default: places in `trials`, or None.
    spans_from: how the spans are known, as a sentence; "" where there are none.
    """

    title: str
    path: str
    state: State
    facts: tuple[tuple[str, str], ...]
    why: tuple[str, ...]
    unit: str
    parameters: tuple[ParameterView, ...]
    kinds: tuple[str, ...]
    messages: tuple[str, ...]
    origins: tuple[str, ...]
    trials: Trials
    batches: tuple[Batch, ...]
    best: int | None
    default: int | None
    history: tuple[Improvement, ...]
    finalists: tuple[FinalistView, ...]
    failures: tuple[Failures, ...]
    spans: tuple[WorkSpan, ...]
    spans_from: str
    importances: Importances

    def config(self, place: int) -> dict[str, Any]:
        """The config at a place in `trials`."""
        return {
            parameter.name: parameter.values[column[place]]
            for parameter, column in zip(self.parameters, self.trials.codes, strict=True)
        }

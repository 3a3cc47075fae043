"""Append-only collections whose versions share their storage.

A search is an immutable value, and every event makes a new version of it. Copying the history each time would make a
run quadratic. So an append writes behind the end of a buffer, which older versions share and never read there. The
buffer is copied only when an older version is extended a second time (a branch). Every version sees exactly its own
items.

Many threads may extend one version at once. The right to write behind the end of a buffer is the only entry of a dict,
whose key is the length written so far; `pop` gives it to one thread, and the others copy the buffer. No lock is held,
so a forked process never waits for one.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from autotune.core.memo import memo, read_only
from autotune.core.parameters import Codes
from autotune.core.points import row_keys

T = TypeVar("T")

FIELDS = np.dtype(
    [
        ("trial", np.int64),
        ("ok", np.bool_),
        ("time_ms", np.float64),
        ("low_ms", np.float64),
        ("high_ms", np.float64),
        ("compile_s", np.float64),
        ("walk", np.int64),
        ("generation", np.int64),
    ]
)
"""One record an observation. The three times are 0 where `ok` is False, and must not be read there."""


class Log(Sequence[T], Generic[T]):
    """An immutable sequence whose `append` takes amortised constant time."""

    __slots__ = ("_end", "_items", "_length")

    def __init__(self, items: Sequence[T] = ()) -> None:
        self._items = list(items)
        self._length = len(self._items)
        self._end = {self._length: True}

    def append(self, *new: T) -> "Log[T]":
        """A log of these items and the new ones."""
        items, end = self._items, self._end
        if not end.pop(self._length, False):
            items, end = self._items[: self._length], {}
        items.extend(new)
        log: Log[T] = Log.__new__(Log)
        log._items, log._end, log._length = items, end, self._length + len(new)
        end[log._length] = True
        return log

    def __reduce__(self) -> tuple[type["Log[T]"], tuple[list[T]]]:
        return Log, (self._items[: self._length],)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Log[T]":
        return Log(deepcopy(self._items[: self._length], memo))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self._items[: self._length][index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[index if index >= 0 else index + self._length]

    def __iter__(self) -> Iterator[T]:
        return (self._items[i] for i in range(self._length))


class _Rows:
    """Rows of an array, and the place of the first row with each key. Every version has the keys of its own rows."""

    __slots__ = ("_buffer", "_end", "_index", "_length")

    def __init__(self, buffer: NDArray[Any]) -> None:
        self._buffer = buffer
        self._index: dict[Any, int] = {}
        self._length = 0
        self._end = {0: True}

    def _extend(self, rows: Any, keys: Sequence[Any]) -> Self:
        """These rows and the new ones, with a key for each; a key that is known keeps its first place."""
        buffer, index, end, length = self._buffer, self._index, self._end, self._length + len(keys)
        if not end.pop(self._length, False):
            index = {key: i for key, i in index.copy().items() if i < self._length}
            buffer, end = buffer.copy(), {}
        if length > len(buffer):
            more = np.empty((max(length, len(buffer)), *buffer.shape[1:]), buffer.dtype)
            buffer = np.concatenate([buffer, more])
        buffer[self._length : length] = rows
        for i, key in enumerate(keys, self._length):
            index.setdefault(key, i)
        extended = type(self).__new__(type(self))
        extended._buffer, extended._index, extended._end, extended._length = buffer, index, end, length
        end[length] = True
        return extended

    def __len__(self) -> int:
        return self._length


class Points(_Rows):
    """The points asked for so far, in order, and an index of their rows."""

    __slots__ = ()

    def __init__(self, columns: int) -> None:
        super().__init__(np.empty((16, columns), np.int64))

    def append(self, rows: Codes) -> "Points":
        """These points and the rows [n, columns]; a row that is among them keeps its first place in the index."""
        return self._extend(rows, row_keys(rows))

    def __reduce__(self) -> tuple[Callable[[Codes], "Points"], tuple[Codes]]:
        return _points_of, (self.rows.copy(),)

    @property
    def rows(self) -> Codes:
        """[n, columns], read-only."""
        return read_only(self._buffer[: self._length])

    def places(self, rows: Codes) -> NDArray[np.int64]:
        """The positions [m] of rows [m, columns] among these points, -1 where a row is not among them."""
        index, length = self._index, self._length
        found = (index.get(key, length) for key in row_keys(rows))
        return np.fromiter((i if i < length else -1 for i in found), np.int64, len(rows))

    def unseen(self, rows: Codes) -> NDArray[np.bool_]:
        """Which of rows [m, columns] are not among these points, as a mask [m]."""
        return self.places(rows) < 0


class Records(_Rows):
    """Observations in the order they arrived, revisions included, as a structured array of FIELDS."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(np.empty(16, FIELDS))

    def append(self, record: tuple[int, bool, float, float, float, float, int, int]) -> "Records":
        """These records and one more, a tuple in the order of FIELDS."""
        return self._extend([record], [int(record[0])])

    def has(self, trial: int) -> bool:
        """Whether any outcome of this trial is recorded."""
        return self._index.get(trial, self._length) < self._length

    def __repr__(self) -> str:
        return f"Records({self.array.tolist()})"

    def __reduce__(self) -> tuple[Callable[[NDArray[np.void]], "Records"], tuple[NDArray[np.void]]]:
        return _records_of, (self.array.copy(),)

    @property
    def array(self) -> NDArray[np.void]:
        """[n] of FIELDS, read-only."""
        return read_only(self._buffer[: self._length])


def _points_of(rows: Codes) -> Points:
    return Points(rows.shape[1]).append(rows)


def _records_of(array: NDArray[np.void]) -> Records:
    return Records()._extend(array, array["trial"].tolist())


@dataclass(frozen=True)
class Archive:
    """The measurements, one entry a trial in the order of asking; a revised trial shows its latest outcome.

    Every attribute is an array over the n observed trials: `points` [n, columns], the others [n].
    first, first_generation: trials before `first` are left out, and generations count from `first_generation`.
    """

    records: Records
    asked: Points
    first: int = 0
    first_generation: int = 0

    def since(self, trial: int, generation: int) -> "Archive":
        """The archive as if the search had begun with this trial and this generation."""
        return Archive(self.records, self.asked, trial, generation)

    @memo
    def whole(self) -> "Archive":
        """The archive from the first trial on."""
        return Archive(self.records, self.asked) if self.first else self

    def __len__(self) -> int:
        return len(self.latest)

    @memo
    def latest(self) -> NDArray[np.void]:
        """The last record of every trial, in trial order."""
        array = self.records.array
        order = np.argsort(array["trial"], kind="stable")
        trials = array["trial"][order]
        last = np.ones(len(order), bool)
        last[:-1] = trials[1:] != trials[:-1]
        latest = array[order[last]]
        if self.first:
            latest = latest[latest["trial"] >= self.first]
            latest["generation"] -= np.where(latest["generation"] >= 0, self.first_generation, 0)
        return latest

    @memo
    def arrived(self) -> NDArray[np.void]:
        """The first record of every trial, in the order of arrival: it grows at its end, and nothing in it changes."""
        array = self.records.array
        firsts = np.sort(np.unique(array["trial"], return_index=True)[1])
        arrived = array[firsts]
        return arrived[arrived["trial"] >= self.first] if self.first else arrived

    @property
    def trials(self) -> NDArray[np.int64]:
        """The trials' numbers, ascending."""
        return self.latest["trial"]

    @memo
    def points(self) -> Codes:
        """The trials' points [n, columns]."""
        return self.asked.rows[self.trials]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Whether the config was timed; the times of other trials must not be read."""
        return self.latest["ok"]

    @property
    def time_ms(self) -> NDArray[np.float64]:
        """Median times in milliseconds, 0 where not ok."""
        return self.latest["time_ms"]

    @property
    def walk(self) -> NDArray[np.int64]:
        """The strategy's walk that asked."""
        return self.latest["walk"]

    @property
    def generation(self) -> NDArray[np.int64]:
        """The strategy's batch that asked; -1 for trials that it did not ask for (the default, simplification)."""
        return self.latest["generation"]

    @property
    def compile_s(self) -> NDArray[np.float64]:
        """Seconds spent on building the config."""
        return self.latest["compile_s"]

    @memo
    def typical_compile_s(self) -> float:
        """The median compile time of the timed trials in seconds; 0 if there are none."""
        times = self.compile_s[self.ok]
        return float(np.quantile(times, 0.5)) if len(times) else 0.0  # np.median adds two, which may overflow

    def ranking(self) -> NDArray[np.int64]:
        """Indices of the timed trials, fastest first; ties in the order of asking."""
        timed = np.flatnonzero(self.ok)
        return timed[np.argsort(self.time_ms[timed], kind="stable")]

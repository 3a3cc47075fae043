"""Law 3, of strategies and evaluators: a journal that is cut, interrupted or resumed gives the same search."""

import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autotune.core.search.messages import Event, Interrupted, Observed, Resumed
from autotune.core.search.plan import Budget
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.random_search import RandomSearch
from autotune.core.strategies.registry import STRATEGIES, register
from autotune.shell.codec import encode
from autotune.shell.evaluators.protocol import Evaluator
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.journal import read_journal
from autotune.shell.replay import Replay, replay
from autotune.shell.tuning import resume, tune
from autotune.testing.outcomes import HashedTable
from autotune.testing.spaces import gemm_space

MACHINE = {"confirm_rounds": 2, "verify_rounds": 3, "simplify_rounds": 1, "hurried_rounds": 2}
"""Settings of the search that visit every phase with few measurements."""

Watch = Callable[[Search, Event], None]

_TABLE = HashedTable()


class JournalLaws:
    """Law 3 for any strategy with any evaluators; `StrategyLaws` and `EvaluatorLaws` inherit it.

    An evaluator that recovers (its clock is simulated) must give the same run, events and clock, as an uninterrupted
    one. Any other must keep the journal's prefix and repeat no finished trial.
    """

    evaluations = 30
    """The budget of each search."""

    def make_space(self) -> Space:
        """The space that is searched."""
        return gemm_space()

    def make_strategy(self, space: Space) -> AnyStrategy:
        """The strategy that searches it."""
        return RandomSearch(14)

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        """The evaluators to be tried in turn, by name: functions that give equal evaluators at each call."""
        return {
            "noisy": lambda: SimulatedEvaluator(_TABLE, noise="resample", repeats=5, seed=3),
            "wide": lambda: SimulatedEvaluator(_TABLE, compile_workers=6, devices=3),
        }

    @pytest.mark.filterwarnings("ignore:.*is torn and was dropped")
    def test_a_cut_journal_resumes_to_the_same_search(self, tmp_path: Path) -> None:
        with self._runs(tmp_path) as runs:
            for run in runs:
                data, generator = run.path.read_bytes(), random.Random(run.name)
                first = data.index(b"\n") + 1
                drawn = [generator.randint(first, len(data)) for _ in range(4 if run.repeatable else 1)]
                for length in sorted({first, len(data), *drawn}):
                    run.check_resumed(_write(tmp_path / f"{run.name}-{length}", data[:length]))

    @pytest.mark.slow
    def test_every_line_of_a_journal_can_be_the_last(self, tmp_path: Path) -> None:
        with self._runs(tmp_path) as runs:
            for run in runs:
                data = run.path.read_bytes()
                for length in [i + 1 for i, byte in enumerate(data) if byte == 10]:
                    run.check_resumed(_write(tmp_path / f"{run.name}-{length}", data[:length]))

    @pytest.mark.parametrize("after", [1, 9, 25])
    def test_an_interrupted_search_resumes_to_the_same_search(self, after: int, tmp_path: Path) -> None:
        """Ctrl-C after so many events, and once more in the resumed search."""
        with self._runs(tmp_path) as runs:
            for run in runs:
                path = tmp_path / f"{run.name} interrupted"
                first = run.search(path, progress=_ctrl_c(after))
                if run.repeatable:
                    watched = len(run.lines) - 1  # the report of the result is written when all is over
                    assert isinstance(first, str) or first.complete == (watched < after)
                run.check_replay(path)
                second = run.resume(path, progress=_ctrl_c(6))
                assert isinstance(second, str) or second.evaluations >= 0
                run.check_replay(path)
                run.check_resumed(path)

    @pytest.mark.filterwarnings("ignore:.*is torn and was dropped")
    def test_an_interrupted_journal_cut_anywhere_resumes_to_the_same_search(self, tmp_path: Path) -> None:
        with self._runs(tmp_path) as runs:
            for run in runs:
                path = tmp_path / f"{run.name} interrupted"
                run.search(path, progress=_ctrl_c(12))
                run.resume(path, progress=_ctrl_c(8))
                data, generator = path.read_bytes(), random.Random(run.name)
                middle = max(data.find(b'"interrupted"'), data.index(b"\n") + 1)  # a short search may be over before
                for length in sorted(generator.randint(middle, len(data)) for _ in range(2 if run.repeatable else 1)):
                    run.check_resumed(_write(tmp_path / f"{run.name}-{length}", data[:length]))

    def test_a_finished_journal_gives_its_result_again(self, tmp_path: Path) -> None:
        with self._runs(tmp_path) as runs:
            for run in runs:
                again = _write(tmp_path / f"{run.name} again", run.path.read_bytes())
                for _ in range(2):
                    assert run.resume(again) == run.found
                assert lines_of(again) == run.lines
                found = run.check_replay(again)
                assert found.checked == run.check_replay(run.path).checked
                added = read_journal(again).events[len(read_journal(run.path).events) :]
                assert all(isinstance(event, Resumed) for event in added)
                if isinstance(run.found, str):
                    with pytest.raises(TuningFailed):
                        result(found.search)
                else:
                    assert result(found.search) == run.found

    @pytest.mark.filterwarnings("ignore:.*is torn and was dropped")
    @pytest.mark.parametrize("seconds", [2.0, 11.3])
    def test_a_search_with_a_deadline_resumes_to_the_same_search(self, seconds: float, tmp_path: Path) -> None:
        """Where simplification, confirmation and verification meet the end of the time; on a simulated clock only."""
        with self._runs(tmp_path, budget=Budget(seconds=seconds), only_repeatable=True) as runs:
            for run in runs:
                data, generator = run.path.read_bytes(), random.Random(f"{run.name} {seconds}")
                first = data.index(b"\n") + 1
                late = (first + 2 * len(data)) // 3
                for length in (generator.randint(first, len(data)), generator.randint(late, len(data))):
                    run.check_resumed(_write(tmp_path / f"{run.name}-{length}", data[:length]))
                if not isinstance(run.found, str):
                    assert run.found.elapsed_s <= seconds + 1e-9

    @contextmanager
    def _runs(
        self, folder: Path, budget: Budget | None = None, only_repeatable: bool = False
    ) -> "Iterator[Iterator[_Run]]":
        """A whole search with each evaluator; the strategy has a name for journals until the block ends."""
        space = self.make_space()
        strategy = self.make_strategy(space)
        makers = self.make_evaluators().items()
        with register_temporarily(strategy):
            yield (
                _Run(type(self), name, folder, space, strategy, make, budget or Budget(self.evaluations))
                for name, make in makers
                if make().recovers or not only_repeatable
            )


@contextmanager
def register_temporarily(strategy: AnyStrategy) -> Iterator[AnyStrategy]:
    """A strategy whose class has a name, for journals: its own, or one for the time of the block."""
    kind = type(strategy)
    if kind in STRATEGIES.values():
        yield strategy
        return
    name = f"law_{kind.__name__}"
    register(name, kind)
    try:
        yield strategy
    finally:
        STRATEGIES.pop(name)


_WHOLE: dict[str, tuple[bytes, Result | str, list[bytes]]] = {}
"""The whole searches so far, by their plan and evaluator: every law begins with one."""


class _Run:
    """A whole search: the journal at `path`, its result (or the text of its TuningFailed), and its event lines."""

    def __init__(
        self, owner: type, name: str, folder: Path, space: Space, strategy: AnyStrategy, make: Callable[[], Evaluator],
        budget: Budget,
    ) -> None:  # fmt: skip
        self.name = name
        self._space, self._strategy, self._make, self._budget = space, strategy, make, budget
        self.repeatable = make().recovers
        self.path = folder / f"{name} whole"
        evaluator = make()
        key = repr((owner, name, strategy, space.fingerprint, budget, evaluator.exact, evaluator.describe()))
        if key not in _WHOLE:
            found = self.search(self.path)
            _WHOLE[key] = self.path.read_bytes(), found, lines_of(self.path)
        data, self.found, self.lines = _WHOLE[key]
        self.path.write_bytes(data)

    def search(self, path: Path, progress: Watch | bool = False) -> Result | str:
        """A new search that writes the journal `path`."""
        try:
            return tune(
                self._space, self._make(), self._strategy, budget=self._budget, seed=5, journal=path, settings=MACHINE,
                progress=progress,
            )  # fmt: skip
        except TuningFailed as error:
            return str(error)

    def resume(self, path: Path, progress: Watch | bool = False) -> Result | str:
        """The search of a journal, resumed with a new evaluator."""
        try:
            return resume(path, self._make(), progress=progress, space=self._space)
        except TuningFailed as error:
            return str(error)

    def check_replay(self, path: Path) -> Replay:
        """The replay of a journal, which must ask for the recorded tasks."""
        found = replay(path, space=self._space)
        assert found.divergence is None, found.divergence
        return found

    def check_resumed(self, path: Path) -> None:
        """Resume the search of a journal and hold it against the whole search, or against the journal's prefix."""
        kept = read_journal(path).events
        found = self.resume(path)
        if self.repeatable:
            assert found == self.found
            assert lines_of(path) == self.lines
            assert self.check_replay(path).search.clock == self.check_replay(self.path).search.clock
            return
        events = read_journal(path).events
        assert events[: len(kept)] == kept, "the resumed search changed the journal's prefix"
        done = [event.trial for event in events if isinstance(event, Observed)]
        assert len(done) == len(set(done)), "a finished trial was measured again"
        assert [event.at for event in events] == sorted(event.at for event in events)
        self.check_replay(path)


def lines_of(path: Path) -> list[bytes]:
    """The events of a journal as text, without the ones that an interrupt adds and a resume takes back."""
    kept: list[Event] = []
    interrupted: int | None = None
    for event in read_journal(path).events:
        if isinstance(event, Interrupted) and interrupted is None:
            interrupted = len(kept)
        if isinstance(event, Resumed):
            if interrupted is not None:
                del kept[interrupted:]
            interrupted = None
        else:
            kept.append(event)
    return [encode(event) for event in kept]


def _ctrl_c(after: int) -> Watch:
    """A watch that presses Ctrl-C when so many events have been seen."""
    seen = [0]

    def watch(search: Search, event: Any) -> None:
        seen[0] += 1
        if seen[0] == after:
            signal.raise_signal(signal.SIGINT)

    return watch


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path

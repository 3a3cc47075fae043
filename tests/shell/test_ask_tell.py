"""A loop that asks and tells: what it is given, what the journal keeps of it, and what it may do wrong."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autotune import (
    AskTell,
    Budget,
    Config,
    ConfigError,
    Integer,
    JournalError,
    PlanError,
    Space,
    replay,
    result,
    resume,
    tune,
)
from autotune.core.search.messages import Asked, Compared, Dispatched, Observed, Sampled, Told
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.journal import read_journal
from autotune.testing.outcomes import HashedTable

SPACE = Space({"x": Integer(0, 19), "y": Integer(0, 3)}, ["x + y <= 20"], default={"x": 0, "y": 0})


def time_of(config: Config) -> float:
    return 1.0 + abs(int(config["x"]) - 13) + 0.1 * int(config["y"])


def run(search: AskTell, most: int | None = None) -> list[Config]:
    """The configs that a loop measures, until the search is over or after so many."""
    seen: list[Config] = []
    while len(seen) != most and (config := search.ask()) is not None:
        search.tell(config, time_of(config))
        seen.append(config)
    return seen


def test_a_simple_loop_compares_its_finalists_with_the_default_at_the_end() -> None:
    with AskTell(SPACE, "random_search", budget=12, seed=1) as search:
        seen = run(search)
        assert search.done
        assert search.ask() is None
        assert search.ask(3) == []
    assert len(set(seen)) == 12
    assert len(set(seen[:12])) == 12, "a config came twice before the final comparison"
    finalists = set(seen[12:])
    assert SPACE.default in finalists
    assert {seen[12:].count(config) for config in finalists} == {7}
    found = search.result()
    assert found.complete
    assert found.evaluations == 12
    assert search.best.config == min(seen, key=time_of)
    assert len(search.best.times_ms) == 7


@pytest.mark.parametrize("quiet", [{"exact": True}, {"settings": {"verify_rounds": 0}}])
def test_a_final_comparison_can_be_left_out(quiet: dict[str, object]) -> None:
    with AskTell(SPACE, "random_search", budget=12, **quiet) as search:  # type: ignore[arg-type]
        seen = run(search)
    assert len(seen) == len(set(seen)) == 12
    assert search.best.config == min(seen, key=time_of)


def test_the_journal_replays_and_holds_everything(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with AskTell(SPACE, "random_search", budget=6, journal=path) as search:
        search.tell({"x": 13, "y": 3}, [1.5, 1.4, 1.6])
        first = search.ask()
        assert first == SPACE.default
        search.tell(first, failed=ValueError("no such tile"), kind="compile_error")
        run(search)
        told = search.result()
    events = read_journal(path).events
    assert {type(event) for event in events} >= {Asked, Dispatched, Observed, Told}
    replayed = replay(path)
    assert replayed.divergence is None
    assert replayed.results == 1
    assert result(replayed.search) == told
    assert told.counts["compile_error"] == 1
    assert "ValueError: no such tile" in told.notes[0]


@pytest.mark.slow
def test_a_killed_loop_goes_on_at_every_line(tmp_path: Path) -> None:
    """It never asks for a told config again before the final comparison, and ends with the same result."""
    path, again = tmp_path / "run.jsonl", tmp_path / "again.jsonl"
    with AskTell(SPACE, "random_search", budget=6, journal=path) as search:
        run(search)
        whole = search.result()
    assert {type(event) for event in read_journal(path).events} >= {Sampled, Compared}
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) + 1):
        again.write_bytes(b"".join(lines[:cut]))
        told = {event.trial for event in read_journal(again).events if isinstance(event, Observed)}
        with AskTell.resume(again) as search:
            trials = {trial.config: trial.id for trial in search.search.trials}
            compared = search.search.comparing is not None or search.search.verified is not None
            asked = run(search)
            if not compared:
                assert not told & {trials[config] for config in asked[: 6 - len(told)] if config in trials}
            assert search.best.config == whole.best.config
            assert search.best.times_ms == whole.best.times_ms
        assert replay(again).divergence is None
        again.unlink()


def test_known_measurements_teach_and_cost_nothing() -> None:
    known = Config({"x": 13, "y": 0})
    with AskTell(SPACE, "random_search", budget=5, settings={"verify_rounds": 0}) as search:
        search.tell(known, 0.5)
        seen = run(search)
    assert len(seen) == 5
    assert seen[0] == SPACE.default
    assert known not in seen
    assert search.best.config == known
    assert search.result().evaluations == 6


def test_after_the_search_a_new_config_is_refused_with_the_remedy() -> None:
    with AskTell(SPACE, "random_search", budget=3) as search:
        seen = run(search)
        fresh = next(config for config in SPACE.enumerate() if config not in seen)
        with pytest.raises(PlanError, match=r"was not asked for; tell of .* before the final comparison"):
            search.tell(fresh, 1.0)


def test_a_second_outcome_replaces_the_first() -> None:
    with AskTell(SPACE, "random_search", budget=4, exact=True) as search:
        config = search.ask()
        assert config is not None
        search.tell(config, 0.001)
        search.tell(config, 99.0)
        run(search)
    assert search.best.config != config


def test_a_batch_is_as_large_as_asked_and_ends_empty() -> None:
    with AskTell(SPACE, "random_search", budget=9, settings={"verify_rounds": 0}) as search:
        sizes = []
        while batch := search.ask(4):
            sizes.append(len(batch))
            assert search.pending == batch
            for config in reversed(batch):
                search.tell(config, time_of(config))
        assert search.done
    assert sizes == [4, 4, 1]


def test_a_single_thread_that_must_tell_first_is_told_so() -> None:
    with AskTell(SPACE, "random_search", budget=1) as search:
        config = search.ask()
        assert config is not None
        assert not search.done
        assert search.ask(2) == []
        with pytest.raises(PlanError, match=r"before one of the 1 config that are out is told; tell it first"):
            search.ask()
        search.tell(config, 1.0)
        assert search.ask() is None


def test_threads_share_a_search() -> None:
    """Each config of the search is measured once, and every finalist seven times, whichever thread does it."""
    lock, seen = threading.Lock(), list[Config]()
    with AskTell(SPACE, "random_search", budget=20) as search:

        def work() -> None:
            for config in search:
                with lock:
                    seen.append(config)
                search.tell(config, time_of(config))

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for _ in range(4)]:
                done.result()
        assert search.done
    assert len(set(seen)) == 20
    assert {seen.count(config) for config in seen} == {1, 8}


def test_a_thread_waits_for_the_config_of_another() -> None:
    with AskTell(SPACE, "random_search", budget=1, exact=True) as search, ThreadPoolExecutor(1) as pool:
        first = search.ask()
        assert first is not None
        waiting = pool.submit(search.ask)
        search.tell(first, 1.0)
        assert waiting.result(60) is None


def test_a_failure_of_a_finalist_leaves_the_comparison_to_the_others() -> None:
    with AskTell(SPACE, "random_search", budget=5, seed=2) as search:
        seen = run(search, 5)
        best = min(seen, key=time_of)
        for config in search:
            search.tell(config, **({"failed": "crashed"} if config == best else {"time_ms": time_of(config)}))  # type: ignore[arg-type]
        assert search.best.config != best


@pytest.mark.parametrize("time_ms", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_a_failure(time_ms: float) -> None:
    with AskTell(SPACE, "random_search", budget=2, exact=True) as search:
        search.tell(search.ask() or {}, time_ms)
        run(search)
    assert search.result().counts == {"timed": 1, "invalid_time": 1}


def test_the_seconds_of_the_budget_end_a_loop() -> None:
    with AskTell(SPACE, "random_search", budget=Budget(seconds=0.2), seed=1) as search:
        run(search)
        assert search.done
        assert search.result().stopped in ("seconds", "strategy")  # the latter on a machine that is quick


def test_mistakes_are_named_with_their_remedy(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    search = AskTell(SPACE, "random_search", budget=3, journal=path)
    with pytest.raises(PlanError, match="give either time_ms"):
        search.tell({"x": 1, "y": 1})
    with pytest.raises(PlanError, match="give either time_ms"):
        search.tell({"x": 1, "y": 1}, 1.0, failed="no")
    with pytest.raises(PlanError, match="time_ms holds 'fast'"):
        search.tell({"x": 1, "y": 1}, ["fast"])  # type: ignore[list-item]
    with pytest.raises(PlanError, match="kind is 'odd'; give one of compile_error"):
        search.tell({"x": 1, "y": 1}, failed="no", kind="odd")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has x = 99"):
        search.tell({"x": 99, "y": 1}, 1.0)
    with pytest.raises(JournalError, match="exists; resume it"):
        AskTell(SPACE, journal=path)
    with pytest.raises(JournalError, match="another process is writing"):
        AskTell.resume(path)
    search.close()
    with pytest.raises(PlanError, match=r"was closed; go on with AskTell\.resume"):
        search.ask()
    other = tmp_path / "tune.jsonl"
    tune(SPACE, SimulatedEvaluator(HashedTable()), "random_search", budget=2, journal=other)
    with pytest.raises(JournalError, match="not by asking and telling"):
        AskTell.resume(other)
    with pytest.raises(JournalError, match=r"made by asking and telling; go on with AskTell\.resume"):
        resume(path, SimulatedEvaluator(HashedTable()))
    assert not [event for event in read_journal(path).events if not isinstance(event, Asked)]


def test_processes_that_attach_share_a_journal(tmp_path: Path) -> None:
    """Each asks or tells for a moment; what another one holds is handed out again only when nothing else is left."""
    path = tmp_path / "run.jsonl"
    AskTell(SPACE, "random_search", budget=3, journal=path, exact=True).close()

    def ask() -> Config | None:
        with AskTell.attach(path) as search:
            return search.ask()

    def tell(config: Config | None) -> None:
        with AskTell.attach(path) as search:
            search.tell(config or {}, time_of(config or Config()))

    asked = [ask() for _ in range(3)]
    assert len(set(asked)) == 3
    assert [ask(), ask()] == asked[:2], "nothing else can be asked for, so these are handed out again"
    for config in reversed(asked):
        tell(config)
    assert ask() is None
    assert replay(path).divergence is None

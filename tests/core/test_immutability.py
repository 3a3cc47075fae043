"""Immutable means immutable: values travel whole, arrays cannot be written to, threads and forks share one search."""

import copy
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from autotune import (
    STRATEGIES,
    Asked,
    Choice,
    Config,
    Integer,
    KernelConfig,
    ListOf,
    Measure,
    Observed,
    OptionalOf,
    Permutation,
    PowerOfTwo,
    Search,
    Space,
    Timed,
    advance,
    make_plan,
    request,
    result,
    start,
)
from autotune.core.history import Log, Points, Records
from autotune.core.keys import root, words
from autotune.core.memo import memo

DEFAULT = {"a": 1, "b": None, "c": [0, 1], "p": [0, 1, 2]}
SPACE = Space(
    {"a": Choice((1, 2, None)), "b": OptionalOf(PowerOfTwo(1, 8)), "c": ListOf(Integer(0, 3), 2), "p": Permutation(3)},
    ["a is None or a < 3"],
    default=DEFAULT,
)
SETTINGS = {"finite_search": {"configs": [DEFAULT, {**DEFAULT, "c": [1, 1]}, {**DEFAULT, "a": 2}]}}
COPIES: list[Callable[[Any], Any]] = [
    lambda value: pickle.loads(pickle.dumps(value)),
    copy.deepcopy,
    copy.copy,
]


def searched(name: str, steps: int = 12) -> Search:
    """A search of SPACE after some events."""
    search = start(make_plan(SPACE, name, settings=SETTINGS.get(name)))
    for _ in range(steps):
        task = request(search, 3)
        if not isinstance(task, Measure):
            break
        search = advance(search, Asked(search.clock, 3, task))
        for trial in task.trials:
            ms = 1 + int(trial.config.digest[:4], 16) / 1e4
            search = advance(search, Observed(search.clock + 0.1, trial.id, Timed((ms, ms * 1.01))))
    return search


@pytest.mark.parametrize("again", COPIES, ids=["pickle", "deepcopy", "copy"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_and_its_parts_travel_whole(name: str, again: Callable[[Any], Any]) -> None:
    search = searched(name)
    for value in (SPACE, search.plan, search.plan.strategy, search.trials[0].config, SPACE.parameters["b"]):
        assert again(value) == value
    assert again(SPACE).fingerprint == SPACE.fingerprint
    twin = again(search)
    assert request(twin, 3) == request(search, 3)
    assert result(twin) == result(search) == again(result(search))
    assert twin.points.rows.tolist() == search.points.rows.tolist()
    event = Observed(99.0, 0, Timed((0.5, 0.5)))
    assert request(advance(twin, event), 2) == request(advance(search, event), 2)


@pytest.mark.parametrize("again", COPIES, ids=["pickle", "deepcopy", "copy"])
def test_configs_travel(again: Callable[[Any], Any]) -> None:
    for config in (Config(a=1, b=[1, (2, None)]), KernelConfig(block_sizes=[16, 32], pid_type="flat", mine=[1])):
        assert again(config) == config
        assert type(again(config)) is type(config)


def test_a_search_travels_with_a_constraint_that_is_a_function() -> None:
    space = Space({"a": Integer(0, 9)}, [is_even])
    assert (
        pickle.loads(pickle.dumps(space)).rows().tolist()
        == space.rows().tolist()
        == copy.deepcopy(space).rows().tolist()
    )


def is_even(a: int) -> bool:
    return a % 2 == 0


def test_no_array_of_a_search_can_be_written_to() -> None:
    archive = searched("gaussian_process").archive
    names = ("latest", "arrived", "points", "trials", "ok", "time_ms", "walk", "generation", "compile_s")
    for array in (*(getattr(archive, name) for name in names), archive.records.array, archive.asked.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array


@pytest.mark.parametrize("name", ["random_search", "differential_evolution", "gaussian_process"])
def test_many_threads_advance_one_search(name: str) -> None:
    """Each takes the same value elsewhere, and gets what it would have got alone."""
    begun = searched(name, 3)

    def branch(i: int) -> Any:
        search = begun
        for step in range(20):
            search = advance(search, Observed(100.0 + step, step % 5, Timed((1.0 + i + step, 2.0 + i))))
        return search.archive.latest.tolist(), request(search, 2)

    alone = [branch(i) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(branch, [i % 4 for i in range(400)]))
    assert all(one == alone[i % 4] for i, one in enumerate(found))


def test_many_threads_extend_one_collection() -> None:
    for _ in range(20):
        logs, points, records = [Log([0])], [Points(2).append(np.zeros((1, 2), np.int64))], [Records()]
        gate = threading.Barrier(8)

        def extend(
            i: int, gate: threading.Barrier = gate, logs: Any = logs, points: Any = points, records: Any = records
        ) -> Any:
            gate.wait()
            log, point, record = logs[0], points[0], records[0]
            for step in range(50):
                log = log.append(i, step)
                point = point.append(np.array([[i, step + 1]]))
                record = record.append((i * 100 + step, True, 1.0, 1.0, 1.0, 0.0, 0, 0))
            return i, log, point, record

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(extend, range(8)))
        for i, log, point, record in found:
            assert list(log) == [0, *(x for step in range(50) for x in (i, step))]
            assert point.rows.tolist() == [[0, 0], *([i, step + 1] for step in range(50))]
            assert point.places(point.rows).tolist() == list(range(51))
            assert record.array["trial"].tolist() == [i * 100 + step for step in range(50)]


def test_threads_draw_the_same_numbers() -> None:
    alone = [words(root(seed), 50).tolist() for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: words(root(i % 16), 50).tolist(), range(2000)))
    assert all(one == alone[i % 16] for i, one in enumerate(found))


class Slow:
    @memo
    def value(self) -> int:
        """Computed in a while."""
        time.sleep(0.1)
        return 7


def test_a_process_forked_while_threads_search_does_not_hang() -> None:
    done, slow = threading.Event(), Slow()

    def draw() -> None:
        while not done.is_set():
            words(root(1), 1 << 16)

    threads = [threading.Thread(target=draw) for _ in range(3)] + [threading.Thread(target=lambda: slow.value)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                fine = len(words(root(2), 8)) == 8 and Slow().value == 7
                os._exit(0 if fine else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()

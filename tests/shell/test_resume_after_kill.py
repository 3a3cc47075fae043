"""kill -9 of a tuning process, at random journal lengths: the rest resumes, to the same result or without repeats."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from autotune import (
    Asked,
    Budget,
    CallableEvaluator,
    Compared,
    Failed,
    Measure,
    Observed,
    Permutation,
    PowerOfTwo,
    RandomSearch,
    Resumed,
    SimulatedEvaluator,
    Space,
    Timed,
    replay,
    resume,
    tune,
)
from autotune.core.keys import fold, root, uniform
from autotune.shell.journal import read_journal

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process"),
    pytest.mark.filterwarnings("ignore:.*is torn and was dropped"),
]

SPACE = Space(
    {
        "BLOCK": PowerOfTwo(16, 256, role="block_size"),
        "TILE": PowerOfTwo(4, 64, role="block_size"),
        "order": Permutation(3),
        "warps": PowerOfTwo(1, 8),
    },
    ["BLOCK >= 2 * TILE"],
    {"BLOCK": 64, "TILE": 16, "order": (0, 1, 2), "warps": 4},
)
KILLS = 50
PER_STRATEGY = {"random_search": 12, "pattern_search": 20, "differential_evolution": 18}
assert sum(PER_STRATEGY.values()) == KILLS
SETTINGS = {
    "random_search": {"count": 40},
    "pattern_search": {"initial_population": 12, "copies": 2, "max_generations": 3},
    "differential_evolution": {"population_size": 6, "max_generations": 4},
}
MACHINE = {"confirm_rounds": 3, "verify_rounds": 5, "simplify_rounds": 1}


class Table:
    """A recording of any config, read off its digest."""

    def outcome(self, config):
        fails, time_ms, compile_s = uniform(fold(root(1), config.digest), 3).tolist()
        if fails < 0.1:
            return Failed("run_error", "as recorded", compile_s, 0.01)
        return Timed((1 + time_ms,), compile_s, 0.05)

    def samples(self, config):
        outcome = self.outcome(config)
        if isinstance(outcome, Failed):
            return np.empty(0)
        return outcome.time_ms * (1 + 0.05 * uniform(fold(root(2), config.digest), 9))


class Slowly:
    """An evaluator whose polls take a few milliseconds more, so that a kill finds it at work."""

    def __init__(self, inner, seconds):
        self._inner, self._seconds = inner, seconds
        self.exact, self.recovers, self.describe = inner.exact, inner.recovers, inner.describe

    def open(self, space, past=()):
        session = self._inner.open(space, past)
        poll = session.poll

        def slow_poll(timeout_s=None):
            time.sleep(self._seconds)
            return poll(timeout_s)

        session.poll = slow_poll
        return session


def simulated():
    return SimulatedEvaluator(Table(), compile_workers=3, devices=2, noise="resample", seed=4)


def in_child(work):
    """The process id of a fork of this warm process that does `work` and exits at once."""
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def killed(path, length, work):
    """Kill a process that does `work` when its new journal has that length; another one if the first was too quick."""
    for _ in range(9):
        if killed_at(path, length, work):
            return
        path.unlink()
    pytest.fail("the process was always done before it could be killed")


def killed_at(path, length, work, patience_s=20.0):
    """Whether a process that did `work` was killed when its journal had that length: False if it was done before."""
    child = in_child(work)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size >= length:
            break
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def measured(events):
    return [event for event in events if isinstance(event, Asked | Observed | Compared)]


@pytest.mark.parametrize(
    "strategy",
    [
        "pattern_search",
        *(pytest.param(name, marks=pytest.mark.slow) for name in PER_STRATEGY if name != "pattern_search"),
    ],
)
def test_a_killed_simulated_search_resumes_to_the_same_result(strategy, tmp_path):
    def search(evaluator, path):
        return tune(
            SPACE, evaluator, strategy, budget=Budget(evaluations=70), seed=6, journal=path,
            settings={**SETTINGS[strategy], **MACHINE}, progress=False,
        )  # fmt: skip

    whole = tmp_path / "whole"
    found = search(simulated(), whole)
    events = read_journal(whole).events
    data = whole.read_bytes()
    begin = len(data.partition(b"\n")[0]) + 1
    rng, cut_short = random.Random(strategy), 0
    for i in range(PER_STRATEGY[strategy]):
        path = tmp_path / f"{i}"
        length = rng.randint(begin + 1, len(data) - 200)
        killed(path, length, lambda path=path: search(Slowly(simulated(), 0.003), path))
        left = read_journal(path).events
        cut_short += 0 < len(left) < len(events)
        if i % 3 == 0 and path.stat().st_size < len(data) - 500:  # and killed a second time, while it goes on
            later = rng.randint(path.stat().st_size + 100, len(data) - 200)
            killed_at(path, later, lambda path=path: resume(path, Slowly(simulated(), 0.003), progress=False))
        assert resume(path, simulated(), progress=False) == found
        again = read_journal(path).events
        assert measured(again) == measured(events)
        assert replay(path).divergence is None
    assert cut_short >= 0.9 * PER_STRATEGY[strategy], "most kills must find the search at work"


def counting(folder):
    """A `build` that notes each config it is called for, and in which process."""

    def build(config):
        with open(folder / "built", "a") as file:
            file.write(f"{config.digest} {os.getpid()}\n")
        time.sleep(0.004)
        return lambda: None

    return build


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_killed_search_of_real_functions_repeats_no_finished_evaluation(tmp_path):
    rng, kills = random.Random(3), 10

    def evaluator(folder):
        return CallableEvaluator(counting(folder), warmup_ms=0.0, target_ms=1.0, max_repeats=3)

    def search(folder):
        settings = {"confirm_times": 0, "verify_rounds": 0, "simplify_rounds": 0}
        return tune(
            SPACE, evaluator(folder), RandomSearch(count=25), seed=2, journal=folder / "journal", settings=settings,
            progress=False,
        )  # fmt: skip

    (tmp_path / "whole").mkdir()
    search(tmp_path / "whole")
    whole = (tmp_path / "whole" / "journal").read_bytes()
    begin = len(whole.partition(b"\n")[0]) + 400
    for i in range(kills):
        folder = tmp_path / f"{i}"
        folder.mkdir()
        path = folder / "journal"
        killed(path, rng.randint(begin, len(whole) * 9 // 10), lambda folder=folder: search(folder))
        left = read_journal(path).events
        configs = [
            t.config for e in left if isinstance(e, Asked) and isinstance(e.task, Measure) for t in e.task.trials
        ]
        finished = {configs[event.trial].digest for event in left if isinstance(event, Observed)}
        lines = (folder / "built").read_text().split("\n")[:-1]
        resume(path, evaluator(folder), progress=False)
        after = (folder / "built").read_text().split("\n")[len(lines) : -1]
        assert not finished & {line.split()[0] for line in after}, "a finished evaluation was repeated"
        events = read_journal(path).events
        assert events[: len(left)] == left
        assert isinstance(events[len(left)], Resumed)
        done = Counter(event.trial for event in events if isinstance(event, Observed))
        assert set(done) == set(range(25))
        assert set(done.values()) == {1}
        assert replay(path).divergence is None
        until = time.monotonic() + 10
        workers = {int(line.split()[1]) for line in lines}
        while not all(map(gone, workers)):
            assert time.monotonic() < until, "a worker outlives the process that was killed"
            time.sleep(0.01)

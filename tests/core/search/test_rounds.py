"""Comparisons: every evaluator that times configs in turns keeps to the order that the core says, round by round."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import CallableEvaluator, Config, Timed
from autotune.backends.triton import messages
from autotune.backends.triton.comparison import TritonComparison
from autotune.backends.triton.jobs import SessionRules
from autotune.backends.triton.timing import WorkloadObjective
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare, Compared
from autotune.core.search.rounds import EXTRA_S, EXTRA_TIMES, is_decided, next_round, order_of_round, rounds_of
from tests.backends.triton.test_comparison import FakeProcesses

COUNT, ROUNDS = 4, 9
TRIALS = tuple(Trial(10 + i, Config(n=i)) for i in range(COUNT))
SLOW_MS = 1.0


def task_with(order: int | None) -> Compare:
    return Compare(TRIALS, ROUNDS, "verify", order=order)


def outcomes_of(session: Any, task: Compare) -> dict[int, Any]:
    with session:
        session.compare(task)
        events: Sequence[Any] = ()
        while not events:
            events = session.poll(1.0)
    (event,) = events
    assert isinstance(event, Compared)
    assert [i for i, _ in event.outcomes] == [trial.id for trial in task.trials]
    return dict(event.outcomes)


def in_process(task: Compare, tmp_path: Path) -> list[int]:
    ran: list[int] = []

    def build(config: Config) -> Callable[[], int]:
        return lambda: config["n"]

    def timer(call: Callable[[], Any]) -> float:
        ran.append(call())
        return SLOW_MS

    tool = CallableEvaluator(build, isolation="in_process", timer=timer)
    outcomes_of(tool.open(None), task)  # type: ignore[arg-type]
    return ran


def in_workers(task: Compare, tmp_path: Path) -> list[int]:
    log = str(tmp_path / "ran")

    def build(config: Config) -> Callable[[], int]:
        return lambda: config["n"]

    def timer(call: Callable[[], Any]) -> float:
        with open(log, "a") as file:
            file.write(f"{call()}\n")
        return 1.0

    outcomes_of(CallableEvaluator(build, timer=timer).open(None), task)  # type: ignore[arg-type]
    return [int(line) for line in Path(log).read_text().splitlines()]


def on_a_gpu(task: Compare, tmp_path: Path) -> list[int]:
    """By the process of a GPU, which is made up here."""
    processes, ran = FakeProcesses(), []
    rules = SessionRules(compile_timeout_s=60.0, run_timeout_s=30.0, objective=WorkloadObjective(), names=("0",))
    comparison = TritonComparison(task, processes, lambda: 0.0, rules, lambda times: times[0])  # type: ignore[arg-type]
    (gpu,) = processes.gpu_pools
    while comparison.advance() is None:
        order = gpu.orders.pop()
        if isinstance(order, messages.SampleOrder):
            ran.append(order.slot)
            comparison.receive(gpu, messages.SampleReply((SLOW_MS + order.slot,), 0.0))  # type: ignore[arg-type]
        else:
            comparison.receive(gpu, messages.PrepareReply(0.0))  # type: ignore[arg-type]
    return ran


def with_do_bench(task: Compare, tmp_path: Path) -> list[int]:
    """As `@autotune.triton` times with a `do_bench` of the user's."""
    pytest.importorskip("triton")
    from autotune.backends.triton_decorator.do_bench import DoBenchBenchmark

    ran: list[int] = []

    class Still:
        def __init__(self) -> None:
            self.named: dict[str, Any] = {}

        compared = False

        def reset(self) -> None:
            pass

        def clear(self) -> None:
            pass

        def find_fault(self, returned: Any) -> None:
            return None

    class Launcher:
        def __init__(self) -> None:
            self.constants: dict[str, Any] = {}

        def __call__(self, config: Config) -> Callable[..., None]:
            return lambda **named: ran.append(config["n"])

        def values(self, config: Config) -> dict[str, Any]:
            return {}

    def do_bench(call: Callable[[], Any], quantiles: Sequence[float]) -> list[float]:
        call()
        return [SLOW_MS] * 3

    benchmark = DoBenchBenchmark(launcher=Launcher(), prepared=Still(), do_bench=do_bench, device="cpu")  # type: ignore[arg-type]
    processes = FakeProcesses()
    rules = SessionRules(
        compile_timeout_s=60.0, run_timeout_s=30.0, objective=WorkloadObjective(), names=("0",), extends=False
    )
    comparison = TritonComparison(task, processes, lambda: 0.0, rules, lambda times: times[0])  # type: ignore[arg-type]
    (gpu,) = processes.gpu_pools
    while comparison.advance() is None:
        order = gpu.orders.pop()
        before = len(ran)
        comparison.receive(gpu, benchmark.obey(order))
        if not isinstance(order, messages.SampleOrder):
            del ran[before:]
    return ran


def in_helion(task: Compare, tmp_path: Path) -> list[int]:
    pytest.importorskip("helion")
    from autotune.backends.helion.benchmarks import WARM_UPS, side_by_side

    ran: list[int] = []

    def sample(i: int, runs: int) -> float:
        ran.append(i)
        return SLOW_MS

    outcomes = side_by_side(sample, lambda number: order_of_round(task, number), task.rounds)
    assert all(isinstance(outcome, Timed) and len(outcome.times_ms) == ROUNDS for outcome in outcomes)
    return ran[WARM_UPS * COUNT :]


ENGINES = {made.__name__: made for made in (in_process, in_workers, on_a_gpu, with_do_bench, in_helion)}


@pytest.mark.parametrize("order", [None, 7, 8])
@pytest.mark.parametrize("engine", ENGINES)
def test_runs_are_in_the_order_that_the_core_says(engine: str, order: int | None, tmp_path: Path) -> None:
    task = task_with(order)
    ran = ENGINES[engine](task, tmp_path)
    assert ran == [i for number in range(ROUNDS) for i in order_of_round(task, number)]
    assert (ran == list(range(COUNT)) * ROUNDS) is (order is None), "a key gives each round an order of its own"


def test_helion_configs_that_come_to_the_same_run_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("helion")
    from autotune.backends.helion import benchmarks

    asked: list[Any] = []

    def compare(search: Any, members: Sequence[Any], rounds: int, seconds: Any, order: Callable[[int], Any]) -> Any:
        asked.extend((members, [order(number) for number in range(rounds)]))
        return [Timed((float(i + 1),)) for i in range(len(members))]

    class Members(benchmarks.BenchmarkRecord):
        def __init__(self) -> None:
            self.search, self._seconds = None, None

        def member(self, config: Config) -> Any:
            return SAME[config["n"] % 2]

    SAME = (object(), object())
    monkeypatch.setattr(benchmarks, "compare_members", compare)
    task = task_with(3)
    found = dict(Members().compare(task))
    assert [found[trial.id].times_ms for trial in TRIALS] == [(1.0,), (2.0,), (1.0,), (2.0,)]
    members, orders = asked
    assert members == list(SAME)
    assert orders == [list(dict.fromkeys(i % 2 for i in order_of_round(task, n))) for n in range(ROUNDS)]
    assert {tuple(order) for order in orders} == {(0, 1), (1, 0)}


def test_every_order_comes_about_as_often_as_any_other() -> None:
    task = Compare(TRIALS[:3], 1, "verify", order=5)
    orders = [order_of_round(task, number) for number in range(6000)]
    counts = np.array([orders.count(order) for order in sorted(set(orders))])
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-squared of 5 degrees is above that once in 1,000


def test_a_comparison_that_is_looked_at_after_every_round_seldom_ends_by_chance() -> None:
    """Equal configs, up to five times the rounds asked for: the interval that is reported at the end still holds."""
    draws = np.random.default_rng(3)
    wrong = 0
    for _ in range(300):
        times = np.exp(0.004 * draws.normal(size=(2, 105)))
        rounds = next((n for n in range(21, 105, 4) if is_decided(times[:, :n].tolist())), 105)
        low, high = interval(times[:, :rounds])
        wrong += low > 1 or high < 1
    assert wrong <= 0.06 * 300


def interval(times: np.ndarray) -> tuple[float, float]:
    from autotune.core.statistics import paired_ratio

    ratio = paired_ratio(*times.tolist())
    return ratio.low, ratio.high


def rounds_done(task: Compare, extend: bool, seconds: float, sample: Callable[[int], float]) -> int:
    """How many rounds of two configs the core asks for, where each round takes so many seconds."""
    rounds, done, samples = rounds_of(task, extend), 0, ([], [])  # type: ignore[var-annotated]
    while (begun := next_round(rounds, done, done * seconds, samples)) is not None:
        rounds, done = begun, done + 1
        samples[0].append(1.0)
        samples[1].append(sample(done))
    return done


def test_the_core_decides_when_rounds_end() -> None:
    task = task_with(3)
    until = Compare(TRIALS, ROUNDS, "verify", until=4.5)
    noisy = [1.0 + 0.2 * (-1) ** i for i in range(100)]
    assert rounds_done(task, False, 0.0, lambda _: 2.0) == ROUNDS
    assert rounds_done(task, True, 0.0, lambda _: 2.0) == ROUNDS, "it is decided"
    assert rounds_done(task, True, 0.0, noisy.__getitem__) == EXTRA_TIMES * ROUNDS
    assert rounds_done(task, True, 1.0, noisy.__getitem__) == ROUNDS + EXTRA_S + 1, "no more than some seconds"
    assert rounds_done(until, False, 1.0, lambda _: 2.0) == 4, "the fifth round would end after 4.5 s"
    assert rounds_done(until, False, 100.0, lambda _: 2.0) == 1, "the first one always begins"

"""How long a comparison goes on: until it is decided which is the fastest, or that it does not matter."""

from collections.abc import Callable
from typing import Any

import pytest

from autotune import Config, Timed
from autotune.backends.triton import messages
from autotune.backends.triton.comparison import TritonComparison
from autotune.backends.triton.jobs import SessionRules
from autotune.backends.triton.timing import WorkloadObjective
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import EXTRA_S, EXTRA_TIMES
from autotune.core.statistics import median_interval

ROUNDS = 20
RULES = SessionRules(compile_timeout_s=60.0, run_timeout_s=30.0, objective=WorkloadObjective(), names=("0",))


class FakeGpuPool(list[Any]):
    """The one process of a GPU, and its pool, which holds it."""

    def __init__(self) -> None:
        super().__init__([self])
        self.orders: list[messages.TritonOrder] = []

    def __eq__(self, other: object) -> bool:
        return self is other

    def send(self, worker: Any, order: messages.TritonOrder, timeout_s: float) -> None:
        self.orders.append(order)


class FakeProcesses:
    """Nothing is compiled, and the GPU is always free."""

    compile_pool = None

    def __init__(self) -> None:
        self.gpu_pools = [FakeGpuPool()]

    def idle_compiler(self) -> None:
        return None

    def start_compilers(self, needed: int) -> None:
        pass

    def gpu_worker(self, i: int, fresh: bool = False) -> FakeGpuPool:
        return self.gpu_pools[i]


def compared(time: Callable[[int, int], float], count: int, second: float = 0.0, until: float | None = None) -> Any:
    """The samples of each config. time: of a config in a round. second: how many seconds each sample takes."""
    now, rounds = [0.0], dict.fromkeys(range(count), 0)
    processes = FakeProcesses()
    task = Compare(tuple(Trial(i, Config(n=i)) for i in range(count)), ROUNDS, "verify", until)
    comparison = TritonComparison(task, processes, lambda: now[0], RULES, lambda times: times[0])  # type: ignore[arg-type]
    (gpu,) = processes.gpu_pools
    verified: list[int] = []
    while (outcomes := comparison.advance()) is None:
        order = gpu.orders.pop()
        if isinstance(order, messages.VerifyOrder):
            verified.append(order.slot)
        if isinstance(order, messages.PrepareOrder | messages.VerifyOrder):
            comparison.receive(gpu, messages.PrepareReply(0.0))  # type: ignore[arg-type]
        elif isinstance(order, messages.SampleOrder):
            now[0] += second
            ms = time(order.slot, rounds[order.slot])
            rounds[order.slot] += 1
            comparison.receive(gpu, messages.SampleReply((ms,), 0.0))  # type: ignore[arg-type]
    assert isinstance(gpu.orders.pop(), messages.ForgetOrder)
    assert verified == list(range(count)), "each is checked once more after its last sample"
    timed = [outcome for _, outcome in outcomes if isinstance(outcome, Timed)]
    assert len({len(outcome.times_ms) for outcome in timed}) == 1
    return [outcome.times_ms for outcome in timed], now[0]


def noisy(difference: float, noise: float) -> Callable[[int, int], float]:
    """Config i takes 1 + i * difference, and every sample is off by up to `noise`, without being drawn."""
    return lambda i, n: 1 + i * difference + noise * ((n * (7 + 4 * i) + 3 * i) % 17 - 8) / 8


def test_no_more_than_asked_for_where_it_is_clear() -> None:
    times, _ = compared(noisy(0.05, 0.004), 3)
    assert len(times[0]) == ROUNDS


def test_more_rounds_until_the_difference_is_resolved() -> None:
    """0.4 % are not told apart in the rounds that were asked for, and are in some more."""
    times, _ = compared(noisy(0.004, 0.009), 2)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    assert median_interval(ratios[:ROUNDS])[0] <= 1 < median_interval(ratios)[0]
    assert ROUNDS < len(ratios) < EXTRA_TIMES * ROUNDS


def test_a_tie_is_declared_where_the_difference_is_certainly_nothing() -> None:
    times, _ = compared(noisy(0.0, 0.001), 2)
    assert ROUNDS <= len(times[0]) < EXTRA_TIMES * ROUNDS


def test_what_cannot_be_resolved_is_given_up() -> None:
    times, _ = compared(noisy(0.0, 0.2), 2)
    assert len(times[0]) == EXTRA_TIMES * ROUNDS


def test_slow_kernels_are_not_measured_on_for_minutes() -> None:
    times, took = compared(noisy(0.0, 0.2), 2, second=1.0)
    assert ROUNDS < len(times[0]) < EXTRA_TIMES * ROUNDS
    assert took <= 2 * ROUNDS + EXTRA_S + 4


@pytest.mark.parametrize("until", [9.0, 60.0])
def test_no_round_is_begun_that_would_end_too_late(until: float) -> None:
    _, took = compared(noisy(0.0, 0.2), 2, second=1.0, until=until)
    assert took <= until

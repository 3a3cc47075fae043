"""The GPU worker: configs are checked, warmed up, timed and checked again, here by the interpreter's device."""

from typing import Any

import pytest

from autotune import ArgumentSet, EvaluatorError
from autotune.backends.triton import messages

torch = pytest.importorskip("torch")

from autotune.backends.triton.gpu_worker import GpuBenchmark, TimingOptions  # noqa: E402
from autotune.backends.triton.kernel import Launch  # noqa: E402
from autotune.backends.triton.prepared_arguments import CheckSpec  # noqa: E402
from autotune.backends.triton.timing import (  # noqa: E402
    HostDevice,
    TimingSchedule,
    WorkloadObjective,
)
from tests.backends.triton.gpu_benchmark import FAST, benchmark, measure, vectors, verdict  # noqa: E402


def fill(x: Any, out: Any) -> None:
    out.copy_(x * 2)


def test_outputs_are_checked_and_must_be_written() -> None:
    spec: dict[str, Any] = {"reference": lambda x, out: x * 2, "outputs": (1,)}
    assert verdict(fill, vectors, **spec) == "timed"
    assert "4 of 8 elements (50.00%) of 1 are wrong, 4 are NaN" in verdict(
        lambda x, out: out[:4].copy_(x[:4] * 2), vectors, **spec
    )
    assert "8 are NaN" in verdict(lambda x, out: None, vectors, **spec)
    assert "the largest error is 7" in verdict(lambda x, out: out.copy_(x * 3), vectors, **spec)
    assert "the output is tuple of length 2 where the reference has a tensor" in verdict(
        lambda x, out: (x, x), vectors, reference=lambda x, out: x * 2
    )


def test_an_output_of_integers_is_poisoned_as_well() -> None:
    def arguments() -> tuple[Any, ...]:
        return torch.arange(8), torch.zeros(8, dtype=torch.int64)

    assert verdict(fill, arguments, reference=lambda x, out: x * 2, outputs=(1,)) == "timed"
    assert "1 of 8 elements" in verdict(
        lambda x, out: out[1:].copy_(x[1:] * 2), arguments, reference=lambda x, out: x * 2, outputs=(1,)
    ), "what should be zero must be written, too"


def test_memory_of_an_earlier_result_does_not_pass_for_an_answer() -> None:
    kept: list[Any] = []

    def sometimes(x: Any, out: Any) -> Any:
        if not kept:
            kept.append(x * 2)
        return kept[0]

    tool = benchmark(sometimes, vectors, reference=lambda x, out: x * 2)
    for _ in range(2):
        told = measure(tool)
        assert isinstance(told, messages.Refused), "it returned what was there"
        assert told.failed.kind == "wrong_answer"


def test_a_changed_argument_is_an_error_unless_it_is_declared() -> None:
    def accumulate(x: Any, out: Any) -> None:
        out += x
        x += 1

    def reference(x: Any, out: Any) -> Any:
        return x.clone()

    said = verdict(accumulate, vectors, reference=reference, outputs=(1,), reset_to_zero=(1,))
    assert "it changed its argument '0': name it in outputs, restore_value or reset_to_zero" in said
    assert (
        verdict(accumulate, vectors, reference=reference, outputs=(1,), reset_to_zero=(1,), restore_value=(0,))
        == "timed"
    )
    assert verdict(accumulate, vectors) == "timed", "nothing is asked where nothing is declared"


def test_an_argument_that_is_put_into_another_order_has_changed() -> None:
    def shuffling(x: Any, out: Any) -> None:
        out.copy_(x.sort().values)
        x.copy_(x.flip(0))

    def arguments() -> tuple[Any, ...]:
        return torch.rand(9001), torch.empty(9001)

    said = verdict(shuffling, arguments, reference=lambda x, out: x.sort().values, outputs=(1,))
    assert "it changed its argument '0'" in said


def test_a_reference_that_works_in_place_says_what_is_written() -> None:
    def halve(x: Any, out: Any) -> None:
        x /= 2
        out.fill_(1)

    assert verdict(halve, vectors, reference=halve) == "timed", "x is restored before every run"
    assert "wrong" in verdict(lambda x, out: x.div_(3), vectors, reference=halve)
    with pytest.raises(EvaluatorError, match="changed no argument"):
        benchmark(halve, vectors, reference=lambda x, out: None)


def test_every_run_finds_what_it_should() -> None:
    """The hooks, the zeros and the restored value: seen by the kernel at each of its runs."""
    seen: list[tuple[float, float]] = []
    hooks: list[str] = []

    def kernel(x: Any, out: Any) -> None:
        seen.append((float(x[1]), float(out[1])))
        hooks.append("run")
        x += 1
        out += 1

    spec: dict[str, Any] = {
        "restore_value": (0,), "reset_to_zero": (1,), "pre_hook": lambda named: hooks.append("pre " + ",".join(named)),
        "post_hook": lambda named: hooks.append("post"),
    }  # fmt: skip
    assert verdict(kernel, vectors, **spec) == "timed"
    assert len(seen) > 4
    assert set(seen) == {(1.0, 0.0)}
    assert hooks[:3] == ["pre 0,1", "run", "post"]
    assert abs(hooks.count("run") - hooks.count("post")) <= 2


def test_bits_may_have_to_repeat() -> None:
    rounds = iter(range(100))
    tool = benchmark(lambda x, out: out.copy_(x * 2 + 1e-6 * next(rounds)), vectors, True, outputs=(1,))
    answer = measure(tool)
    assert isinstance(answer, messages.Refused)
    assert "two runs differ in 8 of 8 elements" in answer.failed.message
    signs = iter([0.0, -0.0] * 50)
    tool = benchmark(lambda x, out: out.fill_(next(signs)), vectors, True, outputs=(1,))
    assert isinstance(measure(tool), messages.Refused), "the sign of a zero is a bit"
    tool = benchmark(lambda x, out: (x.sum(), 3), vectors, True, reference=lambda x, out: (x.sum(), 3))
    assert isinstance(measure(tool), messages.MeasureReply), "a number is no tensor"


def test_an_overwritten_expectation_is_not_taken_for_a_wrong_answer() -> None:
    expected = torch.ones(8)

    def vandal(x: Any, out: Any) -> None:
        expected.zero_()
        out.fill_(1)

    tool = benchmark(vandal, vectors, reference=expected, outputs=(1,))
    answer = measure(tool)
    assert isinstance(answer, messages.Refused)
    assert answer.spoilt
    assert answer.suspect


def test_checkers() -> None:
    spec: dict[str, Any] = {"reference": lambda x, out: 1, "outputs": (1,)}
    assert verdict(fill, vectors, checker=lambda out, one: bool(out[one] == 2), **spec) == "timed"
    assert verdict(fill, vectors, checker=lambda out, one: "too dark", **spec).endswith("too dark")
    assert "returned None" in verdict(fill, vectors, checker=lambda out, one: None, **spec)
    assert "the checker raised ZeroDivisionError" in verdict(fill, vectors, checker=lambda out, one: 1 / 0, **spec)


def test_configs_far_behind_are_cut_off() -> None:
    tool = benchmark(lambda x, out: None, [ArgumentSet(vectors), ArgumentSet(vectors)])
    answer = measure(tool, cutoff_ms=1e-9)
    assert isinstance(answer, messages.MeasureReply)
    assert answer.cut
    assert [len(times) for times in answer.times_ms] == [3, 3]
    answer = measure(tool, cutoff_ms=1e9)
    assert isinstance(answer, messages.MeasureReply)
    assert not answer.cut


class Steady(HostDevice):
    """Every run takes a millisecond, however busy the machine is."""

    def time(self, call: Any, count: int, before: Any, cold: bool) -> list[float]:
        return [1.0 for _ in super().time(call, count, before, cold)]


def test_configs_behind_are_timed_with_few_runs_and_those_near_the_best_in_full() -> None:
    schedule = TimingSchedule(warmup_ms=0.0, target_ms=30.0, min_repeats=5, max_repeats=200)
    tool = benchmark(lambda x, out: None, vectors, schedule=schedule, device=Steady())
    behind = measure(tool, cutoff_ms=1e9, budget_s=600.0, near_ms=1e-9)
    near = measure(tool, cutoff_ms=1e9, budget_s=600.0, near_ms=1e9)
    assert isinstance(behind, messages.MeasureReply)
    assert isinstance(near, messages.MeasureReply)
    assert not behind.cut
    assert behind.details["runs"] == 5
    assert near.details["runs"] == 30


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(EvaluatorError, match=r"outputs has 2, and the arguments are 0, 1"):
        benchmark(fill, vectors, outputs=(2,))
    with pytest.raises(EvaluatorError, match=r"restore_value has 'n', which is no tensor"):
        benchmark(fill, lambda: {"n": 3}, restore_value=("n",))


class Telling(HostDevice):
    """Writes down whether the cache is to be cleared, and which arguments a run gets."""

    gpu = messages.Gpu(name="small", l2_bytes=64)

    def __init__(self) -> None:
        self.cold: set[bool] = set()

    def time(self, call: Any, count: int, before: Any, cold: bool) -> list[float]:
        self.cold.add(cold)
        return super().time(call, count, before, cold)


@pytest.mark.parametrize(
    ("spec", "rotated"), [({}, 3), ({"restore_value": (0,)}, 1), ({"pre_hook": lambda named: None}, 1)]
)
def test_what_cannot_be_rotated_is_timed_with_a_cleared_cache(spec: dict[str, Any], rotated: int) -> None:
    device, seen = Telling(), set()

    def kernel(x: Any, out: Any) -> None:
        seen.add(x.data_ptr())

    given = [ArgumentSet(vectors)]
    tool = GpuBenchmark(
        device,
        Launch(build=lambda c: kernel),
        None,
        given,
        CheckSpec(**spec),
        WorkloadObjective(),
        TimingOptions(FAST, "rotate"),
    )
    assert isinstance(measure(tool), messages.MeasureReply)
    assert len(seen) == rotated
    assert device.cold == {rotated == 1}


def test_what_is_wrong_from_its_second_run_on_is_refused() -> None:
    runs: list[int] = []

    def lazy(x: Any, out: Any) -> None:
        runs.append(0)
        out.copy_(x * 2 if len(runs) < 3 else x)

    assert "wrong after it was timed" in verdict(lazy, vectors, reference=lambda x, out: x * 2, outputs=(1,))

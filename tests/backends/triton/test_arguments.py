"""What a config finds in its arguments, and what is said of what it leaves there: in this process, on CPU tensors."""

from collections.abc import Callable
from typing import Any

import pytest

from autotune import ArgumentSet, EvaluatorError
from autotune.backends.triton import messages

torch = pytest.importorskip("torch")

from autotune.backends.triton.arguments import describe_arguments, make_arguments, make_stand_ins  # noqa: E402
from autotune.backends.triton.gpu_worker import GpuBenchmark, TimingOptions  # noqa: E402
from autotune.backends.triton.kernel import Launch  # noqa: E402
from autotune.backends.triton.meta_tensors import without_memory  # noqa: E402
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments  # noqa: E402
from autotune.backends.triton.timing import (  # noqa: E402
    HostDevice,
    Objective,
    TimingSchedule,
)
from autotune.shell.evaluators import checking, tensors  # noqa: E402
from autotune.shell.evaluators.checking import ExpectedLeaf, Tolerance  # noqa: E402

FAST = TimingSchedule(warmup_ms=0.0, target_ms=0.0, min_repeats=3, max_repeats=3)


def benchmark(
    function: Callable[..., Any],
    arguments: Any,
    repeatable: bool = False,
    schedule: TimingSchedule = FAST,
    device: HostDevice | None = None,
    **spec: Any,
) -> GpuBenchmark:
    launch = Launch(build=lambda config: function)
    given = arguments if isinstance(arguments, list) else [ArgumentSet(arguments)]
    return GpuBenchmark(
        device or HostDevice(), launch, None, given, CheckSpec(**spec), Objective(weights=(1.0,) * len(given)),
        TimingOptions(schedule, repeatable=repeatable),
    )  # fmt: skip


def measure(tool: GpuBenchmark, **limits: Any) -> messages.MeasureReply | messages.Refused:
    return tool.measure(messages.MeasureOrder(config="{}", **{"cutoff_ms": None, "budget_s": 10.0, **limits}))


def verdict(function: Callable[..., Any], arguments: Any, **spec: Any) -> str:
    """ "timed", or the kind of failure and its message."""
    answer = measure(benchmark(function, arguments, **spec))
    if isinstance(answer, messages.MeasureReply):
        return "timed"
    assert isinstance(answer, messages.Refused)
    return f"{answer.failed.kind}: {answer.failed.message}"


def vectors() -> tuple[Any, ...]:
    return torch.arange(8.0), torch.zeros(8)


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


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int8, torch.float64])
@pytest.mark.parametrize("count", [2, 5, tensors.COLUMNS, 3 * tensors.COLUMNS + 7])
def test_a_checksum_tells_where_values_are(kind: Any, count: int) -> None:
    one = (torch.arange(count) % 100).to(kind)
    before = tensors.compute_checksums({"x": one})
    assert tensors.compute_checksums({"x": one.clone()}) == before
    for i, j in ((0, count - 1), (0, 1), (count // 2, count - 1)):
        swapped = one.clone()
        swapped[i], swapped[j] = one[j], one[i]
        assert (tensors.compute_checksums({"x": swapped}) == before) == torch.equal(swapped, one)
        raised = one.clone()
        raised[i] += 1
        assert tensors.compute_checksums({"x": raised}) != before
    whole = torch.zeros(4 * tensors.COLUMNS, 512)
    whole[0, 0] = 1.0  # by places that are powers of two apart, and values that differ in high bits alone
    there = torch.zeros(4 * tensors.COLUMNS, 512)
    there[2 * tensors.COLUMNS, 0] = 1.0
    assert tensors.compute_checksums({"x": whole}) != tensors.compute_checksums({"x": there})


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


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[1::2],
        torch.arange(4.0).expand(3, 4),
        torch.empty(0, 3),
        torch.arange(6, dtype=torch.int16)[3:],
        torch.tensor(3.0),
    ],
    ids=["transposed", "strided", "expanded", "empty", "misaligned", "scalar"],
)
def test_copies_keep_strides_and_alignment(tensor: Any) -> None:
    copy = tensors.copy_tensor(tensor)
    assert copy.stride() == tensor.stride()
    assert copy.shape == tensor.shape
    assert torch.equal(copy, tensor)
    if tensor.numel():
        assert copy.data_ptr() % 256 == tensor.data_ptr() % 256
        assert copy.data_ptr() != tensor.data_ptr()
        before = tensors.compute_checksums({"x": tensor})
        assert tensors.compute_checksums({"x": copy}) == before
        tensor.select(0, 0).fill_(9) if tensor.dim() else tensor.fill_(9)
        assert tensors.compute_checksums({"x": tensor}) != before


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
)
def test_poison_is_never_zero(kind: Any) -> None:
    tensor = torch.zeros(5, dtype=kind)
    tensors.poison(tensor)
    assert bool(tensor.view(torch.uint8).any())


def test_small_arguments_are_rotated() -> None:
    stage = PreparedArguments(ArgumentSet(vectors), Launch(build=lambda config: fill), CheckSpec())
    copies = stage.copies(64)
    assert len(copies) == 3, "64 bytes of arguments, and the cache should be filled twice by others"
    assert len({named["0"].data_ptr() for named in copies}) == 3
    assert len(stage.copies(0)) == 1


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
        Objective(),
        TimingOptions(FAST, "rotate"),
    )
    assert isinstance(measure(tool), messages.MeasureReply)
    assert len(seen) == rotated
    assert device.cold == {rotated == 1}


@pytest.mark.parametrize("returns", ["new", "its argument"])
def test_without_memory_on_the_device_copies_are_kept_on_the_host(
    returns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors themselves are lent to the reference, and get their values back."""
    copied, hosted = tensors.copy_tensor, []

    def full(tensor: Any, device: str | None = None, pinned: bool = False) -> Any:
        if device is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        hosted.append(tensor)
        return copied(tensor, device)

    monkeypatch.setattr(tensors, "copy_tensor", full)

    def both(x: Any, out: Any) -> Any:
        x.add_(1)
        return out + x if returns == "new" else out.copy_(x)

    x, out = vectors()
    stage = PreparedArguments(
        ArgumentSet((x, out)),
        Launch(build=lambda config: fill),
        CheckSpec(reference=both, outputs=("1",), restore_value=("1",)),
    )
    assert torch.equal(x, torch.arange(8.0)), "the reference has changed it"
    assert len(hosted) == 3 + (returns != "new")
    out.fill_(5)
    stage.clear()
    assert torch.equal(out, torch.zeros(8))
    assert torch.equal(stage._check.leaves[0].value, torch.arange(8.0) + 1)
    assert stage.find_fault(out.copy_(x + 1)) is None


def test_tolerances() -> None:
    expected = torch.full((100,), 2.0)
    off = expected + 0.003

    def answer(output: Any, **settings: Any) -> Any:
        return ExpectedLeaf(expected.to(output.dtype), Tolerance(**settings), "it").mismatch(output)

    assert answer(off) is None, "within twice a thousandth of 2"
    assert answer(off, rtol=1e-3) is not None
    assert answer(off, rtol=1e-3, atol=1e-2) is None
    assert answer(off, bitwise=True) is not None
    assert answer(expected.clone(), bitwise=True) is None
    assert answer(off.double()) is not None, "doubles are held to more"
    assert answer((expected + 0.02).bfloat16()) is None
    assert answer(expected + 0.006) is not None
    assert answer(expected + 0.006, reduction=1 << 14) is None, "many terms, more rounding"
    few = expected.clone()
    few[:2] = 7
    assert answer(few, allowed=0.01) is not None
    assert answer(few, allowed=0.02) is None
    both = torch.tensor([float("nan"), float("inf")])
    assert ExpectedLeaf(both.clone(), Tolerance(), "it").mismatch(both) is None
    assert "1 are NaN" in ExpectedLeaf(torch.tensor([0.0, float("inf")]), Tolerance(), "it").mismatch(both)[0]
    assert "has type" in ExpectedLeaf(both.double(), Tolerance(), "it").mismatch(both)[0]


@pytest.mark.parametrize("bitwise", [False, True])
def test_what_is_not_contiguous_is_compared_in_pieces(bitwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of the whole is made, and every element is looked at once."""
    monkeypatch.setattr(checking, "CHUNK", 50)
    expected = torch.randn(7, 30, 11)
    laid_out = (
        expected.clone(),
        expected.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        torch.empty(7, 60, 11)[:, ::2].copy_(expected),
    )
    for output in laid_out:
        largest = max(piece.numel() for piece, _ in checking.pieces(output, expected))
        assert largest <= 50
        assert sum(piece.numel() for piece, _ in checking.pieces(output, expected)) == expected.numel()
        assert ExpectedLeaf(expected, Tolerance(bitwise=bitwise), "it").mismatch(output) is None
        output = output.clone(memory_format=torch.preserve_format)
        output[3, 20, 5] = output[6, 29, 10] = 99.0
        told = ExpectedLeaf(expected, Tolerance(bitwise=bitwise), "it").mismatch(output)
        assert told is not None
        assert told[0].startswith("2 of 2310 elements")
        assert checking.count_bit_differences(output, expected) == 2
    empty = torch.zeros(0, 3)
    assert list(checking.pieces(empty, empty)) == []


def test_stand_ins_are_what_the_dispatcher_sees() -> None:
    real = {"a": torch.arange(8.0)[1:], "b": torch.zeros(3, 4).T, "n": 16, "s": 0.5, "none": None, "flag": True}
    seen = make_stand_ins(describe_arguments(real))
    for name in ("a", "b"):
        assert seen[name].is_meta
        assert seen[name].data_ptr() % 16 == real[name].data_ptr() % 16
        assert (seen[name].stride(), seen[name].dtype) == (real[name].stride(), real[name].dtype)
    assert {name: seen[name] for name in ("n", "s", "none", "flag")} == {"n": 16, "s": 0.5, "none": None, "flag": True}
    with pytest.raises(ValueError, match=r"'x' \(object\) has no stand-in"):
        make_stand_ins(describe_arguments({"x": object()}))


def test_arguments_are_made_without_memory_or_gpu() -> None:
    def arguments() -> tuple[Any, ...]:
        x = torch.randn(1 << 20, 1 << 20, device="cuda")
        assert x.is_cuda
        assert x.device.type == "cuda"
        drawn = torch.rand((3, 4), dtype=torch.float64, generator=torch.Generator(), pin_memory=False)
        assert (drawn.shape, drawn.dtype) == ((3, 4), torch.float64)
        ones = torch.ones(4, device=x.device).to("cuda", torch.float16)
        return x, torch.empty_like(x), torch.zeros(3).cuda(), ones, drawn

    with without_memory():
        named = make_arguments(ArgumentSet(arguments), Launch(build=lambda config: fill))
    assert [value.is_meta for value in named.values()] == [True] * 5
    assert named["3"].dtype == torch.float16


def test_random_arguments_are_the_same_everywhere() -> None:
    given, launch = ArgumentSet(lambda: (torch.randn(3),)), Launch(build=lambda config: fill)
    assert torch.equal(make_arguments(given, launch)["0"], make_arguments(given, launch)["0"])


def test_an_infinite_reference_accepts_infinities_alone() -> None:
    def endless(x: Any, out: Any) -> Any:
        return torch.full_like(x, float("inf"))

    assert verdict(endless, vectors, reference=endless) == "timed"
    assert "8 of 8 elements" in verdict(lambda x, out: x * 1, vectors, reference=endless)
    assert "8 of 8 elements" in verdict(lambda x, out: -endless(x, out), vectors, reference=endless)


def test_a_wrong_complex_answer_is_wrong_by_its_bits_too() -> None:
    def turned(x: Any, out: Any) -> Any:
        return torch.complex(x, x + 1)

    exact = {"tolerance": Tolerance(bitwise=True)}
    assert verdict(turned, vectors, reference=turned, **exact) == "timed"
    assert "elements" in verdict(lambda x, out: turned(x, out).conj(), vectors, reference=turned, **exact)


def test_what_is_wrong_from_its_second_run_on_is_refused() -> None:
    runs: list[int] = []

    def lazy(x: Any, out: Any) -> None:
        runs.append(0)
        out.copy_(x * 2 if len(runs) < 3 else x)

    assert "wrong after it was timed" in verdict(lazy, vectors, reference=lambda x, out: x * 2, outputs=(1,))

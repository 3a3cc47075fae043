"""`autotune.triton` without a GPU: kernels run in Triton's interpreter, and a made-up clock says how fast they are."""

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import Budget, Cache, Choice, Device, PlanError, PowerOfTwo, Space, SpaceError, TuningFailed
from autotune.cli import main

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

N = 300
COSTS = {16: 5.0, 32: 3.0, 64: 1.0, 128: 2.0, 256: 4.0}
BLOCKS = Space({"BLOCK": PowerOfTwo(16, 256)}, default={"BLOCK": 16})


def add(a, b, c, n, BLOCK: tl.constexpr = 32):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)


def accumulate(a, c, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(c + at, mask=at < n), mask=at < n)


def scaled(a, c, n, EVEN: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * (2 if EVEN else 3), mask=at < n)


def grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


def configs(*blocks: int) -> list[Any]:
    return [triton.Config({"BLOCK": block}, num_warps=4) for block in blocks]


class Clock:
    """`do_bench` with a made-up time for each BLOCK, learned from the hook that is called before each run."""

    def __init__(self) -> None:
        self.running = 0
        self.timed: list[int] = []
        self.slow: threading.Event | None = None

    def pre_hook(self, named: dict[str, Any], reset_only: bool = False) -> None:
        self.running = named["BLOCK"]

    def do_bench(self, call: Callable[[], None], quantiles: Any) -> list[float]:
        call()
        self.timed.append(self.running)
        return [COSTS[self.running]] * 3

    @property
    def settings(self) -> dict[str, Any]:
        return {"do_bench": self.do_bench, "pre_hook": self.pre_hook}


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels made here are interpreted, nothing is shown, and the cache is empty."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "0")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def vectors(n: int = N, dtype: Any = torch.float32) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, generator=generator).to(dtype) for _ in range(2))
    return a, b, torch.full((n,), 7.0, dtype=dtype)


def jit(function: Any) -> Any:
    return triton.jit(function)


# What triton.autotune does, with either decorator


@pytest.fixture(params=["triton.autotune", "autotune.triton"])
def decorator(request: pytest.FixtureRequest) -> Any:
    return triton.autotune if request.param == "triton.autotune" else autotune.triton


def test_it_stands_where_triton_autotune_stood(decorator: Any, clock: Clock) -> None:
    kernel = decorator(configs=configs(16, 32, 64, 128), key=["n"], **clock.settings)(jit(add))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert set(clock.timed) == {16, 32, 64, 128}
    assert kernel.best_config.kwargs == {"BLOCK": 64}
    assert [config.kwargs for config in kernel.cache.values()] == [{"BLOCK": 64}]
    assert {config.kwargs["BLOCK"]: times[0] for config, times in kernel.configs_timings.items()} == {
        16: 5.0, 32: 3.0, 64: 1.0, 128: 2.0,
    }  # fmt: skip
    measured = len(clock.timed)
    kernel.run(a, b, c, n=N, grid=grid, warmup=False)
    assert len(clock.timed) == measured, "the same key, however it is passed"
    kernel[grid](*vectors(200)[:3], 200)
    assert len(clock.timed) > measured, "another key"
    assert len(kernel.cache) == 2
    assert kernel.fn.fn is add
    assert kernel.base_fn is add
    assert list(kernel.arg_names) == ["a", "b", "c", "n", "BLOCK"]


def test_pruning_is_that_of_triton(decorator: Any, clock: Clock) -> None:
    def early(given: list[Any], named: dict[str, Any], **options: Any) -> list[Any]:
        assert named["n"] == N
        return [config for config in given if config.kwargs["BLOCK"] != 64]

    def model(n: int, BLOCK: int, num_warps: int, **rest: Any) -> float:
        assert (n, num_warps) == (N, 4)
        return abs(BLOCK - 100)

    prune = {"early_config_prune": early, "perf_model": model, "top_k": 2}
    kernel = decorator(configs=configs(16, 32, 64, 128), key=["n"], prune_configs_by=prune, **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    assert set(clock.timed) == {32, 128}
    assert kernel.best_config.kwargs == {"BLOCK": 128}


def test_hooks_are_called_around_every_run(decorator: Any, clock: Clock) -> None:
    calls: list[str] = []

    def before(named: dict[str, Any], reset_only: bool = False) -> None:
        clock.pre_hook(named)
        calls.append("reset" if reset_only else "before")

    def after(named: dict[str, Any], exception: Exception | None) -> None:
        assert exception is None
        assert named["BLOCK"] == clock.running
        calls.append("after")

    kernel = decorator(configs=configs(16, 64), key=["n"], pre_hook=before, post_hook=after, do_bench=clock.do_bench)
    kernel(jit(add))[grid](*vectors(), N)
    paired = [call for call in calls if call != "reset"]
    assert paired[::2] == ["before"] * (len(paired) // 2)
    assert paired[1::2] == ["after"] * (len(paired) // 2)


def test_the_hook_of_a_config_is_called_before_every_launch_of_it(decorator: Any, clock: Clock) -> None:
    seen: list[int] = []
    given = [triton.Config({"BLOCK": block}, pre_hook=lambda named: seen.append(named["BLOCK"])) for block in (16, 64)]
    kernel = decorator(configs=given, key=["n"], **clock.settings)(jit(add))
    a, b, c = vectors()
    for _ in range(2):
        kernel[grid](a, b, c, N)
    assert seen[-2:] == [64, 64]
    assert 16 in seen


def test_heuristics_below_see_the_config(decorator: Any, clock: Clock) -> None:
    below = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(jit(scaled))
    kernel = decorator(configs=configs(16, 64), key=["n"], **clock.settings)(below)
    for n, factor in ((128, 2), (130, 3)):
        a, _, c = vectors(n)
        kernel[grid](a, c, n)
        assert torch.equal(c, a * factor)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


def test_heuristics_above_are_arguments(decorator: Any, clock: Clock) -> None:
    kernel = decorator(configs=configs(16, 64), key=["n"], **clock.settings)(jit(scaled))
    above = triton.heuristics({"EVEN": lambda args: args["n"] % 2 == 0})(kernel)
    a, _, c = vectors(130)
    above[grid](a, c, 130)
    assert torch.equal(c, a * 2)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


def test_one_config_is_not_timed(decorator: Any, clock: Clock) -> None:
    kernel = decorator(configs=configs(32), key=["n"], **clock.settings)(jit(add))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert not clock.timed


# What it does besides


def test_tensors_are_as_if_the_kernel_had_been_called_once(clock: Clock) -> None:
    kernel = autotune.triton(BLOCKS, ["n"], **clock.settings)(jit(accumulate))
    a, _, c = vectors()
    held = c.data_ptr()
    kernel[grid](a, c, N)
    assert torch.equal(c, a + 7)
    assert c.data_ptr() == held
    kernel[grid](a, c, N)
    assert torch.equal(c, a + 7 + a)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


def test_without_memory_for_copies_tensors_come_back_from_the_host(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotune.backends.triton_decorator.protected_arguments._fits", lambda *_: False)
    kernel = autotune.triton(BLOCKS, ["n"], **clock.settings)(jit(accumulate))
    a, _, c = vectors()
    with pytest.warns(UserWarning, match="no memory for copies of c"):
        kernel[grid](a, c, N)
    assert torch.equal(c, a + 7)


def test_the_wall_clock_times_where_nothing_else_is_said() -> None:
    kernel = autotune.triton(configs(16, 128), ["n"])(jit(accumulate))
    a, _, c = vectors()
    kernel[grid](a, c, N)
    assert torch.equal(c, a + 7)
    assert len(kernel.configs_timings) == 2
    assert all(0 < times[1] <= times[0] <= times[2] < float("inf") for times in kernel.configs_timings.values())


def test_a_hull_is_all_between_the_configs(clock: Clock) -> None:
    given = [triton.Config({"BLOCK": 16, "FLAG": True}), triton.Config({"BLOCK": 128, "FLAG": False}, num_warps=8)]
    from autotune.backends.triton_decorator.configs import parse_candidates

    hull = parse_candidates(given, True, (), ["BLOCK", "FLAG"])
    assert hull.configs is None
    assert hull.space.size == 4 * 2 * 2  # num_ctas and num_stages are the same in all
    assert hull.first == hull.space.default
    amd = [triton.Config({"BLOCK": 64, "matrix_instr_nonkdim": n, "enable_fp_fusion": n > 0}) for n in (0, 16, 32)]
    hull = parse_candidates(amd, True, (), ["BLOCK"])
    assert hull.space.size == 3 * 2, "with 0 the compiler decides; it is no end of a range"
    kernel = autotune.triton(configs(16, 256), ["n"], hull=True, **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 64}, "which is on no list"


def test_a_space_is_pruned_point_by_point(clock: Clock) -> None:
    def early(given: list[Any], named: dict[str, Any], **options: Any) -> list[Any]:
        return [config for config in given if config.kwargs["BLOCK"] not in (16, 64)]

    kernel = autotune.triton(BLOCKS, ["n"], {"early_config_prune": early}, **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    assert set(clock.timed) == {32, 128, 256}
    ranked = autotune.triton(BLOCKS, ["n"], {"perf_model": lambda BLOCK, **_: -BLOCK, "top_k": 0.4}, **clock.settings)
    clock.timed.clear()
    ranked(jit(add))[grid](*vectors(), N)
    assert set(clock.timed) == {16, 128, 256}, "the default is the baseline"


def test_configs_without_a_common_form_are_told_apart_by_name(clock: Clock) -> None:
    given = [*configs(16, 64), triton.Config({"BLOCK": 128}, num_stages=2, maxnreg=64), *configs(64)]
    kernel = autotune.triton(given, ["n"], **clock.settings)(jit(add))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert kernel.best_config.kwargs == {"BLOCK": 64}
    assert len(kernel.configs_timings) == 3, "equal configs are one in Triton's eyes"


def test_a_failing_config_costs_itself(clock: Clock) -> None:
    def do_bench(call: Callable[[], None], quantiles: Any) -> list[float]:
        call()
        if clock.running == 64:
            raise RuntimeError("planted")
        return clock.do_bench(call, quantiles)

    kernel = autotune.triton(configs(16, 64, 128), ["n"], do_bench=do_bench, pre_hook=clock.pre_hook)(jit(add))
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 128}
    times = {config.kwargs["BLOCK"]: times[0] for config, times in kernel.configs_timings.items()}
    assert times == {16: 5.0, 64: float("inf"), 128: 2.0}


def test_where_no_config_works_that_is_said(clock: Clock) -> None:
    def do_bench(call: Callable[[], None], quantiles: Any) -> float:
        raise RuntimeError("planted")

    kernel = autotune.triton(configs(16, 64), ["n"], do_bench=do_bench)(jit(add))
    with pytest.raises(TuningFailed, match="planted"):
        kernel[grid](*vectors(), N)


def test_a_wrong_answer_is_no_candidate(clock: Clock) -> None:
    def wrong_for_64(a: Any, b: Any) -> Any:
        return a + b

    def checker(output: Any, expected: Any) -> bool:
        return clock.running != 64 and torch.allclose(output, expected)

    kernel = autotune.triton(BLOCKS, ["n"], reference=wrong_for_64, checker=checker, **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 128}


def test_what_is_wrong_after_it_was_timed_is_no_candidate(clock: Clock) -> None:
    checked: Counter[int] = Counter()

    def checker(output: Any, expected: Any) -> bool:
        checked[clock.running] += 1
        return torch.allclose(output, expected) and not (clock.running == 64 and checked[64] > 1)

    kernel = autotune.triton(BLOCKS, ["n"], reference=lambda a, b: a + b, checker=checker, **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 128}
    assert checked[64] == 2, "once before it was timed, and once after"


# Keys


def test_a_key_is_values_dtypes_strides_and_constants(clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(scaled))
    a, _, c = vectors()
    kernel[grid](a, c, N, EVEN=True)
    keys = 1
    for other in (
        lambda: kernel[grid](a.double(), c.double(), N, EVEN=True),
        lambda: kernel[grid](a, c, N, EVEN=False),
        lambda: kernel[grid](a, c, N - 1, EVEN=True),
        lambda: kernel[grid](torch.rand(2 * N)[::2], c, N, EVEN=True),
    ):
        clock.timed.clear()
        other()
        keys += 1
        assert clock.timed
        assert len(kernel.cache) == keys
        clock.timed.clear()
        other()
        assert not clock.timed


@pytest.mark.parametrize(
    ("bucket", "same", "other"),
    [
        ("power_of_two", (129, 200, 256), (128, 257)),
        ([100, 200], (101, 150, 200, 280), (100, 20)),
        ({"n": lambda n: n % 2}, (3, 5, 299), (4,)),
    ],
)
def test_buckets_share_a_tuning(bucket: Any, same: tuple[int, ...], other: tuple[int, ...], clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], bucket=bucket, **clock.settings)(jit(add))
    for n in same:
        a, b, c = vectors()
        kernel[grid](a, b, c, n)
        assert torch.equal(c[:n], (a + b)[:n])
        assert torch.equal(c[n:], torch.full((N - n,), 7.0))
    assert len(kernel.cache) == 1
    kernel[grid](*vectors(), other[0])
    assert len(kernel.cache) == 2
    assert all(repr(kernel).endswith("2 keys known>") for _ in other)


def test_later_calls_look_into_one_dict(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    monkeypatch.delattr("autotune.backends.triton_decorator.tuned_kernel.TunedKernel._first")
    kernel[grid](a, b, c, N)
    kernel[grid](vectors(dtype=torch.float32)[0], b, c, N)
    with pytest.raises(AttributeError):
        kernel[grid](a, b, c, N - 1)


def test_what_cannot_be_hashed_is_looked_up_all_the_same(clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(scaled))
    a, _, c = vectors()
    for _ in range(2):
        kernel[grid](a, c, N, EVEN=[1])
        assert torch.equal(c, a * 2)
    assert len(kernel.cache) == 1


# Modes and the cache


def retimed(clock: Clock, kernel: Any, n: int = N) -> bool:
    clock.timed.clear()
    kernel[grid](*vectors(), n)
    return bool(clock.timed)


def test_results_are_kept_on_disk_unless_they_are_not_to_be(clock: Clock) -> None:
    def made(**more: Any) -> Any:
        return autotune.triton(configs(16, 64), ["n"], **clock.settings, **more)(jit(add))

    assert retimed(clock, made(cache_results=False))
    assert retimed(clock, made())
    again = made()
    assert not retimed(clock, again)
    assert again.best_config.kwargs == {"BLOCK": 64}
    assert {config.kwargs["BLOCK"]: times[0] for config, times in again.configs_timings.items()} == {16: 5.0, 64: 1.0}
    assert retimed(clock, made(cache_results=False))
    assert retimed(clock, made(cache=Cache(mode="off")))


def test_the_modes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**more: Any) -> Any:
        return autotune.triton(configs(16, 64), ["n"], **clock.settings, **more)(jit(add))

    lookup = made(mode="lookup")
    with pytest.warns(UserWarning, match="may only be looked up"):
        assert not retimed(clock, lookup)
    assert lookup.best_config.kwargs == {"BLOCK": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert not retimed(clock, lookup)
        assert not retimed(clock, made(mode="off"))
    assert retimed(clock, made())
    found = made(mode="lookup")
    assert not retimed(clock, found)
    assert found.best_config.kwargs == {"BLOCK": 64}
    with pytest.warns(UserWarning, match=rf"The nearest tuned entry \(run \w+\) differs: .*n.* is 32 and was {N}"):
        assert not retimed(clock, found, 32)
    off = made(mode="off")
    assert not retimed(clock, off)
    assert off.best_config.kwargs == {"BLOCK": 16}
    forced = made(mode="force")
    assert retimed(clock, forced)
    assert not retimed(clock, forced), "once in each process"
    for mode, timed in (("force", True), ("off", False), ("lookup", False), ("tune", False)):
        monkeypatch.setenv("AUTOTUNE_MODE", mode)
        assert retimed(clock, made()) is timed
    monkeypatch.setenv("AUTOTUNE_MODE", "off")
    assert retimed(clock, made(mode="force")), "an argument goes before the environment"


def test_a_shape_that_was_not_tuned_runs_with_the_config_of_the_nearest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(**more: Any) -> Any:
        return autotune.triton(configs(16, 64, 256), ["n"], **clock.settings, **more)(jit(add))

    assert retimed(clock, made(), 256)
    monkeypatch.setitem(COSTS, 256, 0.5)
    assert retimed(clock, made(), 32)
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "1")
    near = made(mode="lookup", miss="nearest")
    for n, block in ((200, 64), (50, 256), (256, 64), (33, 256)):
        assert not retimed(clock, near, n)
        assert near.best_config.kwargs == {"BLOCK": block}
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1, "it is said once for a kernel"
    assert shown[0].startswith("autotune: add: no config for n=200; uses that of n=256 (tuned 20")
    assert shown[0].endswith("), 0.35 doublings away")
    sources = {row.key: row.source for row in autotune.triton.report()[-4:]}
    assert sources["n=200, float32; as n=256"] == "nearest"
    with pytest.warns(UserWarning, match="may only be looked up"):
        near[grid](*vectors(dtype=torch.float64), 200)
    assert near.best_config.kwargs == {"BLOCK": 16}, "times of another dtype say nothing"
    monkeypatch.setenv("AUTOTUNE_MISS", "nearest")
    monkeypatch.setenv("AUTOTUNE_MODE", "lookup")
    by_environment = made()
    assert not retimed(clock, by_environment, 31)
    assert by_environment.best_config.kwargs == {"BLOCK": 256}
    without_it = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    assert not retimed(clock, without_it, 32)
    assert without_it.best_config.kwargs == {"BLOCK": 64}, "the fastest of that shape that is a candidate"


def test_other_variables_of_the_environment(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> Any:
        return autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))

    monkeypatch.setenv("AUTOTUNE_DISALLOW", "1")
    with pytest.raises(PlanError, match="AUTOTUNE_DISALLOW"):
        made()[grid](*vectors(), N)
    monkeypatch.delenv("AUTOTUNE_DISALLOW")
    monkeypatch.setenv("AUTOTUNE_SKIP_CACHE", "1")
    assert retimed(clock, made())
    assert retimed(clock, made())
    monkeypatch.delenv("AUTOTUNE_SKIP_CACHE")
    assert retimed(clock, made())
    monkeypatch.setenv("AUTOTUNE_DISALLOW", "1")
    assert not retimed(clock, made()), "what is known may be used"
    monkeypatch.delenv("AUTOTUNE_DISALLOW")
    monkeypatch.setenv("AUTOTUNE_FORCE", "1")
    assert retimed(clock, made())


def test_a_smaller_search_of_before_is_not_enough(clock: Clock) -> None:
    def made(**more: Any) -> Any:
        return autotune.triton(BLOCKS, ["n"], **clock.settings, **more)(jit(add))

    assert retimed(clock, made(strategy="random_search", budget=Budget(evaluations=2)))
    assert not retimed(clock, made(strategy="random_search", budget=Budget(evaluations=2)))
    more = made()
    assert retimed(clock, more)
    assert more.best_config.kwargs == {"BLOCK": 64}


class Breaking:
    """A kernel below that launches with every BLOCK but one."""

    def __init__(self, broken: int) -> None:
        self._inner = jit(add)
        self.fn, self.arg_names = self._inner.fn, self._inner.arg_names
        self._broken = broken

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["BLOCK"] == self._broken:
            raise RuntimeError("out of luck")
        return self._inner.run(*args, **kwargs)


Breaking.__name__, Breaking.__module__ = "InterpretedFunction", "triton.planted"


def test_a_stored_config_that_does_not_launch_is_rejected_and_the_kernel_tuned_again(clock: Clock) -> None:
    given = configs(16, 64, 128)
    assert retimed(clock, autotune.triton(given, ["n"], **clock.settings)(jit(add)))
    kernel = autotune.triton(given, ["n"], **clock.settings)(Breaking(64))
    a, b, c = vectors()
    with pytest.warns(UserWarning, match=r"no longer works: .*BLOCK=64.*out of luck"):
        kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert kernel.best_config.kwargs == {"BLOCK": 128}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        later = autotune.triton(given, ["n"], **clock.settings)(Breaking(64))
        later[grid](a, b, c, N)
    assert later.best_config.kwargs == {"BLOCK": 128}


def test_a_config_of_the_nearest_shape_that_does_not_launch_gives_way_to_the_first(clock: Clock) -> None:
    given = configs(16, 64, 128)
    assert retimed(clock, autotune.triton(given, ["n"], **clock.settings)(jit(add)))
    options = {"mode": "lookup", "miss": "nearest", **clock.settings}
    kernel = autotune.triton(given, ["n"], **options)(Breaking(64))
    a, b, c = vectors(200)
    with pytest.warns(UserWarning, match=r"add does not launch with the config of the nearest shape .*out of luck"):
        kernel[grid](a, b, c, 200)
    assert torch.equal(c, a + b)
    assert kernel.best_config.kwargs == {"BLOCK": 16}
    tuned_there = autotune.triton(given, ["n"], **options)(jit(add))
    assert not retimed(clock, tuned_there)
    assert tuned_there.best_config.kwargs == {"BLOCK": 64}, "it is not rejected where it was tuned"


def test_a_dispatch_table_serves_its_shapes_and_the_ones_between_without_a_tuning(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = autotune.triton(configs(16, 64, 128), ["n"], **clock.settings)(jit(add))
    assert retimed(clock, tuned, 256)
    assert retimed(clock, tuned, 128)
    monkeypatch.setitem(COSTS, 16, 0.5)
    assert retimed(clock, tuned, 32)
    path = tmp_path / "table.json"
    assert main(["cover", "add", "--table", str(path)]) == 0
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "1")

    def made(**more: Any) -> Any:
        return autotune.triton(path, ["n"], **clock.settings, **more)(jit(add))

    served = made(mode="lookup")
    assert [config.kwargs["BLOCK"] for config in served.configs] == [16, 64]
    capsys.readouterr()
    for n, block, source in ((256, 64, "table"), (32, 16, "table"), (300, 64, "nearest"), (33, 16, "nearest")):
        assert not retimed(clock, served, n)
        assert served.best_config.kwargs == {"BLOCK": block}
        assert autotune.triton.report()[-1].source == source
    shown = "autotune: add: no config for n=300; uses that of n=256 (of its table), 0.23 doublings away"
    assert capsys.readouterr().err.splitlines() == [shown]
    default = made()
    assert not retimed(clock, default, 128), "a shape of the table is not tuned"
    assert retimed(clock, default, 300), "another one is, among the few configs"
    assert set(clock.timed) == {16, 64}
    assert retimed(clock, made(mode="force"), 128)
    with pytest.raises(SpaceError, match="a dispatch table has no hull"):
        made(hull=True)
    with pytest.raises(SpaceError, match="has 'BLOCK', which the kernel has no parameter for"):
        autotune.triton(path)(jit(lone))
    monkeypatch.setattr("autotune.backends.triton_decorator.cache_key.processor", lambda: Device(kind="cpu", name="x"))
    with pytest.warns(UserWarning, match=r"does not use its table: it is of .*, and this is x"):
        assert retimed(clock, made(), 128)


def lone(a):  # type: ignore[no-untyped-def]
    tl.store(a, 0.0)


def test_an_error_of_the_caller_is_no_fault_of_a_stored_config(clock: Clock) -> None:
    assert retimed(clock, autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add)))
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    with pytest.raises(TypeError, match="the call of add lacks c"):
        kernel[grid](*vectors()[:2], n=N)
    with pytest.raises(TypeError):
        kernel[None](*vectors(), N)
    assert not retimed(clock, kernel)


def test_a_stored_config_that_answers_wrongly_is_rejected(clock: Clock) -> None:
    good = [True]

    def checker(output: Any, expected: Any) -> bool:
        return good[0] or clock.running != 64

    def made() -> Any:
        return autotune.triton(configs(16, 64, 128), ["n"], reference=lambda a, b: a + b, checker=checker,
                               **clock.settings)(jit(add))  # fmt: skip

    assert retimed(clock, made())
    assert not retimed(clock, made())
    good[0], clock.running = False, 64
    kernel = made()
    with pytest.warns(UserWarning, match="no longer works"):
        assert retimed(clock, kernel)
    assert kernel.best_config.kwargs == {"BLOCK": 128}


# Where nothing may be tuned


def test_while_a_graph_is_captured_nothing_is_tuned(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    with monkeypatch.context() as patch:
        patch.setattr(
            "autotune.backends.triton_decorator.resolve.reason_not_to_tune", lambda *_: "a CUDA graph is being captured"
        )
        with pytest.warns(UserWarning, match="CUDA graph"):
            assert not retimed(clock, kernel)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not retimed(clock, kernel)
        assert kernel.best_config.kwargs == {"BLOCK": 16}
        assert not kernel.cache, "it is tuned at the next chance"
    assert retimed(clock, kernel)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


def test_what_forbids_to_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from autotune.backends.triton_decorator.call_key import Call
    from autotune.backends.triton_decorator.resolve import reason_not_to_tune

    def call(value: Any, kind: str = "cpu") -> Call:
        return Call({"x": value}, {}, frozenset(), (), torch.device(kind))

    assert reason_not_to_tune(call(1), False) is None
    assert reason_not_to_tune(call(1), True) is not None
    assert "memory" in str(reason_not_to_tune(call(1, "meta"), False))
    with FakeTensorMode():
        assert "memory" in str(reason_not_to_tune(call(torch.empty(1)), False))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert "captured" in str(reason_not_to_tune(call(1, "cuda"), False))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert reason_not_to_tune(call(1, "cuda"), False) is None
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert "torch.compile" in str(reason_not_to_tune(call(1), False))


def test_two_threads_tune_once(clock: Clock) -> None:
    barrier = threading.Barrier(2)
    inside: list[int] = []

    def do_bench(call: Callable[[], None], quantiles: Any) -> list[float]:
        inside.append(threading.get_ident())
        return clock.do_bench(call, quantiles)

    kernel = autotune.triton(configs(16, 64), ["n"], pre_hook=clock.pre_hook, do_bench=do_bench)(jit(add))
    errors: list[BaseException] = []

    def first() -> None:
        barrier.wait()
        try:
            kernel._resolver.resolve(kernel._resolver.calls.bind((*vectors(), N), {}), grid, False, lambda known: None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=first) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(set(inside)) == 1


# Mistakes


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (PlanError, "key has 'm', which is no argument of the kernel", {"key": ["m"]}),
        (PlanError, "key is the text 'n'", {"key": "n"}),
        (PlanError, "restore_value has 'd'", {"restore_value": ["d"]}),
        (SpaceError, "the space has 'BLOK'", {"configs": Space({"BLOK": PowerOfTwo(1, 2)})}),
        (SpaceError, "the list of configs has", {"configs": [{"BLOCK": 16}]}),
        (SpaceError, "dict is nothing to choose from", {"configs": {"BLOCK": 16}}),
        (PlanError, "no mode is called 'never'; there are tune, lookup, force, off", {"mode": "never"}),
        (PlanError, "miss is 'far'; use one of first, nearest", {"miss": "far"}),
        (PlanError, "bucket has 'm', which key does not name", {"bucket": {"m": "power_of_two"}}),
        (PlanError, "is no bucket", {"bucket": [3, 2]}),
        (PlanError, "prune_configs_by has 'topk'", {"prune_configs_by": {"topk": 3}}),
        (PlanError, "top_k is 1.5", {"prune_configs_by": {"perf_model": len, "top_k": 1.5}}),
        (PlanError, "isolation is 'thread'", {"isolation": "thread"}),
        (PlanError, "pre_hook is called in this process", {"isolation": "process", "pre_hook": print}),
        (PlanError, "seeds are for a search", {"configs": configs(16, 32), "seeds": [{"BLOCK": 16}]}),
        (PlanError, "no effort is called 'some'", {"effort": "some"}),
        (PlanError, "seconds = -1", {"budget": -1}),
    ],
)
def test_mistakes_are_one_sentence(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error) as caught:
        autotune.triton(**{"configs": BLOCKS, "key": ["n"], **arguments})(jit(add))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(PlanError, match=r"add is no @triton\.jit kernel"):
        autotune.triton(BLOCKS)(add)
    with pytest.raises(PlanError, match=r"no @triton\.jit kernel"):
        autotune.triton(BLOCKS)(triton.autotune(configs(16, 32), key=[])(jit(add)))


def test_a_call_cannot_set_what_is_tuned(clock: Clock) -> None:
    kernel = autotune.triton(BLOCKS, ["n"], **clock.settings)(jit(add))
    with pytest.raises(PlanError, match="the call of add sets BLOCK"):
        kernel[grid](*vectors(), N, BLOCK=16)


def test_the_first_call_says_what_it_does(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOTUNE_PROGRESS")
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    printed = capsys.readouterr().err.splitlines()
    first = [line for line in printed if "another process tunes it" not in line]  # any process of the machine may
    assert first[0] == "autotune: add(n=300, float32): tuning among 2 configs"
    assert first[-1].startswith("autotune: add(n=300, float32): 1.000 ms, 5x over the first config; 2 configs in ")
    kernel[grid](*vectors(), N)
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "0")
    kernel[grid](*vectors(), N - 1)
    assert capsys.readouterr().err == ""


@pytest.fixture
def compiled() -> Iterator[Any]:
    yield torch.compile
    torch._dynamo.reset()


def test_under_torch_compile_it_is_launched_as_without(clock: Clock, compiled: Any) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))

    def function(a: Any, b: Any) -> Any:
        c = torch.zeros_like(a)
        kernel[grid](a * 2, b, c, N)
        return c + 1

    a, b, _ = vectors()
    fast = compiled(function, backend="eager")
    for _ in range(2):
        assert torch.allclose(fast(a, b), a * 2 + b + 1)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


def test_under_torch_compile_the_graph_breaks_once_and_torch_says_why(clock: Clock, compiled: Any) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))

    def function(a: Any, b: Any) -> Any:
        c = torch.zeros_like(a)
        kernel[grid](a, b, c, N)
        return c + 1

    a, b, _ = vectors()
    breaks = torch._dynamo.utils.counters["graph_break"]
    breaks.clear()
    fast = compiled(function, backend="eager")
    for _ in range(3):
        fast(a, b)
    assert sum(breaks.values()) == 1
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"autotune\.triton is tuned and launched between two"):
        compiled(function, backend="eager", fullgraph=True)(a, b)


def test_warmup_compiles_what_may_be_launched(clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    assert len(kernel.warmup(*vectors(), N, grid=grid)) == 2
    kernel[grid](*vectors(), N)
    assert len(kernel.warmup(*vectors(), N, grid=grid)) == 1
    assert len(autotune.triton(BLOCKS)(jit(add)).warmup(*vectors(), N, grid=grid)) == 1


def test_choices_of_any_kind_reach_the_kernel(clock: Clock) -> None:
    space = Space({"BLOCK": PowerOfTwo(16, 64), "EVEN": Choice((True,)), "maxnreg": Choice((None, 128))})
    kernel = autotune.triton(space, ["n"], **clock.settings)(jit(scaled))
    a, _, c = vectors()
    kernel[grid](a, c, N)
    assert torch.equal(c, a * 2)
    assert kernel.best_config.kwargs == {"BLOCK": 64, "EVEN": True}


# What is given to a kernel, and by which names


def optional(a, bias, c, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(a + at, mask=at < n)
    if bias is not None:
        tl.store(bias + at, v, mask=at < n)
    tl.store(c + at, v, mask=at < n)


def with_default(a, c, n, bias=None, BLOCK: tl.constexpr = 16):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n), mask=at < n)


@pytest.mark.parametrize("said", ["reset_to_zero", "restore_value", "outputs"])
def test_an_optional_tensor_may_be_none_or_left_out(said: str, clock: Clock) -> None:
    a, _, c = vectors()
    kernel = autotune.triton(BLOCKS, ["n"], **{said: ["bias"]}, **clock.settings)(jit(optional))
    kernel[grid](a, None, c, N)
    assert torch.equal(c, a)
    bias = torch.ones(N)
    kernel[grid](a, bias, c, N)
    assert torch.equal(bias, a)
    kernel = autotune.triton(BLOCKS, ["n"], **{said: ["bias"]}, **clock.settings)(jit(with_default))
    kernel[grid](a, c, N)
    assert torch.equal(c, a)


def test_what_is_named_and_is_no_tensor_is_one_sentence(clock: Clock) -> None:
    a, b, c = vectors()
    kernel = autotune.triton(BLOCKS, ["n"], reset_to_zero=["n"], **clock.settings)(jit(add))
    with pytest.raises(PlanError, match=r"reset_to_zero names n, and add.* has int there; name "):
        kernel[grid](a, b, c, N)


def summed(pair, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(value=tl.load(pair[0] + at, mask=at < n) + tl.load(pair[1] + at, mask=at < n), pointer=pair[1] + at,
             mask=at < n)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "first"), [({}, 7.0), ({"restore_value": ["pair"]}, 7.0), ({"reset_to_zero": ["pair"]}, 0)]
)
def test_tensors_in_a_tuple_are_as_if_the_kernel_had_been_called_once(said: Any, first: float, clock: Clock) -> None:
    a, _, c = vectors()
    seen: list[float] = []

    def bench(call: Callable[[], None], quantiles: Any) -> list[float]:
        call()
        return [1.0] * 3

    def before(named: dict[str, Any], reset_only: bool = False) -> None:
        seen.append(float(named["pair"][1][0]))

    kernel = autotune.triton(BLOCKS, ["n"], do_bench=bench, pre_hook=before, **said)(jit(summed))
    kernel[grid]((a, c), N)
    assert torch.equal(c, a + 7)
    assert len(seen) > 5
    assert set(seen) == {first}, "every run begins with the same values"


def test_strided_and_differentiable_tensors_are_restored(clock: Clock) -> None:
    rows = torch.full((N, 2), 7.0, requires_grad=True)
    a = torch.rand(N, 3)[:, 1]

    def strided(a, c, n, sa, sc, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        v = tl.load(a + at * sa, mask=at < n) + tl.load(c + at * sc, mask=at < n)
        tl.store(mask=at < n, value=v, pointer=c + at * sc)

    with torch.no_grad():
        column = rows[:, 1]
    kernel = autotune.triton(BLOCKS, ["n"], restore_value=["c"], **clock.settings)(jit(strided))
    kernel[grid](a, column, N, 3, 2)
    assert torch.equal(rows[:, 1], a + 7)
    assert torch.equal(rows[:, 0], torch.full((N,), 7.0))


OWN_NAMES = (
    "grid", "warmup", "self", "key", "fn", "config", "args", "kwargs", "stream", "device", "debug", "named", "call",
    "launch", "values", "kernel", "options",
)  # fmt: skip


@pytest.mark.parametrize("name", OWN_NAMES)
def test_parameters_may_have_any_name(name: str, clock: Clock, tmp_path: Path, decorator: Any) -> None:
    path = tmp_path / f"named_{name}.py"
    path.write_text(
        "import triton.language as tl\n\n\n"
        f"def kernel_with(a, c, n, {name}, BLOCK: tl.constexpr):\n"
        "    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
        f"    tl.store(c + at, tl.load(a + at, mask=at < n) * {name}, mask=at < n)\n"
    )
    scope: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    kernel = decorator(configs=configs(16, 64), key=["n", name], **clock.settings)(jit(scope["kernel_with"]))
    a, _, c = vectors()
    kernel[grid](a, c, N, 3)
    assert torch.equal(c, a * 3)
    assert set(clock.timed) == {16, 64}
    assert kernel.best_config.kwargs == {"BLOCK": 64}


# Pruning functions, and attributes, as triton.autotune has them


def bench(call: Callable[[], None], quantiles: Any) -> list[float]:
    call()
    return [1.0] * 3


PASSED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("a", "b", "c", "n"), ()),
    (("a", "b", "c"), ("n",)),
    (("a", "b"), ("n", "c")),
    ((), ("n", "c", "b", "a")),
]
"""Arguments by position, and by keyword."""


@pytest.mark.parametrize(("placed", "keywords"), PASSED)
def test_pruning_functions_get_what_triton_gives_them(placed: Any, keywords: Any, decorator: Any) -> None:
    values: dict[str, Any] = dict(zip("abcn", (*vectors(), N), strict=True))
    seen: dict[str, Any] = {}

    def early(given: list[Any], named: dict[str, Any], **kwargs: Any) -> list[Any]:
        assert {*placed} <= named.keys()
        assert kwargs.keys() == {*keywords, "grid", "warmup"}
        assert all(kwargs[name] is values[name] for name in keywords)
        assert all(named[name] is values[name] for name in placed)
        seen["early"] = (kwargs["grid"], kwargs["warmup"])
        return given[1:]

    def model(**kwargs: Any) -> float:
        assert {*placed, *keywords, "grid", "warmup", "BLOCK", "num_warps", "num_stages"} <= kwargs.keys()
        seen["model"] = kwargs["n"]
        return float(kwargs["BLOCK"])

    prune = {"early_config_prune": early, "perf_model": model, "top_k": 2}
    kernel = decorator(configs=configs(16, 32, 64, 128), key=["n"], prune_configs_by=prune, do_bench=bench)(jit(add))
    kernel[grid](*[values[name] for name in placed], **{name: values[name] for name in keywords})
    assert seen == {"early": (grid, False), "model": N}
    assert {config.kwargs["BLOCK"] for config in kernel.configs_timings} == {32, 64}
    assert torch.equal(values["c"], values["a"] + values["b"])


def test_pruning_functions_see_what_heuristics_above_give(decorator: Any) -> None:
    def early(given: list[Any], named: dict[str, Any], **kwargs: Any) -> list[Any]:
        assert kwargs["EVEN"] is True
        return given

    kernel = decorator(
        configs=configs(16, 32), key=["n"], prune_configs_by={"early_config_prune": early}, do_bench=bench
    )
    above = triton.heuristics({"EVEN": lambda named: named["n"] % 2 == 0})(kernel(jit(scaled)))
    a, _, c = vectors()
    above[grid](a, c, N)
    assert torch.equal(c, a * 2)


@pytest.mark.parametrize("top_k", [1, 2, 3, 100, 0.5, 0.01, 0.0, 1.0])
def test_top_k_is_that_of_triton(top_k: float, decorator: Any) -> None:
    asked: list[int] = []

    def model(BLOCK: int, **kwargs: Any) -> float:
        asked.append(BLOCK)
        return float(BLOCK)

    prune = {"perf_model": model, "top_k": top_k}
    kernel = decorator(configs=configs(64, 16, 32), key=["n"], prune_configs_by=prune, do_bench=bench)(jit(add))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    most = top_k if isinstance(top_k, int) else max(1, int(3 * top_k))
    if most > 1:
        assert {config.kwargs["BLOCK"] for config in kernel.configs_timings} == {*sorted([64, 16, 32])[:most]}
    else:
        assert kernel.best_config.kwargs == {"BLOCK": 16}
    assert bool(asked) == (most < 3)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, float("nan"), True, "2"])
def test_a_top_k_that_leaves_none_is_one_sentence(top_k: Any) -> None:
    with pytest.raises(PlanError, match=r"top_k is .*; use a whole number of configs, from 1, or a share of at most 1"):
        autotune.triton(configs(16, 32), ["n"], prune_configs_by={"perf_model": len, "top_k": top_k})(jit(add))


def test_the_attributes_of_triton_are_there() -> None:
    """Each of an instance of its class, and each method, or a sentence says why not."""
    given: dict[str, Any] = {"configs": configs(16, 32), "key": ["n"], "restore_value": ["c"], "do_bench": bench}
    theirs, ours = triton.autotune(**given)(jit(add)), autotune.triton(**given)(jit(add))
    for kernel in (theirs, ours):
        kernel[grid](*vectors(), N)
    names = {*vars(theirs), *(name for name in dir(type(theirs)) if not name.startswith("__"))}
    from autotune.backends.triton_decorator.tuned_kernel import ABSENT

    private = {"_do_bench", "_is_protocol"}
    for name in sorted(names - private):
        if name in ABSENT:
            with pytest.raises(AttributeError, match=f"has no attribute '{name}': "):
                getattr(ours, name)
        else:
            mine = getattr(ours, name)
            assert callable(mine) == callable(getattr(theirs, name)) or name in ("pre_hook", "post_hook"), name
    for name in ("keys", "arg_names", "reset_to_zero", "restore_value", "perf_model", "configs_top_k", "nargs",
                 "early_config_prune", "num_warmups", "num_reps", "use_cuda_graph", "base_fn"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(map(str, ours.configs)) == list(map(str, theirs.configs))
    assert isinstance(ours.bench_time, float)
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        ours.no_such  # noqa: B018


def _assigned(kernel: Any) -> None:
    kernel.configs = configs(64, 128)


def _changed_in_place(kernel: Any) -> None:
    kernel.configs[:] = configs(64, 128)


def _each_changed(kernel: Any) -> None:
    for config, block in zip(kernel.configs, (64, 128), strict=True):
        config.kwargs["BLOCK"] = block


@pytest.mark.parametrize("change", [_assigned, _changed_in_place, _each_changed])
@pytest.mark.parametrize("before", [True, False])
def test_configs_may_be_changed(change: Any, before: bool, clock: Clock, decorator: Any) -> None:
    kernel = decorator(configs=configs(16, 32), key=["n"], **clock.settings)(jit(add))
    if before:
        kernel[grid](*vectors(), N)
        clock.timed.clear()
    change(kernel)
    kernel.cache.clear()
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert set(clock.timed) == {64, 128}
    assert kernel.best_config.kwargs == {"BLOCK": 64}
    kernel.configs = [triton.Config({"BLOCK": 256})]
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 256}, "there is nothing to choose"


def test_a_space_may_be_replaced(clock: Clock) -> None:
    kernel = autotune.triton(BLOCKS, ["n"], **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    kernel.configs = configs(16, 32)
    clock.timed.clear()
    kernel[grid](*vectors(), N)
    assert set(clock.timed) == {16, 32}
    with pytest.raises(SpaceError, match="the list of configs has"):
        kernel.configs = [1]


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_taken_out_of_the_cache_is_tuned_anew(kept: bool, clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], cache_results=kept, **clock.settings)(jit(add))
    for forget in (kernel.cache.clear, lambda: kernel.cache.popitem(), lambda: setattr(kernel, "cache", {})):
        kernel[grid](*vectors(), N)
        clock.timed.clear()
        kernel[grid](*vectors(), N)
        assert not clock.timed
        forget()
        kernel[grid](*vectors(), N)
        assert set(clock.timed) == {16, 64}


def test_a_config_put_into_the_cache_is_launched(decorator: Any, clock: Clock) -> None:
    kernel = decorator(configs=configs(16, 64), key=["n"], **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    (key,) = kernel.cache
    kernel.cache[key] = triton.Config({"BLOCK": 32}, num_warps=2)
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert kernel.best_config.kwargs == {"BLOCK": 32}


def test_settings_may_be_changed(clock: Clock) -> None:
    kernel = autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))
    kernel[grid](*vectors(), N)
    kernel.early_config_prune = lambda given, named, **_: given[:1]
    kernel.cache.clear()
    kernel[grid](*vectors(), N)
    assert kernel.best_config.kwargs == {"BLOCK": 16}
    kernel.restore_value = ["c"]
    assert kernel.restore_value == ["c"]
    with pytest.raises(PlanError, match="restore_value has 'd'"):
        kernel.restore_value = ["d"]
    kernel.keys = []
    assert kernel.keys == []
    kernel.early_config_prune = None
    clock.timed.clear()
    kernel[grid](*vectors(), N)
    assert set(clock.timed) == {16, 64}
    clock.timed.clear()
    kernel[grid](*vectors(200), 200)
    assert not clock.timed, "no value is in the key"
    kernel.cache_results = False
    assert not kernel.cache_results


def test_names_of_a_launch_cannot_be_tuned() -> None:
    def with_grid(x, grid: tl.constexpr):  # type: ignore[no-untyped-def]
        tl.store(x, grid)

    with pytest.raises(SpaceError, match="the configs set grid, which a launch takes for itself"):
        autotune.triton([triton.Config({"grid": 1}), triton.Config({"grid": 2})])(jit(with_grid))


# Kernels of other makes


class Relaunching:
    """The interface of a jitted function, around one."""

    def __init__(self, inner: Any) -> None:
        self.fn, self.arg_names = inner, inner.arg_names

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs)

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **kwargs: self.run(*args, grid=grid, warmup=False, **kwargs)


def test_whatever_has_the_interface_of_a_jitted_function_is_tuned(decorator: Any, clock: Clock) -> None:
    kernel = decorator(configs=configs(16, 64), key=["n"], **clock.settings)(Relaunching(jit(add)))
    a, b, c = vectors()
    kernel[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    assert kernel.best_config.kwargs == {"BLOCK": 64}


# Users without a home


@pytest.mark.parametrize("named", [None, "~nobody-of-this-name/cache"])
def test_a_user_without_a_home_is_warned_and_served(
    named: str | None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    from autotune.shell.cache import cache

    def no_entry(_: Any) -> Any:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "AUTOTUNE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if named is not None:
        monkeypatch.setenv("AUTOTUNE_CACHE_DIR", named)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache._directory_without_home.cache_clear()
    a, b, c = vectors()
    with pytest.warns(UserWarning, match=r"no home directory, so the cache is in .*; set AUTOTUNE_C"):
        autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))[grid](a, b, c, N)
    assert torch.equal(c, a + b)
    clock.timed.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))[grid](a, b, c, N)
    assert not clock.timed, "it is kept"
    cache._directory_without_home.cache_clear()


@pytest.mark.parametrize("folder", ["/dev/null/cache", "/proc/cache"])
def test_a_cache_that_cannot_be_written_is_warned_of(
    folder: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", folder)
    a, b, c = vectors()
    with pytest.warns(UserWarning, match=f"the cache {folder} cannot be written"):
        autotune.triton(configs(16, 64), ["n"], **clock.settings)(jit(add))[grid](a, b, c, N)
    assert torch.equal(c, a + b)

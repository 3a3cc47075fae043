"""Compiling and timing that overlap inside of Helion: real forks, a made-up compiler and a made-up GPU."""

import functools
import hashlib
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autotune import Result
from tests.support import DOCS

helion = pytest.importorskip("helion")
torch = pytest.importorskip("torch")

from helion.autotuner.benchmark_worker import BenchmarkTimeout, BenchmarkWorkerDied  # noqa: E402
from helion.autotuner.precompile_future import PrecompileFuture, _run_kernel_in_subprocess_fork  # noqa: E402

from autotune.backends.helion import autotuner as autotuner_module  # noqa: E402
from autotune.backends.helion import codegen_pool, gpu_process, pipeline, provider  # noqa: E402
from autotune.backends.helion import gpu_jobs as job  # noqa: E402
from autotune.backends.helion.codegen_pool import CodegenPool  # noqa: E402
from autotune.backends.helion.compile_pool import CompileJob, CompilePool  # noqa: E402
from autotune.backends.helion.gpu_jobs import JobResult  # noqa: E402
from autotune.backends.helion.gpu_process import GpuProcess  # noqa: E402
from autotune.core.outcomes import Failed  # noqa: E402
from autotune.core.search.messages import Limits  # noqa: E402
from autotune.helion import autotuner  # noqa: E402
from autotune.shell.timeline import (  # noqa: E402
    PhaseTimeline,
    read_timeline,
)

BENCHMARKS = DOCS / "benchmarks"


class Worker:
    """What stands for Helion's benchmark process: it runs a job right here, and dies of some."""

    born = 0

    def __init__(self, device: object) -> None:
        Worker.born += 1
        self.number, self._alive, self._process = Worker.born, False, None

    def alive(self) -> bool:
        return self._alive

    def _start(self) -> None:
        self._alive = True

    def _kill(self) -> None:
        self._alive = False

    def run(self, what: Callable[[], Any], timeout: float) -> Any:
        self._alive = True
        try:
            return what()
        except BenchmarkTimeout:
            self._alive = False
            raise


@pytest.fixture(autouse=True)
def made_up_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    Worker.born = 0
    monkeypatch.setattr(gpu_process, "BenchmarkWorker", Worker)


# Compilers


class Settings:
    autotune_ignore_errors = True


class Context:
    settings, kernel, args = Settings(), None, ()

    class log:
        warning = debug = staticmethod(lambda *a, **k: None)


def quick() -> None:
    pass


def refused() -> None:
    raise SystemExit(1)  # as Helion's own ends where Triton refuses a kernel


def raising() -> None:
    raise ValueError("this tile is odd")


def crashing() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


class Quiet:
    def format_kernel_decorator(self, *_: object) -> str:
        return ""

    def to_code(self, *_: object) -> str:
        return ""


def compiler(body: Callable[[], None], folder: Path, name: str, timeout: float = 60.0) -> PrecompileFuture:
    """A fork that does what Helion's does, with `body` in place of Triton."""
    result = str(folder / name)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run_kernel_in_subprocess_fork, args=(body, None, None, result, ""), daemon=True)
    return PrecompileFuture(ctx=Context(), config=name, process=process, timeout=timeout, result_path=result)


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helion's reports of failures want a real kernel."""
    from helion.autotuner import precompile_future

    for name in ("maybe_dump_triton_failure", "log_generated_triton_code_debug"):
        monkeypatch.setattr(precompile_future, name, lambda *a, **k: None)
    monkeypatch.setattr(precompile_future, "format_triton_compile_failure", lambda *a, **k: "")
    monkeypatch.setattr(Context, "kernel", Quiet())


def ended(body: Callable[[], None], folder: Path, timeout: float = 60.0) -> tuple[CompileJob, Failed | None]:
    running, work = CompilePool(adaptive=False), CompileJob("c", None, [], Limits())
    work.future = compiler(body, folder, "result", timeout)
    running.begin(work)
    while not (found := running.poll()):
        time.sleep(0.01)
    assert not len(running)
    return found[0]


def test_a_compiler_that_works_and_those_that_do_not(tmp_path: Path) -> None:
    work, failed = ended(quick, tmp_path)
    assert failed is None
    assert work.future is not None
    assert work.future.ok
    for body, words in ((refused, "refused"), (raising, "this tile is odd"), (crashing, "SIGKILL")):
        work, failed = ended(body, tmp_path)
        assert failed is not None
        assert failed.kind == "compile_error"
        assert words in failed.message
        assert work.future is not None
        assert (work.future.ok, work.future.failure_reason) == (False, "error")


@pytest.mark.timed
def test_a_compiler_that_takes_too_long_is_killed_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    work, failed = ended(hanging, tmp_path, timeout=0.5)
    assert failed is not None
    assert failed.kind == "compile_timeout"
    assert time.monotonic() - began < 8  # Helion gives it ten seconds to end by itself
    assert work.future is not None
    assert work.future.failure_reason == "timeout"
    assert not work.future.is_alive()


def test_what_compilers_usually_take_limits_the_others(tmp_path: Path) -> None:
    running = CompilePool(adaptive=True)
    for i in range(5):
        work = CompileJob(i, None, [], Limits(compile_timeout_s=40.0))
        work.future = compiler(quick, tmp_path, str(i))
        running.begin(work)
        assert work.future.timeout == 40.0
        while not running.poll():
            time.sleep(0.01)
    late = CompileJob("late", None, [], Limits())
    late.future = compiler(hanging, tmp_path, "late")
    running.begin(late)
    assert late.future.timeout < 20
    assert running.cancel() == [late]
    assert not late.future.is_alive()


# The process of the GPU


def answers(place: GpuProcess, count: int) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    until = time.monotonic() + 20
    while len(found) < count and time.monotonic() < until:
        found += place.poll()
        time.sleep(0.005)
    return found


def timing_out() -> None:
    raise BenchmarkTimeout("it hangs")


def test_the_next_process_is_there_when_one_is_ended() -> None:
    place = GpuProcess(quick)
    place.prepare(quick, spare=True)
    try:
        place.send(1, functools.partial(int, 7), 1.0)
        place.send(2, timing_out, 1.0)
        place.send(3, functools.partial(int, 8), 1.0)
        (a, seven), (b, lost), (c, eight) = answers(place, 3)
        assert (a, seven, b, c, eight) == (1, 7, 2, 3, 8)
        assert isinstance(lost, BenchmarkTimeout)
        assert Worker.born == 3  # the first, the spare that took over, and the next spare
    finally:
        place.close()
    place.close()


def test_what_has_not_begun_can_be_taken_back() -> None:
    place, gate = GpuProcess(quick), threading.Event()
    place.prepare(quick, spare=False)
    try:
        place.send(1, gate.wait, 1.0)
        time.sleep(0.1)
        place.send(2, quick, 1.0)
        place.send(3, quick, 1.0)
        assert place.cancel_queued() == [2, 3]
        gate.set()
        assert answers(place, 1) == [(1, True)]
        assert Worker.born == 1
    finally:
        gate.set()
        place.close()


# The whole


def made_up_ms(config: Any) -> float:
    """Best with 8 warps and blocks of 64."""
    blocks = sum(abs(math.log2(block) - 6) for block in config.config["block_sizes"])
    return float(1 + abs(math.log2(config.config["num_warps"]) - 3) + 0.3 * blocks)


@dataclass(frozen=True)
class MadeUpJob:
    """fate: what comes of it."""

    time_ms: float
    fate: str

    def __call__(self) -> JobResult:
        time.sleep(0.002)
        if self.fate == "hangs":
            raise BenchmarkTimeout("benchmark timeout after 30.0s")
        if self.fate == "dies":
            raise BenchmarkWorkerDied("worker pipe closed")
        if self.fate in ("wrong_answer", "out_of_memory"):
            return JobResult(failure=self.fate, message="as it was made up")  # type: ignore[arg-type]
        return JobResult(times_ms=(self.time_ms, self.time_ms * 1.01), run_s=0.002, began=time.perf_counter() - 0.002)


FATES = ("wrong_answer", "out_of_memory", "hangs", "dies", "refused", "ok", "ok", "ok", "ok", "ok")


def fate_of(config: Any) -> str:
    """A tenth of the configs each way to fail, told by their text."""
    if config.config["num_warps"] == 4:  # the default has to work
        return "ok"
    return FATES[int(hashlib.md5(repr(config).encode()).hexdigest(), 16) % len(FATES)]


class MadeUpProvider(provider.PipelineProvider):  # type: ignore[misc]
    """Compiles by sleeping in a fork; what it was asked for is written down."""

    fates: Callable[[Any], str] = staticmethod(lambda config: "ok")
    compile_s = 0.02

    def __init__(self, timeline: PhaseTimeline, **context: Any) -> None:
        super().__init__(timeline, **context)
        self.sent: list[Any] = []
        self.texts: dict[Any, str | None] = {}
        self._of_fn: dict[int, Any] = {}
        self._folder = Path(os.environ["PYTEST_HELION"])

    def _compute_baseline(self) -> Any:
        return None, (), None

    @property
    def can_overlap(self) -> bool:
        return True

    def setup(self) -> None:
        self.prepare_gpu_process()

    def create_compile(self, config: Any, fn: Any) -> PrecompileFuture:
        body = refused if self.fates(config) == "refused" else functools.partial(time.sleep, self.compile_s)
        self._of_fn[id(fn)] = (fn, config)
        future = compiler(body, self._folder, str(len(self._of_fn)))
        future.ctx = self._precompile_context()
        return future

    def job(self, fn: Any, cutoff_ms: float | None, near_ms: float | None) -> Any:
        config = self._of_fn[id(fn)][1]
        self.sent.append(config)
        return MadeUpJob(made_up_ms(config), self.fates(config))

    def load_job(self) -> Any:
        return quick


@pytest.fixture
def tuned(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("PYTEST_HELION", str(tmp_path))

    def run(
        name: str = "softmax",
        fates: Callable[[Any], str] | None = None,
        generate: Callable[[Any], str] | None = None,
        here: Callable[[Any], Any] = repr,
        **arguments: Any,
    ) -> Any:
        """generate: what forks generate; None: no forks. here: what this process does for what they have not."""
        searches: list[Any] = []

        def generators(kernel: Any, jobs: int, warn: Callable[[str], Any]) -> CodegenPool:
            searches[0].generators = made = CodegenPool(
                generate or str, 2 if generate else 0, searches[0].warned.append
            )
            return made

        monkeypatch.setattr(pipeline, "make_codegen_pool", generators)
        monkeypatch.setattr(codegen_pool, "PATIENCE_S", 100.0)  # a busy machine is no error

        class Patched(autotuner_module.StrategySearch):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._benchmark_provider_cls = functools.partial(MadeUpProvider, self._timeline)
                self.warned: list[str] = []
                searches.append(self)

        monkeypatch.setattr(autotuner_module, "StrategySearch", Patched)
        if fates is not None:
            monkeypatch.setattr(MadeUpProvider, "fates", staticmethod(fates))
        kernel = kernels.KERNELS[name]
        settings = {
            "autotune_log_level": 0, "autotune_random_seed": 5, "autotune_precompile_jobs": 4,
            "autotune_benchmark_fn": lambda functions, repeat=1, desc=None: [function() for function in functions],
        }  # fmt: skip
        seconds = arguments.pop("budget", None)
        bound = kernel.make(**settings, autotune_budget_seconds=seconds).bind(kernel.arguments("cpu"))

        def compiled(config: Any, allow_print: bool = True) -> Callable[..., float]:
            text, ms = vars(bound).get("to_triton_code"), made_up_ms(config)
            if text is None:
                here(config)
            # Helion asks once more when it keeps the books, and would find what is compiled already.
            searches[0].benchmark_provider.texts.setdefault(config, None if text is None else text(config))
            return lambda *args: ms

        bound.compile_config = compiled
        results: list[Result] = []
        best = autotuner(cache=False, effort="quick", on_result=results.append, **arguments)(bound, ()).autotune()
        return best, results[0], searches[0]

    return run


def test_every_config_is_compiled_and_measured_once(tuned: Callable[..., Any]) -> None:
    best, result, search = tuned(strategy="gaussian_process", evaluations=60)
    sent = search.benchmark_provider.sent
    assert result.evaluations == 60
    assert result.counts == {"timed": 60}
    assert len(set(map(repr, sent))) == len(sent)
    assert made_up_ms(best) == pytest.approx(result.best.time_ms, rel=0.02)
    metrics = search._autotune_metrics
    assert metrics.num_configs_tested == metrics.num_successful_candidate_measurements == len(sent)
    assert not search.benchmark_provider.futures
    assert not search.benchmark_provider.results


@pytest.mark.slow
def test_every_way_to_fail_costs_one_config(tuned: Callable[..., Any]) -> None:
    _, result, search = tuned(strategy="random_search", evaluations=80, fates=fate_of)
    counts, metrics = result.counts, search._autotune_metrics
    assert sum(counts.values()) == result.evaluations == 80
    assert set(counts) == {"timed", "wrong_answer", "out_of_memory", "run_timeout", "crash", "compile_error"}
    sent = search.benchmark_provider.sent
    assert all(fate_of(config) != "refused" for config in sent)  # what does not compile does not trouble the GPU
    assert metrics.num_accuracy_failures == sum(fate_of(config) == "wrong_answer" for config in sent)
    assert metrics.num_worker_failures == sum(fate_of(config) in ("hangs", "dies") for config in sent)


@pytest.mark.slow
def test_a_budget_of_seconds_ends_it_whatever_still_compiles(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUpProvider, "compile_s", 0.3)
    began = time.monotonic()
    _, result, search = tuned(strategy="gaussian_process", budget=8)
    assert result.stopped == "seconds"
    assert time.monotonic() - began < 60
    assert result.evaluations >= 1
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]
    assert not search.benchmark_provider.gpu_process._thread.is_alive()


def generated(config: Any) -> str:
    return f"code of {config!r}"


@pytest.mark.slow
def test_what_forks_generate_is_what_is_compiled(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(pipeline, "generates_same_source", lambda kernel, config, text: not checked.append(text))
    _, result, search = tuned(strategy="random_search", evaluations=60, generate=generated, timeline=tmp_path / "spans")
    assert result.counts == {"timed": 60}
    sent, texts = search.benchmark_provider.sent, search.benchmark_provider.texts
    assert texts == {config: generated(config) for config in sent}
    assert len(checked) == 1
    assert search.warned == []
    assert search.generators.count == 0  # closed
    spans = read_timeline(tmp_path / "spans")
    made = {s.trial: s for s in spans if (s.lane, s.what) == ("generator", "generate")}
    loaded = {s.trial: s for s in spans if (s.lane, s.what) == ("search", "load")}
    assert made.keys() == loaded.keys()
    assert len(made) == len(sent)
    assert all(made[trial].end_s <= loaded[trial].start_s for trial in made)
    assert not [s for s in spans if (s.lane, s.what) == ("search", "generate")]
    turns = sorted(
        (at, step) for s in spans if s.what == "compile" or s.lane == "generator"
        for at, step in ((s.start_s, 1), (s.end_s, -1))
    )  # fmt: skip
    at_once = [sum(step for _, step in turns[: i + 1]) for i in range(len(turns))]
    assert max(at_once) <= 4


def only_wide(config: Any) -> str:
    if config.config["num_warps"] == 1:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
    return generated(config)


def deadly(config: Any) -> str:
    if config.config["num_warps"] == 1:
        os._exit(3)
    return generated(config)


@pytest.mark.slow
@pytest.mark.parametrize(("generate", "words"), [(only_wide, "Cannot re-initialize CUDA"), (deadly, "status 3")])
def test_forks_that_cannot_are_given_up_and_nothing_is_lost(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, generate: Callable[[Any], str], words: str
) -> None:
    monkeypatch.setattr(pipeline, "generates_same_source", lambda *_: True)
    _, result, search = tuned(strategy="random_search", evaluations=60, generate=generate)
    assert result.counts == {"timed": 60}
    sent, texts = search.benchmark_provider.sent, search.benchmark_provider.texts
    assert len(set(map(repr, sent))) == len(sent) == len(texts)
    assert all(text in (None, generated(config)) for config, text in texts.items())
    assert all(texts[config] is None for config in sent if config.config["num_warps"] == 1)
    assert None in texts.values()
    assert len(search.warned) == 1
    assert words in search.warned[0]
    assert search.generators.count == 0


@pytest.mark.slow
def test_forks_that_generate_something_else_are_not_used(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "generates_same_source", lambda *_: False)
    _, result, search = tuned(strategy="random_search", evaluations=30, generate=generated)
    assert result.counts == {"timed": 30}
    assert set(search.benchmark_provider.texts.values()) == {None}
    assert len(search.warned) == 1


@pytest.mark.slow
def test_a_config_that_nobody_can_generate_code_for_costs_itself_only(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "generates_same_source", lambda *_: True)
    _, result, search = tuned(strategy="random_search", evaluations=60, generate=only_wide, here=only_wide)
    assert set(result.counts) == {"timed", "compile_error"}
    assert sum(result.counts.values()) == 60
    assert all(config.config["num_warps"] != 1 for config in search.benchmark_provider.sent)
    assert search.warned == []


@pytest.mark.slow
def test_no_answer_waits_for_the_code_of_several_configs(
    tuned: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, compiled = MadeUpProvider.create_compile, []

    def slowly(self: MadeUpProvider, config: Any, fn: Any) -> PrecompileFuture:
        time.sleep(0.05)
        compiled.append(config)
        return ahead(self, config, fn)

    monkeypatch.setattr(MadeUpProvider, "create_compile", slowly)
    tuned(strategy="random_search", evaluations=60, timeline=tmp_path / "spans")
    spans = read_timeline(tmp_path / "spans")
    begun = {what: {s.trial: s for s in spans if s.what == what} for what in ("generate", "compile", "run", "settle")}
    assert len(begun["generate"]) == len(begun["settle"]) == len(begun["run"]) == len(begun["compile"]) == len(compiled)
    for trial, settle in begun["settle"].items():
        waited = (begun["run"][trial].end_s, settle.start_s)
        assert sum(waited[0] < other.start_s < waited[1] for other in begun["generate"].values()) <= 2
    assert {(s.lane, s.what) for s in spans} >= {("search", "space"), ("gpu", "start"), ("gpu", "device")}


@pytest.mark.slow
def test_what_is_known_is_told_before_more_is_asked_for(
    tuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where code takes longer than to compile and to time it, there is always room for another config."""
    ahead = MadeUpProvider.create_compile

    def slowly(self: MadeUpProvider, config: Any, fn: Any) -> PrecompileFuture:
        time.sleep(0.1)
        return ahead(self, config, fn)

    monkeypatch.setattr(MadeUpProvider, "create_compile", slowly)
    outstanding: list[int] = []
    _, result, _ = tuned(
        strategy="gaussian_process", evaluations=60, progress=lambda search, _: outstanding.append(search.outstanding)
    )
    assert result.evaluations == 60
    assert max(outstanding) < 20  # 4 compile, 1 is queued, 5 wait for the GPU, and few are proposed at once


@pytest.mark.slow
def test_a_config_filter_is_asked_before_anything_is_compiled(
    tuned: Callable[..., Any], kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = kernels.KERNELS["softmax"]._replace(
        settings={"autotune_config_filter": lambda c: None if c.config["num_warps"] == 1 else c}
    )
    monkeypatch.setitem(kernels.KERNELS, "softmax", filtered)
    _, result, search = tuned(strategy="random_search", evaluations=40)
    assert result.counts["skipped"] > 0
    assert all(config.config["num_warps"] != 1 for config in search.benchmark_provider.sent)


@pytest.mark.slow
def test_trials_of_one_config_share_its_measurement(tuned: Callable[..., Any]) -> None:
    _, result, search = tuned(name="attention", strategy="random_search", evaluations=50)
    assert result.counts == {"timed": 50}
    assert len(search.benchmark_provider.sent) <= 50


# What the benchmark process is asked to do


def test_a_job_checks_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def loaded(spec: Any) -> Callable[..., Any]:
        def fn(x: Any) -> Any:
            calls.append("run")
            if spec == "raises":
                raise RuntimeError("out of luck")
            if spec == "illegal":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return x + (1 if spec == "wrong" else 0)

        return fn

    monkeypatch.setattr(job, "_load_compiled_fn_for_worker", loaded)
    monkeypatch.setattr(job, "_unload_compiled_fn", lambda fn: calls.append("unload"))
    monkeypatch.setattr(job, "load_trusted_kernel_args", lambda path: (torch.ones(4),))
    monkeypatch.setattr(job, "_load_trusted_baseline_output", lambda path: torch.ones(4))
    check = job.BaselineCheck(baseline_path="baseline", atol=1e-2, rtol=1e-2, scale_atol=True)
    found = job.MeasureJob(fn_spec="right", args_path="args", check=check)()  # type: ignore[arg-type]
    assert found.failure is None
    assert len(found.times_ms) >= 1
    assert calls[-1] == "unload"
    wrong = job.MeasureJob(fn_spec="wrong", args_path="args", check=check)()  # type: ignore[arg-type]
    assert (wrong.failure, wrong.times_ms) == ("wrong_answer", ())
    assert job.MeasureJob(fn_spec="wrong", args_path="args", check=None)().failure is None  # type: ignore[arg-type]
    failed = job.MeasureJob(fn_spec="raises", args_path="args", check=check)()  # type: ignore[arg-type]
    assert (failed.failure, failed.message) == ("run_error", "RuntimeError: out of luck")
    with pytest.raises(RuntimeError, match="illegal memory"):  # that process is not to be used again
        job.MeasureJob(fn_spec="illegal", args_path="args", check=check)()  # type: ignore[arg-type]
    reps: list[int] = []

    def timed(call: Any, rep: int = 0, **how: Any) -> list[float]:
        reps.append(rep)
        return [1.0] * rep

    monkeypatch.setattr(job, "do_bench_generic", timed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for near_ms, wanted in ((None, [50]), (0.9, [10]), (1.1, [10, 40]), (2.4, [10, 40])):
        found = job.MeasureJob(fn_spec="right", args_path="args", check=check, near_ms=near_ms)()  # type: ignore[arg-type]
        assert reps == wanted  # what is no rival of the best one is not timed for long
        assert set(found.times_ms) == {1.0}
        reps.clear()
    monkeypatch.setattr(job, "do_bench_generic", lambda *a, **how: [1.0, 2.0])
    cut = job.MeasureJob(fn_spec="right", args_path="args", check=check, cutoff_ms=1e-9)()  # type: ignore[arg-type]
    assert cut.cut
    assert 1 <= len(cut.times_ms) <= 2


def test_a_process_learns_where_binaries_are_kept_before_it_loads_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was started before Helion had made up its mind."""
    seen: list[str | None] = []
    monkeypatch.setenv("TRITON_CACHE_DIR", "of the parent")
    made = object.__new__(provider.PipelineProvider)
    made._precompile_args_path, made._precompile_baseline_path = "args", None
    order = made.load_job()
    monkeypatch.setenv("TRITON_CACHE_DIR", "of the process")
    monkeypatch.setattr(job, "load_trusted_kernel_args", lambda path: seen.append(os.environ.get("TRITON_CACHE_DIR")))
    order()
    assert seen == ["of the parent"]


@pytest.mark.slow
def test_a_rehearsal_of_the_benchmark(tmp_path: Path) -> None:
    """Helion's search and ours with its real processes, kernels interpreted, then timed together."""
    pytest.importorskip("triton")
    results = tmp_path / "results.jsonl"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "helion_h200.py"), str(results), "matmul", "--seconds", "45"],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=290, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [json.loads(line)["step"].split(":")[0] for line in results.read_text().splitlines()]
    assert steps == ["helion", "ours", "compare", "compare", "compare"], done.stdout[-3000:]  # each in its own process
    assert "gaussian_process" in done.stdout

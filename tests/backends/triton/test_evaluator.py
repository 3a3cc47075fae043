"""The Triton evaluator's processes, without a GPU: kernels really compile for one, and run in the interpreter."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autotune import (
    ArgumentSet,
    Budget,
    Choice,
    Config,
    EvaluatorError,
    Failed,
    Outcome,
    PowerOfTwo,
    Space,
    Timed,
    Trial,
    TritonEvaluator,
    tune,
)
from autotune.cli import main
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.core.search.rounds import EXTRA_TIMES
from autotune.shell.evaluators.protocol import Session
from autotune.shell.timeline import read_timeline

pytest.importorskip("triton")
pytest.importorskip("torch")

from tests.backends.triton.kernels import (
    N,
    add,
    add_arguments_that_need_data,
    add_grid,
    add_reference,
    zoo_arguments,
    zoo_build,
)

QUICK: dict[str, Any] = {"warmup_ms": 0.1, "target_ms": 0.5, "min_repeats": 3, "max_repeats": 3}
CPU: dict[str, Any] = {"device": "interpreter", "compile_workers": 2, **QUICK}
ADD = Space({"BLOCK": PowerOfTwo(256, 1024), "num_warps": PowerOfTwo(1, 2)}, default={"BLOCK": 256, "num_warps": 1})


def living() -> list[str]:
    """The processes that this test has started: those that inherited its mark."""
    mark, found = os.environ["AUTOTUNE_TEST"].encode(), []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AUTOTUNE_TEST", f"mark of {os.getpid()} at {time.monotonic()}")
    yield
    until = time.monotonic() + 5.0
    while (left := living()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left, "processes were left behind"


def collect(session: Session, count: int, seconds: float = 90.0) -> dict[int, tuple[float, Outcome]]:
    """When each trial was done, and how; fails where one is missing or reported twice."""
    found: dict[int, tuple[float, Outcome]] = {}
    until = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < until, f"only {found}"
        for event in session.poll(1.0):
            assert isinstance(event, Observed)
            assert event.trial not in found, "reported twice"
            found[event.trial] = (event.at, event.outcome)
    assert not session.poll(0.0)
    return found


def kind(outcome: Outcome) -> str:
    return outcome.kind if isinstance(outcome, Failed) else "timed"


EXPECTED = {
    "good": "timed",
    "compile hangs": "compile_timeout",
    "compiler crashes": "crash",
    "compile error": "compile_error",
    "shared memory": "out_of_memory",
    "infinite loop": "run_timeout",
    "wrong": "wrong_answer",
    "unwritten": "wrong_answer",
    "mutates": "wrong_answer",
    "crashes": "crash",
    "raises": "run_error",
    "good again": "timed",
}


def test_planted_faults_cost_one_config_each(tmp_path: Path) -> None:
    """One session meets them all. A compile that hangs holds up nothing, and all processes are gone at the end."""
    names = list(EXPECTED)
    space = Space({"what": Choice([*names, "is slow"])})
    tool = TritonEvaluator(
        arguments=zoo_arguments, build=zoo_build, reference=lambda x, out, n: x * 2, outputs=(1,), target="sm_90",
        compile_timeout_s=20.0, run_timeout_s=2.0, cache_dir=tmp_path, timeline=tmp_path / "spans", **CPU,
    )  # fmt: skip
    with tool.open(space) as session:
        assert session.room == 3
        hurried = Limits(compile_timeout_s=16.0)  # others take a few seconds, several times as long on a busy machine
        session.submit([Trial(i, Config(what=what)) for i, what in enumerate(names)], hurried)
        assert session.room == 0
        found = collect(session, len(names))
        outcomes = {names[i]: outcome for i, (_, outcome) in found.items()}
        assert {what: kind(outcome) for what, outcome in outcomes.items()} == EXPECTED
        order = [names[i] for i in sorted(found, key=lambda i: found[i][0])]
        assert order[-1] == "compile hangs", "others waited for it"

        session.compare(compare := Compare(tuple(Trial(i, Config(what=names[i])) for i in (0, 9, 11)), 3, "verify"))
        until = time.monotonic() + 60
        while not (events := session.poll()):
            assert time.monotonic() < until
        (compared,) = events
        assert isinstance(compared, Compared)
        assert [kind(outcome) for _, outcome in compared.outcomes] == ["timed", "crash", "timed"]
        timed = [outcome for _, outcome in compared.outcomes if isinstance(outcome, Timed)]
        assert all(compare.rounds <= len(outcome.times_ms) <= EXTRA_TIMES * compare.rounds for outcome in timed)
        assert session.idle
    says = {what: outcome.message for what, outcome in outcomes.items() if isinstance(outcome, Failed)}
    assert "524288 bytes of shared memory; sm_90 has 232448: not run" in says["shared memory"]
    assert "143 of 1000 elements (14.30%) of 1 are wrong, 143 are NaN" in says["unwritten"]
    assert "it changed its argument '0'" in says["mutates"]
    assert "not_a_function" in says["compile error"]
    assert says["raises"].startswith("RuntimeError: planted (at ")
    assert outcomes["shared memory"].details["shared_bytes"] == 524288
    assert outcomes["good"].details["registers"] > 8
    assert outcomes["good"].compile_s > 0
    assert outcomes["shared memory"].run_s == 0
    spans = read_timeline(tmp_path / "spans")
    assert {span.what for span in spans} == {"start", "compile", "run"}
    assert {span.lane for span in spans if "server" in span.lane} == {"fork server of compilers", "fork server of gpus"}
    assert all(span.end_s >= span.start_s for span in spans)


@pytest.mark.slow
def test_the_benchmark_process_finds_what_was_compiled_ahead(tmp_path: Path) -> None:
    """Triton's dispatcher, given real tensors (one misaligned) in another process, asks for the same binaries.

    The compilers know the arguments from the process that could make them: these need data.
    """
    tool = TritonEvaluator(
        add, add_arguments_that_need_data, grid=add_grid, reference=add_reference, outputs=("c",), target="sm_90",
        cache_dir=tmp_path, **CPU,
    )  # fmt: skip
    configs = [Config(BLOCK=256, num_warps=1), Config(BLOCK=512, num_warps=2)]
    with tool.open(ADD) as session:
        session.submit([Trial(i, config) for i, config in enumerate(configs)], Limits())
        outcomes = collect(session, 2)
    assert all(isinstance(outcome, Timed) for _, outcome in outcomes.values()), outcomes
    code = """
import sys, triton
from triton import knobs
from autotune.backends.triton import fake_driver
from tests.backends.triton.kernels import add, add_arguments
fake_driver.install("sm_90")
hits = []
knobs.compilation.listener = lambda *_, cache_hit=False, **__: hits.append(cache_hit)
for block, warps in ((256, 1), (512, 2), (1024, 1)):
    add[(1,)](**add_arguments(), BLOCK=block, num_warps=warps)
named = add_arguments()
named["b"] = named["a"]
add[(1,)](**named, BLOCK=256, num_warps=1)
print(hits)
"""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[True, True, False, False]", "the last two were not compiled ahead"


@pytest.mark.slow
def test_a_search_with_two_shapes_and_no_compiler() -> None:
    def of(n: int) -> Any:
        def arguments() -> dict[str, Any]:
            import torch

            return {"a": torch.randn(n), "b": torch.randn(n), "c": torch.empty(n), "n": n}

        return arguments

    tool = TritonEvaluator(
        add, grid=add_grid, reference=add_reference, outputs=("c",), objective="worst", relative=True,
        workloads=[ArgumentSet(of(300), name="short"), ArgumentSet(of(900), weight=2.0, name="long")], **CPU,
    )  # fmt: skip
    seen: list[Outcome] = []
    watch = lambda search, event: seen.extend([event.outcome] if isinstance(event, Observed) else [])  # noqa: E731
    result = tune(ADD, tool, "random_search", budget=Budget(evaluations=3), progress=watch)
    assert result.counts == {"timed": 3}
    for outcome in seen:
        assert isinstance(outcome, Timed)
        assert outcome.details["ms[short]"] > 0
        assert outcome.details["ms[long]"] > 0
    assert result.best.details["ms[long]"] > 0, "of the final comparison"
    assert result.best.details["runs"] > 0, "and of the measurement before"


def test_compiling_ahead_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file's kernels are sent with their source; what was compiled is found again where the folder has moved to."""
    file = tmp_path / "problem.py"
    file.write_text(
        Path(__file__).with_name("kernels.py").read_text()
        + "\nfrom autotune import PowerOfTwo, Problem, Space, TritonEvaluator\n"
        "space = Space({'BLOCK': PowerOfTwo(128, 256), 'num_warps': PowerOfTwo(1, 64)})\n"
        "evaluator = TritonEvaluator(add, lambda: add_arguments(), grid=add_grid, reference=add_reference,"
        " outputs=('c',), target_ms=1.0)\n"
        "problem = Problem(space, evaluator)\n"
    )
    call = ["compile", str(file), "--target", "sm_90", "--sample", "4", "--workers", "2", "--json"]
    assert main([*call, "--out", str(tmp_path / "first")]) == 0
    told = json.loads(capfd.readouterr().out)
    assert len(told["configs"]) == 4
    for one in told["configs"]:
        assert one["verdict"] == ("run_error" if one["config"]["num_warps"] > 32 else "compiled"), one
        assert one["details"]["registers"] > 0
    before = {path.name for path in (tmp_path / "first").iterdir()}
    assert len(before) > 2
    shutil.move(tmp_path / "first", tmp_path / "second")
    started = time.monotonic()
    assert main([*call, "--out", str(tmp_path / "second")]) == 0
    again = json.loads(capfd.readouterr().out)
    assert {path.name for path in (tmp_path / "second").iterdir()} == before, "something was compiled again"
    assert max(one["seconds"] for one in again["configs"]) < max(one["seconds"] for one in told["configs"])
    assert time.monotonic() - started < 200
    assert str(tmp_path / "first") not in next((tmp_path / "second").glob("*/__grp__*")).read_text()


AMD_PROBLEM = """
import triton
from triton.runtime.driver import driver
from tests.backends.triton.kernels import tiles
from autotune import Choice, Problem, Space, TritonEvaluator
TARGET = driver.active.get_current_target()
assert TARGET.backend == "hip" and TARGET.warp_size == 64

def arguments():
    import torch
    assert TARGET == driver.active.get_current_target(), "in the program and in the workers"
    n, half, device = 256, torch.float16, driver.active.get_active_torch_device()
    x, y = (torch.randn(n, n, device=device, dtype=half) for _ in range(2))
    return {"x": x, "y": y, "out": torch.empty(n, n, device=device)}

space = Space({"N": Choice([64]), "num_warps": Choice([4, 32]), "waves_per_eu": Choice([2])})
problem = Problem(space, TritonEvaluator(tiles, arguments, grid=(1,)))
large = Problem(Space({"N": Choice([256]), "num_ctas": Choice([1, 2])}), TritonEvaluator(tiles, arguments, grid=(1,)))
"""


def test_compiling_for_amd(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file and the workers see the target; an option of AMD's alone is taken; what cannot fit is said."""
    file = tmp_path / "amd.py"
    file.write_text(AMD_PROBLEM)
    call = ["compile", str(file), "--target", "gfx942", "--workers", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(call) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["target"] == "gfx942"
    verdicts = {one["config"]["num_warps"]: one for one in told["configs"]}
    assert verdicts[4]["verdict"] == "compiled"
    assert verdicts[4]["details"].keys() == {
        "shared_bytes", "registers", "agprs", "sgprs", "spill_bytes", "blocks_per_multiprocessor",
    }  # fmt: skip
    assert verdicts[32]["verdict"] == "run_error"
    assert "needs 2048 threads in a block; gfx942 allows 1024: not run" in verdicts[32]["message"]
    assert list((tmp_path / "out").glob("*/*.hsaco"))
    assert main([*call, "--target", "sm_90"]) == 1
    assert "amd.py, line 7: AssertionError" in capfd.readouterr().err


@pytest.mark.slow
def test_compiling_for_two_targets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "amd.py"
    file.write_text(AMD_PROBLEM)
    call = ["compile", f"{file}:large", "--target", "gfx942", "--target", "gfx90a", "--out", str(tmp_path / "out")]
    assert main([*call, "--json"]) == 3, "no config can be used"
    told = json.loads(capfd.readouterr().out)["targets"]
    assert [one["target"] for one in told] == ["gfx942", "gfx90a"]
    assert [one["folder"] for one in told] == [str(tmp_path / "out" / name) for name in ("gfx942", "gfx90a")]
    for one in told:
        verdicts = {each["config"]["num_ctas"]: each for each in one["configs"]}
        assert verdicts[1]["verdict"] == "out_of_memory"
        assert "bytes of shared memory" in verdicts[1]["message"]
        assert verdicts[2]["verdict"] == "compile_error", "not of the compiler, but nobody else can tell"
        assert "num_ctas" in verdicts[2]["message"]
    assert main([*call]) == 3
    text = capfd.readouterr().out
    assert "AGPRs" in text
    assert "target        gfx90a" in text


def test_options_of_another_make_are_no_names(tmp_path: Path) -> None:
    space = Space({"BLOCK": PowerOfTwo(128, 256), "waves_per_eu": Choice([0, 2])})
    tool = TritonEvaluator(add, add_arguments_that_need_data, grid=add_grid, target="sm_90")
    with pytest.raises(EvaluatorError, match=r"'waves_per_eu', .* no launch on sm_90 knows; rename it"):
        tool.open_compiler(space)


def test_compile_wants_a_triton_evaluator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.py"
    file.write_text(
        "from autotune import Boolean, CallableEvaluator, Problem, Space\n"
        "problem = Problem(Space({'x': Boolean()}), CallableEvaluator(lambda config: lambda: None))\n"
    )
    assert main(["compile", str(file), "--target", "sm_90"]) == 1
    assert "TritonEvaluator alone compiles without a GPU" in capfd.readouterr().err
    assert main(["compile", str(file), "--target", "gfx942", "--target", "gfx943"]) == 1
    assert "target is 'gfx943', which is not known; give one of sm_70" in capfd.readouterr().err


def test_a_workload_that_cannot_be_set_up_is_one_clear_error() -> None:
    def broken() -> Any:
        raise FileNotFoundError("weights.bin")

    tool = TritonEvaluator(add, broken, grid=add_grid, **CPU)
    with pytest.raises(EvaluatorError, match=r"cannot be set up in a worker process: FileNotFoundError: weights.bin"):
        tune(ADD, tool, budget=Budget(evaluations=2))


@pytest.mark.slow
def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    """The fixture checks that the fork servers, the workers and what a worker has started are gone."""
    code = """
import os, signal, threading
from autotune import *
from tests.backends.triton.kernels import *
settings = {"device": "interpreter", "target": "sm_90", "compile_workers": 2}
tool = TritonEvaluator(arguments=zoo_arguments, build=zoo_build, **settings)
threading.Timer(25, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
tune(Space({"what": Choice(["compile hangs", "infinite loop"])}), tool, budget=Budget(evaluations=2))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == -9, ran.stderr


def test_arguments_of_this_process_are_sent() -> None:
    """Tensors that are given as they are arrive in every process, with their strides."""
    import torch

    a = torch.randn(2 * N)[::2]
    with pytest.raises(EvaluatorError, match="there are 4 arguments"):
        TritonEvaluator(add, (a, a, a, N), grid=(4,), **CPU).open(Space({"a": Choice([1]), "BLOCK": Choice([256])}))
    tool = TritonEvaluator(
        arguments=(a, torch.empty(N), N), build=zoo_build, reference=lambda x, out, n: x.flatten()[: n // 2] * 2,
        outputs=(1,), target="sm_90", **CPU,
    )  # fmt: skip
    with tool.open(Space({"what": Choice(["good"])})) as session:
        session.submit([Trial(0, Config(what="good"))], Limits())
        ((_, outcome),) = collect(session, 1).values()
    assert kind(outcome) == "wrong_answer", "the reference halves it: shapes differ"
    assert isinstance(outcome, Failed)
    assert outcome.message == "1 has shape (1000,) where the reference has (500,)"


def test_what_was_given_up_is_never_reported() -> None:
    """Neither what runs nor what its process has as its next; the process itself goes on."""
    names = ["is slow", "good", "crashes", "good again"]
    tool = TritonEvaluator(
        arguments=zoo_arguments, build=zoo_build, reference=lambda x, out, n: x * 2, outputs=(1,), **CPU
    )
    with tool.open(Space({"what": Choice(names)})) as session:
        session.submit([Trial(i, Config(what=what)) for i, what in enumerate(names)], Limits())
        first = []
        while not first:
            first = [event.trial for event in session.poll() if isinstance(event, Observed)]
        session.abandon()
        assert session.idle
        assert first == [0]
        assert not session.poll(0.5)
        session.submit([Trial(i, Config(what=names[i % 4])) for i in range(6, 10)], Limits())
        found = collect(session, 4)
    assert [kind(found[i][1]) for i in range(6, 10)] == ["crash", "timed", "timed", "timed"]

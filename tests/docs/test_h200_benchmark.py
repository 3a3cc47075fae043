"""The benchmark beside Helion's external API: what it resumes from, what it shares out, and what its table says."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autotune import Timed
from autotune.shell.timeline import NO_TRIAL, Span
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import RecordedTable
from tests.support import DOCS

SCRIPTS = DOCS / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports one of the scripts by name."""
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])

    def imported(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield imported
    for name in [name for name in sys.modules if name.startswith("h200")]:
        del sys.modules[name]


def search(step: str, blocks: int, *incumbents: tuple[float, float, int], seen_s: float | None = None) -> Any:
    """A line for a search of a space with one parameter."""
    return {
        "step": step, "pick": {"BLOCK": blocks}, "pick_ms": 1.0, "evaluations": 9, "wall_s": 60.0,
        "pick_seen_s": seen_s,
        "incumbents": [[at, ms, {"BLOCK": block}] for at, ms, block in incumbents],
    }  # fmt: skip


def _append(path: Path, number: int) -> None:
    sys.path.insert(0, str(SCRIPTS))
    write = importlib.import_module("h200_results").write
    for i in range(50):
        write(path, {"step": f"{number}:{i}", "filling": "x" * 5000})


def test_lines_of_processes_that_write_at_once_are_whole(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"step": "cut sh')
    writers = [multiprocessing.get_context("spawn").Process(target=_append, args=(path, i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 151
    found = module("h200_results").read(path)
    assert sorted(line["step"] for line in found) == sorted(f"{n}:{i}" for n in range(3) for i in range(50))


def test_a_comparison_is_run_again_where_there_are_new_picks(module: Any) -> None:
    is_there = module("h200").is_there
    first, second = search("tune:matmul:60", 1), search("helion:matmul:60", 2)
    assert is_there("compare:matmul", []), "there is nothing to compare"
    assert not is_there("compare:matmul", [first])
    done = {"step": "compare:matmul", "covers": ["tune:matmul:60"]}
    assert is_there("compare:matmul", [first, done])
    assert is_there("compare:matmul", [first, done, search("tune:attention:60", 1)])
    assert not is_there("compare:matmul", [first, done, second])
    assert is_there("tune:matmul:60", [first])
    assert not is_there("tune:matmul:60", [{"step": "tune:matmul:60", "killed_after_s": 3.0}])


def test_each_side_has_one_gpu_and_its_share_of_the_cores(tmp_path: Path) -> None:
    code = (
        "import os, sys, json; sys.path.insert(0, sys.argv[1]); import h200_common as c; c.begin_share(1, 2);"
        "print(json.dumps([os.environ['CUDA_VISIBLE_DEVICES'], sorted(os.sched_getaffinity(0))]))"
    )
    cores = sorted(os.sched_getaffinity(0))
    for seen, gpu in ((None, "1"), ("4,7", "7")):
        own = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        env = own if seen is None else {**own, "CUDA_VISIBLE_DEVICES": seen}
        ran = subprocess.run([sys.executable, "-c", code, str(SCRIPTS)], env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        name, allowed = json.loads(ran.stdout.splitlines()[-1])
        assert name == gpu
        assert set(allowed) < set(cores) if len(cores) > 1 else allowed == cores


def test_threads_of_one_core_stay_together(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    common = module("h200_common")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(
        Path, "read_text", lambda path: str(int(path.parts[5][3:]) % 2) if "core_id" in str(path) else "0"
    )
    assert common.cores_in_order() == [0, 2, 1, 3]


def test_a_machine_is_busy_while_the_gpu_times_or_all_compilers_compile(module: Any) -> None:
    spans = [
        Span(lane="gpu 0", what="run", trial=1, start_s=1.0, end_s=3.0),
        Span(lane="gpu 0", what="start", trial=NO_TRIAL, start_s=0.0, end_s=1.0),
        Span(lane="compile 1", what="compile", trial=0, start_s=0.0, end_s=4.0),
    ]
    busy_share = module("h200_common").busy_share
    assert busy_share(spans, 2, 0.0, 4.0) == 0.5, "one of two compile workers is not enough"
    assert busy_share(spans, 1, 0.0, 8.0) == 0.5


def test_a_config_is_near_by_the_times_that_were_taken_together(module: Any) -> None:
    compare = module("h200_compare")
    run = search("tune:matmul:60", 5, (2.0, 9.0, 1), (3.0, 1.1, 2), (8.0, 1.04, 3), (20.0, 1.0, 4), seen_s=30.0)
    assert [i for i, _ in compare.incumbents(run)] == [1, 2, 3], "the first was far behind"
    step = run["step"]
    assert compare.near_s(step, run, {step: 1.0, f"{step} #1": 1.2, f"{step} #2": 1.04, f"{step} #3": 1.0}) == 8.0
    assert compare.near_s(step, run, {step: 1.0, f"{step} #1": 1.2, f"{step} #2": 1.2}) == 30.0, "its pick itself"
    names = compare.named("no recording", {step: run, "helion:matmul:60": search("helion:matmul:60", 4)})
    assert list(names.values()) == [[step], [f"{step} #1"], [f"{step} #2"], [f"{step} #3", "helion:matmul:60"]]


def test_the_last_of_what_was_the_best_for_a_while_are_compared(module: Any) -> None:
    compare = module("h200_compare")
    run = search("tune:matmul:60", 5, *((float(i), 1.2 - i / 1000, i) for i in range(40)), seen_s=30.0)
    kept = [i for i, _ in compare.incumbents(run)]
    assert kept == list(range(40 - compare.MOST_INCUMBENTS, 40))


def test_the_recorded_config_whose_clocks_are_looked_at_is_the_fastest(module: Any) -> None:
    recording = load_recording("builtin:matmul")
    best = RecordedTable(recording).outcome(module("h200_clocks").fastest(recording))
    assert isinstance(best, Timed)
    assert best.time_ms == recording.optimum_ms


def test_the_table_has_what_was_killed_and_what_is_not_compared_yet(
    module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = {
        "step": "compare:matmul", "covers": ["tune:matmul:60"], "median_ms": {"tune:matmul:60": 0.19753},
        "over ours": {"tune:matmul:60": [1.0, 1.0]}, "over best recorded": {"tune:matmul:60": [0.999, 1.002]},
        "near_s": {"tune:matmul:60": 7.04},
    }  # fmt: skip
    late = {"step": "helion:attention:60", "killed_after_s": 135.0}
    module("h200_results").table([search("tune:matmul:60", 1), search("helion:matmul:60", 2), comparison, late])
    ours, theirs, _, killed = capsys.readouterr().out.splitlines()[1:]
    assert " ".join(ours.split()) == "tune:matmul:60 9 60.0 0.1975 0.999 to 1.002 1.000 to 1.000 7.0 -"
    assert " ".join(theirs.split()) == "helion:matmul:60 9 60.0 - - - - -"
    assert killed == "helion:attention:60: killed after 135.0 s"

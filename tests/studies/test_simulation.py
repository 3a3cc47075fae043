"""Searches on a recording: its space, its outcomes, noise, workers, cut-offs and traces."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest

from autotune import Choice, Config, Failed, PowerOfTwo, SimulatedEvaluator, Timed, Trial
from autotune.core.search.messages import Compare, Limits, Observed
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.simulation import RecordedTable, Simulation, Trace, recorded_space, simulate

NAMES = ("block", "warps", "mode")

STRATEGIES = ("random_search", "pattern_search", "differential_evolution")


def kernel_tuner_file(folder: Path, keep: float = 1.0) -> Path:
    """A cache file of 6 x 4 x 3 points, some left out, some failed, with repeats and a cold first one."""
    values = {"block": [16, 32, 64, 128, 256, 512], "warps": [1, 2, 4, 8], "mode": ["a", "b", "c"]}
    chosen = np.random.default_rng(0).random(72) < keep
    cache = {}
    for i, point in enumerate(product(*values.values())):
        if not chosen[i]:
            continue
        block, warps, mode = point
        time = 1.0 + abs(np.log2(block / 64)) + abs(np.log2(warps / 4)) + (mode != "b")
        entry: dict[str, object] = dict(zip(NAMES, point, strict=True))
        entry |= {"compile_time": 100.0 * warps, "benchmark_time": 20.0, "verification_time": 0, "framework_time": 1.0}
        if block * warps > 2048:
            entry |= {"time": "RuntimeFailedConfig"}
        else:
            times = [time * 10, *(time * (1 + 0.01 * k) for k in range(6))]
            entry |= {"time": time, "times": times}
        cache[",".join(map(str, point))] = entry
    content = {"device_name": "toy", "kernel_name": "toy", "problem_size": [1], "tune_params_keys": list(NAMES)}
    path = folder / "toy.json"
    path.write_text(json.dumps({**content, "tune_params": values, "cache": cache}))
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Recording:
    return load_recording(kernel_tuner_file(tmp_path))


@pytest.fixture
def sparse(tmp_path: Path) -> Recording:
    return load_recording(kernel_tuner_file(tmp_path, keep=0.4))


def test_a_full_product_needs_no_constraint(whole: Recording) -> None:
    space = recorded_space(whole)
    assert space.constraints == ()
    assert space.count() == 72
    assert isinstance(space.parameters["block"], PowerOfTwo)
    assert isinstance(space.parameters["mode"], Choice)


def test_otherwise_what_was_recorded_is_the_constraint(sparse: Recording) -> None:
    space = recorded_space(sparse)
    assert space.count() == len(sparse) < 72
    assert {str(config) for config in space.enumerate()} == {str(sparse.config(i)) for i in range(len(sparse))}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_recorded_points_are_proposed_and_each_once(sparse: Recording, strategy: str) -> None:
    run = simulate(Simulation.of(sparse), strategy, evaluations=500)
    assert set(run.trace.keys) <= set(sparse.keys)
    assert len(set(run.trace.keys)) == len(run.trace.keys)
    assert run.trace.rejected == 0
    assert run.trace.own_end


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_evaluations_are_a_hard_limit(whole: Recording, strategy: str) -> None:
    run = simulate(Simulation.of(whole), strategy, evaluations=17)
    assert len(run.trace.keys) == 17
    assert not run.trace.own_end


def test_the_same_seed_gives_the_same_trace_and_another_seed_another(whole: Recording) -> None:
    simulation = Simulation.of(whole)
    first, again, other = (simulate(simulation, "random_search", evaluations=30, seed=s).trace.keys for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("strategy", ["random_search", "pattern_search"])
def test_a_search_that_does_not_look_at_batches_is_the_same_in_any(whole: Recording, strategy: str) -> None:
    simulation = Simulation.of(whole)
    traces = [
        simulate(
            simulation, strategy, evaluations=40, evaluator=SimulatedEvaluator(simulation.table, **given)
        ).trace.keys
        for given in ({}, {"batch": 5}, {"compile_workers": 4, "devices": 2})
    ]
    assert traces[0] == traces[1]
    assert sorted(traces[0]) == sorted(traces[2])


def test_an_unmeasured_point_is_unknown_and_never_a_number(sparse: Recording) -> None:
    table = RecordedTable(sparse)
    full = {",".join(map(str, p)) for p in product((16, 32, 64, 128, 256, 512), (1, 2, 4, 8), "abc")}
    block, warps, mode = sorted(full - set(sparse.keys))[0].split(",")
    outcome = table.outcome(Config(block=int(block), warps=int(warps), mode=mode))
    assert isinstance(outcome, Failed)
    assert outcome.kind == "unknown"
    assert table.outcome(Config(block=True, warps=1, mode="a")) == outcome  # True is not 1, and 17 no block
    assert not len(table.samples(Config(block=17, warps=1, mode="a")))


def test_the_cold_first_repeat_is_left_out(whole: Recording) -> None:
    config = Config(block=64, warps=4, mode="b")
    assert RecordedTable(whole).samples(config).tolist() == pytest.approx([1 + 0.01 * k for k in range(6)])


def test_noise_is_drawn_from_the_repeats_by_seed(whole: Recording) -> None:
    table = RecordedTable(whole)
    trial = Trial(0, Config(block=64, warps=4, mode="b"))

    def measured(seed: int) -> tuple[float, ...]:
        with SimulatedEvaluator(table, noise="resample", seed=seed).open(recorded_space(whole)) as session:
            session.submit([trial], Limits())
            (event,) = session.poll()
            assert isinstance(event, Observed)
            assert isinstance(event.outcome, Timed)
            return event.outcome.times_ms

    assert measured(0) == measured(0) != measured(1)
    assert set(measured(0)) <= set(table.samples(trial.config).tolist())


def test_workers_and_devices_share_out_virtual_time(whole: Recording) -> None:
    """Four compiles of 0.1, 0.2, 0.4 and 0.8 s on two workers, each 0.02 s on one device."""
    trials = [Trial(i, Config(block=16, warps=warps, mode="a")) for i, warps in enumerate((1, 2, 4, 8))]
    with SimulatedEvaluator(RecordedTable(whole), compile_workers=2).open(recorded_space(whole)) as session:
        assert session.room == 2
        session.submit(trials, Limits())
        seen = []
        while not session.idle:
            seen += session.poll()
    assert [(event.trial, round(event.at, 6)) for event in seen if isinstance(event, Observed)] == [
        (0, 0.12), (1, 0.22), (2, 0.52), (3, 1.02),
    ]  # fmt: skip


def test_the_compile_timeout_of_the_batch_is_kept(whole: Recording) -> None:
    trial = Trial(0, Config(block=16, warps=8, mode="a"))
    with SimulatedEvaluator(RecordedTable(whole)).open(recorded_space(whole)) as session:
        session.submit([trial], Limits(compile_timeout_s=0.5))
        (event,) = session.poll()
    assert isinstance(event, Observed)
    assert isinstance(event.outcome, Failed)
    assert (event.at, event.outcome.kind) == (0.5, "compile_timeout")


def test_a_slow_config_is_cut_off(whole: Recording) -> None:
    trial = Trial(0, Config(block=16, warps=1, mode="a"))
    with SimulatedEvaluator(RecordedTable(whole), noise="resample").open(recorded_space(whole)) as session:
        session.submit([trial], Limits(cutoff_ms=2.0))
        (event,) = session.poll()
    assert isinstance(event, Observed)
    assert isinstance(event.outcome, Timed)
    assert event.outcome.cut
    assert len(event.outcome.times_ms) == 3


def test_a_comparison_gives_the_rounds_that_fit(whole: Recording) -> None:
    trials = tuple(Trial(i, Config(block=64, warps=4, mode=mode)) for i, mode in enumerate("ab"))
    with SimulatedEvaluator(RecordedTable(whole), noise="resample").open(recorded_space(whole)) as session:
        session.compare(Compare(trials, 1000, "verify", until=0.8301))
        (event,) = session.poll()
    assert not isinstance(event, Observed)
    assert [len(outcome.times_ms) for _, outcome in event.outcomes if isinstance(outcome, Timed)] == [10, 10]


def test_the_command_overwrites_one_line_a_run(tmp_path: Path) -> None:
    path, out = kernel_tuner_file(tmp_path, keep=0.5), tmp_path / "traces.jsonl"
    out.write_text("old\n")
    command = [sys.executable, "-m", "autotune", "simulate", str(path), "--evaluations", "12", "--traces", str(out)]
    command += ["--strategy", "differential_evolution", "--seed", "3", "--seed", "4", "--set", "population_size=5"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = out.read_text().splitlines()
    traces = [msgspec.json.decode(line, type=Trace) for line in lines]
    assert [(t.space, t.peer, t.seed, len(t.keys)) for t in traces] == [
        ("toy", "differential_evolution", 3, 12), ("toy", "differential_evolution", 4, 12),
    ]  # fmt: skip
    assert list(json.loads(lines[0])) == ["space", "peer", "seed", "keys", "own_end", "cpu_s", "wall_s", "rejected"]
    assert set(traces[0].keys) <= set(load_recording(path).keys)
    assert "optimum" in ran.stdout

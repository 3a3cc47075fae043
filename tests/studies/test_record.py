"""Record a space: every valid config, interrupted and continued, and the recording as a space to search."""

import json
from pathlib import Path

import numpy as np

from autotune import Boolean, Config, Failed, Integer, PowerOfTwo, SimulatedEvaluator, Space, Timed
from autotune.core.keys import root
from autotune.studies.record import record_space
from autotune.studies.recordings import load_recording, write_recording
from autotune.studies.simulation import Simulation, recorded_space, simulate


class Made:
    """A table of made-up times; some configs fail."""

    def outcome(self, config: Config) -> Timed | Failed:
        if config["A"] == 8 and config["flag"]:
            return Failed("run_error", "no", compile_s=0.1)
        return Timed((float(config["A"] + config["B"]),), compile_s=0.1, run_s=0.2)

    def samples(self, config: Config) -> np.ndarray:
        return np.array([1.0, 2.0, 3.0]) * (config["A"] + config["B"])


SPACE = Space(
    {"A": PowerOfTwo(1, 16), "B": Integer(0, 3), "flag": Boolean()},
    ["A + B > 2", "not flag or B > 0"],
    default={"A": 4, "B": 0, "flag": False},
)


def test_recording_a_space_measures_every_valid_config(tmp_path: Path) -> None:
    path = tmp_path / "made.json.gz"
    made = record_space(SPACE, SimulatedEvaluator(Made()), path, kernel="sum", progress=False)
    read = load_recording(path)
    assert read == made
    assert not read.partial
    assert read.kernel == "sum"
    assert {str(read.config(row)) for row in range(len(read))} == {str(config) for config in SPACE.enumerate()}
    for row in range(len(read)):
        assert read.outcome(row) == Made().outcome(read.config(row)) or isinstance(read.outcome(row), Failed)
    assert sum(read.failure(row) == "run_error" for row in range(len(read))) == 3
    assert recorded_space(read) == SPACE


def test_an_interrupted_recording_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    path, journal = tmp_path / "made.json", tmp_path / "made.json.journal.jsonl"
    evaluator = SimulatedEvaluator(Made(), noise="resample")
    expected = record_space(SPACE, evaluator, tmp_path / "other" / "made.json", progress=False)
    record_space(SPACE, evaluator, path, progress=False)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    path.unlink()
    assert record_space(SPACE, evaluator, path, progress=False) == expected
    events = [json.loads(line)["event"] for line in journal.read_bytes().splitlines()[1:]]
    observed = [event["trial"] for event in events if event["type"] == "observed"]
    assert sorted(observed) == list(range(SPACE.count() or 0))


def test_a_recording_is_a_space_to_search(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    record_space(SPACE, SimulatedEvaluator(Made()), path, progress=False)
    run = simulate(Simulation.of(load_recording(path)), "pattern_search", evaluations=30)
    assert run.search.plan.space.default == SPACE.default
    assert run.search.best_ms == min(o.time_ms for o in map(Made().outcome, SPACE.enumerate()) if isinstance(o, Timed))


def test_samples_keep_their_order_and_rounding_is_said(tmp_path: Path) -> None:
    made = record_space(
        SPACE, SimulatedEvaluator(Made(), noise="resample"), tmp_path / "m.json", digits=2, progress=False
    )
    path = tmp_path / "again.json"
    write_recording(made, path)
    assert load_recording(path).samples(0).tolist() == made.samples(0).tolist()


def test_keys_are_the_only_randomness() -> None:
    assert SPACE.sample(root(5), 4).tolist() == SPACE.sample(root(5), 4).tolist()

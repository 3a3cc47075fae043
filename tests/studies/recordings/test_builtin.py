"""The recordings that come with the package: whole, described, small, and found wherever a recording is named."""

import json
from pathlib import Path

import pytest

from autotune.cli import main
from autotune.core.errors import RecordingError
from autotune.studies.recordings import load_recording
from autotune.studies.recordings.load import FOLDER, builtin_recordings, locate_recording
from autotune.studies.simulation import recorded_space
from autotune.studies.spec import StrategyEntry, StudyError, StudySpec, recording_paths
from tests.support import ROOT

NAMES = tuple(builtin_recordings())


def test_there_are_some_and_they_are_small() -> None:
    assert len(NAMES) >= 3
    recordings = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.name for path in recordings} == {f"{name}.json.gz" for name in NAMES}, "no other file is shipped"
    assert sum(path.stat().st_size for path in recordings) < 3 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_whole_space_and_says_what_it_was_made_with(name: str) -> None:
    recording = load_recording(f"builtin:{name}")
    assert recording.name == name
    assert not recording.partial
    space = recorded_space(recording)
    assert space.count() == len(recording) >= 300
    assert space.default is not None
    assert recording.device
    assert recording.problem
    assert {"autotune", "python", "torch", "triton", "driver"} <= set(recording.versions)
    assert (ROOT / recording.kernel).exists(), "the kernel is there to be read"
    row = recording.time_ms.tolist().index(recording.optimum_ms)
    samples = sorted(recording.samples(row))
    assert samples[0] <= recording.optimum_ms <= samples[-1]
    assert len(samples) >= 5
    assert recording.compile_s.max() > 0


def test_what_is_meant_by_a_name() -> None:
    assert locate_recording("some/file.json") == Path("some/file.json")
    assert (
        locate_recording(f"builtin:{NAMES[0]}")
        == locate_recording(Path(f"builtin:{NAMES[0]}"))
        == FOLDER / f"{NAMES[0]}.json.gz"
    )
    for unknown in ("builtin:", "builtin:nothing", "builtin:../data/x"):
        with pytest.raises(RecordingError, match=rf"no built-in recording '{unknown}'; there are builtin:{NAMES[0]}, "):
            load_recording(unknown)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = NAMES[-1]
    assert main(["simulate", f"builtin:{name}", "--evaluations", "5", "--strategy", "random_search", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["space"] == name
    assert told["runs"][0]["evaluated"] == 5
    assert main(["show", f"builtin:{name}"]) == 0
    assert f"recording  {name}" in capsys.readouterr().out
    assert main(["simulate", "builtin:nothing", "--evaluations", "5"]) == 1
    assert f"there are builtin:{NAMES[0]}" in capsys.readouterr().err
    study = tmp_path / "study.toml"
    study.write_text(
        f'strategies = [{{name = "random_search"}}]\nrecordings = ["builtin:{name}"]\nseeds = 2\nevaluations = 20\n'
    )
    assert main(["study", str(study), "--out", str(tmp_path / "out")]) == 0
    assert name in (tmp_path / "out" / "tables.md").read_text()


def test_in_a_study() -> None:
    entries = (StrategyEntry(name="random_search"),)
    everything = StudySpec(strategies=entries, recordings=("builtin:*",), exclude=(f"builtin:{NAMES[0]}",))
    assert [path.name for path in recording_paths(everything, Path("nowhere"))] == [f"{n}.json.gz" for n in NAMES[1:]]
    with pytest.raises(StudyError, match="no recording fits 'builtin:nothing'"):
        recording_paths(StudySpec(strategies=entries, recordings=("builtin:nothing",)), Path("nowhere"))

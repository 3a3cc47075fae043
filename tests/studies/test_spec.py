"""The file of a study, and the recordings that it names."""

import re
from pathlib import Path

import msgspec
import pytest

from autotune.studies.spec import StudyError, load_study, recording_paths
from tests.studies.small_study import SPEC


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('recordings = ["x"]\nstrategies = []', "at least one strategy"),
        ('recordings = ["x"]\n[[strategies]]\nnam = "random_search"', "nam"),
        ('recordings = ["x"]\nseeds = 0\n[[strategies]]\nname = "random_search"', "seeds = 0"),
        ('recordings = ["x"]\nseeds = [1, 1]\n[[strategies]]\nname = "random_search"', "distinct"),
        ('recordings = ["x"]\nevaluations = "all"\n[[strategies]]\nname = "random_search"', "evaluations"),
        ('recordings = ["x"]\nbatch = 0\n[[strategies]]\nname = "random_search"', "batch = 0"),
        ('recordings = ["x"]\neffort = "huge"\n[[strategies]]\nname = "random_search"', "huge"),
        ('recordings = ["x"]\nnoise = "loud"\n[[strategies]]\nname = "random_search"', "noise"),
        ("recordings = [", "s.toml"),
    ],
)
def test_a_file_that_is_wrong_says_so(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(StudyError, match=re.escape(says)) as caught:
        load_study(tmp_path / "s.toml")
    assert "\n" not in str(caught.value)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(msgspec.json.encode(SPEC))
    (tmp_path / "s.toml").write_text(
        'recordings = ["*.json"]\nseeds = 7\nevaluations = 40\n[[strategies]]\nname = "random_search"\n[[strategies]]\n'
        'name = "pattern_search"\nlabel = "hill"\nsettings = { initial_population = 5, copies = 2 }\n'
    )
    assert load_study(tmp_path / "s.json") == load_study(tmp_path / "s.toml") == SPEC


def test_recordings_are_found_sorted_once_and_without_the_excluded(folder: Path) -> None:
    spec = msgspec.structs.replace(
        SPEC, recordings=("b*.json", "*.json", str(folder / "a__one.json")), exclude=("*two*",)
    )
    assert [path.name for path in recording_paths(spec, folder)] == ["a__one.json", "b__one.json"]

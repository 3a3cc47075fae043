"""Errors name the line of the user's code, not one of a library."""

import json
from pathlib import Path

import pytest

from autotune import CallableEvaluator, Integer, Space, TuningFailed, tune
from autotune.shell.user_frames import describe_with_line, find_user_line

HERE = Path(__file__).name


def caught(call: object) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: PT011
        call()  # type: ignore[operator]
    return info.value


def outer() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        raise RuntimeError("not read") from error


def test_it_is_the_innermost_line_of_the_user_and_of_the_cause():
    assert find_user_line(caught(lambda: json.loads("{"))).startswith(f"{HERE}:")  # type: ignore[union-attr]
    assert describe_with_line(caught(outer)).startswith("RuntimeError: not read (at ")
    assert describe_with_line(caught(outer)).endswith(': json.loads("{"))')
    assert find_user_line(ValueError("never raised")) is None
    assert len(describe_with_line(caught(lambda: [][int("9" * 4000)]))) <= 2000


@pytest.mark.parametrize("isolation", ["in_process", "process"])
def test_all_that_fails_alike_shows_the_line_and_no_frames_of_the_library(isolation):
    def build(config):
        return lambda: config["a"].missing

    with pytest.raises(TuningFailed, match=r"the first 6 configs fail alike") as info:
        tune(Space({"a": Integer(0, 40)}, default={"a": 0}), CallableEvaluator(build, isolation=isolation))
    assert f"{HERE}:" in str(info.value)
    assert 'config["a"].missing' in str(info.value)
    assert [frame.name for frame in info.traceback][1:] == ["tune"]

"""Times in the output of a program, and outputs that are right or wrong."""

import pytest

from autotune import EvaluatorError, JsonField, OutputPattern
from autotune.backends.command.output import NoTime, find_difference


def test_every_match_is_a_sample_and_stderr_comes_second() -> None:
    pattern = OutputPattern(r"^took (\S+) s$", "s")
    assert pattern.times_ms("took 0.5 s\nx\ntook 1e-3 s\n", "took 9 s") == [500.0, 1.0]
    assert pattern.times_ms("", "took 9 s") == [9000.0]
    assert OutputPattern(r"\d+", "us").times_ms("1500", "") == [1.5]
    assert OutputPattern(r"([\d.]+) Mops", "per_s").times_ms("250 Mops", "") == [4.0]
    assert pattern.without_times("a\ntook 5 s\nb") == "a\n\nb"


def test_json_is_all_of_stdout_or_its_last_line() -> None:
    field = JsonField("runs.1.ms")
    text = '{"runs": [{"ms": 1}, {"ms": [2, 3.5]}], "sum": 7}'
    assert field.times_ms(text, "") == [2.0, 3.5]
    assert field.times_ms(f"warming up\n{text}\n", "") == [2.0, 3.5]
    assert "2" not in field.without_times(text)
    assert field.without_times("no JSON") == "no JSON"


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        (OutputPattern("ms (.*)"), "time 3", "nothing in the output matches"),
        (OutputPattern("(.*) ms"), "fast ms", "'fast' where the time should be"),
        (OutputPattern("(.*) ops", "per_s"), "0 ops", "a rate of 0"),
        (JsonField("a.b"), '{"a": 1}', "no field 'a.b'"),
        (JsonField("a"), '{"a": true}', "True where the time should be"),
        (JsonField("a"), "nothing", "stdout is no JSON"),
        (JsonField("a"), "[" * 100_000, "stdout is no JSON"),
    ],
)
def test_an_output_without_a_time_says_what_is_missing(
    source: OutputPattern | JsonField, out: str, message: str
) -> None:
    with pytest.raises(NoTime, match=message):
        source.times_ms(out, "")


def test_settings_out_of_range() -> None:
    with pytest.raises(EvaluatorError, match="is no regular expression"):
        OutputPattern("(")
    with pytest.raises(EvaluatorError, match="the unit is 'h'; use one of ns, us, ms, s, per_s"):
        OutputPattern("x", "h")  # type: ignore[arg-type]
    with pytest.raises(EvaluatorError, match="the path of a JSON field is ''"):
        JsonField("")


@pytest.mark.parametrize(
    ("found", "expected", "right"),
    [
        ("sum 1.0000001\n", "sum  1.0", True),
        ("sum 1.001", "sum 1.0", False),
        ("n 1000000", "n 1000001", False),
        ("a 1.0 b", "a 1.0 c", False),
        ("a 1.0", "a 1.0 2.0", False),
        ("a 1.0 2.0", "a 1.0", False),
        ("x nan", "x nan", True),
        ("1e-3", "0.001", True),
        ("", "", True),
    ],
)
def test_outputs_are_compared_number_by_number(found: str, expected: str, right: bool) -> None:
    assert (find_difference(found, expected, 1e-5, 0.0) is None) == right

"""What the command line says of a result."""

from typing import Any

from autotune import Config, Result
from autotune.core.search.report import result_rows
from autotune.core.search.result import MeasuredConfig
from autotune.core.statistics import Ratio


def measured(trial: int, time_ms: float, **details: Any) -> MeasuredConfig:
    named = {name.replace("ms_", "ms[") + "]" if name.startswith("ms_") else name: v for name, v in details.items()}
    return MeasuredConfig(trial, Config(n=trial), time_ms, time_ms, time_ms, (time_ms,), named)


def found(best: MeasuredConfig, default: MeasuredConfig | None) -> Result:
    return Result(
        best, default, (), Ratio(value=2.0, low=1.9, high=2.1), {"timed": 9}, 9, 3.0, "seconds", "3 s are over", True
    )


def test_a_config_for_several_shapes_says_what_it_takes_on_each() -> None:
    best = measured(3, 1.0, ms_prefill=2.0, ms_decode=0.5, registers=96)
    rows = dict(result_rows(found(best, measured(0, 2.0, ms_prefill=3.0, ms_decode=1.25))))
    assert rows["on prefill"] == "2.000 ms, default 3.000 ms, 1.5x"
    assert rows["on decode"] == "0.5000 ms, default 1.250 ms, 2.5x"
    assert [label for label in rows if label.startswith("on ")] == ["on prefill", "on decode"]


def test_the_default_as_the_best_and_no_default_leave_the_comparison_out() -> None:
    best = measured(0, 1.0, ms_decode=0.5)
    for default in (best, None):
        assert dict(result_rows(found(best, default)))["on decode"] == "0.5000 ms"


def test_one_shape_has_no_line_of_its_own() -> None:
    assert not [label for label, _ in result_rows(found(measured(1, 1.0, registers=3), None)) if label[:3] == "on "]

"""Files of other tuners: which measurement ranks their points, old versions, KTT's output, hostile content."""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import warnings

import pytest

from autotune.core.errors import AutotuneError, RecordingError
from autotune.core.outcomes import Failed, Timed
from autotune.studies.recordings import Objective, load_recording, write_kernel_tuner, write_recording
from autotune.studies.recordings.objective import infer_direction
from autotune.studies.simulation import Simulation, simulate


def load(tmp_path, content, name="file.json", **options):
    path = tmp_path / name
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_recording(path, **options)


def attempt(tmp_path, content):
    """The recording, which can be searched, or the one error that a bad file may raise."""
    try:
        recording = load(tmp_path, content)
        Simulation.of(recording)
        return recording
    except AutotuneError as error:
        return error


def values(recording):
    """What was measured, by config."""
    return {
        tuple(recording.config(row).values()): recording.objective.value(float(recording.time_ms[row]))
        for row in range(len(recording))
    }


def best(recording):
    return tuple(recording.config(int(recording.time_ms.argmin())).values())


# T4: the objective


def result(x, measured=(), runtimes=(1.0,), **more):
    measurements = [
        {"name": name, "value": value, **({} if unit is None else {"unit": unit})} for name, value, unit in measured
    ]
    times = {"compilation_time": 500.0, "runtimes": list(runtimes), "framework": 1, "validation": 2}
    base = {"configuration": {"x": x}, "times": times, "invalidity": "correct", "correctness": 1}
    return {**base, "measurements": measurements, **more}


def t4(results, **more):
    return {"metadata": {"timeunit": "milliseconds"}, "results": results, "schema_version": "1.0.0", **more}


def scores(name="score", unit="", objectives=("score",)):
    """Fast where the score is low: by times 1 is the best, by a score that is to be high 3."""
    rows = [(1, 1.0, 10.0), (2, 2.0, 40.0), (3, 3.0, 50.0)]
    return t4([result(x, [(name, score, unit)], [ms], objectives=list(objectives)) for x, ms, score in rows])


def test_an_objective_whose_direction_nobody_says_is_refused(tmp_path):
    with pytest.raises(
        RecordingError, match=r"file.json: whether a low or a high 'score' is better .*--objective NAME"
    ):
        load(tmp_path, scores())


def test_the_named_objective_ranks_in_the_direction_that_is_said(tmp_path):
    high = load(tmp_path, scores(), objective="score", direction="higher")
    assert high.objective == Objective("score", "higher", "")
    assert values(high) == {(1,): 10.0, (2,): pytest.approx(40.0), (3,): pytest.approx(50.0)}
    assert best(high) == (3,)
    assert len(high.samples(0)) == 0, "the runtimes are no scores"
    low = load(tmp_path, scores(), objective="score", direction="lower")
    assert values(low) == {(1,): 10.0, (2,): 40.0, (3,): 50.0}
    assert best(low) == (1,)
    by_time = load(tmp_path, scores(), objective="time")
    assert by_time.objective == Objective()
    assert values(by_time) == {(1,): 1.0, (2,): 2.0, (3,): 3.0}


@pytest.mark.parametrize(
    ("name", "unit", "direction"),
    [
        ("GFLOP/s", "", "higher"),
        ("TFLOP/s", "", "higher"),
        ("GB/s", "", "higher"),
        ("GFLOPS/W", "", "higher"),
        ("GFLOPS", "", "higher"),
        ("perf", "GFLOP/s", "higher"),
        ("bandwidth", "GiB/s", "higher"),
        ("fitness", "", "higher"),
        ("energy", "", "lower"),
        ("nvml_energy", "J", "lower"),
        ("nvml_energy", "", "lower"),
        ("TOPS", "", "higher"),
        ("perf", "Gbps", "higher"),
        ("perf", "GB per s", "higher"),
        ("steps", "", None),
        ("real_time", "", None),
        ("kernel", "us", "lower"),
        ("TotalDuration", "Microseconds", "lower"),
        ("cost", "", "lower"),
        ("score", "", None),
        ("speed", "m", None),
        ("quality", "1/s", None),
    ],
)
def test_the_direction_is_known_by_unit_or_name_or_not_at_all(tmp_path, name, unit, direction):
    assert infer_direction(name, unit) == direction
    content = scores(name, unit, [name])
    if direction is None:
        with pytest.raises(RecordingError, match=f"'{name}'"):
            load(tmp_path, content)
    else:
        assert best(load(tmp_path, content)) == ((3,) if direction == "higher" else (1,))


def test_a_time_of_another_name_is_in_milliseconds(tmp_path):
    content = scores("TotalDuration", "Microseconds", ["TotalDuration"])
    recording = load(tmp_path, content)
    assert values(recording) == {(1,): 0.01, (2,): 0.04, (3,): 0.05}
    assert recording.objective.is_time
    assert recording.samples(0).tolist() == [1.0], "the runtimes are in the file's unit"
    del content["metadata"]  # as KTT's own conversion to T4 writes it: every duration is in the measurement's unit
    recording = load(tmp_path, content)
    assert recording.samples(0).tolist() == [0.001]
    assert recording.compile_s[0] == pytest.approx(500e-6)


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        (["time", "energy"], "'time' and 'energy'"),
        (["power"], "'power' is measured in no result; measured are energy"),
        ([3], "holds 3"),
        ([{"name": "energy", "direction": "sideways"}], "sideways"),
    ],
)
def test_an_objective_that_is_not_one_measurement_is_refused(tmp_path, objectives, said):
    with pytest.raises(RecordingError, match=said):
        load(tmp_path, scores("energy", "J", objectives))


def test_several_objectives_can_be_chosen_from(tmp_path):
    content = scores("energy", "J", ["time", "energy"])
    assert load(tmp_path, content, objective="energy").objective == Objective("energy", "lower", "J")
    assert load(tmp_path, content, objective="time").objective == Objective()


@pytest.mark.parametrize(
    ("written", "direction"),
    [
        ({"direction": "maximize"}, "higher"),
        ({"goal": "min"}, "lower"),
        ({"higher_is_better": True}, "higher"),
        ({"higher_is_better": False}, "lower"),
        ({"minimize": True}, "lower"),
    ],
)
def test_a_direction_in_the_file_counts(tmp_path, written, direction):
    content = scores(objectives=[{"name": "score", **written}])
    assert load(tmp_path, content).objective.direction == direction
    other = {"lower": "higher", "higher": "lower"}[direction]
    assert load(tmp_path, content, objective="score", direction=other).objective.direction == other


def test_results_that_name_different_objectives_are_refused(tmp_path):
    content = scores("energy", "J", ["energy"])
    content["results"][2]["objectives"] = ["time"]
    with pytest.raises(RecordingError, match=r"different objectives, \[\"energy\"\] and \[\"time\"\]"):
        load(tmp_path, content)
    assert best(load(tmp_path, content, objective="energy")) == (1,)


def test_a_measurement_can_be_a_list_or_nested(tmp_path):
    rows = [result(x, [("GFLOP/s", [10.0 * x, 30.0 * x], "")], objectives=["GFLOP/s"]) for x in (1, 2)]
    recording = load(tmp_path, t4(rows))
    assert values(recording) == {(1,): pytest.approx(20.0), (2,): pytest.approx(40.0)}
    assert (1 / recording.samples(0)).tolist() == pytest.approx([10.0, 30.0])
    rows = [
        result(x, [("nvml", {"energy": 5.0 * x, "gpu": {"W": 7.0}}, "")], objectives=["nvml.energy"]) for x in (1, 2)
    ]
    with pytest.raises(RecordingError, match=r"'nvml\.energy'"):
        load(tmp_path, t4(rows))
    recording = load(tmp_path, t4(rows), objective="nvml.energy", direction="lower")
    assert values(recording) == {(1,): 5.0, (2,): 10.0}


def test_a_result_without_its_objective_is_named_unless_it_failed(tmp_path):
    content = scores("energy", "J", ["energy"])
    content["results"][1]["measurements"] = []
    with pytest.raises(RecordingError, match=r"result 1 .*no measurement 'energy'"):
        load(tmp_path, content)
    content["results"][1]["invalidity"] = "compile"
    assert load(tmp_path, content).failure(1) == "compile_error"


@pytest.mark.parametrize(
    ("direction", "value", "fails"),
    [("lower", 0, True), ("lower", -1, True), ("higher", -2, True), ("higher", 0, False)],
)
def test_a_value_that_would_wrongly_rank_best_is_refused(tmp_path, direction, value, fails):
    content = scores()
    content["results"][1]["measurements"][0]["value"] = value
    if fails:
        with pytest.raises(RecordingError, match=f"result 1 .*'score' is {value}, and only values above zero"):
            load(tmp_path, content, objective="score", direction=direction)
    else:
        assert load(tmp_path, content, objective="score", direction=direction).failure(1) == "invalid_time"


@pytest.mark.parametrize("place", ["file", "metadata", "singular"])
def test_objectives_that_are_named_elsewhere_count(tmp_path, place):
    content = scores("energy", "J", [])
    if place == "file":
        content["objectives"] = ["energy"]
    elif place == "metadata":
        content["metadata"]["objectives"] = "energy"
    else:
        for row in content["results"]:
            row["objective"] = "energy"
    assert load(tmp_path, content).objective == Objective("energy", "lower", "J")


def test_units_that_differ_within_a_file_are_refused_unless_they_are_times(tmp_path):
    content = scores("energy", "J", ["energy"])
    content["results"][1]["measurements"][0]["unit"] = "mJ"
    with pytest.raises(RecordingError, match=r"result 1 .*its energy is in 'mJ', and that of another result in 'J'"):
        load(tmp_path, content)
    content = scores("time", "us", ["time"])
    content["results"][1]["measurements"][0].update(value=0.04, unit="ms")
    assert values(load(tmp_path, content)) == {(1,): 0.01, (2,): 0.04, (3,): 0.05}
    content["results"][1]["measurements"][0]["unit"] = "cycles"
    with pytest.raises(RecordingError, match=r"result 1 .*its time is in 'cycles', which is no unit of time"):
        load(tmp_path, content)


def test_a_time_in_another_unit_than_of_time_is_no_milliseconds(tmp_path):
    recording = load(tmp_path, scores("time", "cycles", ["time"]))
    assert recording.objective == Objective("time", "lower", "cycles")
    assert not recording.objective.is_time
    assert values(recording) == {(1,): 10.0, (2,): 40.0, (3,): 50.0}
    assert recording.objective.text(40.0) == "40 cycles"


@pytest.mark.parametrize("value", [{}, [], -1, 0, None, "Broken", [float("nan")], True])
def test_whatever_a_failed_result_measured_it_is_a_failure(tmp_path, value):
    content = scores()
    content["results"][1].update(invalidity="timeout", measurements=[{"name": "score", "value": value}])
    recording = load(tmp_path, content, objective="score", direction="lower")
    assert recording.outcome(1) == Failed("run_timeout", "Broken" if value == "Broken" else "timeout", 0.5, 0.002)


def test_wrong_choices_are_told(tmp_path):
    with pytest.raises(RecordingError, match="'up' is unknown"):
        load(tmp_path, scores(), objective="score", direction="up")
    for wrong in (3, None, b"x", [], object()):
        with pytest.raises(RecordingError, match="give its path"):
            load_recording(wrong)
    for wrong in (3, ["time"], object()):
        with pytest.raises(RecordingError, match="is no name"):
            load_recording(tmp_path / "file.json", objective=wrong)
        with pytest.raises(RecordingError, match="is unknown; use 'lower' or 'higher'"):
            load_recording(tmp_path / "file.json", objective="time", direction=wrong)
    with pytest.raises(RecordingError, match="direction without an objective"):
        load(tmp_path, scores(), direction="higher")
    with pytest.raises(RecordingError, match="it keeps 'time'"):
        load_recording("builtin:rms_norm", objective="energy")
    assert load_recording("builtin:rms_norm", objective="time") == load_recording("builtin:rms_norm")


def test_a_search_of_another_objective_finds_its_optimum_and_formats_keep_it(tmp_path):
    rows = [result(x, [("GFLOP/s", 5000.0 - (x - 37) ** 2, "")], [1.0 + x], objectives=["GFLOP/s"]) for x in range(60)]
    recording = load(tmp_path, t4(rows))
    run = simulate(Simulation.of(recording), "pattern_search", evaluations=60)
    assert run.trace.keys[0] != "37"
    assert best(recording) == (37,)
    assert recording.objective.value(1 / 5000.0) == pytest.approx(5000.0)
    assert run.search.best_ms == pytest.approx(1 / 5000.0)
    write_recording(recording, tmp_path / "kept.autotune.json")
    again = load_recording(tmp_path / "kept.autotune.json")
    assert again.objective == Objective("GFLOP/s", "higher", "GFLOP/s")
    assert again.time_ms.tolist() == recording.time_ms.tolist()
    timed = load(tmp_path, scores("TotalDuration", "us", ["TotalDuration"]))
    write_kernel_tuner(timed, tmp_path / "cache.json")
    assert load_recording(tmp_path / "cache.json").objective == Objective(), "a time is a time there"
    assert values(load_recording(tmp_path / "cache.json")) == values(timed)
    for objective, direction in (("score", "higher"), ("score", "lower")):
        chosen = load(tmp_path, scores(), objective=objective, direction=direction)
        write_kernel_tuner(chosen, tmp_path / "cache.json")
        assert load_recording(tmp_path / "cache.json").objective.direction == direction
        assert values(load_recording(tmp_path / "cache.json")) == pytest.approx(values(chosen))


def test_a_time_is_written_as_version_one_as_before(tmp_path):
    write_recording(load(tmp_path, t4([result(1)])), tmp_path / "kept.json")
    written = json.loads((tmp_path / "kept.json").read_bytes())
    assert written["version"] == 1
    assert "objective" not in written


# T4: the schema's names, KTT's dialect, identity


def test_the_compile_time_is_read_by_the_schemas_name_and_by_kernel_tuners(tmp_path):
    other = result(2)
    other["times"]["compilation"] = other["times"].pop("compilation_time")
    recording = load(tmp_path, t4([result(1), other]))
    assert recording.compile_s.tolist() == [0.5, 0.5]


def test_t4_of_ktt_has_numbers_as_strings(tmp_path):
    rows = [
        {**result(1), "configuration": {"WG": "16", "F": "0.5", "ON": "true", "KIND": "tile", "N": "-3"}},
        {**result(1), "configuration": {"WG": "128", "F": "2.0", "ON": "false", "KIND": "row", "N": "10"}},
    ]
    metadata = {"timeunit": "nanoseconds", "device": "RTX 2080 Ti", "autotuner": "KTT"}
    recording = load(tmp_path, t4(rows, metadata=metadata))
    assert recording.device == "RTX 2080 Ti"
    assert repr(recording.values) == "((16, 128), (0.5, 2.0), (True, False), ('tile', 'row'), (-3, 10))"
    assert recording.time_ms[0] == 1e-6
    del metadata["autotuner"]
    assert load(tmp_path, t4(rows, metadata=metadata)).values[0] == ("16", "128")


def pairs():
    """Points that differ, and that joining their values takes for one."""
    return [
        [{"a": "x,y", "b": "z"}, {"a": "x", "b": "y,z"}],
        [{"a": 1, "b": 2}, {"a": "1", "b": 2}],
        [{"a": True, "b": 2}, {"a": "True", "b": 2}],
        [{"a": None, "b": 2}, {"a": "None", "b": 2}],
        [{"a": 1, "b": 2}, {"a": 1.0, "b": 2}, {"a": True, "b": 2}, {"a": "1.0", "b": 2}],
        [{"a": [1, 2], "b": 3}, {"a": "(1, 2)", "b": 3}],
        [{"a": "", "b": ","}, {"a": ",", "b": ""}],
        [{"a": 0.0, "b": 1}, {"a": -0.0, "b": 1}],
    ]


@pytest.mark.parametrize("points", pairs())
def test_points_that_differ_stay_apart_everywhere(tmp_path, points):
    rows = [{**result(1, runtimes=[1.0 + i]), "configuration": point} for i, point in enumerate(points)]
    recording = load(tmp_path, t4(rows))
    assert recording.time_ms.tolist() == [1.0 + i for i in range(len(points))]
    assert len(set(recording.keys)) == len(points)
    run = simulate(Simulation.of(recording), "random_search", evaluations=9, settings={"count": len(points)})
    assert sorted(run.trace.keys) == sorted(recording.keys)
    for write, name in ((write_recording, "a.autotune.json"), (write_kernel_tuner, "a.json")):
        write(recording, tmp_path / name)
        again = load_recording(tmp_path / name)
        assert (again.keys, repr(again.values)) == (recording.keys, repr(recording.values))
        assert again.codes.tolist() == recording.codes.tolist()


def test_two_rows_of_one_key_are_refused(tmp_path):
    from dataclasses import replace

    recording = load(tmp_path, t4([result(1), result(2)]))
    with pytest.raises(RecordingError, match="two rows have one key"):
        replace(recording, keys=("a", "a"))


# Kernel Tuner: older caches, other objectives


def cache(entries, **header):
    whole = {
        "device_name": "A100",
        "kernel_name": "k",
        "problem_size": "callable",
        "tune_params_keys": ["x"],
        "tune_params": {"x": [1, 2, 3]},
        "cache": {str(entry["x"]): entry for entry in entries},
    }
    return {name: value for name, value in {**whole, **header}.items() if value is not None}


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        ({"GFLOP/s": "RuntimeFailedConfig"}, "run_error"),
        ({"GFLOP/s": "CompilationFailedConfig"}, "compile_error"),
        ({"energy": "InvalidConfig", "GFLOP/s": "InvalidConfig"}, "skipped"),
        ({"GFLOP/s": "ErrorConfig"}, "unknown"),
        ({"time": 3.0, "GFLOP/s": "RuntimeFailedConfig"}, "run_error"),
        ({"time": 1e20}, "unknown"),
        ({"time": 1.7976931348623157e308}, "unknown"),
        ({"__error__": "CompilationFailedConfig"}, "compile_error"),
        ({"__error__": "RuntimeFailedConfig", "time": 2.0}, "run_error"),
        ({"time": "InvalidConfig", "times": []}, "skipped"),
    ],
)
def test_one_failed_entry_of_an_old_cache_is_one_failure(tmp_path, failed, kind):
    recording = load(tmp_path, cache([{"x": 1, "time": 4.0, "GFLOP/s": 9.0}, {"x": 2, **failed}]))
    assert recording.outcome(0) == Timed((4.0,), 0.0, 0.0)
    assert isinstance(recording.outcome(1), Failed)
    assert recording.failure(1) == kind


def test_a_value_that_is_called_as_an_error_is_a_value(tmp_path):
    content = cache([{"x": "InvalidConfig", "time": 4.0}], tune_params={"x": ["InvalidConfig", "b"]})
    assert load(tmp_path, content).failure(0) is None


def test_numbers_may_be_strings_and_the_mean_may_be_left_out(tmp_path):
    entries = [{"x": 1, "time": "4.5e-1", "compile_time": 3}, {"x": 2, "times": [1.0, 2.0]}, {"x": 3, "time": "1_0"}]
    recording = load(tmp_path, cache(entries))
    assert recording.time_ms[:2].tolist() == [0.45, 1.5]
    assert recording.samples(1).tolist() == [1.0, 2.0]
    assert recording.failure(2) == "unknown"


def test_an_entry_without_a_time_is_named_with_what_it_has(tmp_path):
    with pytest.raises(RecordingError, match="entry '1': it has no time; it has 'GFLOP/s', which `objective` can name"):
        load(tmp_path, cache([{"x": 1, "GFLOP/s": 5.0, "compile_time": 1.0}]))


def test_the_objective_of_the_header_ranks(tmp_path):
    entries = [{"x": x, "time": float(x), "GFLOP/s": 10.0 * x, "score": 1.0} for x in (1, 2, 3)]
    assert best(load(tmp_path, cache(entries))) == (1,)
    assert best(load(tmp_path, cache(entries, objective="time"))) == (1,)
    assert best(load(tmp_path, cache(entries, objective="GFLOP/s"))) == (3,)
    assert best(load(tmp_path, cache(entries, objective="GFLOP/s"), objective="time")) == (1,)
    with pytest.raises(RecordingError, match="low or a high 'score'"):
        load(tmp_path, cache(entries, objective="score"))
    assert (
        load(tmp_path, cache(entries, objective="score", objective_higher_is_better=True)).objective.direction
        == "higher"
    )
    with pytest.raises(RecordingError, match="'time' and 'GFLOP/s'"):
        load(tmp_path, cache(entries, objective=["time", "GFLOP/s"]))
    del entries[1]["GFLOP/s"]
    with pytest.raises(RecordingError, match="entry '2': it has no 'GFLOP/s', the objective"):
        load(tmp_path, cache(entries, objective="GFLOP/s"))


def test_a_cache_that_lists_no_values_has_those_of_its_entries(tmp_path):
    recording = load(tmp_path, cache([{"x": 3, "time": 1.0}, {"x": 1, "time": 2.0}], tune_params=None))
    assert recording.values == ((1, 3),)
    assert recording.keys == ("3", "1")
    with pytest.raises(RecordingError, match="neither tune_params nor tune_params_keys"):
        load(tmp_path, cache([{"x": 1, "time": 2.0}], tune_params=None, tune_params_keys=None))


# KTT


def ktt_result(x, y=0.5, status="Ok", duration=2000.0, **more):
    kinds = {"Name": "X", "ValueType": "UnsignedInt", "Value": x}, {"Name": "Y", "ValueType": "Double", "Value": y}
    overheads = {
        "CompilationOverhead": 5e5,
        "ValidationOverhead": 10.0,
        "DataMovementOverhead": 20.0,
        "SearcherOverhead": 3.0,
    }
    return {
        "KernelName": "sum", "Status": status, "TotalDuration": duration, "TotalOverhead": 9.0, "ExtraDuration": 0.0,
        "Configuration": list(kinds), "ComputationResults": [{"KernelFunction": "f", "Duration": duration}],
        **overheads, **more,
    }  # fmt: skip


def ktt(results, unit="Microseconds", **more):
    metadata = {
        "ComputeApi": "CUDA",
        "Device": "RTX 2080 Ti",
        "KttVersion": "2.1.0",
        "TimeUnit": unit,
        "Timestamp": "x",
    }
    return {"Metadata": metadata, "Results": results, **more}


STATUSES = {
    "ComputationFailed": "run_error",
    "ValidationFailed": "wrong_answer",
    "CompilationFailed": "compile_error",
    "DeviceLimitsExceeded": "run_error",
    "Sleepy": "unknown",
}


def ktt_xml(file):
    def attributes(fields):
        return "".join(f' {name}="{value}"' for name, value in fields.items() if not isinstance(value, list))

    rows = [
        f"<KernelResult{attributes(row)}><Configuration>"
        + "".join(f"<Pair{attributes(pair)}/>" for pair in row["Configuration"])
        + "</Configuration><ComputationResults/></KernelResult>"
        for row in file["Results"]
    ]
    head = f"<?xml version='1.0'?>\n<TuningData><Metadata{attributes(file['Metadata'])}/><Results>"
    return head + "".join(rows) + '</Results><UserData><Pair Key="a" Value="b"/></UserData></TuningData>'


def test_ktts_json_is_read(tmp_path):
    failures = [ktt_result(8 + i, status=status, duration=0.0) for i, status in enumerate(STATUSES)]
    recording = load(tmp_path, ktt([ktt_result(4), ktt_result(2, 1.5, duration=500.0), *failures], UserData={"a": "b"}))
    assert (recording.kernel, recording.device, recording.parameters) == ("sum", "RTX 2080 Ti", ("X", "Y"))
    assert recording.values == ((2, 4, 8, 9, 10, 11, 12), (0.5, 1.5))
    assert recording.outcome(0) == Timed((2.0,), 0.5, pytest.approx(2010e-6))
    assert recording.time_ms[:2].tolist() == [2.0, 0.5]
    assert recording.framework_s[0] == pytest.approx(23e-6)
    assert [recording.failure(row) for row in range(2, 7)] == list(STATUSES.values())
    assert recording.messages[2:] == tuple(STATUSES)


@pytest.mark.parametrize(
    ("unit", "ms"), [("Nanoseconds", 1e-6), ("Microseconds", 1e-3), ("Milliseconds", 1.0), ("Seconds", 1e3)]
)
def test_ktts_units(tmp_path, unit, ms):
    assert load(tmp_path, ktt([ktt_result(4)], unit)).time_ms[0] == pytest.approx(2000.0 * ms)


def test_runs_of_one_configuration_are_its_repeats(tmp_path):
    file = ktt(
        [ktt_result(4, duration=d) for d in (3000.0, 1000.0, 2000.0)]
        + [ktt_result(5), ktt_result(5, status="ValidationFailed")]
    )
    recording = load(tmp_path, file)
    assert recording.samples(0).tolist() == [3.0, 1.0, 2.0]
    assert recording.time_ms[0] == 2.0
    assert recording.compile_s[0] == pytest.approx(1.5)
    assert recording.failure(1) == "wrong_answer", "the last run says whether it works"


def test_ktts_xml_is_what_its_json_is(tmp_path):
    file = ktt([ktt_result(4), ktt_result(2, 1.5, duration=500.0), ktt_result(9, status="ComputationFailed")])
    assert load(tmp_path, ktt_xml(file), "file.xml") == load(tmp_path, file)
    assert load(tmp_path, gzip.compress(ktt_xml(file).encode()), "file.xml.gz") == load(tmp_path, file)
    first = ktt([ktt_result(4)])  # version 2.0 says whether a value is a double, and has a total overhead alone
    for row in first["Results"]:
        row["Configuration"] = [
            {"Name": "X", "IsDouble": "false", "Value": 4},
            {"Name": "Y", "IsDouble": "true", "Value": 1},
        ]
        for name in [name for name in row if name.endswith("Overhead") and name != "TotalOverhead"]:
            del row[name]
    recording = load(tmp_path, ktt_xml(first), "file.xml")
    assert repr(recording.values) == "((4,), (1.0,))"
    assert recording.framework_s[0] == pytest.approx(9e-6)


CSV = """Kernel name,Computation duration (us),Global size,Local size,X,Y,dram__sectors.sum,Maximum work-group size
sum,2000,64,32,4,0.5,17,1024
sum,500,64,32,2,1.5,18,1024
"""
OLD_CSV = """Kernel name,Total duration (ms),Kernel duration (ms),Global size,Local size,Global size 2,Local size 2,X
sum,3,2,64,32,64,32,4

Kernel name,Status,Global size,Local size,Global size 2,Local size 2,X
sum,Results are wrong,64,32,64,32,8
"""


def test_ktts_csv_is_read(tmp_path):
    recording = load(tmp_path, CSV, "sum.csv")
    assert (recording.name, recording.kernel, recording.parameters) == ("sum", "sum", ("X", "Y"))
    assert values(recording) == {(4, 0.5): 2.0, (2, 1.5): 0.5}
    recording = load(tmp_path, OLD_CSV.replace("\n", "\r\n"), "sum.csv")
    assert recording.parameters == ("X",)
    assert recording.time_ms[0] == 3.0, "the total is what counts"
    assert recording.outcome(1) == Failed("unknown", "Results are wrong")
    for counter in ("achieved_occupancy", "dram_read_transactions", "inst_fp_32", "l2_utilization"):
        assert load(tmp_path, CSV.replace("dram__sectors.sum", counter), "sum.csv").parameters == ("X", "Y")


def test_a_torn_line_of_csv_is_dropped_and_another_named(tmp_path):
    with pytest.warns(UserWarning, match="cut off in its last line"):
        recording = load(tmp_path, CSV + "sum,7,6", "sum.csv")
    assert recording.partial
    assert len(recording) == 2
    for line, cells in (("sum,500,64,32,2,1.5,18", 7), ("sum,500,64,32,2,1.5,18,1024,5", 9)):
        with pytest.raises(RecordingError, match=f"line 3: it has {cells} cells where the header has 8"):
            load(tmp_path, CSV.replace("sum,500,64,32,2,1.5,18,1024", line), "sum.csv")
    ends_in_comma = CSV.replace("work-group size", "work-group size,")
    assert len(load(tmp_path, ends_in_comma, "sum.csv")) == 2
    with pytest.raises(RecordingError, match="line 3: it has 2 cells"):
        load(tmp_path, CSV.replace("sum,500,64,32,2,1.5,18,1024", "sum,500"), "sum.csv")


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="line 1: it has a column twice"):
        load(tmp_path, CSV.replace(",Y,", ",X,"), "sum.csv")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (ktt([]), "no results"),
        (ktt([ktt_result(1)], "Fortnights"), "'Fortnights'"),
        ({"Metadata": {}, "Results": []}, "TimeUnit"),
        (ktt([ktt_result(1), ktt_result(1, KernelName="other")]), "2 kernels"),
        (ktt([ktt_result(1, Configuration=[{"Name": "X"}])]), "result 0"),
        (ktt([ktt_result(1), ktt_result(1, Configuration=[])]), "result 1 has other parameters"),
        (ktt([ktt_result(1, Configuration=[{"Name": "X", "Value": 1}] * 2)]), "result 0: .*a parameter twice"),
        (ktt([ktt_result([float("nan")])]), "not finite"),
        (ktt([ktt_result(1, duration=[])]), "result 0"),
        (ktt([ktt_result(1, CompilationOverhead=-1)]), "result of 1,0.5"),
    ],
)
def test_wrong_files_of_ktt_are_errors(tmp_path, file, said):
    with pytest.raises(RecordingError, match=said):
        load(tmp_path, file)


def test_ktts_output_is_ranked_by_durations_alone(tmp_path):
    assert load(tmp_path, ktt([ktt_result(1)]), objective="TotalDuration").objective == Objective()
    with pytest.raises(RecordingError, match="duration alone"):
        load(tmp_path, ktt([ktt_result(1)]), objective="energy", direction="lower")


@pytest.mark.parametrize(
    "text",
    [
        "<TuningData>",
        "<TuningData><Metadata TimeUnit='Seconds'/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><TuningData/>",
        "<TuningData><Results><KernelResult/></Results></TuningData>",
        "<TuningData>" + "<a>" * 100_000,
        '<TuningData><Metadata TimeUnit="Seconds"/><KernelResult Status="Ok" TotalDuration="1">'
        '<Pair Name="a" ValueType="Double" Value="x"/></KernelResult></TuningData>',
    ],
)
def test_wrong_xml_is_an_error(tmp_path, text):
    with pytest.raises(RecordingError, match=r"file\.xml"):
        load(tmp_path, text, "file.xml")


# Other files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"ConfigurationSpace": {}, "KernelSpecification": {}}, "a T1 problem file.*give the results"),
        ({"General": {}, "ConfigurationSpace": {}}, "a T1 problem file"),
        ('{"format":"autotune-journal","version":1}\n{"sum":"1"}\n', "a journal of a search"),
        ({"1": {"BLOCK_SIZE_M": 16}, "2": {"BLOCK_SIZE_M": 16}}, "vLLM and SGLang.*`autotune import`"),
        ({"triton_version": "3.4.0", "1": {"BLOCK_SIZE_M": 16}}, "vLLM and SGLang"),
        ({"kernel_name": "k", "autotune_entries": {}}, "tuned configs of a Triton kernel"),
        ({"_metadata": {}, "('gemm', 'R', ((1, 2),))": ["R", 3]}, "FlashInfer"),
        ({"schema_version": "1.0.0", "metadata": {}}, "T4 metadata without results"),
        ({"alpha": 1, "beta": 2}, "JSON of another kind with the names alpha, beta"),
        ({"kernel": "k", "results": [{"time": 3.0, "parameters": {"X": 1}}]}, "JSON of results that are not T4's"),
        ({"results": 3}, "a T4 file that is damaged"),
        ([1, 2], "JSON of another kind"),
        ("3", "JSON of another kind"),
        ("", "it is empty"),
        ("  \n", "it is empty"),
        ("a,b\n1,2\n", "CSV, but not KTT's"),
        ("<html/>", "XML, but not KTT's"),
        ("import os\n", "not JSON"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"PK\x03\x04aaaa", "a zip archive"),
        (b"\x80\x04\x95", "a pickle"),
        (json.dumps(t4([result(1), result(2)]))[:-60], "a T4 file that is damaged or was cut off"),
        (json.dumps(ktt([ktt_result(1)]))[:-60], "KTT's JSON that is damaged or was cut off"),
        ('{"results": [1, }', "a T4 file that is damaged"),
    ],
)
def test_what_is_no_recording_is_told_with_what_is_known(tmp_path, content, said):
    with pytest.raises(RecordingError, match=f"file.json: not a recording: .*{said}.*; known are Kernel Tuner"):
        load(tmp_path, content)


# Hostile content


def test_a_byte_order_mark_is_no_content(tmp_path):
    text = b"\xef\xbb\xbf" + json.dumps(t4([result(1)])).encode()
    assert len(load(tmp_path, text)) == len(load(tmp_path, gzip.compress(text))) == 1
    assert len(load(tmp_path, b"\xef\xbb\xbf" + CSV.encode(), "a.csv")) == 2


MEASURE = """
import resource, sys, time
from autotune.core.errors import AutotuneError, RecordingError
from autotune.studies.recordings import load_recording
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    load_recording(sys.argv[1])
except RecordingError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.process_time() - began)
"""


def bombs():
    big = 2**20
    return {
        "spaces": b'{"results": [' + b" " * (300 * big),
        "objects": b'{"results": [' + b"{}," * (100 * big) + b"{}]}",
        "names": b'{"tune_params": {}, "cache": {' + b",".join(b'"%d":{}' % i for i in range(2 * big)) + b"}}",
        "brackets": b"[" * (300 * big),
        "nan": b"NaN " * (70 * big),
        "csv": b"Kernel name,Computation duration (us)\n" + b"," * (300 * big),
    }


SLOW_BOMBS = [pytest.param(name, marks=pytest.mark.slow) for name in ("spaces", "objects", "nan", "names", "brackets")]


@pytest.mark.parametrize("name", ["csv", *SLOW_BOMBS])
def test_a_small_file_takes_little_memory_and_time(tmp_path, name):
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(bombs()[name], 6))
    output = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True).stdout
    *errors, figures = output.splitlines()
    mebibytes, seconds = map(float, figures.split())
    assert len(errors) == 1, output
    assert mebibytes < max(700, 60 * path.stat().st_size / 2**20), output
    assert seconds < 10, output


def test_the_limit_is_said_and_a_good_file_is_far_from_it(tmp_path):
    with pytest.raises(RecordingError, match="unpacks to more than 29 MiB, which no recording of its size does"):
        load(tmp_path, gzip.compress(b" " * (300 * 2**20)), "bomb.gz")
    text = json.dumps(t4([result(x) for x in range(20_000)])).encode()
    packed = gzip.compress(text, 9)
    assert len(text) / len(packed) > 30, "as even as it is"
    assert len(load(tmp_path, packed)) == 20_000


def test_many_members_are_read_in_time(tmp_path):
    text = json.dumps(t4([result(1)])).encode()
    began = time.process_time()
    assert len(load(tmp_path, gzip.compress(b"") * 200_000 + gzip.compress(text))) == 1
    assert time.process_time() - began < 5


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    kinds = {"fifo": "a FIFO", "link": "a device", "socket": "a socket", ".": "a directory", "loop": "symbolic links",
             "x" * 300: "name too long", "none": "No such file", "a\0b": "null byte"}  # fmt: skip
    for name, kind in kinds.items():
        with pytest.raises(RecordingError, match=f"cannot be read .*{kind}"):
            load_recording(tmp_path / name)


def deep(depth, inner):
    return "[" * depth + inner + "]" * depth


@pytest.mark.parametrize("depth", [50, 500, 900, 1_100, 100_000])
def test_deep_values_are_values_or_refused(tmp_path, depth):
    texts = [
        json.dumps(t4([result("@")])).replace('"@"', deep(depth, "1")),
        json.dumps(cache([{"x": "@", "time": 1.0}], tune_params={"x": ["@"]})).replace('"@"', deep(depth, "1")),
        json.dumps(ktt([ktt_result("@")])).replace('"@"', deep(depth, "1")),
        '{"format":"autotune-recording","version":1,"a":' + deep(depth, "1") + "}",
        '{"a":' * depth + "1" + "}" * depth,
    ]
    for text in texts:
        found = attempt(tmp_path, text)
        assert "file.json" in str(found) if isinstance(found, AutotuneError) else len(found) == 1


NASTY = [
    "NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 5_000, "-1", "0",
    '"\\ud800"', '"\\u0000NaN"', '"' + "x" * 300 + '"', "null", "{}", "[]", "true", '"=cmd()"', '"\\u001b[31m"',
]  # fmt: skip


@pytest.mark.parametrize("nasty", NASTY)
def test_nasty_values_anywhere_are_a_recording_or_one_sentence(tmp_path, nasty):
    """Every leaf of each format in turn is replaced by the nasty value, and every name."""
    own = tmp_path / "own.json"
    write_recording(load(tmp_path, t4([result(1), result(2, invalidity="compile")])), own)
    files = [
        t4([result(1), result(2)]),
        scores("energy", "J", ["energy"]),
        cache([{"x": 1, "time": 1.0, "times": [1.0]}]),
        ktt([ktt_result(1), ktt_result(2)]),
        json.loads(own.read_bytes()),
    ]
    for file in files:
        for text in replaced(file, nasty):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = attempt(tmp_path, text)
            if isinstance(found, AutotuneError):
                assert "\n" not in str(found)
                continue
            write_recording(found, tmp_path / "again.json")
            again = load_recording(tmp_path / "again.json")
            assert again.time_ms.tolist() == pytest.approx(found.time_ms.tolist(), nan_ok=True)


def replaced(value, nasty):
    """The JSON texts in which one leaf, or one string's content, is the nasty text."""
    marks = [mark for mark, _ in marked(value)]
    for mark in marks:
        yield json.dumps(mark, separators=(",", ":")).replace('"@@"', nasty)


def marked(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            for other, _ in marked(inner):
                yield {**value, name: other}, None
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for other, _ in marked(inner):
                yield [*value[:place], other, *value[place + 1 :]], None
    yield "@@", None


def test_truncated_and_doubled_files(tmp_path):
    packed = gzip.compress(json.dumps(t4([result(x) for x in range(50)])).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cut in (1, 2, 9, 10, 50, len(packed) // 2):
            with pytest.raises(RecordingError):
                load(tmp_path, packed[:cut])
    with pytest.warns(UserWarning, match="ends too early"):
        recording = load(tmp_path, packed[:-4])
    assert (len(recording), recording.partial) == (50, True)
    text = '{"results": [], "results": ' + json.dumps([result(1)]) + "}"
    assert len(load(tmp_path, text)) == 1, "of a name written twice the last counts, as in Python"


def test_names_say_what_is_written(tmp_path):
    recording = load(tmp_path, t4([result(1)]))
    for write in (write_recording, write_kernel_tuner):
        for name in ("a.csv", "a.CSV", "a.csv.gz", "a.toml", "a.py", "a.xml", "a.json.zst", "a.tar.gz.zip"):
            with pytest.raises(RecordingError, match=r"its name says .*, and JSON is written; call it a"):
                write(recording, tmp_path / name)
            assert not (tmp_path / name).exists()
        for name in ("a", "a.gz", "a.json", "a.autotune.json.gz", "a.v2", "a.b.c", ".hidden", "x" * 250):
            write(recording, tmp_path / name)
            assert len(load_recording(tmp_path / name)) == 1

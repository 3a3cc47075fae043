"""Laws of recordings: writing and reading back is the identity, lookup is a dictionary, no file breaks the reader,
points that differ stay apart, the best is the best by the objective, and seeds are points of the space."""

import json
import tempfile
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.core.config import Config, token
from autotune.core.errors import AutotuneError, RecordingError
from autotune.core.outcomes import FAILURE_KINDS
from autotune.core.parameters import Boolean, Integer, PowerOfTwo
from autotune.core.space import Space
from autotune.interop.seed_configs import load_seeds
from autotune.interop.tuned_configs import read_tuned_configs, write_tuned_configs
from autotune.studies.recordings import (
    RecordingHeader,
    RecordingRow,
    build_recording,
    load_recording,
    recorded_parameters,
    write_kernel_tuner,
    write_recording,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner, max_size=2).map(tuple), max_leaves=3)
TIMES = st.floats(1e-6, 1e9)
SECONDS = st.floats(0, 1e6)


KEYS = TEXT | st.sampled_from(
    ["tune_params", "cache", "results", "metadata", "timeunit", "configuration", "times", "format"]
)
RESERVED = {
    "time",
    "times",
    "compile_time",
    "verification_time",
    "benchmark_time",
    "strategy_time",
    "framework_time",
    "failure_kind",
    "failure_message",
    "__error__",
}


def understood(path):
    """Whether the file is a recording, or an error that names it."""
    try:
        load_recording(path)
    except RecordingError as error:
        return str(path) in str(error)
    return True


@st.composite
def recordings(draw):
    """Any recording that our own format can hold, spaces of one point and empty ones included."""
    names = draw(st.lists(TEXT.filter(lambda name: name not in RESERVED), max_size=3, unique=True))
    columns = st.lists(VALUES, min_size=1, max_size=3, unique_by=token)
    values = tuple(tuple(draw(columns)) for _ in names)
    points = draw(st.permutations(list(product(*(range(len(column)) for column in values)))))
    points = points[: draw(st.integers(0, len(points)))]
    keys = draw(st.booleans())
    rows = []
    for number, codes in enumerate(points):
        time = draw(st.none() | TIMES)
        point = ",".join(str(column[code]) for column, code in zip(values, codes, strict=True))
        rows.append(
            RecordingRow(
                key=f"{number}" if keys else f"{point}#{number}" if len(points) > 1 else point,
                codes=codes,
                time_ms=time,
                samples_ms=draw(st.lists(TIMES, max_size=3)) if time is not None else (),
                compile_s=draw(SECONDS),
                run_s=draw(SECONDS),
                framework_s=draw(SECONDS),
                kind=draw(st.sampled_from(FAILURE_KINDS)),
                message=draw(TEXT),
            )
        )
    header = RecordingHeader(
        name="x",
        kernel=draw(TEXT),
        device=draw(TEXT),
        problem=draw(TEXT),
        parameters=tuple(names),
        values=values,
        partial=draw(st.booleans()),
    )
    return replace(
        build_recording(header, rows),
        constraints=tuple(draw(st.lists(TEXT, max_size=2))),
        space=draw(st.none() | st.just('{"a": [1,\n 2.50]}')),
        versions=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    )


@settings(deadline=None)
@given(recordings(), st.booleans())
def test_our_format_is_the_identity(recording, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.autotune.json{'.gz' if packed else ''}"
        write_recording(recording, path)
        assert load_recording(path) == recording


@settings(deadline=None)
@given(recordings())
def test_a_kernel_tuner_export_reads_back(recording):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_kernel_tuner(recording, path)
        read = load_recording(path)
    for name in ("compile_s", "run_s", "framework_s"):
        np.testing.assert_allclose(getattr(read, name), getattr(recording, name), rtol=1e-12)
    kept = ("partial", "constraints", "space", "versions", "compile_s", "run_s", "framework_s")
    assert replace(read, **{name: getattr(recording, name) for name in kept}) == recording


@settings(deadline=None)
@given(recordings(), st.data())
def test_lookup_is_a_dictionary(recording, data):
    known = {tuple(codes): row for row, codes in enumerate(recording.codes.tolist())}
    code = st.integers(-2, 4)
    asked = data.draw(st.lists(st.tuples(*[code for _ in recording.parameters]), max_size=20))
    points = np.array(asked, np.int64).reshape(len(asked), len(recording.parameters))
    assert recording.lookup(points).tolist() == [known.get(point, -1) for point in asked]


@settings(deadline=None)
@given(recordings())
def test_parameters_have_the_values_in_the_order_of_the_recording(recording):
    for parameter, values in zip(recorded_parameters(recording).values(), recording.values, strict=True):
        codes = np.arange(parameter.size)[:, None]
        assert parameter.size == len(values)
        assert [token(value) for value in parameter.decode(codes)] == list(map(token, values))


@settings(max_examples=300, deadline=None)
@given(recordings(), st.booleans(), st.data())
def test_no_damage_breaks_the_reader(recording, ours, data):
    """A changed, dropped or inserted stretch of bytes, or a cut: a recording or a RecordingError, nothing else."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "x.json"
        (write_recording if ours else write_kernel_tuner)(recording, path)
        text = path.read_bytes()
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.sampled_from([start, start + 1, len(text)]) | st.integers(start, len(text)))
        new = data.draw(st.binary(max_size=3) | st.sampled_from([b"NaN", b"-1", b"1e999", b"null", b'"', b"{}", b"[]"]))
        path.write_bytes(text[:start] + new + text[end:])
        assert understood(path)


def loaded(content, name="x.json", **options):
    """The recording in a file of this content; warnings are not at issue."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load_recording(path, **options)


POINTS = st.lists(
    st.fixed_dictionaries({"a": VALUES | st.sampled_from(["x,y", "x", ",", "1", "1.0", "True"]), "b": VALUES | TEXT}),
    min_size=1,
    max_size=6,
    unique_by=lambda point: token([point["a"], point["b"]]),
)


@settings(deadline=None)
@given(POINTS, st.data())
def test_points_that_differ_stay_apart(points, data):
    """Whatever their text: a measurement each, a key each, found again by it; and a repeat of one replaces that one."""
    times = [1.0 + i for i in range(len(points))]
    results = [{"configuration": point, "times": {"runtimes": [t]}} for point, t in zip(points, times, strict=True)]
    recording = loaded({"results": results})
    assert recording.time_ms.tolist() == times
    assert len(set(recording.keys)) == len(points)
    for row, point in enumerate(points):
        assert recording.config(row) == point
    again = data.draw(st.integers(0, len(points) - 1))
    more = loaded({"results": [*results, {"configuration": points[again], "times": {"runtimes": [99.0]}}]})
    assert more.time_ms.tolist() == [99.0 if i == again else t for i, t in enumerate(times)]


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), st.sampled_from(["lower", "higher"]), st.booleans())
def test_the_best_is_the_best_by_the_objective(scores, direction, cache):
    """In either format, read again from ours too: values are kept, and the least cost is the best value."""
    if cache:
        rows = {str(x): {"x": x, "time": 1.0, "score": score} for x, score in enumerate(scores)}
        file = {"tune_params": {"x": list(range(len(scores)))}, "objective": "score", "cache": rows}
    else:
        measured = [[{"name": "score", "value": score}] for score in scores]
        file = {"results": [{"configuration": {"x": x}, "measurements": m} for x, m in enumerate(measured)]}
    recording = loaded(file, objective="score", direction=direction)
    best = (min if direction == "lower" else max)(scores)
    found = [recording.objective.value(float(cost)) for cost in recording.time_ms]
    np.testing.assert_allclose(found, scores, rtol=1e-12)
    np.testing.assert_allclose(recording.objective.value(recording.optimum_ms), best, rtol=1e-12)
    with tempfile.TemporaryDirectory() as folder:
        for write in (write_recording, write_kernel_tuner):
            write(recording, Path(folder) / "again.json")
            again = load_recording(Path(folder) / "again.json")
            assert again.objective == recording.objective
            np.testing.assert_allclose(again.time_ms, recording.time_ms, rtol=1e-12)


RESULTS = st.lists(
    st.tuples(
        st.fixed_dictionaries({"X": st.integers(0, 2**40), "Y": st.sampled_from([0.5, 1.0, 2.5])}),
        st.floats(1, 1e9),
        st.sampled_from(["Ok", "ComputationFailed", "ValidationFailed", "CompilationFailed", "DeviceLimitsExceeded"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(
    RESULTS, st.sampled_from([("Nanoseconds", 1e-6), ("Microseconds", 1e-3), ("Milliseconds", 1.0), ("Seconds", 1e3)])
)
def test_ktts_json_and_xml_say_the_same(results, unit):
    """And what they say: the mean of the runs of a configuration in the file's unit, unless its last run failed."""
    kinds = {"X": "UnsignedInt", "Y": "Double"}
    rows = [
        {"KernelName": "k", "Status": status, "TotalDuration": duration,
         "Configuration": [{"Name": n, "ValueType": kinds[n], "Value": v} for n, v in point.items()]}
        for point, duration, status in results
    ]  # fmt: skip
    metadata = {"Device": "d", "TimeUnit": unit[0]}
    recording = loaded({"Metadata": metadata, "Results": rows})

    def attributes(fields):
        return "".join(
            f' {name}="{value!r}"'.replace("'", "") for name, value in fields.items() if name != "Configuration"
        )

    inner = "".join(
        f"<KernelResult{attributes(row)}><Configuration>"
        + "".join(f"<Pair{attributes(pair)}/>" for pair in row["Configuration"])
        + "</Configuration></KernelResult>"
        for row in rows
    )
    assert (
        loaded(f"<TuningData><Metadata{attributes(metadata)}/><Results>{inner}</Results></TuningData>", "x.xml")
        == recording
    )
    runs = {}
    for point, duration, status in results:
        runs.setdefault(token([point["X"], point["Y"]]), []).append((duration * unit[1], status))
    for row, repeated in enumerate(runs.values()):
        times = [duration for duration, status in repeated if status == "Ok"]
        if repeated[-1][1] == "Ok":
            np.testing.assert_allclose(recording.time_ms[row], np.mean(times), rtol=1e-12)
        else:
            assert recording.failure(row) not in (None, "invalid_time")


SPACE = Space(
    {"A": PowerOfTwo(1, 64), "B_SIZE": Integer(0, 9), "c": Boolean()},
    ["A + B_SIZE < 60"],
    default={"A": 8, "B_SIZE": 2, "c": True},
)
CONFIGS = st.dictionaries(
    st.sampled_from(["A", "B", "B_SIZE", "c", "C", "other"]),
    st.sampled_from([1, 2, 4, 8, 9, 64, True, False, 1.0, None, "x", -1, [1, 2]]),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 10**6), CONFIGS, min_size=1, max_size=6))
def test_seeds_are_points_of_the_space_and_a_written_file_reads_back(configs):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "N=1.json"
        write_tuned_configs(configs.items(), path, "vllm")
        found = read_tuned_configs(path)
        assert {e.labels["M"]: e.config for e in found.entries} == {m: Config(config) for m, config in configs.items()}
        try:
            seeds = load_seeds(path, SPACE)
        except AutotuneError:
            return
        assert seeds.configs == tuple(dict.fromkeys(SPACE.check(config) for config in seeds))
        for entry in found.entries:
            whole = {**SPACE.default, **entry.config}
            if whole.keys() == set(SPACE.names) and valid(whole):
                assert SPACE.check(whole) in seeds.configs


def valid(config):
    try:
        SPACE.check(config)
    except AutotuneError:
        return False
    return True


def foreign_files():
    """Small files of other tuners and libraries, by format."""
    pair = [{"Name": "X", "ValueType": "Int", "Value": 4}]
    run = {"KernelName": "k", "Status": "Ok", "TotalDuration": 2.0, "Configuration": pair}
    measured = [{"name": "GFLOP/s", "value": 3.5, "unit": ""}]
    t4 = {"configuration": {"x": 1}, "objectives": ["GFLOP/s"], "measurements": measured, "times": {"runtimes": [1.0]}}
    config = {"kwargs": {"A": 16}, "num_warps": 4}
    values = {
        "T4": {"results": [t4]},
        "KTT": {"Metadata": {"TimeUnit": "Seconds"}, "Results": [run, run]},
        "old cache": {"tune_params_keys": ["x"], "cache": {"1": {"x": 1, "GFLOP/s": "InvalidConfig"}}},
        "vLLM": {"triton_version": "3", "1": {"A": 16, "B": 3}},
        "fla": {"default_config": config, "autotune_entries": {"a": {"autotune_key": [1], "config": config}}},
        "FlashInfer": {"_metadata": {}, "('op', 'R', ((1, 2),))": ["R", [8, 3]]},
        "Triton": {"key": [1], "configs_timings": [[config, [0.5, 0.4]]]},
        "seeds": {"format": "autotune-seeds", "version": 1, "seeds": [{"A": 16}]},
    }
    texts = {name: json.dumps(value) for name, value in values.items()}
    head = '<TuningData><Metadata TimeUnit="Seconds"/><Results><KernelResult Status="Ok" TotalDuration="1.5">'
    pairs = '<Configuration><Pair Name="X" ValueType="Int" Value="4"/></Configuration>'
    tail = f"{pairs}</KernelResult></Results></TuningData>"
    csv = "Kernel name,Computation duration (us),Global size,Local size,X,a__b.sum\nk,2,8,8,4,17\nk,3,8,8,5,\n"
    return {**texts, "XML": head + tail, "CSV": csv + "\nKernel name,Status,Global size,Local size,X\nk,wrong,8,8,9\n"}


PARTS = [
    b"NaN",
    b"-1",
    b"1e999",
    b"null",
    b'"',
    b"{",
    b"}",
    b"[]",
    b",",
    b":",
    b"\\u0000",
    b"\xff",
    b"\n",
    b"<",
    b"9" * 40,
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(foreign_files())), st.data())
def test_no_damage_to_a_file_of_others_breaks_its_reader(name, data):
    """Up to four changed, dropped, inserted or repeated stretches of bytes: it is read, or a sentence says why not."""
    text = foreign_files()[name].encode()
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + data.draw(st.sampled_from([*PARTS, b"", text[:9], text[start:end] * 2])) + text[end:]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "x.json"
        path.write_bytes(text)
        for said in (complaint(load_recording, path), complaint(load_seeds, path, SPACE)):
            assert said is None or (str(path) in said and "\n" not in said)


def complaint(read, *arguments):
    """The error's text; None where there is none."""
    try:
        read(*arguments)
    except AutotuneError as error:
        return str(error)
    return None


@settings(deadline=None)
@given(
    st.recursive(
        SCALARS | TEXT, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=4), max_leaves=12
    )
)
def test_no_json_breaks_the_reader(value):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "x.json"
        path.write_text(json.dumps(value))
        assert understood(path)

"""Laws of recordings: writing and reading back is the identity, lookup is a dictionary, no file breaks the reader."""

import json
import tempfile
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.core.config import token
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS
from autotune.studies.recordings import (
    Header,
    Row,
    load_recording,
    parameters_of,
    recording_of,
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
            Row(
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
    header = Header("x", draw(TEXT), draw(TEXT), draw(TEXT), tuple(names), values, draw(st.booleans()))
    return replace(
        recording_of(header, rows),
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
    for parameter, values in zip(parameters_of(recording).values(), recording.values, strict=True):
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

"""Recorded spaces: what good files say, and what becomes of cut, damaged and foreign ones."""

import gzip
import json
import os
import re
import time
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, Failed, Timed
from autotune.core.parameters import Boolean, Choice, Integer, PowerOfTwo
from autotune.studies.recordings import (
    Recording,
    load_recording,
    recorded_parameters,
    write_kernel_tuner,
    write_recording,
)
from autotune.studies.recordings.recording import parameter_for_values, role_for_name
from tests.support import ROOT

SPACES = Path(os.environ.get("AUTOTUNE_SPACES", ROOT.parent / "shared" / "spaces"))

VALUES = {"block_size_x": [16, 32, 64], "unroll": [True, False], "mode": ["a", None, 1.5]}


def entry(point, **changed):
    measured = {"time": 2.0, "times": [1.5, 2.5], "compile_time": 500.0, "benchmark_time": 40.0}
    return {
        **dict(zip(VALUES, point, strict=True)),
        **measured,
        "verification_time": 2,
        "framework_time": 8.0,
        **changed,
    }


def key(point):
    return ",".join(map(str, point))


POINTS = list(product(*VALUES.values()))


def cache_file(entries=None, **changed):
    """A Kernel Tuner cache file as Kernel Tuner writes it: an indented header, then an entry a line."""
    header = {
        "device_name": "A100",
        "kernel_name": "conv",
        "problem_size": [4096, 4096],
        "tune_params_keys": list(VALUES),
        "tune_params": VALUES,
        "objective": "time",
        "cache": {},
        **changed,
    }
    entries = {key(point): entry(point) for point in POINTS} if entries is None else entries
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in entries.items()]
    return json.dumps(header, indent="")[:-3] + "\n" + ",\n".join(lines) + "}\n}"


def load(tmp_path, text, name="conv__A100.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recording(path)


def attempt(tmp_path, text, name="conv__A100.json"):
    """The recording, or the one error that a bad file may raise."""
    try:
        return load(tmp_path, text, name)
    except RecordingError as error:
        return error


def load_one(tmp_path, **changed):
    return load(tmp_path, cache_file({key(POINTS[0]): entry(POINTS[0], **changed)}))


# A good Kernel Tuner file


def test_kernel_tuner_file_is_read_in_full(tmp_path):
    recording = load(tmp_path, cache_file())
    assert (recording.name, recording.kernel, recording.device) == ("conv__A100", "conv", "A100")
    assert recording.problem == "4096x4096"
    assert recording.parameters == tuple(VALUES)
    assert repr(recording.values) == repr(tuple(map(tuple, VALUES.values())))
    assert len(recording) == 18
    assert recording.full_product
    assert not recording.partial
    assert [recording.key(row) for row in range(18)] == list(map(key, POINTS))
    assert [tuple(recording.config(row).values()) for row in range(18)] == POINTS
    assert recording.samples(3).tolist() == [1.5, 2.5]
    assert recording.outcome(3) == Timed((2.0,), compile_s=0.5, run_s=0.042)
    assert recording.framework_s[3] == 0.008
    assert recording.optimum_ms == 2.0


def test_a_recording_is_read_only(tmp_path):
    recording = load(tmp_path, cache_file())
    with pytest.raises(ValueError, match="read-only"):
        recording.time_ms[0] = 1.0
    with pytest.raises(AttributeError):
        recording.kernel = "other"


@pytest.mark.parametrize(
    ("time", "kind", "message"),
    [
        ("CompilationFailedConfig", "compile_error", "CompilationFailedConfig"),
        ("RuntimeFailedConfig", "run_error", "RuntimeFailedConfig"),
        ("InvalidConfig", "skipped", "InvalidConfig"),
        ("SomethingElse", "unknown", "SomethingElse"),
        (1e20, "unknown", "1e+20"),
        (float("nan"), "invalid_time", "NaN"),
        (float("inf"), "invalid_time", "Infinity"),
        (float("-inf"), "invalid_time", "-Infinity"),
        (0, "invalid_time", "0"),
        (-1.0, "invalid_time", "-1.0"),
        (None, "invalid_time", "no time"),
    ],
)
def test_what_is_no_time_is_a_failure(tmp_path, time, kind, message):
    recording = load_one(tmp_path, time=time)
    outcome = recording.outcome(0)
    assert isinstance(outcome, Failed)
    assert outcome.kind == recording.failure(0) == kind
    assert message in outcome.message
    assert outcome.compile_s == 0.5
    assert len(recording.samples(0)) == 0
    assert np.isnan(recording.time_ms[0])
    with pytest.raises(RecordingError, match="no timed point"):
        _ = recording.optimum_ms


def test_a_word_that_looks_like_a_number_stays_a_word_inside_strings(tmp_path):
    values = {"flag": ["NaN", 'a "quoted" Infinity']}
    entries = {v: {"flag": v, "time": float("nan")} for v in values["flag"]}
    recording = load(tmp_path, cache_file(entries, tune_params=values, tune_params_keys=["flag"]))
    assert recording.values == (tuple(values["flag"]),)
    assert recording.messages == ("NaN", "NaN")


def test_lookup_never_makes_up_a_point(tmp_path):
    entries = {key(point): entry(point) for point in POINTS[::2]}
    recording = load(tmp_path, cache_file(entries))
    assert not recording.full_product
    assert recording.lookup(recording.codes).tolist() == list(range(9))
    everything = np.array(list(product(range(3), range(2), range(3))))
    assert recording.lookup(everything).tolist() == [i // 2 if i % 2 == 0 else -1 for i in range(18)]
    outside = np.array([[3, 0, 0], [-1, 0, 0], [0, 2, 0], [0, 0, 2**62], [-(2**63), 2**63 - 1, 0]])
    assert recording.lookup(outside).tolist() == [-1] * 5
    assert recording.lookup(np.zeros((0, 3), np.int64)).tolist() == []
    with pytest.raises(ValueError, match="shape"):
        recording.lookup(np.zeros((1, 2), np.int64))


def test_a_code_outside_is_not_taken_for_another_point(tmp_path):
    recording = load(tmp_path, cache_file())
    assert recording.full_product
    assert recording.lookup(np.array([[1, -1, 0], [0, 2, 0], [0, 1, -1], [0, 0, 3]])).tolist() == [-1] * 4


def test_lookup_in_a_space_past_63_bits(tmp_path):
    values = {f"p{i}": list(range(64)) for i in range(30)}
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 64, (200, 30))
    entries = {key(row): {**dict(zip(values, row, strict=True)), "time": 1.0} for row in codes.tolist()}
    recording = load(tmp_path, cache_file(entries, tune_params=values, tune_params_keys=list(values)))
    assert recording.lookup(codes).tolist() == list(range(200))
    near = codes.copy()
    near[np.arange(200), rng.integers(0, 30, 200)] += 1
    assert (recording.lookup(near) == -1).all()


def test_the_last_of_two_entries_with_one_key_counts(tmp_path):
    text = cache_file({key(POINTS[0]): entry(POINTS[0])})
    again = json.dumps({key(POINTS[0]): entry(POINTS[0], time=7.0)})[1:]
    recording = load(tmp_path, text.removesuffix("}\n}") + ",\n" + again + "\n}")
    assert recording.time_ms.tolist() == [7.0]


def test_an_empty_cache_is_an_empty_recording(tmp_path):
    recording = load(tmp_path, cache_file({}))
    assert len(recording) == 0
    assert not recording.partial
    assert recording.lookup(np.zeros((2, 3), np.int64)).tolist() == [-1, -1]
    with pytest.raises(RecordingError, match="no timed point"):
        _ = recording.optimum_ms


def test_values_that_python_calls_equal_stay_apart(tmp_path):
    values = {"x": [0.0, -0.0, 0, False, 1, True, 1.0, [1], [True], "1", None]}
    entries = {str(i): {"x": v, "time": 1.0 + i} for i, v in enumerate(values["x"])}
    recording = load(tmp_path, cache_file(entries, tune_params=values, tune_params_keys=["x"]))
    assert recording.codes.ravel().tolist() == list(range(11))
    assert repr(recording.config(8)["x"]) == "(True,)"


def test_lists_as_values(tmp_path):
    values = {"shape": [[1, 2], [3, [4, 5]]]}
    entries = {str(v): {"shape": v, "time": 1.0} for v in values["shape"]}
    recording = load(tmp_path, cache_file(entries, tune_params=values, tune_params_keys=["shape"]))
    assert recording.values == (((1, 2), (3, (4, 5))),)
    assert recording.codes.tolist() == [[0], [1]]


# Files that were cut off


def test_a_file_cut_at_any_byte_gives_its_whole_entries(tmp_path):
    text = cache_file().encode()
    whole = load(tmp_path, text)
    start = text.index(b'"cache": {') + len(b'"cache": {')
    ends = [match.end() for match in re.finditer(rb"\}(?=,\n|\}\n)", text) if match.end() > start]
    assert len(ends) == len(whole)
    for cut in range(start, len(text), 3):
        kept = sum(end <= cut for end in ends)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            recording = load(tmp_path, text[:cut])
        assert len(recording) == kept
        assert recording.partial
        assert recording.keys == whole.keys[:kept]
        assert recording.time_ms.tolist() == whole.time_ms[:kept].tolist()
        torn = text[max([start, *(end for end in ends if end <= cut)]) : cut].strip(b" ,\n}")
        assert [str(w.message).count("torn last entry") for w in caught] == ([1] if torn else [])


def test_a_file_cut_in_its_header_is_an_error(tmp_path):
    text = cache_file().encode()
    for cut in range(text.index(b'"cache": {') + len(b'"cache": ')):
        with pytest.raises(RecordingError, match=r"conv__A100\.json"):
            load(tmp_path, text[:cut])


@pytest.mark.parametrize("tail", ["Na", "-Infin", "tru", '"Runti', "[1.0, ", "1e", '"a}b', '{"x": [1, {"y"', '"\\'])
def test_whatever_the_last_entry_was_torn_in(tmp_path, tail):
    text = cache_file({key(p): entry(p) for p in POINTS[:2]}).removesuffix("}\n}")
    with pytest.warns(UserWarning, match="torn last entry"):
        recording = load(tmp_path, text + ',\n"16,True,1.5": {"time": ' + tail)
    assert recording.keys == tuple(map(key, POINTS[:2]))


def test_an_open_file_is_read_without_a_warning(tmp_path):
    text = cache_file().removesuffix("}\n}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ending in ("", ",", ",\n", "\n", "}", "\n}\n"):
            recording = load(tmp_path, text + ending)
            assert len(recording) == 18
            assert recording.partial


def test_a_file_cut_after_its_cache_is_an_error(tmp_path):
    text = cache_file().removesuffix("\n}") + ', "objective": "ti'
    with pytest.raises(RecordingError, match="a Kernel Tuner cache file that is damaged or was cut off"):
        load(tmp_path, text)


def test_gzip_is_recognised_by_content_and_read_as_far_as_it_goes(tmp_path):
    text = cache_file().encode()
    packed = gzip.compress(text, mtime=0)
    assert len(load(tmp_path, packed, "no-suffix")) == 18
    assert len(load(tmp_path, gzip.compress(text[:900]) + gzip.compress(text[900:]))) == 18
    counts = []
    for cut in range(0, len(packed), 7):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                recording = load(tmp_path, packed[:cut])
            assert recording.partial
            assert "gzip data ends too early" in str(caught[0].message)
            counts.append(len(recording))
        except RecordingError:
            assert not counts or counts == [0] * len(counts)
    assert sorted(counts) == counts
    assert counts[-1] >= 17


def test_damaged_gzip_is_an_error(tmp_path):
    packed = bytearray(gzip.compress(cache_file().encode()))
    packed[-6] ^= 0x10  # in the checksum
    with pytest.raises(RecordingError, match="damaged gzip data"):
        load(tmp_path, bytes(packed))


# Files that are wrong


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"time": [1.0]}, "time"),
        ({"time": True}, "time"),
        ({"times": 3}, "times"),
        ({"times": [1.0, 0.0]}, "0.0"),
        ({"times": [1.0, float("nan")]}, "NaN"),
        ({"compile_time": "long"}, "long"),
        ({"compile_time": -1}, "-1"),
        ({"block_size_x": 17}, "17"),
        ({"block_size_x": 16.0}, "16.0"),
        ({"unroll": 1}, "1"),
        ({"mode": {"a": 1}}, "dict"),
        ({"failure_kind": "boredom", "time": "InvalidConfig"}, "boredom"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, changed, said):
    with pytest.raises(RecordingError) as caught:
        load_one(tmp_path, **changed)
    assert "conv__A100.json: entry '16,True,a': " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("missing", ["time", "unroll"])
def test_a_missing_field_of_an_entry_is_named(tmp_path, missing):
    whole = entry(POINTS[0])
    del whole[missing], whole["times"]
    with pytest.raises(RecordingError, match=f"entry '16,True,a': .*{missing}"):
        load(tmp_path, cache_file({key(POINTS[0]): whole}))


def test_numbers_past_a_float_are_an_error(tmp_path):
    for field in ('"time": 2.0', '"compile_time": 500.0'):
        text = cache_file().replace(field, field.split(":")[0] + ": 1e999", 1)
        with pytest.raises(RecordingError, match="entry '16,True,a'"):
            load(tmp_path, text)
    with pytest.raises(RecordingError, match="entry '16,True,a'"):
        load(tmp_path, cache_file().replace('"time": 2.0', '"time": ' + "9" * 400, 1))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tune_params": {"block_size_x": [16]}}, "differ"),
        ({"tune_params": []}, "tune_params"),
        ({"tune_params": {**VALUES, "mode": [float("nan")]}}, "mode"),
        ({"tune_params": {**VALUES, "mode": [{"a": 1}]}}, "mode"),
        ({"device_name": 3}, "device_name"),
    ],
)
def test_a_wrong_header_is_an_error(tmp_path, changed, said):
    with pytest.raises(RecordingError, match=said):
        load(tmp_path, cache_file(**changed))


def test_two_entries_for_one_point_are_an_error(tmp_path):
    with pytest.raises(RecordingError, match=r"conv__A100\.json: entries 'a' and 'b' are the same point"):
        load(tmp_path, cache_file({"a": entry(POINTS[0]), "b": entry(POINTS[0])}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "content", [b"", b" ", b"null", b"[]", b"{}", b"12", b"\xff\xfe", b"\x1f\x8b", b"[" * 100000, b'{"a":' * 100000]
)
def test_what_is_no_recording_is_an_error(tmp_path, content):
    with pytest.raises(RecordingError):
        load(tmp_path, content)


@pytest.mark.filterwarnings("ignore:.*torn last entry")
@pytest.mark.parametrize("hostile", [b'\\"', b'"', b"{", b"}", b"NaN", b'"NaN\\', b'{"a":"', b',"a":{}', b"[[["])
@pytest.mark.parametrize("inside", [b'"', b"", b": "])
def test_no_text_takes_the_reader_long(tmp_path, hostile, inside):
    began = time.process_time()
    found = attempt(tmp_path, b'{"tune_params": {"a": [1]}, "cache": {"a": {"NaN"' + inside + hostile * 200_000)
    assert isinstance(found, RecordingError) or len(found) == 0
    assert time.process_time() - began < 5


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(RecordingError, match="check the path"):
        load_recording(tmp_path / "none.json")
    with pytest.raises(RecordingError):
        load_recording(tmp_path)


def test_damage_in_the_middle_is_never_taken_for_a_cut(tmp_path):
    text = cache_file().encode()
    start = text.index(b'"cache": {')
    for place in range(start, len(text) - 600, 5):
        for flipped in (text[place] ^ 1, ord("{"), ord("}"), ord('"'), ord(" ")):
            damaged = text[:place] + bytes([flipped]) + text[place + 1 :]
            found = attempt(tmp_path, damaged)
            assert isinstance(found, RecordingError) or len(found) == 18 or not found.partial, (place, flipped)


# T4


def t4_file(results, **changed):
    return json.dumps(
        {"metadata": {"timeunit": "miliseconds"}, "results": results, "schema_version": "1.0.0", **changed}
    )


def result(x, word="b", **changed):
    times = {"compilation": 500.0, "framework": 8, "validation": 2, "runtimes": [1.0, 3.0]}
    base = {"configuration": {"x": x, "word": word}, "times": times, "invalidity": "correct", "correctness": 1}
    return {**base, "measurements": [{"name": "time", "value": 2.5, "unit": ""}], **changed}


def test_t4_is_read(tmp_path):
    failed = result(2, invalidity="timeout", measurements=[{"name": "time", "value": "Slow", "unit": ""}])
    results = [result(4), failed, result(1, "a", measurements=[]), result(4, measurements=[]), result(8, correctness=0)]
    with pytest.warns(UserWarning, match="1 result left out, as a later one is of the same configuration"):
        recording = load(tmp_path, t4_file(results))
    assert recording.values == ((1, 2, 4, 8), ("b", "a"))
    assert recording.keys == ("4,b", "2,b", "1,a", "8,b")
    assert recording.outcome(0) == Timed((2.0,), 0.5, 0.006)
    assert recording.outcome(1) == Failed("run_timeout", "Slow", 0.5, 0.002)
    assert recording.failure(3) == "wrong_answer"
    assert recording.samples(2).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1e3), ("microseconds", 1e-3), ("nanoseconds", 1e-6)])
def test_t4_time_units(tmp_path, unit, scale):
    recording = load(tmp_path, t4_file([result(1)], metadata={"timeunit": unit}))
    assert recording.time_ms[0] == pytest.approx(2.5 * scale)
    assert recording.samples(0) == pytest.approx([1.0 * scale, 3.0 * scale])
    assert recording.compile_s[0] == pytest.approx(0.5 * scale)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (t4_file([]), "no results"),
        (t4_file([result(1), {"configuration": {"x": 1}}]), "result 1"),
        (t4_file([result(1), result(2, times={"runtimes": "x"})]), "result 1"),
        (t4_file([result(1, measurements=[{"name": "time", "value": []}])]), "result 0"),
        (t4_file([result(1)], metadata={"timeunit": "fortnights"}), "fortnights"),
        (t4_file([result(float("nan"))]), "finite"),
        (t4_file([result(1)])[:-30], "T4|Kernel Tuner"),
    ],
)
def test_wrong_t4_is_an_error(tmp_path, text, said):
    with pytest.raises(RecordingError, match=said):
        load(tmp_path, text)


# Our own format


def own(tmp_path):
    entries = {key(p): entry(p) for p in POINTS[:5]} | {key(POINTS[5]): entry(POINTS[5], time="InvalidConfig")}
    kept = {"constraints": ("block_size_x < 64",), "space": '{"a": [1,  2]}', "versions": {"triton": "3", "cuda": "12"}}
    return replace(load(tmp_path, cache_file(entries), "own.json"), partial=True, **kept)


def test_our_format_holds_everything_and_writes_the_same_bytes(tmp_path):
    recording = own(tmp_path)
    for name in ("own.autotune.json", "own.autotune.json.gz"):
        write_recording(recording, tmp_path / name)
        assert load_recording(tmp_path / name) == recording
        first = (tmp_path / name).read_bytes()
        reordered = replace(recording, versions=dict(reversed(recording.versions.items())))
        write_recording(reordered, tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.autotune.json", "own.autotune.json.gz", "own.json"]


def test_equality_sees_every_field(tmp_path):
    recording = own(tmp_path)
    changes = {"partial": False, "device": "B", "messages": ("",) * 5 + ("x",), "run_s": recording.run_s + 1}
    for name, value in changes.items():
        assert replace(recording, **{name: value}) != recording
    assert replace(recording, samples_ms=recording.samples_ms * 2) != recording
    assert replace(recording) == recording


def test_equality_tells_values_of_different_types_apart(tmp_path):
    recording = own(tmp_path)
    assert replace(recording, values=((16.0, 32, 64), *recording.values[1:])) != recording


def test_our_format_keeps_keys_spelt_otherwise(tmp_path):
    recording = own(tmp_path)
    spelt = replace(recording, keys=tuple(f"k{i}" for i in range(6)))
    write_recording(spelt, tmp_path / "own.autotune.json")
    assert load_recording(tmp_path / "own.autotune.json") == spelt
    text = (tmp_path / "own.autotune.json").read_bytes()
    assert load(tmp_path, b"\n  " + text + b"\n", "own.autotune.json") == spelt


def test_gzip_bytes_hold_no_time(tmp_path):
    write_recording(own(tmp_path), tmp_path / "own.autotune.json.gz")
    assert (tmp_path / "own.autotune.json.gz").read_bytes()[4:8] == bytes(4)


def test_a_failed_row_keeps_no_samples(tmp_path):
    recording = own(tmp_path)
    offsets = recording.offsets.copy()
    offsets[5] -= 1
    with pytest.raises(RecordingError, match="failed row has samples"):
        replace(recording, offsets=offsets)


def test_repeats_can_be_rounded(tmp_path):
    recording = own(tmp_path)
    exact = replace(recording, samples_ms=recording.samples_ms * 1.23456789123)
    write_recording(exact, tmp_path / "own.autotune.json", digits=6)
    read = load_recording(tmp_path / "own.autotune.json")
    assert read.samples_ms == pytest.approx(exact.samples_ms, rel=1e-6)
    assert read.samples_ms[0] == 1.85185
    assert replace(read, samples_ms=exact.samples_ms) == exact


def test_a_crash_while_publishing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "own.autotune.json"
    write_recording(own(tmp_path), path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordingError, match="No space left"):
        write_recording(replace(own(tmp_path), device="new"), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.autotune.json", "own.json"]


def test_a_space_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="JSON"):
        write_recording(replace(own(tmp_path), space="{"), tmp_path / "own.autotune.json")


def test_damage_to_our_format_is_an_error_or_a_recording(tmp_path):
    write_recording(own(tmp_path), tmp_path / "own.autotune.json")
    text = (tmp_path / "own.autotune.json").read_bytes()
    for cut in range(40, len(text), 3):
        with pytest.raises(RecordingError, match=r"own\.autotune\.json: "):
            load(tmp_path, text[:cut], "own.autotune.json")
    for place in range(len(text)):
        for flipped in (text[place] ^ 1, ord("9"), ord('"'), ord("-")):
            found = attempt(tmp_path, text[:place] + bytes([flipped]) + text[place + 1 :], "own.autotune.json")
            assert isinstance(found, Recording) or "own.autotune.json" in str(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 3}, "version 3 where 1 and 2"),
        ({"version": 2}, "version 2 and its objective"),
        ({"objective": {"name": "score"}}, "version 1 and its objective"),
        ({"version": 2, "objective": {"direction": "sideways"}}, "sideways"),
        ({"codes": [[0] * 6] * 3}, "same point"),
        ({"codes": [[9] * 6] * 3}, "outside"),
        ({"codes": [[0] * 6] * 2}, "reshape"),
        ({"repeats": [2, 2, 2, 2, 1, 0]}, "add up"),
        ({"repeats": [2, 2, 2, 2, 3, -1]}, "add up"),
        ({"repeats": [2**62] * 4 + [10, 0]}, "add up"),
        ({"repeats": [2**70] * 6}, "large"),
        ({"time_ms": [2.0] * 6}, "failed row"),
        ({"time_ms": [2.0, 2.0, None, 2.0, 2.0, None]}, "time above zero"),
        ({"failures": {"rows": [7], "kinds": ["crash"], "messages": [""]}}, "row 7"),
        ({"failures": {"rows": [5], "kinds": ["tired"], "messages": [""]}}, "tired"),
        ({"run_s": [-1.0] * 6}, "negative"),
        ({"keys": ["a"]}, "keys|size"),
        ({"compile_s": [1.0]}, "compile_s"),
    ],
)
def test_contradictions_in_our_format_are_errors(tmp_path, change, said):
    write_recording(own(tmp_path), tmp_path / "own.autotune.json")
    file = {**json.loads((tmp_path / "own.autotune.json").read_bytes()), **change}
    with pytest.raises(RecordingError, match=said):
        load(tmp_path, json.dumps(file, separators=(",", ":")), "own.autotune.json")


def test_kernel_tuner_export_reads_back(tmp_path):
    recording = own(tmp_path)
    write_kernel_tuner(recording, tmp_path / "own.json.gz")
    read = load_recording(tmp_path / "own.json.gz")
    same = {"run_s": recording.run_s, "compile_s": recording.compile_s, "framework_s": recording.framework_s}
    lost = {"constraints": recording.constraints, "space": recording.space, "versions": recording.versions}
    assert read.run_s == pytest.approx(recording.run_s)
    assert replace(read, partial=True, **same, **lost) == recording
    crashed = replace(recording, kinds=np.where(recording.timed, 0, 1 + FAILURE_KINDS.index("crash")).astype(np.int8))
    write_kernel_tuner(crashed, tmp_path / "own.json")
    assert load_recording(tmp_path / "own.json").failure(5) == "crash"


# Parameters


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ([16, 32, 64], PowerOfTwo(16, 64)),
        ([1, 2], PowerOfTwo(1, 2)),
        ([1, 2, 3], Integer(1, 3)),
        ([32, 64, 96], Integer(32, 96, 32)),
        ([-4, 0, 4], Integer(-4, 4, 4)),
        ([0, 1], Choice((0, 1), ordered=True)),
        ([1, 2, 8], Choice((1, 2, 8), ordered=True)),
        ([0.5, 1, 2], Choice((0.5, 1, 2), ordered=True)),
        ([64, 32, 16], Choice((64, 32, 16), ordered=True)),
        ([4, 1, 2], Choice((4, 1, 2))),
        ([False, True], Boolean()),
        ([True, False], Choice((True, False))),
        ([False, 1], Choice((False, 1))),
        ([7], Choice((7,))),
        (["a", "b"], Choice(("a", "b"))),
        ([1, "b"], Choice((1, "b"))),
        ([None, 2, 4], Choice((None, 2, 4))),
    ],
)
def test_the_kind_of_a_parameter(values, parameter):
    assert parameter_for_values(values) == parameter
    assert repr(parameter_for_values(values)) == repr(parameter)


def test_roles_come_from_well_known_names_only():
    blocks = ["block_size_x", "block_size_z", "BLOCK", "BLOCK_M", "BLOCK_SIZE_N", "MWG", "KWG"]
    assert {role_for_name(name) for name in blocks} == {"block_size"}
    assert (role_for_name("num_warps"), role_for_name("num_stages")) == ("num_warps", "num_stages")
    assert {role_for_name(name) for name in ["my_block_size_x", "block_size", "BLOCKS", "KWI", "num_warps2"]} == {None}


# The shared recordings, where they are


def shared(name):
    path = SPACES / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def test_t4_and_the_cache_of_one_run_agree_row_by_row():
    cache = load_recording(shared("convolution_milo__A100.json.gz"))
    t4 = load_recording(shared("convolution_milo__A100_T4.json.gz"))
    assert len(cache) == len(t4) == 4362
    for name in ("parameters", "values", "keys", "messages"):
        assert getattr(cache, name) == getattr(t4, name)
    for name in ("codes", "kinds", "time_ms", "samples_ms", "offsets", "compile_s", "framework_s"):
        np.testing.assert_array_equal(getattr(cache, name), getattr(t4, name))
    assert (t4.run_s <= cache.run_s).all()
    assert t4.run_s[t4.timed] == pytest.approx(cache.run_s[cache.timed], rel=0.5)
    assert {cache.failure(row) for row in range(4362)} == {None, "run_error", "compile_error"}


@pytest.mark.slow
def test_every_shared_recording_survives_our_format_and_matches_its_parameters(tmp_path):
    paths = sorted(shared("").glob("*.json.gz"))
    assert paths or pytest.skip("no recordings")
    for path in paths:
        recording: Recording = load_recording(path)
        write_recording(recording, tmp_path / f"{recording.name}.autotune.json")
        assert load_recording(tmp_path / f"{recording.name}.autotune.json") == recording
        for parameter, values in zip(recorded_parameters(recording).values(), recording.values, strict=True):
            assert repr(tuple(parameter.decode(np.arange(parameter.size)[:, None]))) == repr(values)
        assert (recording.lookup(recording.codes) == np.arange(len(recording))).all()


def test_a_large_recording_loads_fast():
    path = shared("gemm__RTX_2080_Ti.json.gz")
    began = time.process_time()
    recording = load_recording(path)
    assert time.process_time() - began < 2.0
    assert len(recording) == 17956
    assert recording.product == 82944
    assert len(recording.samples_ms) == 17956 * 32

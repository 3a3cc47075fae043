"""The results that KTT saves: as JSON and XML (version 2), and as CSV (version 1, and converted from XML).

The formats: https://github.com/HiPerCoRe/KTT (Source/Output/JsonConverters.cpp, XmlConverters.cpp; version 1:
source/utility/result_printer.cpp; Scripts/ConvertXmlToCsv.py). A result is ranked by its total duration, in the unit
that the file names. Every run is a result of its own, so a configuration that was run again has several. The values of
parameters are collected from the results, as for T4, which KTT writes too.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec

from autotune.core.errors import RecordingError
from autotune.core.outcomes import FailureKind
from autotune.shell.warn import warn_user
from autotune.studies.recordings.files import decode, recording_name
from autotune.studies.recordings.objective import PER_SECOND, ObjectiveChoice
from autotune.studies.recordings.recording import Recording
from autotune.studies.recordings.rows import (
    Coder,
    Number,
    RecordingHeader,
    RecordingRow,
    build_recording,
    collect_parameters,
    join_key,
    mean_number,
    parse_duration,
    parse_time,
    parse_value,
)

_STATUS: dict[str, FailureKind] = {
    "ComputationFailed": "run_error",
    "ValidationFailed": "wrong_answer",
    "CompilationFailed": "compile_error",
    "DeviceLimitsExceeded": "run_error",  # "runtime" where KTT converts its output to T4
}
"""The values of KTT's ResultStatus other than Ok."""

TIMES = ("time", "TotalDuration")
"""The names of the objective of these files: ours, and that of KTT's conversion to T4."""

_REMEDY = "correct the file or save the results again"

_DURATION = re.compile(r"(Total|Computation|Kernel) duration \((ns|us|ms|s)\)")

_SIZE = re.compile(r"(Global|Local) size.*")

_PROFILED = re.compile(
    r"\w+__.*\..*|Maximum work-group size"
    r"|(achieved_occupancy|sm_efficiency|issue_slot_utilization|local_memory_overhead|flop_(sp|dp)_efficiency"
    r"|(dram|l2|shared|local|gld|gst|tex_cache)_\w*(transactions|throughput|utilization|efficiency|bytes)"
    r"|tex_utilization|\w+_fu_utilization|warp_(nonpred_)?execution_efficiency"
    r"|inst_(fp_16|fp_32|fp_64|integer|control|compute_ld_st|misc|bit_convert|executed))"
)
"""The first column after the parameters: a counter of Nsight or of CUPTI, or a figure of the compiler."""


class _Result(msgspec.Struct, rename="pascal", kw_only=True):
    """A KernelResult; durations in the file's unit. Version 2.0 has a total overhead, later ones its parts."""

    status: str
    total_duration: Number = None
    kernel_name: str = ""
    configuration: list[dict[str, Any]] = []
    compilation_overhead: Number = None
    validation_overhead: Number = None
    data_movement_overhead: Number = None
    searcher_overhead: Number = None
    profiling_overhead: Number = None
    total_overhead: Number = None


class _Metadata(msgspec.Struct, rename="pascal"):
    time_unit: str
    device: str = ""


class _File(msgspec.Struct, rename="pascal"):
    metadata: _Metadata
    results: list[msgspec.Raw]


_RESULT = msgspec.json.Decoder(_Result)


def read_ktt_json(path: Path, text: bytes, cut: bool, chosen: ObjectiveChoice) -> Recording:
    """The recording in KTT's JSON, its text `without_non_finite`; raises RecordingError, naming the result."""
    file = decode(_File, text, path, "not a whole file of KTT's results", "save the results again")
    results = [decode(_RESULT, raw, path, f"result {number}", _REMEDY) for number, raw in enumerate(file.results)]
    return _build(path, results, file.metadata.time_unit, file.metadata.device, cut, chosen)


def read_ktt_xml(path: Path, text: bytes, cut: bool, chosen: ObjectiveChoice) -> Recording:
    """The recording in KTT's XML; raises RecordingError. A document type, which could define entities, is refused."""
    document = _Document()
    parser = expat.ParserCreate()
    parser.StartElementHandler = document.start
    parser.StartDoctypeDeclHandler = document.refuse
    try:
        parser.Parse(text, True)
        results = [msgspec.convert(fields, _Result, strict=False) for fields in document.results]
        metadata = msgspec.convert(document.metadata, _Metadata, strict=False)
    except (expat.ExpatError, msgspec.MsgspecError, ValueError) as error:
        raise RecordingError(f"{path}: not a whole XML file of KTT's results: {error}; {_REMEDY}") from None
    return _build(path, results, metadata.time_unit, metadata.device, cut, chosen)


class _Document:
    """The attributes of the start tags of KTT's XML, which hold all of it."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.results: list[dict[str, Any]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Metadata":
            self.metadata = dict(attributes)
        elif name == "KernelResult":
            self.results.append({**attributes, "Configuration": []})
        elif name == "Pair" and self.results and "Name" in attributes:  # a Pair before all results is user data
            pair = {"Name": attributes["Name"], "Value": _convert(attributes)}
            self.results[-1]["Configuration"].append(pair)

    def refuse(self, *_: object) -> None:
        raise ValueError("it has a document type, which KTT does not write")


def _convert(pair: dict[str, str]) -> Any:
    """The value of a pair by its ValueType; before version 2.1 by IsDouble, and else a whole number."""
    value, kind = pair.get("Value", ""), pair.get("ValueType")
    if kind == "String":
        return value
    if kind == "Bool":
        return value == "true"
    if kind in ("Double", "Float") or pair.get("IsDouble") == "true":
        return float(value)
    return parse_value(value)


def read_ktt_csv(path: Path, text: bytes, cut: bool, chosen: ObjectiveChoice) -> Recording:
    """The recording in KTT's CSV; raises RecordingError naming the line. Failures are a second table in the file.

    The columns between the sizes and the first profiling counter are the parameters. A last line that was cut off is
    dropped with a warning.
    """
    try:
        lines = list(csv.reader(io.StringIO(text.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path}: not CSV ({error}); {_REMEDY}") from None
    if lines and len(lines[-1]) < len(lines[0]) and lines[-1] and not text.endswith(b"\n"):
        warn_user(f"{path}: cut off in its last line, which was dropped; the whole ones were kept")
        lines, cut = lines[:-1], True
    results, unit = [], ""
    table: _Columns | None = None
    for number, line in enumerate(lines, 1):
        try:
            if line[:1] == ["Kernel name"]:
                table = _Columns(line)
                unit = unit or table.unit
            elif line and table is not None:
                results.append(table.result(line))
        except ValueError as error:
            raise RecordingError(f"{path}: line {number}: {error}; {_REMEDY}") from None
    return _build(path, results, unit, "", cut, chosen)


class _Columns:
    """The places of the columns of a table in KTT's CSV, by its header."""

    def __init__(self, header: Sequence[str]) -> None:
        self.time: int | None = None
        self.unit = ""
        for kind in ("Kernel", "Computation", "Total"):  # the last there is counts: it includes the others
            for place, name in enumerate(header):
                if (match := _DURATION.fullmatch(name)) and match[1] == kind:
                    self.time, self.unit = place, match[2]
        self.status = header.index("Status") if "Status" in header else None
        if self.time is None and self.status is None:
            raise ValueError("it has neither a column such as 'Computation duration (us)' nor a Status")
        sizes = [place for place, name in enumerate(header) if _SIZE.fullmatch(name)]
        first = max([*sizes, self.time or 0, self.status or 0]) + 1
        last = next((place for place, name in enumerate(header) if _PROFILED.fullmatch(name)), len(header))
        self.parameters = {name: place for place, name in enumerate(header) if first <= place < last and name}
        if len(self.parameters) < sum(1 for name in header[first:last] if name):
            raise ValueError("it has a column twice")
        self.width = len(header) - (header[-1] == "")  # a header may end in a comma

    def result(self, line: Sequence[str]) -> _Result:
        if len(line) < self.width or any(line[self.width :]):
            raise ValueError(f"it has {len(line)} cells where the header has {self.width}")
        return _Result(
            status="Ok" if self.status is None else line[self.status],
            total_duration=None if self.time is None else line[self.time],
            kernel_name=line[0],
            configuration=[
                {"Name": name, "Value": parse_value(line[place])} for name, place in self.parameters.items()
            ],
        )


def _build(
    path: Path, results: Sequence[_Result], unit: str, device: str, cut: bool, chosen: ObjectiveChoice
) -> Recording:
    if chosen.name not in (None, *TIMES) or chosen.direction == "higher":
        raise RecordingError(f"{path}: KTT's results are ranked by their duration alone; leave the objective out")
    if not results:
        raise RecordingError(f"{path}: it holds no results, and so no parameters; run a configuration first")
    if (per_second := PER_SECOND.get(unit.lower())) is None:
        raise RecordingError(f"{path}: the TimeUnit {unit!r} is unknown; use one of {', '.join(PER_SECOND)}")
    kernels = tuple(dict.fromkeys(result.kernel_name for result in results))
    if len(kernels) > 1:
        raise RecordingError(f"{path}: it holds the results of {len(kernels)} kernels ({', '.join(kernels)}); split it")
    configurations = []
    for number, result in enumerate(results):
        try:
            configurations.append(dict(_pairs(result)))
            if len(configurations[-1]) < len(result.configuration):
                raise ValueError("its Configuration has a parameter twice")
        except ValueError as error:
            raise RecordingError(f"{path}: result {number}: {error}; {_REMEDY}") from None
    names, values = collect_parameters(path, configurations, _REMEDY)
    coder = Coder(values)
    runs: dict[tuple[int, ...], list[_Result]] = {}
    for configuration, result in zip(configurations, results, strict=True):
        runs.setdefault(coder.codes([configuration[name] for name in names]), []).append(result)
    rows = []
    for codes, repeated in runs.items():
        try:
            rows.append(_row(codes, repeated, per_second))
        except ValueError as error:
            point = join_key(column[code] for column, code in zip(values, codes, strict=True))
            raise RecordingError(f"{path}: the result of {point}: {error}; {_REMEDY}") from None
    header = RecordingHeader(
        name=recording_name(path).removesuffix(".csv").removesuffix(".xml"), kernel=kernels[0], device=device,
        parameters=names, values=values, partial=cut,
    )  # fmt: skip
    return build_recording(header, rows, source=path)


def _pairs(result: _Result) -> Iterator[tuple[str, Any]]:
    for pair in result.configuration:
        if not isinstance(pair.get("Name"), str) or "Value" not in pair:
            raise ValueError("its Configuration is no list of a Name and a Value each")
        yield pair["Name"], pair["Value"]


def _row(codes: tuple[int, ...], runs: Sequence[_Result], per_second: float) -> RecordingRow:
    """A point from all of its runs: the last decides whether it works; its time is the mean of the timed ones."""
    scale = 1e3 / per_second
    timed = [parse_time(run.total_duration, scale) for run in runs if run.status == "Ok"]
    times = [time for time, _, _ in timed if time is not None]
    status = runs[-1].status
    time: float | None = mean_number(times)
    kind, message = timed[-1][1:] if timed else ("unknown", status)
    if status != "Ok":
        time, kind, message = None, _STATUS.get(status, "unknown"), status
    return RecordingRow(
        codes=codes,
        time_ms=time,
        samples_ms=times if time is not None else (),
        compile_s=_sum_seconds([run.compilation_overhead for run in runs], per_second),
        run_s=sum(times) / 1e3 + _sum_seconds([run.validation_overhead for run in runs], per_second),
        framework_s=_sum_seconds([part for run in runs for part in _overheads(run)], per_second),
        kind=kind,
        message=message,
    )


def _overheads(run: _Result) -> tuple[Number, ...]:
    """The time spent on the tuner itself; the whole overhead where a file has the total alone."""
    parts = (run.data_movement_overhead, run.searcher_overhead, run.profiling_overhead)
    return parts if any(part is not None for part in parts) else (run.total_overhead,)


def _sum_seconds(durations: Iterable[Number], per_second: float) -> float:
    return sum(parse_duration(duration, per_second) for duration in durations)

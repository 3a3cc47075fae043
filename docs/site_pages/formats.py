"""The page of the JSON schemas: of the types that the readers of each file decode into."""

import json
from typing import Any

import msgspec

from autotune.core.config import Config
from autotune.core.search.messages import Event
from autotune.core.search.result import Result
from autotune.core.space_spec import SpaceSpec
from autotune.shell.cache.entries import Entry, Measurement
from autotune.shell.journal import Header
from autotune.studies.recordings.own import RecordingFile
from autotune.studies.runs import RunRecord
from autotune.studies.spec import StudySpec
from site_pages import rst

FORMATS: tuple[tuple[str, str, Any, str], ...] = (
    ("journal_header", "The first line of a journal", Header, "It also has ``sum``, the CRC-32 of its other text."),
    (
        "journal_event", "Every other line of a journal", Event,
        "The schema is that of the value of ``event``; beside it stands ``sum``, the CRC-32 chained through all lines.",
    ),
    ("cache_entry", "A file of the cache", None, "The file also has ``sum``, a checksum."),
    ("recording", "A recording in our own format", RecordingFile, "A file ``*.autotune.json``, plain or gzip."),
    ("study", "A study", StudySpec, "A file in TOML or JSON; other fields are errors."),
    ("study_run", "A line of runs.jsonl of a study", RunRecord, "A finished run of a study."),
    ("result", "A result", Result, "The field ``result`` of a file of the cache."),
)  # fmt: skip
"""Name of the schema, title, the type that is decoded (None: the whole entry of the cache), and a sentence."""


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a type that msgspec decodes; a config is an object, a value in it any JSON."""
    return msgspec.json.schema(_entry_of_the_cache() if kind is None else kind, schema_hook=_hook)


def _entry_of_the_cache() -> type:
    """The type of an entry with its space and its measurements, which the reader decodes when they are asked for."""
    inner = {"space": SpaceSpec | None, "measurements": tuple[Measurement, ...]}
    fields: list[Any] = []
    for one in msgspec.structs.fields(Entry):
        if one.encode_name in inner:
            fields.append((one.encode_name, inner[one.encode_name], None if one.encode_name == "space" else ()))
        elif one.required:
            fields.append((one.encode_name, one.type))
        else:
            fields.append((one.encode_name, one.type, one.default))
    return msgspec.defstruct("Entry", fields, kw_only=True)


def _hook(kind: type) -> dict[str, Any]:
    if kind is Config:
        return {"type": "object", "description": "A config: parameter names to values."}
    raise NotImplementedError(kind)


def pages() -> dict[str, str]:
    parts = [
        rst.heading("Schemas of the file formats"),
        "JSON Schemas (2020-12) of the types that the readers decode; a file that does not fit them is an error that "
        "names the place. :doc:`The journal <../journal>` and :doc:`the cache <../cache>` say what the fields mean. "
        "Fields that have their default value are left out of files.",
        "",
    ]
    files = {}
    for name, title, kind, sentence in FORMATS:
        file = f"{name}.schema.json"
        files[file] = json.dumps(schema_of(kind), indent=1, ensure_ascii=False, default=str) + "\n"
        content = rst.directive("literalinclude", file, options=[":language: json"])
        parts += [f".. _schema-{name}:", "", rst.heading(title, "-"), f"{sentence} :download:`{file}`", ""]
        parts += [rst.directive("dropdown", "The schema", content)]
    return {"schemas.rst": "\n".join(parts), **files}

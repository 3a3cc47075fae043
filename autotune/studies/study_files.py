"""What a study leaves in its folder: tables as CSV and Markdown, the study itself, figures and the report."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from autotune.shell.files import write_output
from autotune.studies.plots import study_figures
from autotune.studies.report import study_report
from autotune.studies.study_result import StudyResult
from autotune.studies.study_spec import StudyError
from autotune.studies.study_tables import curve_table, own_time_table
from autotune.studies.tables import Table


def write_study(result: StudyResult, tables: Sequence[Table], folder: Path) -> list[str]:
    """Write all files; what people should know of it, a sentence each. Raises StudyError where it cannot."""
    notes = [f"tables and report are in {folder}"]
    try:
        figures = study_figures(result)
    except StudyError as error:
        figures = {}
        notes.append(str(error))
    files = {f"{table.name}.csv": table.csv() for table in (*tables, curve_table(result), own_time_table(result))}
    files |= {f"{name}.svg": svg for name, svg in figures.items()}
    files["tables.md"] = "\n".join(table.markdown() for table in tables)
    files["report.html"] = study_report(result, tables, figures)
    files["study.json"] = msgspec.json.format(msgspec.json.encode(result.spec), indent=2).decode() + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_output(folder / name, text.encode())
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error.strerror or error}); use another --out") from None
    return notes

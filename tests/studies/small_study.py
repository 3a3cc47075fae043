"""A small study of two strategies on recordings of 64 points, for the tests of studies."""

import os
import sys
from pathlib import Path
from typing import Any

from autotune.studies.recordings import RecordingHeader, RecordingRow, build_recording, write_recording
from autotune.studies.runner import run_study
from autotune.studies.spec import StrategyEntry, StudySpec
from autotune.studies.tables import study_tables
from tests.support import ROOT

SPACES = Path(os.environ.get("AUTOTUNE_SPACES", ROOT.parent / "shared" / "spaces"))

AUTOTUNE = (sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())")

SPEC = StudySpec(
    strategies=(
        StrategyEntry(name="random_search"),
        StrategyEntry(name="pattern_search", label="hill", settings={"initial_population": 5, "copies": 2}),
    ),
    recordings=("*.json",),
    seeds=7,
    evaluations=40,
)


def recording(name: str, kernel: str = "", shift: int = 3, partial: bool = False, slope: float = 1.0) -> Any:
    """A bowl over 8 x 8 points with a failing corner and noisy repeats."""
    rows = []
    for x in range(8):
        for y in range(8):
            time_ms = 1.0 + slope * ((x - shift) ** 2 + 0.5 * (y - 5) ** 2)
            samples = tuple(time_ms * factor for factor in (2.0, 0.8, 1.0, 1.3))
            timed: dict[str, Any] = {"time_ms": time_ms, "samples_ms": samples} if x + y <= 12 else {"time_ms": None}
            rows.append(
                RecordingRow(key=f"{x},{y}", codes=(x, y), **timed, compile_s=0.5, run_s=time_ms / 10, framework_s=0.01)
            )
    values = (tuple(range(8)), tuple(range(8)))
    header = RecordingHeader(
        name=name, kernel=kernel, device="d", problem="", parameters=("x", "y"), values=values, partial=partial
    )
    return build_recording(header, rows[: 50 if partial else 64])


def tables_text(spec: StudySpec, folder: Path, **options: Any) -> str:
    return "\n".join(table.csv() for table in study_tables(run_study(spec, folder, **options)))


def write_recordings(folder: Path) -> Path:
    """Write three recordings of two kernels to a folder, and return the folder."""
    for name, shift in (("a__one", 2), ("a__two", 6), ("b__one", 0)):
        write_recording(recording(name, name[0], shift), folder / f"{name}.json")
    return folder

"""Recordings that come with the package: `builtin:NAME` stands for one wherever a recording is named."""

from pathlib import Path

from autotune.core.errors import RecordingError
from autotune.studies.recordings import files

PREFIX = "builtin:"
FOLDER = Path(__file__).parents[2] / "data"


def builtin_recordings() -> dict[str, Path]:
    """The files by name."""
    return {files.stem(path): path for path in sorted(FOLDER.glob("*.json.gz"))}


def located(path: Path | str) -> Path:
    """The file that is meant; raises RecordingError for a built-in recording that there is not."""
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path)
    known = builtin_recordings()
    if text.removeprefix(PREFIX) not in known:
        names = ", ".join(PREFIX + name for name in known)
        raise RecordingError(f"there is no built-in recording {text!r}; there are {names}")
    return known[text.removeprefix(PREFIX)]

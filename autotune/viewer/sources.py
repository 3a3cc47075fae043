"""The view of a file or of an object: a journal, a recording, or a view itself."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from autotune.core.errors import AutotuneError
from autotune.core.search.result import Result
from autotune.core.space import Space
from autotune.shell.journal import FORMAT, Journal, read_journal
from autotune.shell.timeline import Span, read_timeline
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.recordings.load import locate_recording
from autotune.studies.recordings.objective import ObjectiveChoice
from autotune.viewer.journal_view import view_journal
from autotune.viewer.recording_view import view_recording
from autotune.viewer.result_view import view_result
from autotune.viewer.view import SearchView

Viewable = SearchView | Journal | Recording | Result | str | os.PathLike[str]
"""What can be looked at: a view, a journal, a recording or a result, or the path of a file (builtin:NAME as well)."""


def as_view(given: Viewable, space: Space | None = None, spans: Sequence[Span] | None = None) -> SearchView:
    """The view of a journal, a recording or the file of one.

    space, spans: see `view_journal`. Raises JournalError or RecordingError for a file that cannot be read, and
    PlanError for a result that does not know its search.
    """
    match given:
        case SearchView():
            return given
        case Journal():
            return view_journal(given, space, spans)
        case Recording():
            return view_recording(given)
        case str() | os.PathLike():
            return open_view(locate_recording(Path(given)), space, spans)
        case Result():
            return view_result(given)
    raise AutotuneError(f"a {type(given).__name__} cannot be looked at; give a journal, a recording or the path of one")


def open_view(
    path: Path,
    space: Space | None = None,
    spans: Sequence[Span] | None = None,
    choice: ObjectiveChoice | None = None,
) -> SearchView:
    """The view of a file, a journal or a recording. choice: the objective that ranks a recording's points."""
    if starts_as_journal(path):
        if choice is not None and choice != ObjectiveChoice():
            raise AutotuneError(
                f"{path} is a journal, whose objective is a time; leave --objective and --direction out"
            )
        return view_journal(read_journal(path), space, spans)
    choice = choice or ObjectiveChoice()
    recording = load_recording(path, objective=choice.name, direction=choice.direction)
    return view_recording(recording, str(path))


def starts_as_journal(path: Path) -> bool:
    """Whether a file begins as a journal does; False for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            return FORMAT.encode() in file.read(200)
    except OSError:
        return False


def load_spans(path: str | os.PathLike[str]) -> list[Span]:
    """The spans of a timeline that an evaluator wrote; raises AutotuneError for any other file."""
    try:
        return read_timeline(Path(path))
    except OSError as error:
        raise AutotuneError(f"the timeline {path} cannot be read ({error.strerror}); check the path") from None
    except msgspec.DecodeError as error:
        raise AutotuneError(
            f"{path} is no timeline of an evaluator ({error}); name the file that its argument `timeline` names"
        ) from None

import io
from pathlib import Path

from rich.console import Console

from autotune.viewer.follow import follow
from autotune.viewer.terminal import best_course, screen


def test_the_screen_shows_progress_failures_and_the_last_configs_without_control_characters(journal_path: Path) -> None:
    step = next(follow(journal_path, poll_s=0))
    assert step is not None
    out = io.StringIO()
    Console(file=out, width=100).print(screen(step, 100, silent_s=90))
    shown = out.getvalue()
    assert "evaluated" in shown
    assert "compile error" in shown
    assert "no event for" in shown
    assert "\u202e" not in shown
    assert "\u2028" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_the_course_falls_with_the_best_time() -> None:
    course = best_course([8.0, None, 9.0, 4.0, 2.0, 5.0, 1.0], 7)
    assert course[0] == "█"
    assert course[-1] == "▁"
    assert list(course) == sorted(course, reverse=True)
    assert best_course([None, None], 5) == ""
    assert len(best_course([1.0] * 100, 20)) == 20

"""The timeline of a session: its spans."""

from pathlib import Path

from autotune.shell.timeline import NO_TRIAL, Span, Timeline, read_timeline


def test_timeline(tmp_path: Path) -> None:
    path = tmp_path / "spans"
    line = Timeline(path)
    line.begin("compile 1", "compile", 0, "x", 0.0)
    line.begin("gpu 0", "run", 1, "y", 1.0)
    line.end("y", 3.5, took_s=2.0)  # heard of half a second later
    line.end("nobody", 3.0)
    line.add_span("gpu 0", "start", NO_TRIAL, 0.0, 1.0)
    line.close(4.0)
    spans = read_timeline(path)
    assert spans == [
        Span(lane="gpu 0", what="run", trial=1, start_s=1.0, end_s=3.0),
        Span(lane="gpu 0", what="start", trial=NO_TRIAL, start_s=0.0, end_s=1.0),
        Span(lane="compile 1", what="compile", trial=0, start_s=0.0, end_s=4.0),
    ]

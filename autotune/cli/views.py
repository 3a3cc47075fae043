"""What `show` and `watch` make of a view: the page, the CSV file, the failures, and lines as they come."""

import os
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.cli import ExitCode
from autotune.cli.output import note, print_json, print_labelled
from autotune.core.errors import AutotuneError
from autotune.core.formatting import escape_controls
from autotune.core.space import Space
from autotune.shell.files import suffix_conflict, why_unwritable, write_output

if TYPE_CHECKING:
    from autotune.viewer.follow import FollowedSearch
    from autotune.viewer.view import SearchView

STDOUT = Path("-")


def check_output(path: Path | None, *suffixes: str) -> None:
    """Raises AutotuneError if a file of these suffixes cannot be written to the path; "-" is stdout."""
    if path is None or path == STDOUT:
        return
    if (why := suffix_conflict(path, *suffixes) or why_unwritable(path)) is not None:
        raise AutotuneError(f"{path} cannot be written: {why}")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to make of views. html, csv: files to write; the table may go to stdout."""

    html: Path | None = None
    csv: Path | None = None
    failures: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        check_output(self.html, ".html", ".htm")
        check_output(self.csv, ".csv")


def show_views(views: "list[SearchView]", wanted: Wanted) -> ExitCode:
    """Write the page of all views and the table of the first, and print what is wanted."""
    written: dict[str, Any] = {}
    if wanted.html is not None:
        from autotune.viewer.page import render_page

        written["html"] = _write(wanted.html, render_page(views))
    if wanted.csv is not None:
        from autotune.viewer.export import view_csv

        written["csv"] = _write(wanted.csv, view_csv(views[0]))
    if wanted.failures:
        _print_failures(views[0], wanted.as_json)
    elif wanted.as_json:
        print_json({"kind": "views", "files": written, "views": views})
    elif len(views) > 1 and not written:
        _print_comparison(views)
    else:
        names = {"html": "page", "csv": "table"}
        print_labelled(
            [(names[kind], f"{path}, {size / 1e6:.1f} MB") for kind, (path, size) in written.items() if path]
        )
    return ExitCode.DONE


def _write(path: Path, text: str) -> tuple[str, int]:
    """Write a file, or to stdout; the path, "" for stdout, and the size in bytes."""
    if path == STDOUT:
        sys.stdout.write(text)
        return "", len(text.encode())
    content = text.encode()
    try:
        write_output(path, content)
    except OSError as error:
        raise AutotuneError(f"{path} cannot be written ({error.strerror}); name another file") from None
    return str(path), len(content)


def _print_failures(view: "SearchView", as_json: bool) -> None:
    """The failures by kind, each with its messages, the most frequent first."""
    if as_json:
        print_json({"kind": "failures", "path": view.path, "failures": view.failures})
        return
    if not view.failures:
        print("no config failed")
    for place, one in enumerate(view.failures):
        print(("\n" if place else "") + f"{one.count:,} {one.kind}")
        for message in one.messages:
            text = escape_controls(message.text) or "(no message)"
            print(f"  {message.count:>5,} x  {text}  (config {message.trial}, for example)")


def _print_comparison(views: "list[SearchView]") -> None:
    """Two searches side by side: the facts that differ, and the best config of each."""
    from autotune.core.search.report import format_value
    from autotune.shell.tables import print_table

    facts = [dict(view.facts) for view in views]
    names = list(dict.fromkeys(name for view in views for name, _ in view.facts))
    header = ("", *(Path(view.path).name for view in views))
    print_table(header, [(name, *(fact.get(name, "-") for fact in facts)) for name in names])
    configs = [{} if view.best is None else view.config(view.best) for view in views]
    parameters = list(dict.fromkeys(name for config in configs for name in config))
    print()
    rows = [(name, *(format_value(c[name]) if name in c else "-" for c in configs)) for name in parameters]
    print_table(("best config", *header[1:]), rows)


def follow_journal(path: Path, space: Space | None, wanted: Wanted) -> ExitCode:
    """Print each outcome as it comes, and renew the page, until the search is over."""
    from autotune.viewer.follow import follow, last_line, outcome_lines

    for step in follow(path, space):
        if step is None:
            continue
        for line in outcome_lines(step):
            if wanted.as_json:
                print_json(line)
            else:
                print(line.text(), flush=True)
        if wanted.html is not None:
            _renew_page(step, space, wanted.html)
        if step.over and not wanted.as_json:
            print(f"over: {last_line(step)}")
    return ExitCode.DONE


def watch_journal(path: Path, space: Space | None, wanted: Wanted) -> ExitCode:
    """Repaint the state of a search until it is over, or until Ctrl-C; plain lines where stdout is no terminal."""
    from rich.console import Console
    from rich.live import Live

    from autotune.viewer.follow import follow, last_line
    from autotune.viewer.terminal import screen

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return follow_journal(path, space, wanted)
    latest: FollowedSearch | None = None
    news = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for step in follow(path, space):
            if step is not None:
                latest, news = step, time.monotonic()
                if wanted.html is not None:
                    _renew_page(step, space, wanted.html)
            if latest is not None:
                width = shutil.get_terminal_size().columns
                live.update(screen(latest, width, time.monotonic() - news), refresh=True)
    if latest is not None:
        print(f"over: {last_line(latest)}")
    return ExitCode.DONE


def _renew_page(step: "FollowedSearch", space: Space | None, html: Path) -> None:
    """Write the page of the journal so far; it loads itself anew until the search is over."""
    from autotune.viewer.journal_view import view_journal
    from autotune.viewer.page import RENEWED_S, render_page

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the space; it was given when the journal was first read
        view = view_journal(step.journal, space)
    path, _ = _write(html, render_page([view], None if step.over else RENEWED_S))
    if path and len(step.journal.events) == len(step.new):
        note(f"the page is {os.path.abspath(path)}", True)

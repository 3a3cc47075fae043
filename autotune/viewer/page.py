"""One HTML file that shows one or two views and needs nothing else: no server, no network, no other file.

The data is JSON in a script element that is not run, with every character escaped that could end it; the page writes
its texts as text. A content security policy allows the scripts of the page alone, by their digests, and no connection.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from autotune.version import __version__
from autotune.viewer.view import SearchView

FOLDER = Path(__file__).parents[1] / "data" / "page"

RENEWED_S = 5.0
"""Seconds after which the page of a running search is loaded anew."""

_EXACT = 2**53
"""The integers up to this are exact in a browser."""

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters of JSON texts that HTML or old scripts would read as their own, as JSON escapes."""


class _PageData(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of a page. live: seconds until it loads itself anew, None for a search that is over."""

    views: tuple[SearchView, ...]
    live: float | None


def render_page(views: Sequence[SearchView], live_s: float | None = None) -> str:
    """The page of a view, or of two to compare. live_s: seconds after which it loads itself anew; None: never."""
    parts = {
        "VERSION": __version__,
        "TITLE": escape(" and ".join(view.title for view in views) + " - autotune"),
        "TABULATOR": _read("tabulator.min.css"),
        "STYLE": _read("page.css"),
        "DATA": page_json(views, live_s),
        "LIBRARIES": _read("libraries.min.js"),
        "SCRIPT": _read("page.js"),
    }
    parts["HASHES"] = " ".join(f"'sha256-{_digest(parts[name])}'" for name in ("LIBRARIES", "SCRIPT"))
    pieces = _read("page.html").split("@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def round_view(view: SearchView) -> SearchView:
    """The view with seven significant digits in its longest columns, for a smaller page: nobody sees more.

    Integers that a browser would round are texts.
    """
    trials = view.trials
    columns = ("time_ms", "first_ms", "compile_s", "run_s", "at_s")
    rounded = {name: [_round(value) for value in getattr(trials, name)] for name in columns}
    return replace(
        view,
        parameters=tuple(replace(one, values=tuple(map(_exact, one.values))) for one in view.parameters),
        trials=replace(trials, **rounded),
        spans=tuple(replace(span, start_s=_round(span.start_s), end_s=_round(span.end_s)) for span in view.spans),
    )


def _round(value: float | None) -> Any:
    return None if value is None else float(f"{value:.7g}")


def _exact(value: Any) -> Any:
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value


def page_json(views: Sequence[SearchView], live_s: float | None = None) -> str:
    """The data of a page, safe inside of a script element."""
    text = msgspec.json.encode(_PageData(views=tuple(map(round_view, views)), live=live_s)).decode()
    for character, written in _ESCAPES.items():
        text = text.replace(character, written)
    return text


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()

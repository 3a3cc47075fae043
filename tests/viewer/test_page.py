"""The page as text; tests/viewer/test_browser.py opens it."""

import re

import msgspec
import pytest

from autotune.shell.journal import Journal
from autotune.studies import load_recording
from autotune.viewer.journal_view import view_journal
from autotune.viewer.page import page_json, render_page, round_view
from autotune.viewer.recording_view import view_recording
from autotune.viewer.view import SearchView


def test_no_text_of_a_search_can_end_the_element_that_holds_it(journal: Journal) -> None:
    text = page_json([view_journal(journal)])
    assert not set("<>&\u2028\u2029") & set(text)


def test_the_data_of_a_page_is_the_view_in_seven_digits(journal: Journal) -> None:
    view = view_journal(journal)
    page = render_page([view])
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    pairs = zip(view.trials.time_ms, round_view(view).trials.time_ms, strict=True)
    assert all((a is None and b is None) or b == pytest.approx(a, rel=1e-6) for a, b in pairs)
    decoded = msgspec.json.decode(data)["views"][0]
    assert msgspec.convert(decoded, SearchView) == round_view(view)


def test_a_page_is_the_same_bytes_each_time(journal: Journal) -> None:
    assert render_page([view_journal(journal)]) == render_page([view_journal(journal)])


def test_a_page_of_thousands_of_configs_is_small() -> None:
    """All 7,680 points of the largest built-in recording; the limit is 3 MB for 5,000."""
    view = view_recording(load_recording("builtin:matmul"))
    assert len(render_page([view]).encode()) < 2_000_000


def test_titles_are_escaped(journal: Journal) -> None:
    view = msgspec.structs.replace(view_journal(journal), title="</title><script>")
    assert "<title>&lt;/title&gt;&lt;script&gt; - autotune</title>" in render_page([view])

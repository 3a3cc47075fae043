"""The page in a real browser: no network, no error on the console, no text that becomes markup, and its use."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import Budget, Choice, Config, Integer, Permutation, SimulatedEvaluator, Timed, tune
from autotune.shell.journal import Journal, read_journal
from autotune.studies import builtin_recordings, load_recording
from autotune.viewer.journal_view import view_journal
from autotune.viewer.page import render_page
from autotune.viewer.recording_view import view_recording
from tests.viewer.chromium import open_browser, open_page, programs, set_device
from tests.viewer.conftest import NASTY_MESSAGE, NASTY_NAME, NASTY_VALUES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(programs() is None, reason="Chromium or ChromeDriver is not installed; .ci/browser does that"),
]

READY = "return document.documentElement.dataset.ready === 'true'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("selenium")
    with open_browser() as driver:
        driver.get("about:blank")
        driver.get_log("performance")  # of the empty tab that it begins with
        yield driver


@pytest.fixture(scope="module")
def page(journal: Journal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_page([view_journal(journal)]))
    return path


@pytest.fixture(autouse=True)
def _desktop(browser: Any) -> Iterator[None]:
    set_device(browser, 1280, 900)
    yield
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            assert message["params"]["request"]["url"].split(":")[0] in ("file", "data", "blob"), message
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def counted(browser: Any) -> int:
    return int(
        browser.execute_script(
            "return document.getElementById('counter').textContent.split(' ')[0].replaceAll(',', '')"
        )
    )


def filter_by(browser: Any, words: str) -> int:
    """The number of configs that a query leaves."""
    browser.execute_script(
        "const q = document.querySelector('input[type=search]'); q.value = arguments[0];"
        "q.dispatchEvent(new Event('input'))",
        words,
    )
    return counted(browser)


def column(browser: Any, field: str) -> list[str]:
    return browser.execute_script(
        "const of = `#table .tabulator-cell[tabulator-field='${arguments[0]}']`;"
        "return [...document.querySelectorAll(of)].map((cell) => cell.textContent)",
        field,
    )


def wait_for(browser: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30)


def draw_every_section(browser: Any, wait_ms: int = 120) -> None:
    for section in browser.execute_script("return [...document.querySelectorAll('section')].map((s) => s.id)"):
        browser.execute_script("document.getElementById(arguments[0]).scrollIntoView()", section)
        browser.execute_async_script("const done = arguments[1]; setTimeout(done, arguments[0])", wait_ms)


def test_every_section_is_drawn(browser: Any, page: Path) -> None:
    open_page(browser, page)
    draw_every_section(browser)
    missing = browser.execute_script(
        "const charts = [...document.querySelectorAll('.chart')];"
        "return charts.filter((chart) => !chart.querySelector('canvas')).map((chart) => chart.ariaLabel)"
    )
    assert missing == []
    titles = browser.execute_script("return [...document.querySelectorAll('section')].map((s) => s.id)")
    assert titles == [
        "summary", "history", "importance", "parallel", "configs", "finalists", "failures", "timeline", "batches"
    ]  # fmt: skip


def test_names_values_and_messages_are_shown_as_text(browser: Any, page: Path) -> None:
    open_page(browser, page)
    draw_every_section(browser)
    assert browser.title == "a search - autotune"
    text = browser.execute_script("return document.body.innerText")
    assert NASTY_NAME in text
    assert NASTY_MESSAGE.replace("\u2028", "") in text.replace("\u2028", "")
    shown = browser.execute_script("return document.querySelectorAll('#page img, #page script, #page b').length")
    assert shown == 0
    assert filter_by(browser, "</script><script>") > 0
    assert set(column(browser, "p2")) == {NASTY_VALUES[0]}


def test_the_filter_takes_words_and_conditions(browser: Any, page: Path, journal: Journal) -> None:
    view = view_journal(journal)
    open_page(browser, page)
    total = len(view.trials.number)
    assert counted(browser) == total
    configs = [view.config(place) for place in range(total)]
    assert filter_by(browser, "BLOCK=32") == sum(config["BLOCK"] == 32 for config in configs)
    times = view.trials.time_ms
    assert filter_by(browser, "ms<3 num_warps>=2") == sum(
        time is not None and time < 3 and config["num_warps"] >= 2 for time, config in zip(times, configs, strict=True)
    )
    assert filter_by(browser, '"compile error"') == view.failures[0].count
    assert filter_by(browser, f'"{NASTY_NAME}"="plain"') == sum(config[NASTY_NAME] == "plain" for config in configs)
    assert filter_by(browser, "") == total


def test_a_click_on_a_title_sorts(browser: Any, page: Path) -> None:
    open_page(browser, page)
    times = [float(time) for time in column(browser, "time") if time]
    assert times == sorted(times)
    click = "document.querySelector('#table .tabulator-col[tabulator-field=\"p0\"]').click()"
    browser.execute_script(click)
    blocks = [int(value) for value in column(browser, "p0")]
    assert blocks == sorted(blocks)
    browser.execute_script(click)
    blocks = [int(value) for value in column(browser, "p0")]
    assert blocks == sorted(blocks, reverse=True)


def test_a_click_and_the_arrows_show_the_config_of_a_row(browser: Any, page: Path) -> None:
    open_page(browser, page)
    browser.execute_script("document.querySelector('#table .tabulator-row .tabulator-cell').click()")
    first = browser.execute_script("return document.querySelector('.detail pre').textContent")
    assert '"BLOCK":' in first
    down = "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true})"
    browser.execute_script(f"document.getElementById('table').dispatchEvent({down})")
    assert browser.execute_script("return document.querySelector('.detail pre').textContent") != first
    assert browser.execute_script("return document.querySelectorAll('#table .tabulator-selected').length") == 1


def test_a_brush_on_an_axis_filters_the_table(browser: Any, page: Path) -> None:
    from selenium.webdriver import ActionChains

    open_page(browser, page)
    draw_every_section(browser)
    browser.execute_script("document.getElementById('parallel').scrollIntoView()")
    chart = browser.find_element("css selector", "#parallel .chart")
    box = chart.size
    before = counted(browser)
    start = ActionChains(browser).move_to_element_with_offset(chart, 50 - box["width"] // 2, 60 - box["height"] // 2)
    start.click_and_hold().move_by_offset(0, 40).move_by_offset(0, 60).release().perform()
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 300)")
    assert 0 < counted(browser) < before
    browser.execute_script(
        "[...document.querySelectorAll('button')].find((b) => b.textContent === 'clear the brushes').click()"
    )
    assert counted(browser) == before


def test_a_phone_needs_no_sideways_scrolling(browser: Any, page: Path) -> None:
    set_device(browser, 390, 844, mobile=True)
    open_page(browser, page)
    draw_every_section(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_paper_has_every_chart(browser: Any, page: Path) -> None:
    open_page(browser, page)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    charts = browser.execute_script("return document.querySelectorAll('.chart').length")
    assert pdf.count(b"/Subtype /Image") >= charts


def test_two_searches_share_a_page(browser: Any, journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "two.html"
    path.write_text(render_page([view_journal(journal), view_recording(load_recording("builtin:rms_norm"))]))
    open_page(browser, path)
    assert "Two searches side by side" in browser.execute_script("return document.body.innerText")
    first = counted(browser)
    browser.execute_script(
        "const s = document.querySelector('nav select'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 300)")
    assert counted(browser) != first


def test_the_page_of_a_running_search_loads_itself_again_unless_it_is_paused(
    browser: Any, journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "live.html"
    early = view_journal(replace(journal, events=journal.events[:30]))
    path.write_text(render_page([early], live_s=0.4))
    open_page(browser, path)
    assert "running" in browser.execute_script("return document.querySelector('.badge').textContent")
    before = counted(browser)
    path.write_text(render_page([view_journal(journal)]))
    wait_for(browser).until(lambda it: it.execute_script(READY) and counted(it) > before)
    assert browser.execute_script("return document.querySelector('.badge').textContent") == "finished"

    path.write_text(render_page([early], live_s=0.2))
    open_page(browser, path)
    browser.execute_script("[...document.querySelectorAll('button')].find((b) => b.textContent === 'pause').click()")
    open_page(browser, path)  # the pause is kept
    browser.execute_script("window.kept = true")
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 700)")
    assert browser.execute_script("return window.kept") is True
    browser.execute_script("sessionStorage.clear()")


def test_pages_of_all_kinds_of_searches_open(browser: Any, journal: Journal, tmp_path: Path) -> None:
    """Searches of every strategy, one in which all configs failed, the first moments of one, recordings, odd values."""
    golden = sorted((Path(__file__).parents[1] / "golden").rglob("*.jsonl"))
    views = [view_journal(read_journal(path)) for path in golden]
    views += [view_journal(replace(journal, events=journal.events[:cut])) for cut in (0, 1, 2, 4)]
    views += [view_recording(load_recording(f"builtin:{name}")) for name in builtin_recordings()]
    views += [view_journal(read_journal(odd_journal(tmp_path / "odd.jsonl")))]
    path = tmp_path / "page.html"
    for view in views:
        path.write_text(render_page([view]))
        open_page(browser, path)
        draw_every_section(browser, 20)
        assert counted(browser) == len(view.trials.number), view.path
    assert str(2**60) in column(browser, "p39")


def odd_journal(path: Path) -> Path:
    """Values that are lists, long texts, null, huge numbers; forty parameters; times over twelve decades."""
    kinds: dict[str, Any] = {f"parameter number {i}": Integer(0, 10**6) for i in range(36)}
    kinds |= {
        "order": Permutation(4), "text": Choice(["", "x" * 3000]), "nothing": Choice([None, 1.5]),
        "huge": Choice([2**60, 3]),
    }  # fmt: skip

    class Slow:
        def outcome(self, config: Config) -> Timed:
            return Timed((10.0 ** (int(str(config["parameter number 0"])) % 12 - 6),), compile_s=0.1)

        def samples(self, config: Config) -> np.ndarray:
            return np.array([self.outcome(config).time_ms])

    tune(
        kinds, SimulatedEvaluator(Slow()), "random_search", budget=Budget(evaluations=40), seed=1, journal=path,
        progress=False,
    )  # fmt: skip
    return path

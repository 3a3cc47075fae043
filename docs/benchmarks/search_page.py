"""The page of a search with 5,000 configs: its size, and the time in which a headless Chromium opens it.

`PYTHONPATH=. python docs/benchmarks/search_page.py [--figures]`. With --figures it also takes the pictures in
docs/figures, of a search of 250 configs. Needs Chromium, ChromeDriver, and the extras `browser` and `plots`.
"""

import base64
import io
import os
import platform
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autotune import Budget, SimulatedEvaluator, tune
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell.evaluators.simulated import Disturbance
from autotune.shell.journal import read_journal
from autotune.studies import Simulation, load_recording
from autotune.viewer.journal_view import view_journal
from autotune.viewer.page import render_page
from autotune.viewer.view import SearchView
from tests.viewer.chromium import open_browser, open_page, set_device

FIGURES = Path(__file__).resolve().parents[1] / "figures"
OPENED = 5


def search_view(folder: Path, strategy: str | AnyStrategy, evaluations: int) -> SearchView:
    """A simulated search of the recorded matrix product with six compile workers and 1 % of noise."""
    simulation = Simulation.of(load_recording("builtin:matmul"))
    disturbance = Disturbance(jitter=0.01)
    evaluator = SimulatedEvaluator(simulation.table, compile_workers=6, noise="resample", disturbance=disturbance)
    os.chdir(folder)
    path = Path("matmul.journal.jsonl")
    path.unlink(missing_ok=True)
    budget = Budget(evaluations=evaluations)
    tune(simulation.space, evaluator, strategy, budget=budget, seed=0, journal=path, progress=False)
    began = time.perf_counter()
    view = view_journal(read_journal(path))
    print(f"{len(view.trials.number):,} configs: the view takes {time.perf_counter() - began:.2f} s")
    return view


def measure(driver: Any, page: Path) -> float:
    """Milliseconds from the beginning of the navigation until the table stands and the first charts are drawn."""
    open_page(driver, page)
    return float(driver.execute_script("return performance.getEntriesByName('ready')[0].startTime"))


def save(driver: Any, name: str, width: int, top: int, bottom: int) -> None:
    """A picture of a part of the page in 128 colours, which keeps the file small."""
    from PIL import Image

    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(FIGURES / name, optimize=True)
    print(f"docs/figures/{name}: {(FIGURES / name).stat().st_size / 1000:.0f} kB")


def draw_all(driver: Any) -> None:
    for section in driver.execute_script("return [...document.querySelectorAll('section')].map((s) => s.id)"):
        driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", section)
        driver.execute_async_script("const done = arguments[0]; setTimeout(done, 250)")
    driver.execute_script("scrollTo(0, 0)")
    driver.execute_async_script("const done = arguments[0]; setTimeout(done, 250)")


def take_figures(driver: Any, page: Path) -> None:
    set_device(driver, 1180, 900)
    open_page(driver, page)
    draw_all(driver)
    whole = driver.execute_script("return document.documentElement.scrollHeight")
    top = driver.execute_script("return document.getElementById('parallel').offsetTop") - 20
    save(driver, "page.png", 1180, 0, top)
    below = driver.execute_script("return document.getElementById('importance').offsetTop") - 20
    save(driver, "page_top.png", 1180, 0, below)
    save(driver, "page_configs.png", 1180, top, whole)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    draw_all(driver)
    save(driver, "page_dark.png", 1180, 0, top)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    set_device(driver, 390, 844, mobile=True)
    open_page(driver, page)
    draw_all(driver)
    save(driver, "page_phone.png", 390, 0, 2300)


def main() -> None:
    with TemporaryDirectory() as name, open_browser() as driver:
        folder, page = Path(name), Path(name) / "page.html"
        page.write_text(render_page([search_view(folder, RandomSearch(count=5000), 5000)]))
        print(f"the page is {page.stat().st_size / 1e6:.2f} MB")
        times = sorted(measure(driver, page) for _ in range(OPENED))
        print(f"it opens in {times[OPENED // 2]:.0f} ms (median of {OPENED}; {times[0]:.0f} to {times[-1]:.0f})")
        print(f"{driver.capabilities['browserVersion']} on {platform.machine()}, {os.cpu_count()} cores")
        if "--figures" in sys.argv[1:]:
            page.write_text(render_page([search_view(folder, "gaussian_process", 250)]))
            take_figures(driver, page)


if __name__ == "__main__":
    main()

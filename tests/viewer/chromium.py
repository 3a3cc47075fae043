"""A headless Chromium that opens pages from files, without a network and with a profile of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def programs() -> tuple[str, str] | None:
    """The paths of Chromium (or Chrome) and ChromeDriver; None where one of them is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return None if browser is None or driver is None else (browser, driver)


@contextmanager
def open_browser(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A driver of Selenium; console and network are logged. The window has this size in pixels."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    found = programs()
    assert found is not None, "install Chromium and ChromeDriver; .ci/browser does"
    options = Options()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory() as profile:
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(found[1]))
        try:
            yield driver
        finally:
            driver.quit()


def open_page(driver: Any, path: Any) -> None:
    """Open a page from its file and wait until its table stands."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"file://{path}")
    WebDriverWait(driver, 60, poll_frequency=0.02).until(
        lambda it: it.execute_script("return document.documentElement.dataset.ready") == "true"
    )


def set_device(driver: Any, width: int, height: int, mobile: bool = False, scale: float = 1.0) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile},
    )

"""Chromium without a window, and what it says of a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

# Pictures that were not drawn, and formulas that are still text or have no size.
_FAULTS = """
const bad = [];
for (const image of document.images)
  if (!(image.complete && image.naturalWidth > 0)) bad.push("no picture: " + image.src);
for (const place of document.querySelectorAll(".math.notranslate")) {
  const drawn = place.querySelector(".MathJax, .MathJax_Display, .MathJax_SVG");
  if (!drawn || drawn.getBoundingClientRect().width < 2) bad.push("no formula: " + place.textContent.slice(0, 60));
}
for (const place of document.querySelectorAll(".merror, .MathJax_Error")) bad.push("error: " + place.textContent);
return bad;
"""
_TYPESET = "const done = arguments[0]; window.MathJax ? MathJax.Hub.Queue(() => done()) : done();"


@contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium that selenium drives; the test is skipped where one of them is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium (extra: dev) is not installed")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=programs[1])
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(20)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the files in a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def set_width(driver: Any, width: int) -> None:
    """The width of the window, also below the smallest one that a window may have."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def errors(driver: Any) -> list[str]:
    """What the console has reported since it was last asked."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def faults(driver: Any) -> list[str]:
    """Errors of the console, missing pictures and missing formulas of the page."""
    driver.execute_async_script(_TYPESET)
    return errors(driver) + list(driver.execute_script(_FAULTS))


def overflow(driver: Any) -> int:
    """By how many pixels the page is wider than the window."""
    return int(driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth"))

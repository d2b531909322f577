"""The documentation site: it is built without a warning, its links lead somewhere, and a browser shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browser import chromium, faults, overflow, served, set_width

ROOT = Path(__file__).parents[2]
PAGES = (
    "index.html", "poolers.html", "pooler/index.html", "pooler/mincut.html", "pooler/topk.html", "gallery/index.html",
    "api/of/hierpool.soft_pool.html", "commands.html", "mathematics.html",
)  # fmt: skip
MADE = ("api", "gallery", "pooler", "project")

_MISSING = [name for name in ("sphinx", "furo", "jupyter_server_mathjax") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(_MISSING), reason=f"{', '.join(_MISSING)} (extra: docs) not installed"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built beside links to the rest of the repository; the programs of the gallery are not run."""
    tree = tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name not in ("docs", "build", ".git"):
            (tree / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", tree / "docs", ignore=shutil.ignore_patterns(*MADE, "__pycache__"))
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0", "-b", "html", "docs", "html"]
    answer = subprocess.run(
        [sys.executable, "-m", "sphinx", *options],
        cwd=tree,
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "WARNING" not in answer.stderr
    return tree / "html"


class Links(HTMLParser):
    """The addresses and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and name in ("href", "src"):
                (self.loaded if tag in ("script", "link", "img") else self.targets).append(value)
            if value and name == "id":
                self.anchors.add(value)


def test_links_lead_to_files_and_anchors(site: Path) -> None:
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    missing = []
    for path, page in pages.items():
        for target in page.targets + page.loaded:
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            there = (path.parent / unquote(address.path)).resolve() if address.path else path
            found = there.exists()
            if found and there in pages and address.fragment:
                found = unquote(address.fragment) in pages[there].anchors
            if not found:
                missing.append(f"{path.relative_to(site)}: {target}")
    assert not missing


def test_pages_load_nothing_from_a_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Links(path.read_text(encoding="utf-8"))
        assert not [address for address in page.loaded if urlsplit(address).netloc], path


@pytest.fixture(scope="module")
def browser(site: Path) -> Iterator[tuple[Any, str]]:
    """Chromium, and the address of the site."""
    with chromium() as driver, served(site) as address:
        yield driver, address


def test_pages_have_their_formulas_and_pictures(browser: tuple[Any, str]) -> None:
    driver, address = browser
    set_width(driver, 1400)
    for page in PAGES:
        driver.get(f"{address}/{page}")
        assert faults(driver) == [], page
        assert driver.title.endswith("hierpool")
    formulas = driver.execute_script("return document.querySelectorAll('.MathJax').length")
    assert formulas > 20, "of the page of mathematics"


@pytest.mark.parametrize("width", [360, 1920])
def test_pages_fit_the_window(browser: tuple[Any, str], width: int) -> None:
    driver, address = browser
    set_width(driver, width)
    for page in PAGES:
        driver.get(f"{address}/{page}")
        faults(driver)
        assert overflow(driver) <= 0, page


def test_search_finds_a_function(browser: tuple[Any, str]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    driver, address = browser
    driver.get(f"{address}/search.html?q=dense_diff_pool")
    texts = "return [...document.querySelectorAll('#search-results li a')].map(a => a.textContent)"
    found = WebDriverWait(driver, 20).until(lambda d: d.execute_script(texts))
    assert any("dense_diff_pool" in text for text in found)

"""`report.html` of `train` and `cluster`: one file, opened in a browser without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hierpool.cli import train
from hierpool.cli.main import main
from hierpool.training import html
from tests.support.browser import chromium, errors, overflow, set_width
from tests.support.training import SMALL, make_dataset

pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
GRAPHS = 8
CLUSTER = (
    "--synthetic=sbm", "--nodes=400", "--communities=4", "--epochs=3", "--threads=1", "--hidden-channels=8",
    "--products=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of a training with three folds and of a clustering."""
    pytest.importorskip("plotly", reason="plotly (extra: report) is not installed")
    folder = tmp_path_factory.mktemp("reports")
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "load_tu", lambda name, root: make_dataset())
        assert main(["train", *small, f"--out={folder / 'train'}", "--epochs=2", "--folds=3"]) == 0
    assert main(["cluster", f"--out={folder / 'cluster'}", *CLUSTER]) == 0
    return {name: folder / name / "report.html" for name in ("train", "cluster")}


def test_the_command_is_in_it_and_nothing_is_loaded(reports: dict[str, Path]) -> None:
    for name, path in reports.items():
        text = path.read_text(encoding="utf-8")
        (command,) = re.findall(r'<pre id="command">(.*)</pre>', text)
        assert command.startswith(f"python -m hierpool {name} ")
        assert str(path.parent) in command
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", text)


HOVER = """
const [place, trace, done] = arguments;
const plot = document.querySelectorAll(".js-plotly-plot")[place];
Plotly.redraw(plot).then(() => {  // it may still follow the width of the window
  const number = trace < 0 ? plot.data.length + trace : trace;
  Plotly.Fx.hover(plot, [{curveNumber: number, pointNumber: 0}]);
  done([...plot.querySelectorAll(".hovertext")].map(e => e.textContent).join(" "));
});
"""
ZOOM = """
const plot = document.querySelectorAll(".js-plotly-plot")[arguments[0]];
return [plot._context.scrollZoom, plot.layout.dragmode];
"""
COUNT = "return document.querySelectorAll('.js-plotly-plot .main-svg').length > 0 ? " + (
    "document.querySelectorAll('.js-plotly-plot').length : 0"
)


def figures(driver: Any, path: Path) -> int:
    """The number of figures of a page that the browser has opened without an error."""
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    driver.get(path.as_uri())
    assert errors(driver) == []
    for width in (360, 1600):
        set_width(driver, width)
        wait(driver, 10).until(
            lambda d: overflow(d) <= 0, f"the page is wider than {width}"
        )  # figures follow
    return int(driver.execute_script(COUNT))


@pytest.mark.slow
def test_a_browser_shows_figures_that_answer(reports: dict[str, Path]) -> None:
    with chromium() as driver:
        count = figures(driver, reports["train"])
        assert count >= 5, "curves, confusion matrix, a graph and its pooled graph"
        numbers = "return document.querySelectorAll('.js-plotly-plot')[arguments[0]].data[0].text.flat()"
        assert sum(driver.execute_script(numbers, count - 3)) == len(make_dataset().graphs), (
            "confusion matrix"
        )
        assert re.search(
            r"node 0.*cluster \d.*weight [01]\.\d+", driver.execute_async_script(HOVER, count - 2, -1)
        )
        assert re.search(r"cluster \d.*size [\d.]+", driver.execute_async_script(HOVER, count - 1, -1))
        assert driver.execute_script(ZOOM, count - 1) == [True, "pan"]
        menu = "const menu = document.querySelector('select'); menu.value = 1; menu.onchange(); return menu.length"
        assert driver.execute_script(menu) > 1
        assert int(driver.execute_script(COUNT)) == count
        assert errors(driver) == []
        assert figures(driver, reports["cluster"]) >= 4, "clusters, sizes, labels, curves"
        assert re.search(r"cluster \d.*\d+ nodes.*conductance", driver.execute_async_script(HOVER, 0, -1))


def test_without_plotly_a_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(html, "find_spec", lambda name: None)
    assert main(["cluster", f"--out={tmp_path}", *CLUSTER]) == 0
    printed = capsys.readouterr().out
    assert (
        "report.html is not written, since plotly is not installed: pip install 'hierpool[report]'" in printed
    )
    assert (tmp_path / "pooled.png").exists()
    assert not (tmp_path / "report.html").exists()

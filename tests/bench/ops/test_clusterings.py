"""The comparison of clusterings: its rows and its page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import __main__ as cli
from bench.harness import results
from bench.ops import clusterings
from bench.report import clusterings as page
from hierpool import metrics
from hierpool.data import stochastic_block_model

OURS = ["hierpool-free", "hierpool", "hierpool-cut"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> clusterings.Given:
    """The only graph of the comparison."""
    graph, labels = stochastic_block_model(400, 4, mean_degree=12, mixing=0.1, seed=1)
    given = clusterings.Given(graph, None, labels, 4)
    monkeypatch.setattr(clusterings, "GRAPHS", {"small": ("a small graph", lambda root: given)})
    return given


def test_rows_have_the_quality_of_the_clusters(small: clusterings.Given) -> None:
    rows = list(clusterings.rows("small", None, OURS, 1))
    assert [row["method"] for row in rows] == OURS
    for row in rows:
        assert (row["status"], row["k"], row["same_again"]) == ("measured", 4, True)
        assert row["nmi"] == 1
        assert row["balance"] == 1
        assert row["cut"] == pytest.approx(0.1)
        assert row["modularity"] == metrics.modularity(small.graph, small.labels)


def test_leiden_gives_its_number_and_missing_packages_are_named(
    small: clusterings.Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusterings, "METHODS", dict(clusterings.METHODS))
    found = clusterings.Method("found", lambda given, threads: lambda k: given.labels // 2, "free")
    clusterings.METHODS["leiden"] = found
    for name in clusterings.PEERS:
        monkeypatch.setitem(sys.modules, name, None)
    wanted = ["leiden", "hierpool-leiden", "metis", "kaminpar"]
    rows = list(clusterings.rows("small", None, wanted, 1))
    assert [row["status"] for row in rows] == ["measured", "measured", "missing", "missing"]
    assert [row["k"] for row in rows[:2]] == [2, 2]
    assert "install it with: pip install 'hierpool[peers]'" in rows[2]["reason"]


@pytest.mark.parametrize("name", ["leiden", "parallel-leiden", "metis", "kaminpar"])
def test_peers_cluster_the_same_graph(small: clusterings.Given, name: str) -> None:
    method = clusterings.METHODS[name]
    pytest.importorskip(method.package, reason=f"{method.package} (extra: peers) is not installed")
    row, _ = clusterings.measure(small, method, 4, 1)
    assert row["nmi"] > 0.95


def test_the_page_has_all_rows(
    small: clusterings.Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    monkeypatch.setattr(clusterings, "METHODS", {name: clusterings.METHODS[name] for name in OURS})
    run = clusterings.run(["small"], OURS, 1, None, tmp_path)
    assert run.finished
    assert results.newest(tmp_path) is not None
    assert page.command(True, tmp_path, tmp_path) == 1
    assert page.command(False, tmp_path, tmp_path) == 0
    assert page.command(True, tmp_path, tmp_path) == 0
    text = (tmp_path / page.PAGE).read_text()
    assert "## A small graph\n\n400 nodes, 2,400 edges." in text
    assert text.count("| 4 (given) | ") == 2
    assert (tmp_path / page.PLOT).read_text().startswith("<?xml")


def test_bad_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clusterings", "--threads", "0"]) == 2
    assert "--threads must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["clusterings", "--graphs", "none"])

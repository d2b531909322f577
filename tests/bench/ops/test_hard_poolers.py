"""The comparison of poolers that keep or merge nodes: its rows and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import __main__ as cli
from bench.harness import results
from bench.harness.timing import Effort
from bench.ops import hard_poolers, precoarsening
from bench.report import hard_poolers as page
from hierpool import RaggedGraph
from tests.support.tgp import import_tgp

QUICK = Effort(0.01, 3, 3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> hard_poolers.Given:
    """The batch of every pair, of three graphs."""
    random = torch.Generator().manual_seed(1)
    adj = torch.rand(3, 12, 12, generator=random) < 0.3
    adj = (adj | adj.mT) & ~torch.eye(12, dtype=torch.bool)
    given = hard_poolers.given_of(RaggedGraph.from_dense(adj), 2)
    monkeypatch.setattr(
        hard_poolers, "GRAPHS", {name: (name, lambda root: given) for name in hard_poolers.GRAPHS}
    )
    monkeypatch.setattr(hard_poolers, "SIZES", (2000, 4000, 8000))
    return given


@pytest.mark.parametrize("name", hard_poolers.PAIRS)
def test_both_sides_have_the_same_results(name: str, small: hard_poolers.Given) -> None:
    pair = hard_poolers.PAIRS[name]
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (hierpool[pyg])")
    if pair.peer == "tgp":
        import_tgp("tgp.poolers")
    (row,) = hard_poolers.rows([name], [], [], None, QUICK, (), 1)
    assert row["status"] == "measured"
    assert row["speedup"]["p50"] > 0
    assert row["pairs"] == 3


def test_batches_are_of_the_data_set() -> None:
    given = hard_poolers.of_data_set("MUTAG", 8, None)
    assert given.graph.num_graphs == 8
    assert given.structure.value is None
    assert given.structure.is_symmetric
    assert given.graph.is_symmetric
    assert given.graph.degree.min() > 0


def test_other_results_are_refused(small: hard_poolers.Given, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = hard_poolers.Pair(
        "wrong", lambda given: (lambda: (given.x,), lambda: (given.x + 1,)), "million", "none"
    )
    monkeypatch.setattr(hard_poolers, "PAIRS", {"wrong": wrong})
    (row,) = hard_poolers.rows(["wrong"], [], [], None, QUICK, (), 1)
    assert (row["status"], row["reason"]) == ("missing", "results differ from those of none")


def test_the_page_has_all_rows(
    small: hard_poolers.Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (hierpool[pyg])")
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    pairs = {name: hard_poolers.PAIRS[name] for name in ("topk", "contraction")}
    monkeypatch.setattr(hard_poolers, "PAIRS", pairs)
    monkeypatch.setattr(hard_poolers, "Effort", lambda *bounds: QUICK)
    monkeypatch.setattr(precoarsening, "DATA_SETS", ("MUTAG",))
    chosen = (list(pairs), list(hard_poolers.GROWTH), ["MUTAG"])
    run = hard_poolers.run(chosen, 1, None, False, tmp_path)
    assert not run.metadata["quick"]
    assert results.newest(tmp_path) is not None
    assert page.command(True, tmp_path, tmp_path) == 1
    assert page.command(False, tmp_path, tmp_path) == 0
    assert page.command(True, tmp_path, tmp_path) == 0
    text = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    assert all(title in text for title, _ in hard_poolers.GROWTH.values())
    assert "3x: " in text
    assert "| MUTAG | 188 | whole epoch |" in text
    assert "| MUTAG | 188 | loading and pooling |" in text
    assert text.count("contraction of matched pairs") == 2
    monkeypatch.setattr(page, "command", lambda check: 7 + check)
    assert cli.main(["hard-poolers", "--check"]) == 8
    assert cli.main(["hard-poolers", "--threads", "0"]) == 2
    assert "--threads must be at least 1" in capsys.readouterr().err


def test_missing_data_sets_are_named(tmp_path: Path) -> None:
    (row,) = precoarsening.rows(["ENZYMES"], tmp_path, QUICK)
    assert (row["status"], row["graph"]) == ("missing", "ENZYMES")
    assert str(tmp_path) in row["reason"]

"""Counted bytes of a sharded graph: the folder of results, and the tables of their page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as cli
from bench.harness import results
from bench.ops import exchange
from bench.report import exchange as page

EMPTY = "".join(
    f"<!-- exchange-{name}:{end} -->\n" for name in ("counted", "planned") for end in ("begin", "end")
)


def rows(run: results.Results) -> list[tuple[str, str]]:
    return [(row["graph"], row["partition"]) for row in run.rows]


def test_results_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        exchange, "DEFAULTS", exchange.DEFAULTS | {"nodes": 2048, "processes": 2, "k": 3, "features": 2}
    )
    args = cli.parser().parse_args(["exchange"])
    run = exchange.run(args, tmp_path / "exchange")
    assert run.finished
    assert not run.metadata["quick"]
    assert rows(run) == [(graph, one) for graph in exchange.GRAPHS for one in exchange.PARTITIONS]
    for row in run.rows:
        assert row["sent_bytes"] == pytest.approx(row["formula_bytes"], rel=0.05)
    planted = next(row for row in run.rows if row["partition"] == "communities")
    model = exchange.halo_rows(2048, 2, 10.0, page.own_share(2))
    assert planted["halo_rows"] == pytest.approx(model, rel=0.05)

    path = tmp_path / page.PAGE
    path.parent.mkdir()
    path.write_text(f"Before.\n{EMPTY}After.\n")
    assert page.command(True, tmp_path, tmp_path / "exchange") == 1
    assert page.command(False, tmp_path, tmp_path / "exchange") == 0
    assert page.command(True, tmp_path, tmp_path / "exchange") == 0
    text = path.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert f"| planted | 2,048 | 20,480 | communities | {planted['halo_rows']:,} |" in text
    assert "| 8 | 16 | at random | 40 GB | 6 GB | 624 M | 40 GB | 5.71 GB | 126 GB |" in text
    path.write_text("no markers\n")
    with pytest.raises(ValueError, match=r"distributed.md needs the lines"):
        page.command(False, tmp_path, tmp_path / "exchange")


def test_other_sizes_are_not_reported(tmp_path: Path) -> None:
    folder = results.create_folder(tmp_path, {"commit": "0" * 40, "cpu_model": "none", "quick": True})
    results.finish(folder, 1.0)
    with pytest.raises(ValueError, match="no complete results yet: python -m bench exchange"):
        page.command(True, tmp_path, tmp_path)

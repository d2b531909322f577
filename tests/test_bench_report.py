"""Result folders are append-only, and the report says what they hold: table, goals, gaps, README and plots."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import machine, registry, report, results  # noqa: E402

# ---- results --------------------------------------------------------------------------------------------------------


METADATA = {
    "date_utc": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "dirty": False, "quick": False,
    "cpu_model": "Some CPU (R) 9", "threads": 2, "packages": {"torch": "2.13.0"},
    "rates": {"copy_gbps": 30.0, "gemm_gflops": 300.0},
}  # fmt: skip


def test_folders_are_append_only(tmp_path):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    first = results.create_folder(tmp_path, METADATA, now)
    second = results.create_folder(tmp_path, METADATA, now)
    assert first.name == "20260102T030405Z-0123456789-some-cpu-9"
    assert second.name == f"{first.name}-2"
    results.append_row(first, {"status": "a"})
    results.append_row(first, {"status": "b"})
    assert results.read(first).rows == [{"status": "a"}, {"status": "b"}]
    assert results.read(second).rows == []


def test_newest_skips_quick_looks_and_unfinished_runs(tmp_path):
    assert results.newest(tmp_path / "absent") is None
    kept = results.create_folder(tmp_path, METADATA, datetime(2026, 1, 1, tzinfo=timezone.utc))
    quick = results.create_folder(
        tmp_path, METADATA | {"quick": True}, datetime(2026, 1, 2, tzinfo=timezone.utc)
    )
    results.finish(quick, 1.0)
    assert results.newest(tmp_path) is None
    results.finish(kept, 1.0)
    assert results.newest(tmp_path).folder == kept


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        results.read(tmp_path)


def test_metadata_says_what_a_figure_depends_on():
    found = machine.describe(ROOT)
    assert {"commit", "dirty", "cpu_model", "isa_flags", "threads", "python", "packages", "date_utc"} <= set(
        found
    )
    assert found["packages"]["torch"] == torch.__version__
    assert machine.slug("Intel(R) Xeon(R) 8480+ @ 2.0GHz") == "intel-xeon-8480-2-0ghz"


# ---- report --------------------------------------------------------------------------------------------------------


def row_of(workload, provider, ms, ratio, peak=None):
    spread = {"p20": 0.9, "p50": 1.0, "p80": 1.1}
    return {
        "status": "measured", "workload": workload, "title": registry.WORKLOADS[workload].title,
        "provider": provider, "mode": "both",
        "peer_ms": {k: v * ms * ratio for k, v in spread.items()},
        "candidate_ms": {k: v * ms for k, v in spread.items()},
        "speedup": {k: v * ratio for k, v in spread.items()},
        "floor": {"bytes": 1.0, "flops": 1.0, "ms": 0.5, "fraction": 0.5 / ms},
        "peak": {"bytes": peak} if peak else {"bytes": None, "reason": "no /proc"},
        "sizes": {"graphs": 2, "padded_nodes": 50, "nodes": 30, "clusters": 12},
    }  # fmt: skip


@pytest.fixture
def synthetic(tmp_path):
    """A result folder made by hand, and a README beside it."""
    folder = results.create_folder(tmp_path / "results", METADATA)
    missing = {"status": "not measured", "provider": "tgp", "reason": "no tgp"}
    rows = [
        row_of("enzymes", "pyg", 4.0, 1.0, 40_000_000), row_of("enzymes", "hierpool", 0.25, 16.0, 5_000_000),
        row_of("proteins", "pyg", 3.0, 1.0), row_of("proteins", "hierpool", 1.0, 3.0),
        {"status": "skipped", "workload": "imdb-binary", "title": "IMDB-BINARY x 32", "reason": "no data"},
        {"workload": "enzymes", "title": "ENZYMES x 32", **missing},
        {"workload": "proteins", "title": "PROTEINS x 20", **missing},
    ]  # fmt: skip
    for row in rows:
        results.append_row(folder, row)
    results.finish(folder, 12.3)
    (tmp_path / "README.md").write_text(f"# Title\n\n{report.BEGIN}\n{report.END}\n\nAfter.\n")
    return folder


def test_report_round_trip(synthetic, tmp_path):
    pytest.importorskip("matplotlib")
    (synthetic / "notes.md").write_text("PROTEINS is bound by something.\n")
    found = results.read(synthetic)
    assert report.mismatch(found, tmp_path) is not None
    written = report.write(found, tmp_path)
    assert report.mismatch(found, tmp_path) is None
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("# Title\n")
    assert readme.endswith("After.\n")
    assert "| ENZYMES x 32 (N 50, K 12, 30% of rows real) | 4 | - | - | - | given | **0.25** |" in readme
    assert "| 16x (14.4 to 17.6) | 10x met |" in readme
    assert "10x not met" in readme
    assert "40 / 5 |" in readme
    assert "PROTEINS is bound by something." in readme
    assert "tgp dense: not measured (no tgp)" in readme
    assert readme.count("no tgp") == 1
    assert "hierpool: no peak memory on PROTEINS x 20 (no /proc)" in readme
    assert "PyG eager against itself 0.90x to 1.10x at worst" in readme
    assert [path.suffix for path in written] == [".md", ".svg", ".svg", ".svg"]
    assert all(path.read_text().lstrip().startswith("<?xml") for path in written[1:])
    report.write(found, tmp_path)
    assert (tmp_path / "README.md").read_text() == readme
    written[1].unlink()
    assert "bench-speedup.svg" in report.mismatch(found, tmp_path)
    (tmp_path / "README.md").write_text(readme.replace("**0.25**", "**0.20**"))
    assert synthetic.name in report.mismatch(found, tmp_path)


def sparse_rows():
    """Sparse batches, a large graph and studies, as a run writes them."""
    linear = {"kind": "sparse-linear"}
    large = {
        "kind": "large",
        "sizes": {"graphs": 1, "nodes": 1000, "entries": 9000, "clusters": 64, "padded_nodes": 1000},
    }
    sizes = {"graphs": 2, "padded_nodes": 50, "nodes": 30, "entries": 70, "clusters": 12}

    def study(name, quantity, value, unit, **more):
        title = registry.STUDIES[name].title
        return {
            "status": "measured", "kind": "study", "workload": name, "title": title, "quantity": quantity,
            "value": value, "unit": unit, **more,
        }  # fmt: skip

    edges = {"kind": "sparse", "sizes": sizes}
    return [
        row_of("enzymes-edges", "pyg-converted", 6.0, 1.0, 50_000_000) | edges,
        row_of("enzymes-edges", "hierpool-edges", 0.4, 15.0, 4_000_000) | edges,
        row_of("enzymes-edges", "hierpool-graph", 0.3, 20.0, 3_000_000) | edges,
        row_of("enzymes-linear", "hierpool-edges", 1.0, 8.0) | edges | linear,
        row_of("million", "hierpool-graph", 900.0, 3.0, 4 * 64_000 * 5) | large,
        row_of("million", "hierpool-graph", 400.0, 3.0) | large | {"mode": "forward"},
        study("million-graph", "undirected", 0.8, "s", low=0.7, high=0.9, nodes=1000, entries=9000),
        study("linearity", "seconds", 0.01, "s", low=0.009, high=0.011, nodes=100, entries=1000),
        study("linearity", "seconds", 0.1, "s", low=0.09, high=0.11, nodes=1000, entries=10000),
        study("linearity", "exponent", 1.0, ""),
        study("threads", "star", 1.8, "x", low=1.7, high=1.9, threads=2, busy=1.95, seconds=0.5),
    ]


def test_report_of_sparse_batches_and_large_graphs(synthetic, tmp_path):
    pytest.importorskip("matplotlib")
    lines = (synthetic / "rows.jsonl").read_text().splitlines(keepends=True)
    added = [json.dumps(row) + "\n" for row in sparse_rows()]
    (synthetic / "rows.jsonl").write_text("".join([*lines[:-1], *added, lines[-1]]))
    found = results.read(synthetic)
    written = report.write(found, tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert report.mismatch(found, tmp_path) is None
    assert readme.count("| ENZYMES x 32 (N 50") == 1
    batch = "| ENZYMES x 32 (30 nodes, 70 entries, K 12) |"
    assert (
        f"{batch} PyG + conversions | 6 | in every step | **0.4** | 15x (13.5 to 16.5) | 12x met |" in readme
    )
    assert "| 50 / 4 |" in readme
    assert f"{batch} PyG + conversions | 6 | by the loader | **0.3** | 20x (18 to 22) |  |" in readme
    assert f"{batch} tgp batched=False, linear layer counted | 8 | in every step | **1** |" in readme
    assert "10x not met" in readme
    million = registry.WORKLOADS["million"].title
    assert f"| {million}: forward + backward | 0.9 s (0.81 to 0.99) | at most 1.5 s met |" in readme
    assert f"| {million}: forward | 0.4 s (0.36 to 0.44) |  |" in readme
    assert (
        f"| {million}: peak memory beyond the graph | 5 N K floats | at most 4.25 N K floats not met |"
        in readme
    )
    assert (
        f"| {million}: the same algebra in torch.sparse | 2.7 s (2.43 to 2.97): 3x (2.7 to 3.3) as long |"
        in readme
    )
    assert ": undirected | 0.8 s (0.7 to 0.9) | at most 0.75 s not met |" in readme
    assert ": exponent | 1 | at most 1.15 met |" in readme
    assert ": star | 1.8x (1.7 to 1.9) as fast as one thread; 1.95 of 2 processors busy; 0.5 s |" in readme
    assert ": seconds" not in readme
    assert {"bench-sparse.svg", "bench-linearity.svg"} < {path.name for path in written}
    text = report.terminal_table(found)
    assert "seconds, E 1000: 0.01 s (0.009 to 0.011)" in text
    assert f"{million}, hierpool from a graph: at most 4.25 N K floats not met at 5 N K floats" in text
    assert "undirected: at most 0.75 s not met at 0.8 s" in text


def test_terminal_table_lists_goals_and_gaps(synthetic):
    text = report.terminal_table(results.read(synthetic))
    assert "ENZYMES x 32, hierpool: 10x met at 16x (14.4 to 17.6)" in text
    assert "PROTEINS x 20, hierpool: 10x not met at 3x" in text
    assert "D&D-like x 20, hierpool: not measured" in text
    assert "IMDB-BINARY x 32: skipped (no data)" in text


def test_readme_without_markers_is_an_error(synthetic, tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(ValueError, match="bench:begin"):
        report.write(results.read(synthetic), tmp_path)
    assert (tmp_path / "README.md").read_text() == "nothing here"


def test_check_without_results(tmp_path):
    (tmp_path / "README.md").write_text(f"{report.BEGIN}\n{report.END}\n")
    assert report.mismatch(None, tmp_path) is None
    (tmp_path / "README.md").write_text(f"{report.BEGIN}\n| table |\n{report.END}\n")
    assert "no results" in report.mismatch(None, tmp_path)


def test_a_quick_look_is_not_reported(synthetic, tmp_path):
    (synthetic / "metadata.json").write_text(json.dumps(METADATA | {"quick": True}))
    with pytest.raises(ValueError, match="quick look"):
        report.command(synthetic, check=False, print_only=False, root=tmp_path)
    assert report.command(synthetic, check=False, print_only=True, root=tmp_path) == 0


def test_an_unfinished_run_is_not_reported(synthetic, tmp_path):
    lines = (synthetic / "rows.jsonl").read_text().splitlines(keepends=True)
    (synthetic / "rows.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="unfinished"):
        report.command(synthetic, check=False, print_only=False, root=tmp_path)

"""README.md and docs/benchmarks.md hold the newest results: tables, goals, gaps and plots."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from bench.harness import results
from bench.ops import STUDIES, WORKLOADS, step
from bench.report import pages, plots

METADATA = {
    "date_utc": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "dirty": False, "quick": False,
    "cpu_model": "Some CPU", "threads": 2, "packages": {"torch": "2.13.0"},
    "rates": {"copy_gbps": 30.0, "gemm_gflops": 300.0},
}  # fmt: skip
SPREAD = {"p20": 0.9, "p50": 1.0, "p80": 1.1}
SIZES = {"graphs": 2, "padded_nodes": 50, "nodes": 30, "entries": 70, "clusters": 12}
LARGE = {"graphs": 1, "nodes": 1000, "entries": 9000, "clusters": 64, "padded_nodes": 1000}
WHEN = datetime(2026, 1, 2, tzinfo=timezone.utc)


def row_of(workload, provider, ms, ratio, peak=None, mode="both", **more):
    return {
        "status": "measured", "workload": workload, "title": WORKLOADS[workload].title,
        "kind": WORKLOADS[workload].kind.name, "provider": provider, "mode": mode,
        "peer_ms": {k: v * ms * ratio for k, v in SPREAD.items()},
        "candidate_ms": {k: v * ms for k, v in SPREAD.items()},
        "speedup": {k: v * ratio for k, v in SPREAD.items()},
        "floor": {"bytes": 1.0, "flops": 1.0, "ms": 0.5, "fraction": 0.5 / ms},
        "peak": {"bytes": peak} if peak else {"bytes": None, "reason": "no /proc"},
        "sizes": SIZES, **more,
    }  # fmt: skip


def figure(name, quantity, value, unit, **more):
    title = STUDIES[name].title
    return {
        "status": "measured", "kind": "study", "workload": name, "title": title, "quantity": quantity, "value": value,
        "unit": unit, **more,
    }  # fmt: skip


MISSING = {"status": "not measured", "provider": "tgp", "reason": "no tgp"}
ROWS = [
    row_of("enzymes", "pyg", 4.0, 1.0, 40_000_000), row_of("enzymes", "hierpool", 0.25, 16.0, 5_000_000),
    row_of("proteins", "pyg", 3.0, 1.0), row_of("proteins", "hierpool", 1.0, 3.0),
    row_of("proteins", "hierpool", 0.5, 3.0, mode="forward"),
    {"status": "skipped", "workload": "imdb-binary", "title": "IMDB-BINARY x 32", "reason": "no data"},
    {"workload": "enzymes", "title": "ENZYMES x 32", **MISSING},
    {"workload": "proteins", "title": "PROTEINS x 20", **MISSING},
    row_of("enzymes-edges", "pyg-converted", 6.0, 1.0, 50_000_000),
    row_of("enzymes-edges", "hierpool-edges", 0.4, 15.0, 4_000_000),
    row_of("enzymes-edges", "hierpool-graph", 0.3, 20.0, 3_000_000),
    row_of("enzymes-linear", "hierpool-edges", 1.0, 8.0),
    row_of("million", "hierpool-graph", 900.0, 3.0, 4 * 64_000 * 5, sizes=LARGE),
    figure("million-graph", "undirected", 0.8, "s", low=0.7, high=0.9, nodes=1000, entries=9000),
    figure("linearity", "seconds", 0.01, "s", low=0.009, high=0.011, nodes=100, entries=1000),
    figure("linearity", "seconds", 0.1, "s", low=0.09, high=0.11, nodes=1000, entries=10000),
    figure("linearity", "exponent", 1.0, ""),
    figure("threads", "star", 1.8, "x", low=1.7, high=1.9, threads=2, busy=1.95, seconds=0.5),
]  # fmt: skip
GPU = METADATA | {
    "device": "cuda", "device_name": "Some GPU", "driver": "1.2", "packages": {"torch": "2.11.0", "triton": "3.6.0"},
    "rates": {"copy_gbps": 4000.0, "gemm_gflops": {"half": 7e5}, "launch_us": 2.5},
}  # fmt: skip
GPU_ROWS = [
    {"status": "measured", "workload": "tests", "title": "Tests", "kind": "stage", "quantity": "seconds", "value": 9.0,
     "unit": "s", "outcome": "3 passed"},
    row_of("dense-tf32", "hierpool", 1.0, 2.0, 4_000_000, baseline="hierpool-reference",
           kernels=[{"name": "_assign_kernel", "count": 2, "us": 7.0}]),
    {"workload": "dense-tf32", "title": "Dense", **MISSING},
]  # fmt: skip


def steps_on(dataset, **more):
    return METADATA | {"config": {"dataset": dataset, "batch_size": 32}, "peer": "pyg", "steps": 150} | more


ALONE = {"status": "measured", "ms": SPREAD, "parts_ms": dict.fromkeys(step.PARTS, 0.25)}
STEP_ROWS = [
    {"side": side, "title": title, "peer_ms": SPREAD, "speedup": SPREAD, "overall": 1.5, "pairs": 150, **ALONE}
    for side, title in step.SIDES.items()
]  # fmt: skip
TOO_LARGE_ROWS = [
    {"side": side, "title": title, "status": step.TOO_LARGE, "needs_gib": 20.0 if side == "pyg" else 150.4}
    if side in step.PYG else {"side": side, "title": title, "steps": 30, **ALONE}
    for side, title in step.SIDES.items()
]  # fmt: skip


def record(parent: Path, metadata: dict, rows: list[dict], whole: bool = True) -> Path:
    folder = results.create_folder(parent, metadata, WHEN)
    for row in rows:
        results.append_row(folder, row)
    if whole:
        results.finish(folder, 12.3)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A checkout with results made by hand, of a CPU, a GPU and training steps, and the pages written from them."""
    pytest.importorskip("matplotlib")
    root = tmp_path_factory.mktemp("root")
    cpu = record(root / "results", METADATA, ROWS)
    (cpu / "notes.md").write_text("PROTEINS is bound by something.\n")
    record(root / "results", GPU, GPU_ROWS)
    unfinished, older = STEP_ROWS[:-1], [row | {"overall": 7.0} for row in STEP_ROWS]
    for rows in (older, STEP_ROWS, unfinished):
        record(root / "results" / "step", steps_on("ENZYMES"), rows, whole=False)
    large = steps_on("DD", peer=None, available_bytes=22 << 30)
    record(root / "results" / "step", large, TOO_LARGE_ROWS, whole=False)
    (root / "README.md").write_text(f"# Title\n\n{pages.BEGIN}\n{pages.END}\n\nAfter.\n")
    assert "README.md" in pages.mismatch(pages.newest(root / "results"), root)
    pages.write(pages.newest(root / "results"), root)
    return root


def command(root: Path, folder: Path | None = None, check: bool = False, print_only: bool = False) -> int:
    return pages.command(folder, check=check, print_only=print_only, root=root, parent=root / "results")


def test_readme_has_one_short_table(made):
    readme = (made / "README.md").read_text()
    assert readme.startswith("# Title\n")
    assert readme.endswith("After.\n")
    table = [line for line in readme.splitlines() if line.startswith("|")]
    assert table == [
        "| workload | PyG ms | hierpool ms | ratio | peak MB |",
        "|---|---|---|---|---|",
        "| ENZYMES x 32 | 4 | **0.25** | 16x (14.4 to 17.6) | 40 / 5 |",
        "| PROTEINS x 20 | 3 | **1** | 3x (2.7 to 3.3) | - |",
        f"| {WORKLOADS['million'].title} (peer: torch.sparse) | 2700 | **900** | 3x (2.7 to 3.3) | 1.28 |",
    ]
    assert len(pages.HEADLINES) == 8
    assert "Some CPU, 2 threads, torch 2.13.0, 2026-01-02." in readme
    assert readme.count("![") == 1


def test_the_page_has_everything_else(made):
    page = (made / "docs" / "benchmarks.md").read_text()
    enzymes = "ENZYMES x 32 (N 50, K 12, 30% of rows real)"
    for line in (
        f"| {enzymes} | hierpool | 0.25 | PyG eager | 4 | 16x (14.4 to 17.6) | 200% | 5 | 10x met |",
        "| 3x (2.7 to 3.3) | 50% | - | 10x not met |",
        "| hierpool from edge_index | 0.4 | PyG + conversions | 6 | 15x (13.5 to 16.5) | 125% | 4 | 12x met |",
        "| hierpool from a graph | 0.3 | PyG + conversions | 6 | 20x (18 to 22) | 167% | 3 |  |",
        "| hierpool from edge_index | 1 | tgp batched=False | 8 | 8x (7.2 to 8.8) | 50% | - | 10x not met |",
        "| at most 1.5 s met; at most 4.25 N K floats not met |",
        ": undirected | 0.8 s (0.7 to 0.9) | at most 0.75 s not met |",
        ": exponent | 1 | at most 1.15 met |",
        ": star | 1.8x (1.7 to 1.9) as fast as one thread; 1.95 of 2 processors busy; 0.5 s |",
        "seconds, E 1000 | 0.01 s (0.009 to 0.011) |",
        "PROTEINS is bound by something.",
        "* tgp dense: not measured on ENZYMES x 32, PROTEINS x 20 (no tgp)",
        "* IMDB-BINARY x 32: skipped (no data)",
        "PyG eager against itself 0.90x to 1.10x at worst",
        "Some GPU, driver 1.2, torch 2.11.0, triton 3.6.0, commit 0123456789",
        "Tests: 3 passed, 9 s",
        "| hierpool | 1 | hierpool reference | 2 | 2x (1.8 to 2.2) | 50% | 4 | 2 |",
        "| hierpool, clusters in proportion to each graph | 1 | 150 | 0.25 | 0.25 | 0.25 | 0.25 | 1x (0.9 to 1.1) "
        "| 1.50x | 2.5x not met |",
    ):
        assert line in page
    assert "forward |" not in page.split("## Whole")[0]
    assert "7.00x" not in page  # of an older run
    assert "no peak memory on PROTEINS x 20" in page
    drawn = {path.name for path in (made / "docs" / "assets").iterdir()}
    assert drawn == {plot.file for plot in plots.PLOTS}
    assert all(path.read_text().lstrip().startswith("<?xml") for path in (made / "docs" / "assets").iterdir())
    assert all(f"](assets/{file})" in page for file in drawn - {pages.README_PLOT})


def test_the_page_says_what_does_not_fit(made):
    page = (made / "docs" / "benchmarks.md").read_text()
    large = page.split("### DD\n")[1].split("###")[0]
    assert "22 GiB of memory available" in large
    dashes = "- | - | - | - | - | -"
    for line in (
        f"| PyG dense, padded batch by batch | {dashes} | does not fit (needs 20 GiB) |  |",
        f"| PyG dense, padded beforehand | {dashes} | does not fit (needs 150 GiB) |  |",
        "| hierpool, one number of clusters for all graphs | 1 | 30 of 150 | 0.25 | 0.25 | 0.25 | 0.25 "
        "| PyG does not fit (needs 20 GiB) |  |",
        "| PyG does not fit (needs 20 GiB) | 20x, or PyG does not fit: met |",
    ):
        assert line in large
    assert "over all steps" not in large


def test_check_fails_unless_pages_and_plots_are_the_newest(made, tmp_path, capsys):
    root = tmp_path / "root"
    shutil.copytree(made, root)
    assert command(root, check=True) == 0
    readme, page = root / "README.md", root / "docs" / "benchmarks.md"
    for path in (readme, page):
        text = path.read_text()
        path.write_text(text.replace("0.25", "0.20"))
        assert command(root, check=True) == 1
        assert f"{path.relative_to(root)} does not hold the newest results" in capsys.readouterr().out
        path.write_text(text)
    plot = root / "docs" / "assets" / "bench-sparse.svg"
    plot.unlink()
    assert command(root, check=True) == 1
    assert "bench-sparse.svg" in capsys.readouterr().out
    before = {path: path.read_text() for path in (readme, page)}
    assert command(root) == 0
    assert plot.exists()
    assert before == {path: path.read_text() for path in (readme, page)}


def test_quick_looks_and_unfinished_runs_are_printed_only(made, tmp_path, capsys):
    root = tmp_path / "root"
    shutil.copytree(made, root)
    later = datetime(2026, 2, 1, tzinfo=timezone.utc)
    quick = results.create_folder(root / "results", METADATA | {"quick": True}, later)
    results.finish(quick, 1.0)
    unfinished = results.create_folder(root / "results", METADATA, later)
    assert command(root, check=True) == 0
    capsys.readouterr()
    for folder, what in ((quick, "quick look"), (unfinished, "unfinished run")):
        assert command(root, folder) == 0
        assert capsys.readouterr().out.startswith(f"{what}, Some CPU")
    assert command(root, check=True) == 0


def test_the_terminal_shows_all_modes_kernels_and_gaps(made, capsys):
    assert command(made, print_only=True) == 0
    text = capsys.readouterr().out
    assert "forward" in text
    assert "10x not met" in text
    assert "IMDB-BINARY x 32: skipped (no data)" in text
    assert "dense, TF32, hierpool: 7 us in 2 kernels" in text
    assert "2.5 us a launch" in text
    assert "tgp dense: not measured on Dense (no tgp)" in text


def test_a_missing_package_is_named(made, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeError, match="plots need matplotlib"):
        plots.draw(pages.newest(made / "results").cpu, tmp_path)


def test_readme_without_markers_is_an_error(made, tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(ValueError, match="bench:begin"):
        pages.write(pages.newest(made / "results"), tmp_path)
    assert (tmp_path / "README.md").read_text() == "nothing here"


def test_without_results(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{pages.BEGIN}\n{pages.END}\n")
    runs = pages.newest(tmp_path / "results")
    pages.write(runs, tmp_path)
    assert "There are no results yet." in (tmp_path / "docs" / "benchmarks.md").read_text()
    assert pages.mismatch(runs, tmp_path) is None
    readme.write_text(f"{pages.BEGIN}\n| table |\n{pages.END}\n")
    assert "README.md" in pages.mismatch(runs, tmp_path)
    with pytest.raises(ValueError, match="no complete results yet"):
        command(tmp_path)

"""A run times right results only, names what it cannot measure, and keeps to its time."""

from __future__ import annotations

import sys

import pytest
import torch

from bench.harness import memory, run
from bench.harness.precision import BF16, IEEE
from bench.harness.workload import CPU, Refused, Study, Unavailable, Workload
from bench.ops import PROVIDERS, WORKLOADS
from bench.ops.batches import of_dense, with_linear
from bench.ops.graphs import dense, random_graph, rings, scattered
from bench.ops.soft_pool import DENSE, LARGE, LINEAR, SCATTERED, SCATTERED_LINEAR, SPARSE
from bench.report import tables
from tests.bench.toys import AT_ONCE, SMALL, execute, loaded, off, plan_of, provider_of, raising, small_batch

GRAPH = scattered(40, 4, 3, 4)
TOYS = {
    w.name: w
    for w in (
        Workload("d", "Dense", DENSE, dense(2, 12, 3, 4), device="cuda"),
        Workload(
            "b", "Dense, bf16", DENSE, dense(2, 12, 3, 4, torch.bfloat16), precision=BF16, device="cuda"
        ),
        Workload("l", "Large", SCATTERED, GRAPH, precision=IEEE, device="cuda"),
        Workload("g", "Graphs", SPARSE, rings(3, 5, 7, 3, 4), device="cuda", replayed=True),
        Workload("n", "Linear", SCATTERED_LINEAR, with_linear(GRAPH), device="cuda"),
    )
}
ALL_MODES = run.MODES["cpu"]


def test_right_results_only_are_timed(tmp_path, monkeypatch):
    right, timed = loaded("pyg"), []
    compare = run.timing.compare

    def watched(candidate, peer, effort):
        timed.append(effort)
        return compare(candidate, peer, effort)

    monkeypatch.setattr(run.timing, "compare", watched)
    made = (
        provider_of(right, "hierpool-right"), provider_of(off(right, 2, value=1e-3), "hierpool-wrong"),
        provider_of(raising(RuntimeError("kernel broke\nwith details")), "hierpool-broken"),
        run.Provider("absent", "absent", "test", raising(Unavailable("not installed"))),
        provider_of(raising(RuntimeError("peer broke")), "peer"),
        provider_of(raising(torch.OutOfMemoryError("tried to allocate")), "full"),
        provider_of(right, "hierpool-directed-only", symmetry=False),
    )  # fmt: skip
    known = PROVIDERS | {p.name: p for p in made}
    monkeypatch.delenv("HIERPOOL_DATA", raising=False)
    plan = plan_of([SMALL, WORKLOADS["enzymes"]], [p.name for p in made], known, modes=ALL_MODES)
    _, failed, rows = execute(plan, tmp_path)
    assert failed == 2  # of ours
    assert len(timed) == len(ALL_MODES)
    row = rows["small", "hierpool-right", "both"]
    assert (row["status"], row["baseline"], row["peak"]["reason"]) == ("measured", "pyg", "not asked for")
    assert row["floor"]["fraction"] == row["floor"]["ms"] / row["candidate_ms"]["p50"]
    assert {"speedup", "peer_ms", "pairs", "errors", "sizes", "precision", "copies"} < set(row)
    wrong = rows["small", "hierpool-wrong", ""]
    assert wrong["status"] == "refused"
    assert "link: relative error 1.0e-03" in wrong["reason"]
    reasons = {name: (r["status"], r["reason"]) for (_, name, _), r in rows.items() if "reason" in r}
    assert reasons["hierpool-broken"] == ("failed", "RuntimeError: kernel broke")
    assert reasons["absent"] == ("not measured", "not installed")
    assert reasons["peer"] == ("failed", "RuntimeError: peer broke")
    assert reasons["full"] == ("not measured", "it needs more memory than the device has free")
    assert rows["enzymes", "", ""]["status"] == "skipped"
    assert "HIERPOOL_DATA" in rows["enzymes", "", ""]["reason"]
    assert not any("directed-only" in name for _, name, _ in rows)


def test_what_is_not_installed_is_named_and_the_next_baseline_taken(tmp_path, monkeypatch):
    for package, parts in {"torch_geometric": ("nn", "utils"), "tgp": ("connect", "poolers")}.items():
        for module in (package, *(f"{package}.{part}" for part in parts)):
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(run.EFFORT, "cpu", AT_ONCE)
    wanted = [
        "pyg", "tgp", "torch-sparse", "tgp-unbatched", "pyg-converted", "hierpool-reference", "hierpool-graph-reference"
    ]  # fmt: skip
    found, failed, rows = execute(plan_of(list(TOYS.values()), wanted), tmp_path)
    assert (failed, found.finished, found.metadata["device_name"]) == (0, True, found.metadata["cpu_model"])
    for workload, provider, baseline in (
        ("d", "hierpool-reference", "hierpool-reference"), ("b", "hierpool-reference", "hierpool-reference"),
        ("l", "hierpool-graph-reference", "torch-sparse"), ("l", "torch-sparse", "torch-sparse"),
        ("g", "hierpool-graph-reference", "hierpool-graph-reference"),
    ):  # fmt: skip
        for mode in run.MODES["cuda"]:
            row = rows[workload, provider, mode]
            assert (row["status"], row["baseline"]) == ("measured", baseline)
            assert row["copies"] > 1  # the inputs of toys fit into the cache
    assert rows["d", "pyg", ""]["reason"].startswith("torch_geometric is not installed")
    assert rows["d", "tgp", ""]["reason"].startswith("tgp is not installed")
    # without tgp, our own kernels are the baseline
    assert rows["n", "tgp-unbatched", ""]["status"] == "not measured"
    text = tables.terminal(found)
    assert "PyG eager: not measured on Dense, Dense, bf16 (torch_geometric is not installed" in text
    assert text.startswith("quick look, ")


def test_a_backend_that_cannot_run_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules["bench.ops.soft_pool"].BACKENDS, "cpu", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    loaded("pyg")
    _, failed, rows = execute(plan_of([SMALL], ["hierpool"]), tmp_path)
    assert failed == 0
    assert rows["small", "hierpool", ""]["status"] == "not measured"
    assert "backend 'triton' cannot run" in rows["small", "hierpool", ""]["reason"]


def test_nothing_is_begun_when_the_time_is_used_up(tmp_path):
    found, failed, _ = execute(plan_of([TOYS["d"], TOYS["l"]], ["hierpool"], seconds=1e-9), tmp_path)
    assert failed == 0
    assert [row["status"] for row in found.rows] == ["not measured", "not measured"]
    assert "was used up" in found.rows[0]["reason"]


def test_a_slow_kind_times_few_pairs_and_no_peer_against_itself(tmp_path, monkeypatch):
    loaded("hierpool-graph")
    efforts = []
    compare = run.timing.compare

    def watched(candidate, peer, effort):
        efforts.append(effort.min_pairs)
        return compare(candidate, peer, AT_ONCE)

    monkeypatch.setattr(run.timing, "compare", watched)
    monkeypatch.setattr(memory, "peak_in_process", lambda *args: 3200)
    workload = Workload("million", "Large", LARGE, random_graph(40, 120, 4, 3))
    wanted = ["torch-sparse", "hierpool-graph", "hierpool"]
    plan = plan_of([workload], wanted, modes=ALL_MODES, quick=False, effort=run.EFFORT["cpu"])
    found, failed, rows = execute(plan, tmp_path)
    assert failed == 0
    assert efforts == [run.SLOW_PAIRS] * 3
    assert {row["provider"] for row in found.rows} == {"hierpool-graph"}
    assert rows["million", "hierpool-graph", "both"]["peak"] == {"bytes": 3200}


def test_a_workload_without_its_baseline_is_not_measured(tmp_path):
    loaded("pyg")
    known = PROVIDERS | {
        "tgp-unbatched": run.Provider("tgp-unbatched", "tgp", "", raising(Unavailable("no tgp")))
    }
    workload = Workload("w", "W", LINEAR, with_linear(of_dense(small_batch)))
    _, failed, rows = execute(plan_of([workload], list(PROVIDERS), known), tmp_path)
    assert (failed, list(rows)) == (0, [("w", "", "")])
    assert rows["w", "", ""]["status"] == "not measured"
    assert rows["w", "", ""]["reason"].endswith("no tgp")


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch):
    loaded("hierpool")
    if not memory.CLEAR_REFS.exists():
        pytest.skip("peak memory is measured on Linux")
    monkeypatch.setitem(WORKLOADS, "small", SMALL)
    assert 0 <= memory.measure_here("small", "hierpool", 0, 1, None) < 1 << 30
    with pytest.raises(Unavailable, match="nope"):
        memory.peak_in_process("nope", "hierpool", 0, 1, None)


def test_a_row_for_every_figure_of_a_study(tmp_path):
    def growth(setting):
        yield {"quantity": "exponent", "value": 1.2, "unit": ""}

    def fails(error):
        def study(setting):
            raise error
            yield

        return study

    made = {
        "linearity": growth, "threads": fails(Unavailable("one thread")),
        "wrong": fails(Refused("x: relative error 1.0e-03")), "broken": fails(MemoryError("no room\nat all")),
    }  # fmt: skip
    studies = [Study(name, name.title(), "test", of) for name, of in made.items()]
    found, failed, _ = execute(plan_of([], [], studies=studies), tmp_path)
    rows = {row["workload"]: row for row in found.rows}
    assert failed == 2
    assert rows["linearity"]["value"] == 1.2
    assert (rows["threads"]["status"], rows["threads"]["reason"]) == ("not measured", "one thread")
    assert (rows["wrong"]["status"], rows["wrong"]["reason"]) == ("refused", "x: relative error 1.0e-03")
    assert (rows["broken"]["status"], rows["broken"]["reason"]) == ("failed", "MemoryError: no room")


def test_too_large_is_foreseen(monkeypatch):
    plan = plan_of([], [], device=torch.device("cuda"))
    shell = run.Run.__new__(run.Run)
    shell.plan = plan
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1e9, 2e9))
    assert "needs about" in shell.too_large(WORKLOADS["csr-40m"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1e12, 2e12))
    assert shell.too_large(WORKLOADS["csr-40m"]) is None
    assert shell.too_large(WORKLOADS["spmm"]) is None
    shell.plan = plan_of([], [], device=CPU)
    assert shell.too_large(WORKLOADS["csr-40m"]) is None

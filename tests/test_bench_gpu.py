"""The GPU part of the benchmark as far as it goes without one: its truth of large graphs, timing, a run on the CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import bytes as model  # noqa: E402
from bench import results, verify  # noqa: E402
from bench.gpu import command, operators, timing, truth, workloads  # noqa: E402
from bench.gpu import report as gpu_report  # noqa: E402
from bench.gpu import run as gpu_run  # noqa: E402
from bench.gpu.providers import TRUTHS, calls, first_of, providers  # noqa: E402
from bench.gpu.workloads import BF16, IEEE, GpuWorkload  # noqa: E402
from bench.measure import Effort  # noqa: E402
from bench.providers import Provider, ProviderUnavailable  # noqa: E402
from bench.sparse import with_linear  # noqa: E402
from bench.sparse_providers import load_torch_sparse  # noqa: E402

CPU = torch.device("cpu")
RATES = model.DeviceRates(10.0, {"half": 100.0, "tf32": 50.0, "ieee": 50.0}, 3.0, 1 << 17, 2)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="launches are written down by kernels, which need triton",
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- truth of large graphs ------------------------------------------------------------------------------------------

SMALL = workloads.scattered(301, 6, 5, 3, torch.float32)


@pytest.mark.parametrize("build", [SMALL, with_linear(SMALL)], ids=["logits", "linear"])
def test_truth_in_parts_is_that_of_autograd(build):
    batch = build(0, CPU).double()
    part = 8 * 6 * 5 * 50  # 50 nodes, so that the last part is shorter
    verdict = truth.verify(load_torch_sparse(), batch, verify.Tolerance(1e-13, 1e-12), part)
    assert verdict.ok, verdict.failures
    assert len(verdict.errors) == 4 + len(batch.leaves)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("value", "gradient"), [(1e-3, 0.0), (0.0, 10.0), (float("nan"), 0.0)])
def test_truth_in_parts_refuses_a_wrong_result(which, value, gradient):
    batch = SMALL(0, CPU)
    right = load_torch_sparse()

    def wrong(batch):
        outputs = list(right(batch))
        drift = batch.logits.square().sum() / batch.logits.numel()
        outputs[which] = outputs[which] * (1 + value) + gradient * (drift - drift.detach())
        return tuple(outputs)

    assert truth.verify(right, batch, verify.FLOAT32).ok
    assert not truth.verify(wrong, batch, verify.FLOAT32).ok


def test_an_error_that_is_nan_stays():
    worst = truth.Worst()
    for got in (1.0, float("nan"), 2.0):
        worst.see(torch.tensor([got]), torch.tensor([2.0]))
    assert worst.error != worst.error
    assert worst.scale == 2.0


# ---- timing ---------------------------------------------------------------------------------------------------------


def test_inputs_take_turns_on_both_sides(monkeypatch):
    order = []
    sides = [timing.Rotation([lambda n=n, i=i: order.append(f"{n}{i}") for i in range(3)], CPU) for n in "AB"]
    clock = iter(range(10_000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    found = timing.compare(*sides, Effort(budget_s=1.0, min_pairs=3, max_pairs=3))
    assert order[:8] == ["B0", "B1", "B2", "B0", "A0", "A1", "A2", "A0"]  # warm-up
    assert order[8:] == ["B1", "A1", "B2", "A2", "B0", "A0"]
    assert (found.pairs, found.speedup.p50) == (3, 1.0)


def test_what_only_a_device_has_is_named():
    with pytest.raises(timing.Unavailable, match="allocator of CUDA"):
        timing.peak_bytes(lambda: None, CPU)
    with pytest.raises(timing.Unavailable, match="CUDA"):
        timing.captured(lambda: None, CPU)
    a = torch.ones(8, 8)
    found = timing.kernels(lambda: a @ a, CPU)
    assert any(kernel["name"] == "aten::mm" and kernel["count"] == 1 for kernel in found)


def test_rates_are_measured():
    rates = timing.measure_rates(CPU, copy_bytes=1 << 16, side=64, repeats=2)
    assert rates.copy_gbps > 0
    assert set(rates.gemm_gflops) == {"half", "tf32", "ieee"}
    assert min(rates.gemm_gflops.values()) > 0


# ---- a run on the CPU -----------------------------------------------------------------------------------------------

TOYS = {
    "dense": GpuWorkload("d", "Dense", "dense", IEEE, workloads.dense(2, 12, 3, 4, torch.float32)),
    "bf16": GpuWorkload("b", "Dense, bf16", "dense", BF16, workloads.dense(2, 12, 3, 4, torch.bfloat16)),
    "large": GpuWorkload("l", "Large", "large", IEEE, workloads.scattered(40, 4, 3, 4, torch.float32)),
    "graphs": GpuWorkload("g", "Graphs", "graphs", IEEE, workloads.rings(3, 5, 7, 3, 4), replayed=True),
    "linear": GpuWorkload(
        "n", "Linear", "large-linear", IEEE, with_linear(workloads.scattered(40, 4, 3, 4, torch.float32))
    ),
}


def plan_of(*toys: str, names: list[str] | None = None, seconds: float = 60.0) -> gpu_run.Plan:
    names = names or [name for name in providers(CPU) if name != "pyg-compiled"]
    return gpu_run.Plan([TOYS[toy] for toy in toys], CPU, seconds, names, quick=True)


def rows_of(found: results.Results) -> dict[tuple[str, str, str], dict]:
    return {(row["workload"], row.get("provider", ""), row.get("mode", "")): row for row in found.rows}


def test_a_run_measures_what_it_can_and_names_what_it_cannot(tmp_path, monkeypatch):
    for package, parts in {"torch_geometric": ("nn", "utils"), "tgp": ("connect", "poolers")}.items():
        for module in (package, *(f"{package}.{part}" for part in parts)):
            monkeypatch.setitem(sys.modules, module, None)
    found, failed = command.execute(plan_of(*TOYS), tmp_path, rates=RATES)
    rows = rows_of(found)
    assert (failed, found.finished, found.metadata["device_name"]) == (0, True, found.metadata["cpu_model"])
    for workload, provider, baseline in (
        ("d", "hierpool-reference", "hierpool-reference"),
        ("b", "hierpool-reference", "hierpool-reference"),
        ("l", "hierpool-graph-reference", "torch-sparse"),
        ("g", "hierpool-graph-reference", "hierpool-graph-reference"),
    ):
        for mode in gpu_run.MODES:
            row = rows[workload, provider, mode]
            assert (row["status"], row["baseline"]) == ("measured", baseline)
            assert row["floor"]["fraction"] == row["floor"]["ms"] / row["candidate_ms"]["p50"]
            assert row["peak"] == {"bytes": None, "reason": "memory is counted by the allocator of CUDA"}
            assert {"name", "count", "us"} == set(row["kernels"][0])
            assert "predicted" not in row
            assert {"speedup", "peer_ms", "pairs", "errors", "sizes", "precision", "copies"} < set(row)
    assert rows["d", "pyg", ""]["reason"] == "torch_geometric is not installed"
    assert rows["d", "tgp", ""]["reason"] == "tgp is not installed"
    assert "kernels run on CUDA tensors" in rows["d", "hierpool", ""]["reason"]
    assert rows["n", "", ""]["status"] == "not measured"
    text = gpu_report.table(found)
    assert "PyG eager: not measured on Dense; Dense, bf16 (torch_geometric is not installed)" in text
    assert "quick look, " in text
    assert "Kernels of forward + backward" in text


def test_wrong_and_failing_providers_are_not_timed(tmp_path, monkeypatch):
    known = providers(CPU)
    right = known["hierpool-reference"].load()

    def wrong(batch):
        x, *rest = right(batch)
        return x * (1 + 1e-4), *rest

    def broken(batch):
        raise RuntimeError("kernel broke\nwith details")

    def full(batch):
        raise torch.OutOfMemoryError("tried to allocate")

    pools = {
        "hierpool": wrong,
        "hierpool-untold": broken,
        "pyg": full,
        "tgp": broken,
        "hierpool-reference": right,
    }
    table = {
        name: Provider(name, name.title(), "test", lambda pool=pool: pool) for name, pool in pools.items()
    }
    monkeypatch.setattr(gpu_run, "providers", lambda device: table)
    monkeypatch.setitem(TRUTHS, "dense", ("hierpool-reference",))
    found, failed = command.execute(plan_of("dense", names=list(pools)), tmp_path, rates=RATES)
    rows = rows_of(found)
    assert failed == 2  # of ours
    assert rows["d", "hierpool", ""]["status"] == "refused"
    assert "x: relative error 1.0e-04" in rows["d", "hierpool", ""]["reason"]
    assert rows["d", "hierpool-untold", ""]["reason"] == "RuntimeError: kernel broke"
    assert rows["d", "pyg", ""]["status"] == "not measured"
    assert "more memory" in rows["d", "pyg", ""]["reason"]
    assert rows["d", "tgp", ""]["status"] == "failed"
    assert rows["d", "hierpool-reference", "both"]["baseline"] == "hierpool-reference"


def test_nothing_is_begun_when_the_time_is_used_up(tmp_path):
    found, failed = command.execute(plan_of("dense", "large", seconds=1e-9), tmp_path, rates=RATES)
    assert failed == 0
    assert [row["status"] for row in found.rows] == ["not measured", "not measured"]
    assert "was used up" in found.rows[0]["reason"]


def test_the_first_that_loads_is_taken():
    def absent():
        raise ProviderUnavailable("not here")

    known = {"a": Provider("a", "A", "", absent), "b": Provider("b", "B", "", lambda: None)}
    assert first_of(("a", "b"), known) == "b"
    with pytest.raises(ProviderUnavailable, match="not here"):
        first_of(("a",), known)


# ---- operators and poolers -----------------------------------------------------------------------------------------

GRAPH, PAIRS = workloads.scattered(40, 4, 3, 4, torch.float32), workloads.dense(2, 12, 3, 4, torch.float32)
CALLS = {
    "spmm": ("operator", operators.spmm(GRAPH)),
    "distances": ("operator", operators.edge_distances(GRAPH)),
    "variation": ("operator", operators.total_variation(GRAPH)),
    "variation-dense": ("operator", operators.dense_total_variation(PAIRS)),
    "norm": ("operator", operators.asymmetric_norm(PAIRS)),
    "link-bce": ("operator", operators.link_bce(PAIRS)),
    "mincut": ("pooler", operators.mincut(PAIRS)),
    "dmon": ("pooler", operators.dmon(PAIRS)),
}


def run_calls(folder, monkeypatch, **changes) -> tuple[results.Results, int]:
    """The toys, with our kernels for CPUs in place of those for GPUs."""
    known = providers(CPU)
    ours = replace(known["hierpool-call"], load=calls("native", CPU))
    table = known | {"hierpool-call": ours} | changes
    monkeypatch.setattr(gpu_run, "providers", lambda device: table)
    toys = [GpuWorkload(name, name, kind, IEEE, build) for name, (kind, build) in CALLS.items()]
    plan = gpu_run.Plan(toys, CPU, 600.0, ["hierpool-call", "pyg-call"], quick=True)
    return command.execute(plan, folder, rates=RATES)


def test_the_toys_are_the_workloads():
    assert set(CALLS) == set(operators.OPERATORS)
    assert all(operators.OPERATORS[name].kind == kind for name, (kind, _) in CALLS.items())
    assert not set(operators.OPERATORS) & set(workloads.WORKLOADS)


def test_operators_are_verified_and_timed(tmp_path, monkeypatch):
    found, failed = run_calls(tmp_path, monkeypatch)
    rows = rows_of(found)
    assert failed == 0, [row["reason"] for row in found.rows if row["status"] != "measured"]
    for name, (kind, _) in CALLS.items():
        for mode in gpu_run.MODES:
            row = rows[name, "hierpool-call", mode]
            assert row["baseline"] in ("hierpool-call-reference", "pyg-call")
            assert row["floor"]["fraction"] == row["floor"]["ms"] / row["candidate_ms"]["p50"]
            assert row["sizes"]["nodes"] in (24, 40) or kind == "pooler"
            assert row["copies"] > 1  # the inputs of toys fit into the cache
    assert "variation-dense" in gpu_report.table(found)


@pytest.mark.parametrize("drift", ["value", "gradient"])
def test_wrong_operators_are_refused(drift, tmp_path, monkeypatch):
    right = calls("native", CPU)()

    def wrong(problem):
        first, *rest = right(problem)
        leaf = problem.leaves[0].sum()
        return first * 1.001 if drift == "value" else first + 10 * (leaf - leaf.detach()), *rest

    provider = Provider("hierpool-call", "hierpool", "", lambda: wrong, kinds=("operator", "pooler"))
    found, failed = run_calls(tmp_path, monkeypatch, **{"hierpool-call": provider})
    rows = rows_of(found)
    assert failed == len(CALLS)
    for name in CALLS:
        assert rows[name, "hierpool-call", ""]["status"] == "refused"


INTERPRETED = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from bench import bytes as model
from bench.gpu import command, operators, workloads
from bench.gpu.run import Plan
rates = model.DeviceRates(10.0, {"half": 100.0, "tf32": 50.0, "ieee": 50.0}, 3.0, 1, 2)
toys = [
    workloads.GpuWorkload("d", "Dense", "dense", workloads.IEEE, workloads.dense(1, 12, 3, 4, torch.float32)),
    workloads.GpuWorkload("l", "Large", "large", workloads.IEEE, workloads.scattered(20, 4, 3, 4, torch.float32)),
    workloads.GpuWorkload("v", "Variation", "operator", workloads.IEEE,
                          operators.total_variation(workloads.scattered(20, 4, 3, 4, torch.float32))),
    workloads.GpuWorkload("m", "MinCut", "pooler", workloads.IEEE,
                          operators.mincut(workloads.dense(1, 12, 3, 4, torch.float32))),
]
ours = ["hierpool-untold", "hierpool-graph", "hierpool-call"]
plan = Plan(toys, torch.device("cpu"), 120.0, ours, quick=True)
found, failed = command.execute(plan, Path(sys.argv[1]), rates=rates)
print(failed, *(row.get("reason", row["status"]) for row in found.rows))
print(*("predicted" in row for row in found.rows))
"""


@needs_triton
def test_the_kernels_pass_through_a_run_in_the_interpreter(tmp_path):
    paths = os.pathsep.join((str(ROOT / "python"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0" + " measured" * 8, " ".join(["True"] * 4 + ["False"] * 4)]

"""Workloads and providers of soft pooling fit together, agree with PyG in float64, and have the right floor."""

from __future__ import annotations

import pytest
import torch

from bench.harness import truth
from bench.harness.floors import Rates, Work, by_mode
from bench.harness.precision import BF16, FLOAT32, IEEE, TF32, Tolerance
from bench.harness.workload import CPU, Request, Unavailable, named, select
from bench.ops import PROVIDERS, STUDIES, WORKLOADS, graphs, soft_pool_truth, workloads_on
from bench.ops.batches import make_batch, of_dense, with_linear
from bench.report import goals, plots
from tests.bench.toys import SIZES, loaded, off, small_batch

META = torch.device("meta")


def test_registry_holds_what_belongs_together():
    cpu, gpu = workloads_on("cpu"), workloads_on("cuda")
    assert {
        "mutag",
        "enzymes",
        "proteins",
        "imdb-binary",
        "dnd-like",
        "dense-4096",
        "sparse-4096",
        "million",
    } < set(cpu)
    assert {w.precision for w in gpu.values() if w.kind.name == "dense"} == {IEEE, TF32, BF16}
    assert any(w.replayed for w in gpu.values())
    for table in (WORKLOADS, PROVIDERS, STUDIES):
        assert len({entry.title for entry in table.values()}) == len(table)
    for workload in WORKLOADS.values():
        kind = workload.kind
        able = [p for p in PROVIDERS.values() if p.applies(workload) and workload.device in p.devices]
        assert kind.check or kind.truths
        assert all(kind.name in PROVIDERS[name].kinds for name in kind.baselines)
        assert any(p.is_ours for p in able)
        assert any(not p.is_ours for p in able) or kind.name == "operator"
    for goal in goals.GOALS:
        if goal.provider is None:
            assert goal.workload in STUDIES
        else:
            assert PROVIDERS[goal.provider].applies(WORKLOADS[goal.workload])
    assert set(plots.COLOURS) == set(PROVIDERS)


def test_names_are_selected_and_unique():
    assert [w.name for w in select(WORKLOADS, ["enzymes", "mutag"], "workload")] == ["mutag", "enzymes"]
    with pytest.raises(ValueError, match="unknown workload nope; known: mutag"):
        select(WORKLOADS, ["nope"], "workload")
    with pytest.raises(ValueError, match="two entries are named mutag"):
        named([WORKLOADS["mutag"]] * 2)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", ["dense", "sparse", "sparse-linear", "large"])
def test_providers_agree_with_pyg_in_float64(kind, symmetric):
    def build(request):
        return small_batch(request, symmetric)

    builds = {"dense": build, "sparse-linear": with_linear(of_dense(build))}
    batch = builds.get(kind, of_dense(build))(Request())
    true = truth.truth_of(batch, loaded("pyg" if kind == "dense" else "pyg-converted"))
    ran = 0
    for provider in PROVIDERS.values():
        if (
            kind not in provider.kinds
            or provider.symmetry not in (None, symmetric)
            or "compiled" in provider.name
        ):
            continue
        try:
            pool = provider.load(CPU)
        except Unavailable:
            continue
        verdict = truth.verify(pool, batch, true)
        assert verdict.ok, (provider.name, verdict.failures)
        assert len(verdict.errors) == 4 + 5 * len(batch.leaves)
        ran += 1
    assert ran


# ---- floors ---------------------------------------------------------------------------------------------------------


def test_floor_arithmetic_by_hand():
    adj = torch.zeros(2, 3, 3)
    adj[0, 0, 1] = adj[0, 1, 0] = adj[1, 0, 2] = adj[1, 2, 0] = 1.0  # 4 entries; 2 and 3 nodes
    steps = by_mode(*make_batch(adj, (2, 3), features=5, clusters=4, symmetric=True, seed=0).work())
    # A 4 + 9, L 5x4, X 5x5, S and M 5x4 each, in 4 bytes; 2 E K = 32, 2 n K (F + 1.5 K) = 40 x 11
    assert steps["forward"] == Work(bytes=4 * (13 + 20 + 25 + 40), flops=32 + 440)
    # S, M 5x4 each, X 5x5, dL 5x4, dX 5x5; 2 n K F = 200, 2 n K (F + 2 K) = 40 x 13
    assert steps["backward"] == Work(bytes=4 * (40 + 25 + 20 + 25), flops=200 + 520)
    assert steps["both"] == Work(bytes=4 * (98 + 110), flops=1192)
    forward, backward = make_batch(adj, (2, 3), 5, 4, symmetric=False, seed=0).work()
    assert forward == steps["forward"]
    assert backward == Work(bytes=4 * (110 + 13), flops=720 + 32 + 160)


def test_floor_of_sparse_storage_and_of_a_linear_layer():
    build = of_dense(small_batch)
    batch = build(Request())
    dense, compressed = by_mode(*small_batch().work()), by_mode(*batch.work())
    storage = 4 * (batch.entries + 26 + 1) - 4 * sum(n * n for n in SIZES)
    assert compressed["forward"].bytes - dense["forward"].bytes == storage
    assert compressed["forward"].flops == dense["forward"].flops
    assert compressed["backward"] == dense["backward"]
    layered = by_mode(*with_linear(build)(Request()).work())
    weights = 4 * 3 + 3
    assert layered["both"].flops - compressed["both"].flops == 6 * 26 * weights
    assert layered["both"].bytes - compressed["both"].bytes == 3 * 4 * weights


def test_gathers_beyond_the_cache_are_in_the_floor():
    dense = WORKLOADS["dense-bf16"].build(Request(0, META))
    assert dense.work(60 << 20) == dense.work()
    batch = graphs.scattered(100, 4, 8, 3)(Request(0, META))
    s = 100 * 8 * 4
    assert batch.work(s) == batch.work()
    forward, backward = batch.work(s // 2)
    gathers = s + (400 * 8 * 4 - s) / 2  # every row once, half of the others are in the cache
    assert forward.bytes - batch.work()[0].bytes == gathers
    assert backward == batch.work()[1]


def test_floors_are_those_that_the_goals_were_set_from():
    h200 = Rates(4300.0, {"half": 790e3, "tf32": 395e3, "ieee": 67e3}, l2_bytes=60 << 20)
    for name, us, rel in (("dense-tf32", 65, 0.1), ("dense-bf16", 33, 0.1), ("csr-1m", 1100, 0.15)):
        workload = WORKLOADS[name]
        forward, _ = workload.build(Request(0, META)).work(h200.l2_bytes)
        assert 1e3 * h200.floor_ms(forward, workload.precision.rate) == pytest.approx(us, rel=rel)


# ---- truth of large graphs ------------------------------------------------------------------------------------------

SMALL = graphs.scattered(301, 6, 5, 3)


@pytest.mark.parametrize("build", [SMALL, with_linear(SMALL)], ids=["logits", "linear"])
def test_truth_in_parts_is_that_of_autograd(build):
    batch = build(Request()).double()
    part = 8 * 6 * 5 * 50  # 50 nodes, so that the last part is shorter
    verdict = soft_pool_truth.verify(loaded("torch-sparse"), batch, Tolerance(1e-13, 1e-12), part)
    assert verdict.ok, verdict.failures
    assert len(verdict.errors) == 4 + len(batch.leaves)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("value", "gradient"), [(1e-3, 0.0), (0.0, 10.0), (float("nan"), 0.0)])
def test_truth_in_parts_refuses_a_wrong_result(which, value, gradient):
    batch, right = SMALL(Request()), loaded("torch-sparse")
    assert soft_pool_truth.verify(right, batch, FLOAT32).ok
    assert not soft_pool_truth.verify(off(right, which, value, gradient), batch, FLOAT32).ok


def test_an_error_that_is_nan_stays():
    worst = soft_pool_truth.Worst()
    for got in (1.0, float("nan"), 2.0):
        worst.see(torch.tensor([got]), torch.tensor([2.0]))
    assert worst.error != worst.error
    assert worst.scale == 2.0

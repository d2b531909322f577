"""What the benchmark takes a GPU to need: its workloads, and the model of bytes and flops of every launch."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import __main__ as cli  # noqa: E402
from bench import bytes as model  # noqa: E402
from bench import costs, floors  # noqa: E402
from bench.gpu import workloads  # noqa: E402
from bench.gpu.command import ALL  # noqa: E402
from bench.gpu.operators import OPERATORS  # noqa: E402
from bench.gpu.providers import BASELINES, KERNELS, TRUTHS, is_ours, providers  # noqa: E402
from bench.gpu.workloads import BF16, IEEE, TF32, WORKLOADS  # noqa: E402
from bench.registry import WORKLOADS as CPU_WORKLOADS  # noqa: E402
from bench.sparse import with_linear  # noqa: E402

CPU = torch.device("cpu")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="launches are written down by kernels, which need triton",
)

# ---- workloads ------------------------------------------------------------------------------------------------------


def test_workloads_and_providers_fit_together():
    known = providers(CPU)
    assert {w.kind for w in ALL.values()} == set(BASELINES)
    assert len({w.title for w in ALL.values()}) == len(ALL) == len(WORKLOADS) + len(OPERATORS)
    assert not set(WORKLOADS) & set(CPU_WORKLOADS)
    for kind, names in (*BASELINES.items(), *TRUTHS.items()):
        assert all(kind in known[name].kinds for name in names)
    for workload in WORKLOADS.values():
        able = {p.name for p in known.values() if p.applies(workload)}
        assert able & set(KERNELS)
        assert {name for name in able if not is_ours(name)}
    for workload in OPERATORS.values():
        able = {p.name for p in known.values() if p.applies(workload)}
        assert able - {"pyg-call"} == {"hierpool-call", "hierpool-call-reference"}
    precisions = {w.precision for w in WORKLOADS.values() if w.kind == "dense"}
    assert precisions == {IEEE, TF32, BF16}
    assert any(w.replayed for w in WORKLOADS.values())


def test_shapes_are_those_of_the_goals():
    shapes = {name: w.build(0, model.META) for name, w in WORKLOADS.items()}
    dense, million, many, huge = (shapes[n] for n in ("dense-tf32", "csr-1m", "graphs-1024", "csr-40m"))
    assert (*dense.adj.shape, dense.clusters, dense.x.size(-1)) == (32, 1024, 1024, 256, 128)
    assert (million.x.size(0), million.entries, million.clusters) == (1_000_000, 16_000_000, 64)
    assert len(many.sizes) == 1024
    assert sum(many.sizes) / 1024 == pytest.approx(33, abs=0.1)
    assert huge.logits.numel() > 2**31
    assert huge.x.dtype is torch.bfloat16


def adjacency(batch) -> torch.Tensor:
    n = batch.x.size(0)
    a = torch.zeros(n, n)
    a.index_put_(tuple(batch.edge_index), torch.ones(batch.entries), accumulate=True)
    return a


@pytest.mark.parametrize(("nodes", "degree"), [(31, 6), (32, 4), (5, 4)])
def test_a_scattered_graph_is_simple_symmetric_and_regular(nodes, degree):
    batch = workloads.scattered(nodes, degree, 4, 3, torch.float32)(1, CPU)
    a = adjacency(batch)
    assert set(a.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(a, a.T)
    assert a.diagonal().sum() == 0
    assert a.sum(1).eq(degree).all()
    row, col = batch.edge_index
    assert ((row * nodes + col).diff() > 0).all()


def test_rings_are_symmetric_and_stay_in_their_graphs():
    batch = workloads.rings(7, 5, 9, 4, 3)(0, CPU)
    a = adjacency(batch)
    assert batch.sizes == (5, 6, 7, 8, 9, 5, 6)
    assert torch.equal(a, a.T)
    assert a.sum(1).eq(4).all()
    row, col = batch.edge_index
    assert torch.equal(batch.batch[row], batch.batch[col])
    assert ((row * a.size(0) + col).diff() > 0).all()


@pytest.mark.parametrize("name", ["dense", "scattered", "linear"])
def test_copies_share_no_memory(name):
    build = {
        "dense": workloads.dense(2, 9, 3, 4, torch.bfloat16),
        "scattered": workloads.scattered(20, 4, 3, 4, torch.float32),
        "linear": with_linear(workloads.scattered(20, 4, 3, 4, torch.float32)),
    }[name]
    batch = build(0, CPU)
    other = workloads.copied(batch)
    pairs = [(batch.x, other.x)]
    pairs += [(t, workloads.tensors_of(other)[name]) for name, t in workloads.tensors_of(batch).items()]
    for one, two in pairs:
        assert torch.equal(one, two)
        assert one.data_ptr() != two.data_ptr()
        assert one.requires_grad == two.requires_grad
    assert workloads.input_bytes(batch) == sum(t.nbytes for t, _ in pairs) + sum(
        g.nbytes for g in batch.grads
    )


@pytest.mark.parametrize("kept", [None, "tf32x3"])
def test_precision_is_put_back(monkeypatch, kept):
    from hierpool_kernels.target import VARIABLE, fp32_precision

    monkeypatch.delenv(VARIABLE, raising=False)
    if kept:
        monkeypatch.setenv(VARIABLE, kept)
    before = torch.get_float32_matmul_precision()
    for precision, name in ((TF32, "high"), (IEEE, "highest")):
        with workloads.in_force(precision):
            assert (fp32_precision(), torch.get_float32_matmul_precision()) == (precision.products, name)
    assert torch.get_float32_matmul_precision() == before
    assert os.environ.get(VARIABLE) == kept


# ---- model of bytes and flops ---------------------------------------------------------------------------------------


def test_least_work_is_the_floor_and_gathers_beyond_the_cache():
    dense = WORKLOADS["dense-bf16"].build(0, model.META)
    assert model.least_work(dense, 60 << 20) == floors.work(dense)
    batch = workloads.scattered(100, 4, 8, 3, torch.float32)(0, model.META)
    s = 100 * 8 * 4
    assert model.least_work(batch, s) == floors.work(batch)
    beyond = model.least_work(batch, s // 2)
    gathers = s + (400 * 8 * 4 - s) / 2  # every row once, half of the others are in the cache
    assert beyond["forward"].bytes - floors.work(batch)["forward"].bytes == gathers
    assert beyond["backward"] == floors.work(batch)["backward"]
    assert beyond["both"] == beyond["forward"] + beyond["backward"]


def test_floors_are_those_that_the_goals_were_set_from():
    def floor_us(name, mode="forward"):
        workload = WORKLOADS[name]
        steps = model.least_work(workload.build(0, model.META), model.H200.l2_bytes)
        return 1e3 * floors.floor_ms(steps[mode], model.H200.of(workload.precision.rate))

    assert floor_us("dense-tf32") == pytest.approx(65, rel=0.1)
    assert floor_us("dense-bf16") == pytest.approx(33, rel=0.1)
    assert floor_us("csr-1m") == pytest.approx(1100, rel=0.15)


def test_a_launch_takes_its_bytes_or_its_flops_and_a_start():
    rates = model.DeviceRates(1000.0, {"half": 4000.0, "tf32": 2000.0, "ieee": 1000.0}, 3.0, 1, 10)
    bound_by_bytes = costs.Cost(4e6, 1e6, Counter(half=4e6))
    assert model.LaunchCost("k", (20,), bound_by_bytes).us(rates) == pytest.approx(5.0 + 3.0)
    products = costs.Cost(1e3, 0, Counter(half=8e6, tf32=2e6))
    assert model.LaunchCost("k", (5, 4), products).us(rates) == pytest.approx(2.0 + 1.0 + 3.0)
    assert model.LaunchCost("k", (5,), products).us(rates) == pytest.approx(
        2 * 3.0 + 3.0
    )  # half of the processors
    assert model.LaunchCost("torch amax", (), costs.Cost(1e3, 0)).us(rates) == pytest.approx(0.001 + 3.0)


@needs_triton
def test_launches_by_hand():
    """One graph of 100 nodes, K 20, F 7, in float32: tiles of K and F are filled up to 32 and 16."""
    batch = workloads.dense(1, 100, 20, 7, torch.float32)(0, model.META)
    found = model.launches(batch, True, "tf32", model.H200)
    names = [launch.name for launch in found["forward"]]
    assert names[:2] == ["_assign_kernel", "_soft_pool_rows_kernel"]
    assert found["both"] == found["forward"] + found["backward"]
    assign, rows = (launch.cost for launch in found["forward"][:2])
    assert assign == costs.Cost(4 * 100 * 20, 4 * 100 * 20)
    slots = found["forward"][1].grid[0]
    assert rows.read == 4 * (100 * 100 + 100 * 20)
    assert rows.written == 4 * (100 * 20 + slots * (20 * 20 + 2 * 20)) + 8 * slots * 6
    assert rows.flops == Counter(tf32=2 * 100 * (100 * 32 + 32 * 32))
    row_products = next(launch.cost for launch in found["backward"] if launch.name == "_row_products_kernel")
    assert row_products.flops == Counter(tf32=2 * 100 * 32 * 16)
    assert row_products.written == 4 * 100 * 7
    wide = model.launches(batch, False, "ieee", model.H200)
    assert "_dense_product_kernel" in [launch.name for launch in wide["backward"]]
    assert {rate for launch in wide["both"] for rate in launch.cost.flops} == {"ieee"}


def _use_every_operator(step, told, fp32):
    from hierpool_kernels.asymmetric_norm import launch_asymmetric_norm_bwd, launch_asymmetric_norm_fwd
    from hierpool_kernels.soft_pool import Saved, Upstream, launch_soft_pool_bwd
    from hierpool_kernels.spmm import launch_sampled_product
    from hierpool_kernels.target import KNOWN, Target
    from hierpool_kernels.total_variation import launch_total_variation_bwd, launch_total_variation_fwd

    out = step.forward()
    grads = Upstream(*out[:8])  # of every field, to every input
    saved = Saved(out.s, out.gram, out.link_norm, out.m)

    def soft_pool_bwd(edges):
        launch_soft_pool_bwd(
            grads, saved, step.batch.x.detach(), edges, step.nodes, None, False, told, True, (True, True, True),
            step.target,
        )  # fmt: skip

    soft_pool_bwd(step.edges)
    norm, *saved_norm = launch_asymmetric_norm_fwd(out.s, step.nodes, step.target)
    launch_asymmetric_norm_bwd(norm, out.s, *saved_norm, step.nodes, step.target)
    of_s = (out.s, step.edges, step.nodes)
    if hasattr(step.edges, "a"):
        of_s = (out.s, step.edges._replace(a=step.edges.a[:, 0]), step.nodes)
    variation, _ = launch_total_variation_fwd(*of_s, step.target)
    launch_total_variation_bwd(variation, *of_s, (True, True), step.target)
    if not hasattr(step.edges, "a"):
        of = torch.empty(3000, 4, device="meta")
        value = torch.empty(step.edges.col.numel(), device="meta")
        target, acc = Target(KNOWN["sm_80"], fp32), torch.float32
        launch_sampled_product(step.edges.rowptr, step.edges.col, of, of, acc, acc, target)
        soft_pool_bwd(step.edges._replace(value=value, value_t=None if told else value))


@needs_triton
def test_every_kernel_that_is_launched_has_a_cost():
    from hierpool_kernels.launch import watch

    builds = (
        workloads.dense(2, 300, 300, 7, torch.float32), workloads.dense(2, 50, 20, 7, torch.bfloat16),
        workloads.scattered(3000, 4, 300, 7, torch.float32),
    )  # fmt: skip
    launched = set()
    for build in builds:
        for told in (True, False):
            for fp32 in ("ieee", "tf32", "tf32x3"):
                step = model.Step(build(0, model.META), told, fp32, "sm_90")
                with watch(run=False) as calls:
                    _use_every_operator(step, told, fp32)
                sizes = step.batch.sizes
                for call in calls:
                    cost = costs.COSTS[call.name](costs.Launch(call, sizes, 1 << 20))
                    assert cost.read >= 0
                    assert cost.written >= 0
                    assert set(cost.flops) <= {"half", "tf32", "ieee"}
                launched |= {call.name for call in calls}
    assert launched == set(costs.COSTS)


@needs_triton
@pytest.mark.parametrize("name", list(model.POOLING))
def test_no_prediction_is_below_the_floor(name):
    workload = WORKLOADS[name]
    batch = workload.build(0, model.META)
    steps = model.least_work(batch, model.H200.l2_bytes)
    found = model.launches(batch, True, workload.precision.products, model.H200)
    for mode in model.MODES:
        floor = floors.floor_ms(steps[mode], model.H200.of(workload.precision.rate))
        assert model.predicted_ms(found[mode], model.H200) > floor


@needs_triton
def test_the_table_says_that_it_is_predicted(capsys):
    assert cli.main(["bytes", "--workloads", "graphs-1024", "--kernels", "--launch-us", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Predicted, not measured: an H200")
    assert "2 us for the start of a launch" in text
    assert "_soft_pool_rows_kernel" in text
    assert "csr" not in text
    assert cli.main(["bytes", "--workloads", "nope"]) == 2
    assert "unknown workload nope" in capsys.readouterr().err

"""The benchmark's own promises: it refuses wrong results, alternates sides and counts floors right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import __main__ as cli  # noqa: E402
from bench import floors, goals, measure, memory, plots, registry, results, run, tables, verify  # noqa: E402
from bench.kinds import KINDS, Workload  # noqa: E402
from bench.providers import Provider, ProviderUnavailable, load_pyg  # noqa: E402
from bench.workloads import WorkloadUnavailable, dnd_like, make_batch, one_graph, read_tu  # noqa: E402


def small_batch(symmetric: bool = True):
    """Three graphs of 5, 9 and 12 nodes."""
    gen = torch.Generator().manual_seed(0)
    sizes = (5, 9, 12)
    adj = (torch.rand(3, 12, 12, generator=gen) < 0.4).float()
    mask = torch.arange(12) < torch.tensor(sizes).unsqueeze(1)
    adj = adj * mask.unsqueeze(1) * mask.unsqueeze(2)
    if symmetric:
        adj = adj.triu() + adj.triu(1).mT
    return make_batch(adj, sizes, 4, 3, symmetric, seed=1)


# ---- registry ------------------------------------------------------------------------------------------------------


def test_registry_holds_every_workload_and_provider():
    assert {"mutag", "enzymes", "proteins", "imdb-binary", "dnd-like"} < set(registry.WORKLOADS)
    assert {"dense-4096", "dense-4096-directed", "sparse-4096"} < set(registry.WORKLOADS)
    assert {"pyg", "pyg-compiled", "tgp", "hierpool", "hierpool-reference"} < set(registry.PROVIDERS)
    for name, kind in KINDS.items():
        assert name in registry.PROVIDERS[kind.baseline].kinds
        assert kind.truth in registry.PROVIDERS
    assert {workload.kind for workload in registry.WORKLOADS.values()} == set(KINDS)
    assert not set(registry.WORKLOADS) & set(registry.STUDIES)
    for table in (registry.WORKLOADS, registry.PROVIDERS, registry.STUDIES):
        assert len({entry.title for entry in table.values()}) == len(table)
    for goal in goals.GOALS:
        if goal.provider is None:
            assert goal.workload in registry.STUDIES
        else:
            assert registry.PROVIDERS[goal.provider].applies(registry.WORKLOADS[goal.workload])
    in_tables = {*tables.PEERS, *tables.VARIANTS, *tables.GRAPHS}
    assert in_tables | {kind.baseline for kind in KINDS.values()} == set(registry.PROVIDERS)
    assert set(plots.COLOURS) == set(registry.PROVIDERS)


def test_symmetric_workloads_are_symmetric_and_directed_ones_are_not():
    for symmetric in (True, False):
        batch = one_graph(32, 4, 8, symmetric=symmetric)(0, None)
        assert torch.equal(batch.adj, batch.adj.mT) is symmetric
        assert batch.symmetric is symmetric
        assert batch.mask is None
    assert one_graph(64, 4, 8, density=0.1)(0, None).entries < 0.2 * 64 * 64


def test_dnd_like_batch_has_the_sizes_of_the_data_set():
    batch = dnd_like(0, None)
    what = batch.describe()
    assert (what["graphs"], what["padded_nodes"], what["clusters"]) == (20, 629, 157)
    assert what["nodes"] == pytest.approx(6119, rel=0.01)
    assert what["entries"] == pytest.approx(30654, rel=0.01)
    assert torch.equal(batch.adj, batch.adj.mT)
    assert torch.equal(batch.x, dnd_like(0, None).x)


def write_tu(raw: Path, edges: str) -> Path:
    raw.mkdir()
    (raw / "T_graph_indicator.txt").write_text("1\n1\n2\n2\n2\n")
    (raw / "T_A.txt").write_text(edges)
    return raw


def test_read_tu_drops_self_loops_and_duplicates(tmp_path):
    sizes, edges = read_tu(write_tu(tmp_path / "raw", "1, 2\n2, 1\n1, 1\n1, 2\n5, 3\n3, 5\n"), "T")
    assert sizes.tolist() == [2, 3]
    assert edges.tolist() == [[0, 1], [1, 0], [2, 4], [4, 2]]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("1, x\n", "not in TU format"),
        ("1, 9\n", "out of range"),
        ("1, 3\n", "two graphs"),
        ("1\n2\n", "two columns"),
    ],
)
def test_read_tu_names_a_corrupt_file(tmp_path, edges, message):
    with pytest.raises(ValueError, match=message):
        read_tu(write_tu(tmp_path / "raw", edges), "T")


def test_missing_data_is_named(tmp_path):
    with pytest.raises(WorkloadUnavailable, match=r"T_graph_indicator\.txt"):
        read_tu(tmp_path, "T")
    with pytest.raises(WorkloadUnavailable, match="HIERPOOL_DATA"):
        registry.WORKLOADS["enzymes"].build(0, None)


# ---- verify --------------------------------------------------------------------------------------------------------


def wrong_pool(which: int, value: float = 0.0, gradient: float = 0.0):
    """PyG's pool with output ``which`` off by a relative ``value`` and its gradient to the logits by ``gradient``."""
    right = load_pyg()

    def pool(batch):
        outputs = list(right(batch))
        drift = batch.logits.square().sum() / batch.logits.numel()
        outputs[which] = outputs[which] * (1 + value) + gradient * (drift - drift.detach())
        return tuple(outputs)

    return pool


def provider_of(pool, name: str = "ours", fp32_norm: bool = False) -> Provider:
    return Provider(name, name, "test", lambda: pool, fp32_norm=fp32_norm)


@pytest.mark.parametrize("symmetric", [True, False])
def test_verify_accepts_a_right_result(symmetric):
    pytest.importorskip("torch_geometric")
    batch = small_batch(symmetric)
    verdict = verify.verify(provider_of(load_pyg()), load_pyg(), batch, verify.truth_of(batch))
    assert verdict.ok, verdict.failures
    assert len(verdict.errors) == 4 + 2 * 5


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("value", "gradient"), [(1e-4, 0.0), (0.0, 1e-2), (float("nan"), 0.0)])
def test_verify_refuses_a_slightly_wrong_result(which, value, gradient):
    pytest.importorskip("torch_geometric")
    batch = small_batch()
    pool = wrong_pool(which, value, gradient)
    verdict = verify.verify(provider_of(pool), pool, batch, verify.truth_of(batch))
    assert not verdict.ok
    name = verify.OUTPUTS[which]
    assert all(name in failure or "from all" in failure for failure in verdict.failures)


def test_only_peers_are_allowed_the_drift_of_a_float32_norm(monkeypatch):
    pytest.importorskip("torch_geometric")
    monkeypatch.setattr(verify, "norm_drift", lambda entries: 1e-3)
    batch = small_batch()
    truth = verify.truth_of(batch)
    pool = wrong_pool(verify.OUTPUTS.index("link"), value=5e-4)
    assert verify.verify(provider_of(pool, fp32_norm=True), pool, batch, truth).ok
    assert not verify.verify(provider_of(pool, fp32_norm=False), pool, batch, truth).ok
    elsewhere = wrong_pool(verify.OUTPUTS.index("adj"), value=5e-4)
    assert not verify.verify(provider_of(elsewhere, fp32_norm=True), elsewhere, batch, truth).ok


def test_verify_refuses_another_shape():
    verdict = verify.Verdict()
    verdict.judge("x", torch.zeros(2, 3), torch.zeros(3, 2), 1.0)
    assert verdict.failures == ["x: shape (2, 3), expected (3, 2)"]


# ---- measure -------------------------------------------------------------------------------------------------------


def test_sides_alternate():
    order = []

    def side(name, seconds):
        def call():
            order.append(name)
            return seconds

        return call

    samples = measure.alternate(side("A", 2.0), side("B", 1.0), pairs=3, calls=(1, 2))
    assert "".join(order) == "ABB" * 3
    assert samples == [(2.0, 1.0)] * 3


def test_ratio_is_paired(monkeypatch):
    times = iter([8.0, 2.0, 9.0, 3.0, 60.0, 10.0])  # ratios 4, 3, 6; the ratio of medians would be 3
    monkeypatch.setattr(measure, "step", lambda *_: lambda: next(times))
    monkeypatch.setattr(measure, "warm_up", lambda _: 1.0)
    effort = measure.Effort(budget_s=1.0, min_pairs=3, max_pairs=3)
    result = measure.compare(None, None, None, "both", effort)
    assert result.pairs == 3
    assert result.speedup.p50 == 4.0
    assert (result.peer_ms.p50, result.candidate_ms.p50) == (9000.0, 3000.0)


def test_percentiles():
    p = measure.Percentiles.of([4.0, 0.0, 1.0, 3.0, 2.0, 10.0])
    assert (p.p20, p.p50, p.p80) == (1.0, 2.5, 4.0)


@pytest.mark.parametrize(("pair_s", "pairs"), [(1.0, 11), (0.04, 101), (1e-6, 201)])
def test_number_of_pairs_is_odd_and_bounded(pair_s, pairs):
    assert measure.Effort(budget_s=4.0, min_pairs=11, max_pairs=201).pairs(pair_s) == pairs


@pytest.mark.parametrize(("mode", "seconds"), [("forward", 1.0), ("backward", 10.0), ("both", 11.0)])
def test_what_each_mode_counts(monkeypatch, mode, seconds):
    clock = [0.0]

    def takes(duration):
        def call(*_):
            clock[0] += duration

        return call

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.autograd, "grad", takes(10.0))
    assert measure.step(takes(1.0), small_batch(), mode)() == seconds


@pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="peak memory is measured on Linux")
def test_peak_counts_what_a_call_touches():
    block = 64 << 20
    peak = memory.peak_of(lambda: torch.ones(block // 4).sum())
    assert 0.9 * block < peak < 1.5 * block


# ---- floors --------------------------------------------------------------------------------------------------------


def test_floor_arithmetic_by_hand():
    adj = torch.zeros(2, 3, 3)
    adj[0, 0, 1] = adj[0, 1, 0] = adj[1, 0, 2] = adj[1, 2, 0] = 1.0  # 4 entries; 2 and 3 nodes
    batch = make_batch(adj, (2, 3), features=5, clusters=4, symmetric=True, seed=0)
    steps = floors.work(batch)
    # A 4 + 9, L 5x4, X 5x5, S and M 5x4 each, in 4 bytes; 2 E K = 32, 2 n K (F + 1.5 K) = 40 x 11
    assert steps["forward"] == floors.Work(bytes=4 * (13 + 20 + 25 + 40), flops=32 + 440)
    # S, M 5x4 each, X 5x5, dL 5x4, dX 5x5; 2 n K F = 200, 2 n K (F + 2 K) = 40 x 13
    assert steps["backward"] == floors.Work(bytes=4 * (40 + 25 + 20 + 25), flops=200 + 520)
    assert steps["both"] == floors.Work(bytes=4 * (98 + 110), flops=1192)
    directed = floors.work(make_batch(adj, (2, 3), 5, 4, symmetric=False, seed=0))
    assert directed["forward"] == steps["forward"]
    assert directed["backward"] == floors.Work(bytes=4 * (110 + 13), flops=720 + 32 + 160)


def test_floor_is_the_larger_bound():
    rates = floors.Rates(copy_gbps=10.0, gemm_gflops=100.0)
    assert floors.floor_ms(floors.Work(bytes=1e7, flops=1e6), rates) == pytest.approx(1.0)
    assert floors.floor_ms(floors.Work(bytes=1e6, flops=1e9), rates) == pytest.approx(10.0)


def test_rates_are_measured():
    rates = floors.measure_rates(copy_elements=1 << 16, gemm_size=64, repeats=2)
    assert rates.copy_gbps > 0
    assert rates.gemm_gflops > 0


# ---- run ------------------------------------------------------------------------------------------------------------


def test_run_times_right_results_only(tmp_path, monkeypatch):
    pytest.importorskip("torch_geometric")
    monkeypatch.setattr(floors, "measure_rates", lambda: floors.Rates(30.0, 300.0))
    right = load_pyg()
    timed = []

    def unavailable():
        raise ProviderUnavailable("not installed")

    def broken(batch):
        raise RuntimeError("kernel broke\nwith details")

    def compare(pool, peer, batch, mode, effort):
        timed.append((pool, mode))
        p = measure.Percentiles(1.0, 2.0, 3.0)
        return measure.Comparison(p, p, p, 5, (1, 1))

    monkeypatch.setattr(run, "compare", compare)
    wrong = wrong_pool(2, value=1e-3)
    plan = run.Plan(
        workloads=[Workload("small", "Small", lambda seed, root: small_batch()), registry.WORKLOADS["enzymes"]],
        providers=[
            provider_of(right, "right"), provider_of(wrong, "wrong"), provider_of(broken, "broken"),
            Provider("absent", "absent", "test", unavailable),
            Provider("directed", "directed", "test", lambda: right, symmetry=False),
        ],
        quick=True,
    )  # fmt: skip
    folder, failed = run.execute(plan, tmp_path)
    rows = results.read(folder).rows
    assert failed == 2
    assert timed == [(right, mode) for mode in registry.MODES]
    status = {row.get("provider", row["workload"]): (row["status"], row.get("reason")) for row in rows}
    assert status["right"] == ("measured", None)
    assert status["wrong"][0] == "refused"
    assert "link: relative error 1.0e-03" in status["wrong"][1]
    assert status["broken"] == ("failed", "RuntimeError: kernel broke")
    assert status["absent"] == ("not measured", "not installed")
    assert status["enzymes"][0] == "skipped"
    assert "directed" not in status


# ---- command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--workloads", "nope"], "unknown workload nope; known: mutag"),
        (["run", "--providers", "nope"], "unknown provider nope; known: pyg"),
        (["run", "--data-root", "/nonexistent"], "data root /nonexistent is not a folder"),
        (["run", "--budget-s", "0"], "--budget-s must be positive"),
        (["run", "--threads", "0"], "--threads must be at least 1"),
        (["report", "/nonexistent"], "/nonexistent is not a result folder"),
    ],
)
def test_bad_options_are_named(argv, message, capsys):
    pytest.importorskip("torch_geometric")
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err

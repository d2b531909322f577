"""The sparse part of the benchmark: its inputs, its providers against the truth, its studies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import floors, measure, results, run, sparse, studies, verify  # noqa: E402
from bench.kinds import KINDS, Workload  # noqa: E402
from bench.providers import Provider, ProviderUnavailable  # noqa: E402
from bench.registry import PROVIDERS  # noqa: E402
from bench.workloads import make_batch  # noqa: E402

SIZES = (5, 9, 12)
SETTING = studies.Setting(seed=0, budget_s=0.01, repeats=3, say=lambda text: None)


def dense_batch(seed: int, data_root: Path | None, symmetric: bool = True):
    gen = torch.Generator().manual_seed(seed)
    adj = (torch.rand(3, 12, 12, generator=gen) < 0.4).float()
    mask = torch.arange(12) < torch.tensor(SIZES).unsqueeze(1)
    adj = adj * mask.unsqueeze(1) * mask.unsqueeze(2)
    if symmetric:
        adj = adj.triu() + adj.triu(1).mT
    return make_batch(adj, SIZES, 4, 3, symmetric, seed=1)


def loaded(name: str):
    try:
        return PROVIDERS[name].load()
    except ProviderUnavailable as error:
        pytest.skip(str(error))


# ---- inputs ---------------------------------------------------------------------------------------------------------


def test_sparse_batch_holds_the_real_part_of_the_dense_one():
    utils = pytest.importorskip("torch_geometric.utils")
    dense = dense_batch(0, None)
    batch = sparse.of_dense(dense_batch)(0, None)
    x, mask = utils.to_dense_batch(batch.x, batch.batch)
    assert torch.equal(mask, dense.mask)
    assert torch.equal(x, dense.x)
    assert torch.equal(utils.to_dense_adj(batch.edge_index, batch.batch), dense.adj)
    assert torch.equal(batch.logits, dense.logits[dense.mask])
    assert batch.ptr.tolist() == [0, 5, 14, 26]
    assert all(torch.equal(a, b) for a, b in zip(batch.grads, dense.grads, strict=True))
    assert batch.describe() == dense.describe()
    assert batch.padded_entries == dense.padded_entries == 3 * 12 * 12


@pytest.mark.parametrize("symmetric", [True, False])
def test_random_graph_has_exactly_the_edges_asked_for(symmetric):
    gen = torch.Generator().manual_seed(3)
    edges = sparse.random_edges(20, 180, gen, symmetric=symmetric)
    pairs = {(i, j) for i, j in edges.T.tolist()}
    assert len(pairs) == edges.size(1) == 180
    assert all(i != j for i, j in pairs)
    assert (pairs == {(j, i) for i, j in pairs}) is symmetric
    assert edges.T.tolist() != sorted(edges.T.tolist())
    with pytest.raises(ValueError, match="20 nodes have fewer than 191 pairs"):
        sparse.random_edges(20, 382, gen)


def test_star_and_one_huge_graph_among_tiny_ones():
    batch = sparse.star(6, 2, 3)(0, None)
    assert batch.edge_index[0].bincount().tolist() == [6, 1, 1, 1, 1, 1, 1]
    mixed = sparse.one_huge_many_tiny(50, 100, 21, 2, 3)(0, None)
    assert mixed.sizes == (50, *range(10, 30), 10)
    row, col = mixed.edge_index
    assert torch.equal(mixed.batch[row], mixed.batch[col])
    assert mixed.edge_index[0].bincount()[50:].eq(2).all()
    assert mixed.entries == 100 + 2 * sum(mixed.sizes[1:])


# ---- providers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dense"])
def test_providers_of_sparse_kinds_agree_with_pyg_in_float64(kind, symmetric):
    build = sparse.of_dense(lambda seed, root: dense_batch(seed, root, symmetric))
    batch = (sparse.with_linear(build) if kind == "sparse-linear" else build)(0, None)
    loaded("pyg-converted")
    truth = verify.truth_of(batch, PROVIDERS["pyg-converted"].load)
    ran = 0
    for provider in PROVIDERS.values():
        if kind not in provider.kinds:
            continue
        try:
            pool = provider.load()
        except ProviderUnavailable:
            continue
        verdict = verify.verify(provider, pool, batch, truth)
        assert verdict.ok, (provider.name, verdict.failures)
        assert len(verdict.errors) == 4 + 5 * len(batch.leaves)
        ran += 1
    assert ran


def test_what_comes_with_a_batch_is_made_once_and_again_for_another():
    made = []
    prepared = sparse_prepared(made)
    first, second = (sparse.star(3, 2, 2)(seed, None) for seed in (0, 1))
    assert [prepared(b) for b in (first, first, second, first)] == [1, 1, 2, 3]


def sparse_prepared(made: list):
    from bench.sparse_providers import PerBatch

    def make(batch):
        made.append(batch)
        return len(made)

    return PerBatch(make)


def test_floor_of_sparse_storage_and_of_a_linear_layer():
    build = sparse.of_dense(dense_batch)
    batch = build(0, None)
    dense, compressed = floors.work(dense_batch(0, None)), floors.work(batch)
    storage = 4 * (batch.entries + 26 + 1) - 4 * sum(n * n for n in SIZES)
    assert compressed["forward"].bytes - dense["forward"].bytes == storage
    assert compressed["forward"].flops == dense["forward"].flops
    assert compressed["backward"] == dense["backward"]
    layered = floors.work(sparse.with_linear(build)(0, None))
    weights = 4 * 3 + 3
    assert layered["both"].flops - compressed["both"].flops == 6 * 26 * weights
    assert layered["both"].bytes - compressed["both"].bytes == 3 * 4 * weights


# ---- run ------------------------------------------------------------------------------------------------------------


def fake_compare(timed: list):
    def compare(pool, peer, batch, mode, effort):
        timed.append((mode, effort.min_pairs))
        p = measure.Percentiles(1.0, 2.0, 3.0)
        return measure.Comparison(p, p, p, 5, (1, 1))

    return compare


def test_run_of_a_large_graph_times_few_pairs_and_no_peer_against_itself(tmp_path, monkeypatch):
    loaded("hierpool-graph")
    monkeypatch.setattr(floors, "measure_rates", lambda: floors.Rates(30.0, 300.0))
    timed: list = []
    monkeypatch.setattr(run, "compare", fake_compare(timed))
    monkeypatch.setattr(run.memory, "peak_bytes", lambda *args: 4 * 40 * 4 * 5)
    plan = run.Plan(
        [Workload("million", "Large", sparse.random_graph(40, 120, 4, 3), kind="large")],
        [PROVIDERS["torch-sparse"], PROVIDERS["hierpool-graph"], PROVIDERS["hierpool"]],
    )
    folder, failed = run.execute(plan, tmp_path)
    rows = results.read(folder).rows
    assert failed == 0
    assert timed == [(mode, run.SLOW_PAIRS) for mode in ("forward", "backward", "both")]
    assert {row["provider"] for row in rows} == {"hierpool-graph"}
    assert rows[-1]["goals"] == [
        {"quantity": "seconds", "bound": 1.5, "met": True},
        {"quantity": "peak", "bound": 4.25, "met": False},
    ]


def test_a_workload_without_its_baseline_is_not_measured(tmp_path, monkeypatch):
    def absent():
        raise ProviderUnavailable("no tgp")

    monkeypatch.setattr(floors, "measure_rates", lambda: floors.Rates(30.0, 300.0))
    monkeypatch.setitem(run.PROVIDERS, "tgp-unbatched", Provider("tgp-unbatched", "tgp", "", absent))
    build = sparse.with_linear(sparse.of_dense(dense_batch))
    plan = run.Plan([Workload("w", "W", build, kind="sparse-linear")], list(PROVIDERS.values()))
    folder, failed = run.execute(plan, tmp_path)
    (row,) = results.read(folder).rows
    assert (failed, row["status"], row["reason"]) == (0, "not measured", "no tgp")


# ---- studies --------------------------------------------------------------------------------------------------------


def test_exponent_is_the_slope_of_logarithms():
    assert studies.exponent([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1.0)
    assert studies.exponent([1, 10, 100], [1.0, 8.0, 100.0]) == pytest.approx(1.0)
    assert studies.exponent([1, 4, 16], [5.0, 10.0, 20.0]) == pytest.approx(0.5)


def test_graph_build_is_timed_for_both_symmetries():
    loaded("hierpool-edges")
    rows = list(studies.graph_build(50, 200)(SETTING))
    assert [(row["quantity"], row["unit"], row["entries"]) for row in rows] == [
        ("undirected", "s", 200),
        ("directed", "s", 200),
    ]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows)


def test_graph_build_refuses_a_graph_without_its_edges(monkeypatch):
    loaded("hierpool-edges")
    import hierpool

    build = hierpool.RaggedGraph.from_edge_index
    monkeypatch.setattr(
        hierpool.RaggedGraph,
        "from_edge_index",
        lambda edges, *args, **more: build(edges[:, 1:], *args, **more),
    )
    with pytest.raises(studies.Refused, match="undirected"):
        list(studies.graph_build(50, 200)(SETTING))


def test_linearity_ends_with_the_exponent_of_its_sizes(monkeypatch):
    loaded("hierpool-graph")
    times = iter([1.0, 4.0])
    steady = lambda call, setting: measure.Percentiles.of([next(times)])  # noqa: E731
    monkeypatch.setattr(studies, "repeated", steady)
    rows = list(studies.linearity((200, 800))(SETTING))
    assert [(row["quantity"], row["value"]) for row in rows[:2]] == [("seconds", 1.0), ("seconds", 4.0)]
    assert [row["nodes"] for row in rows[:2]] == [20, 80]
    assert rows[2]["quantity"] == "exponent"
    assert rows[2]["value"] == pytest.approx(1.0)


def test_a_wrong_result_is_refused_by_studies():
    pool = loaded("hierpool-graph")

    def wrong(batch):
        x, *rest = pool(batch)
        return x * (1 + 1e-3), *rest

    batch = sparse.star(20, 3, 4)(0, None)
    assert studies.checked(pool, batch) is pool
    with pytest.raises(studies.Refused, match="x: relative error"):
        studies.checked(wrong, batch)


def test_threads_are_compared_in_pairs_and_put_back(monkeypatch):
    loaded("hierpool-graph")
    before = torch.get_num_threads()
    used: list[int] = []

    def timed_with(threads, call):
        used.append(threads)
        return (3.0, 3.0) if threads == 1 else (2.0, 3.8)

    monkeypatch.setattr(studies, "timed_with", timed_with)
    monkeypatch.setattr(studies.torch, "get_num_threads", lambda: 2)
    (row,) = studies.thread_use({"star": sparse.star(20, 3, 4)})(SETTING)
    assert (row["quantity"], row["value"], row["busy"], row["seconds"]) == ("star", 1.5, 1.9, 2.0)
    assert used == [1, 2] * 4
    monkeypatch.undo()
    wall, cpu = studies.timed_with(1, lambda: 0.0)
    assert wall > 0
    assert cpu >= 0
    assert torch.get_num_threads() == before


def test_threads_need_two(monkeypatch):
    monkeypatch.setattr(studies.torch, "get_num_threads", lambda: 1)
    with pytest.raises(studies.StudyUnavailable, match="two threads"):
        list(studies.thread_use({})(SETTING))


def test_run_writes_a_row_for_every_figure_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(floors, "measure_rates", lambda: floors.Rates(30.0, 300.0))

    def growth(setting):
        yield {"quantity": "exponent", "value": 1.2, "unit": ""}

    def unavailable(setting):
        raise studies.StudyUnavailable("one thread")
        yield

    def wrong(setting):
        raise studies.Refused("x: relative error 1.0e-03")
        yield

    def broken(setting):
        raise MemoryError("no room\nat all")
        yield

    made = {"linearity": growth, "threads": unavailable, "wrong": wrong, "broken": broken}
    plan = run.Plan([], [], [studies.Study(name, name.title(), "test", of) for name, of in made.items()])
    folder, failed = run.execute(plan, tmp_path)
    rows = {row["workload"]: row for row in results.read(folder).rows}
    assert failed == 2
    assert rows["linearity"]["goals"] == [{"quantity": "exponent", "bound": 1.15, "met": False}]
    assert (rows["threads"]["status"], rows["threads"]["reason"]) == ("not measured", "one thread")
    assert (rows["wrong"]["status"], rows["wrong"]["reason"]) == ("refused", "x: relative error 1.0e-03")
    assert (rows["broken"]["status"], rows["broken"]["reason"]) == ("failed", "MemoryError: no room")

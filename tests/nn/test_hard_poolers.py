"""Poolers that keep or merge nodes, against PyTorch Geometric and torch-geometric-pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.nn import (
    HARD_POOLERS,
    EdgePool,
    GraclusPool,
    HardPooling,
    HardPoolingOutput,
    KMISPool,
    NDPPool,
    SAGEConv,
    SAGPool,
    TopKPool,
    get_pooler,
)
from tests.selection.graphs import drawn_batch
from tests.support.tgp import import_tgp

F, DRAWS = 6, 200


def made(name: str, **options: Any) -> HardPooling:
    torch.manual_seed(0)
    pooler = get_pooler(name, in_channels=F, **options)
    assert isinstance(pooler, HardPooling)
    return pooler.double()


def sorted_batch(seed: int) -> RaggedGraph:
    graph, _ = drawn_batch(seed)
    ends, weight = graph.to_edge_index()
    rank = torch.empty(graph.num_nodes, dtype=torch.int64)
    rank[torch.argsort(graph.batch, stable=True)] = torch.arange(graph.num_nodes)
    batch = graph.batch.sort().values
    return RaggedGraph.from_edge_index(
        rank[ends], graph.num_nodes, edge_weight=weight, batch=batch, num_graphs=graph.num_graphs
    )


def dense(edge_index: Tensor, edge_weight: Tensor | None, n: int) -> Tensor:
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight.detach()
    return torch.zeros(n, n, dtype=torch.float64).index_put(
        tuple(edge_index), weight.double(), accumulate=True
    )


def cases(count: int) -> list[tuple[RaggedGraph, Tensor, Tensor]]:
    """Batches, and their features twice."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        graph = sorted_batch(seed)
        x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
        found.append((graph, x.clone().requires_grad_(), x.clone().requires_grad_()))
    return [case for case in found if case[0].num_nodes]


def assert_gradients_agree(theirs: tuple[Tensor, list[Tensor]], ours: tuple[Tensor, list[Tensor]]) -> None:
    weight = torch.randn(theirs[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = (torch.autograd.grad((x * weight).sum(), leaves) for x, leaves in (theirs, ours))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize(
    "options", [{"ratio": 0.5}, {"ratio": 0.3, "multiplier": 2.0}, {"min_score": 0.2}], ids=str
)
def test_topk_is_that_of_torch_geometric(options: dict[str, Any]) -> None:
    theirs = pytest.importorskip("torch_geometric.nn").TopKPooling(F, **options).double()
    ours = TopKPool(F, **options).double()
    ours.load_state_dict({"weight": theirs.select.weight})
    for graph, x, copy in cases(DRAWS):
        edge_index, edge_weight = graph.to_edge_index()
        expected, edges, weights, batch, _, _ = theirs(x, edge_index, edge_weight, batch=graph.batch)
        out = ours(copy, graph)
        torch.testing.assert_close(out.x, expected)
        assert torch.equal(out.batch, batch)
        n = batch.numel()
        assert torch.equal(dense(out.edge_index, out.edge_weight, n), dense(edges, weights, n))
        assert_gradients_agree((expected, [x, theirs.select.weight]), (out.x, [copy, ours.weight]))


def test_sag_is_topk_of_the_scores_of_a_convolution() -> None:
    """PyTorch Geometric multiplies the scores by the sign of a weight that it does not document."""
    theirs = pytest.importorskip("torch_geometric.nn").SAGPooling(F).double()
    theirs.select.weight.data.fill_(1)
    ours = SAGPool(F).double()
    scorer = ours.scorer
    assert isinstance(scorer, SAGEConv)
    assert scorer.lin_root is not None
    scorer.lin_rel.weight, scorer.lin_root.weight = theirs.gnn.lin_rel.weight, theirs.gnn.lin_root.weight
    scorer.lin_root.bias = theirs.gnn.lin_rel.bias
    for graph, x, copy in cases(DRAWS):
        ends, _ = graph.to_edge_index()
        undirected = RaggedGraph.from_edge_index(
            torch.cat([ends, ends.flip(0)], 1), graph.num_nodes, ptr=graph.ptr
        ).with_value(None)
        expected, edges, _, batch, _, _ = theirs(x, undirected.to_edge_index()[0], batch=graph.batch)
        out = ours(copy, undirected)
        torch.testing.assert_close(out.x, expected)
        assert torch.equal(dense(out.edge_index, None, batch.numel()), dense(edges, None, batch.numel()))
        parameters = [*theirs.gnn.parameters()]
        assert_gradients_agree((expected, [x, *parameters]), (out.x, [copy, *parameters]))


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])  # the softmax of one entry is 1: equal scores
def test_edge_pooling_is_that_of_torch_geometric(kind: str) -> None:
    pooling = pytest.importorskip("torch_geometric.nn").EdgePooling
    theirs = pooling(F, edge_score_method=getattr(pooling, f"compute_edge_score_{kind}")).double()
    ours = EdgePool(F, edge_score=kind).double()
    ours.load_state_dict(theirs.state_dict())
    for graph, x, copy in cases(DRAWS):
        if graph.num_edges == 0:
            continue
        edge_index, _ = graph.to_edge_index()
        expected, edges, _, info = theirs(x, edge_index, graph.batch)
        out = ours(copy, graph)
        n = expected.size(0)
        assert out.x.size(0) == n
        of_ours = out.so.clusters()[0].long()
        place = torch.empty(n, dtype=torch.int64).index_copy(0, of_ours, info.cluster)
        torch.testing.assert_close(out.x, expected[place])
        pairs = dense(edges, None, n).clamp(max=1)[place][:, place]
        assert torch.equal(dense(out.edge_index, None, n).clamp(max=1), pairs)
        leaves = [x, *theirs.parameters()], [copy, *ours.parameters()]
        assert_gradients_agree((expected[place], leaves[0]), (out.x, leaves[1]))


@pytest.mark.parametrize("heuristic", ["greedy", "w-greedy", None])
@pytest.mark.parametrize("hops", [1, 2])
def test_kmis_is_that_of_torch_geometric_pool(heuristic: str | None, hops: int) -> None:
    select = import_tgp("tgp.select.kmis_select").KMISSelect
    torch.manual_seed(0)
    theirs = select(F, order_k=hops, score_heuristic=heuristic).double()
    ours = KMISPool(F, hops=hops, heuristic=heuristic).double()
    assert ours.lin is not None
    ours.lin.load_state_dict(theirs.lin.state_dict())
    for graph, x, copy in cases(DRAWS):
        ends, _ = graph.to_edge_index()
        graph = RaggedGraph.from_edge_index(
            torch.cat([ends, ends.flip(0)], 1), graph.num_nodes, ptr=graph.ptr
        )
        if graph.num_edges == 0:
            continue
        so = theirs(edge_index=graph.to_edge_index()[0], x=x, batch=graph.batch, num_nodes=graph.num_nodes)
        out = ours(copy, graph)
        s = so.s.to_dense() if hasattr(so.s, "to_dense") else so.s
        torch.testing.assert_close(out.so.to_dense(), s)
        torch.testing.assert_close(out.x, s.t() @ x)


def test_ndp_is_that_of_torch_geometric_pool_for_the_same_nodes() -> None:
    connect = import_tgp("tgp.connect.kron_conn").KronConnect()
    select = import_tgp("tgp.select.base_select").SelectOutput
    pooler = NDPPool().double()
    for graph, x, _ in cases(DRAWS):
        ends, _ = graph.to_edge_index()
        graph = RaggedGraph.from_edge_index(
            torch.cat([ends, ends.flip(0)], 1), graph.num_nodes, ptr=graph.ptr
        ).with_value(None, symmetric=True)
        out = pooler(x, graph)
        if out.x.size(0) < 2:
            continue
        kept = out.so.clusters().node.long()
        assert torch.equal(out.x, x[kept])
        theirs = select(
            num_nodes=graph.num_nodes,
            num_supernodes=kept.numel(),
            node_index=kept,
            cluster_index=torch.arange(kept.numel()),
        )
        edges, weights = connect(graph.to_edge_index()[0], theirs)
        n = kept.numel()
        torch.testing.assert_close(dense(out.edge_index, out.edge_weight, n), dense(edges, weights, n))


@pytest.mark.parametrize("name", sorted(HARD_POOLERS))
def test_results_do_not_depend_on_the_batch_and_follow_the_order_of_nodes(name: str) -> None:
    pooler = made(name)
    for seed in range(40):
        torch.manual_seed(seed)
        graph, _ = drawn_batch(seed)
        x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
        out = pooler(x, graph)
        order = torch.argsort(graph.batch, stable=True)
        again = pooler(x[order], sorted_batch(seed))
        torch.testing.assert_close(again.x, out.x)
        assert torch.equal(again.graph.rowptr, out.graph.rowptr)
        assert torch.equal(again.graph.col, out.graph.col)
        torch.testing.assert_close(again.so.to_dense(), out.so.to_dense()[order])
        assert out.graph.num_graphs == graph.num_graphs
        assert out.mask is None
        assert out.has_loss == (name == "maxcut")
        if graph.is_symmetric:
            assert out.graph.is_symmetric
        lifted = pooler(out.x, so=out.so, lifting=True)
        torch.testing.assert_close(lifted, out.so.to_dense().to(lifted.dtype) @ out.x)
        given = pooler(x, graph, so=out.so)
        assert torch.equal(given.x, out.x)


@pytest.mark.parametrize("name", sorted(HARD_POOLERS))
def test_every_graph_with_nodes_keeps_one_and_gradients_are_exact(name: str) -> None:
    pooler = made(name)
    empty = RaggedGraph.from_edge_index(
        torch.zeros(2, 0, dtype=torch.int64), 3, ptr=torch.tensor([0, 1, 1, 3])
    )
    sizes = pooler(torch.ones(3, F, dtype=torch.float64), empty).graph.ptr.diff()
    assert sizes.tolist()[1] == 0
    assert min(sizes.tolist()[0], sizes.tolist()[2]) >= 1
    torch.manual_seed(1)
    graph = sorted_batch(3)
    x = torch.randn(graph.num_nodes, F, dtype=torch.float64, requires_grad=True)
    leaves = [x, *pooler.parameters()]
    many = sum(leaf.numel() for leaf in leaves) > 1000
    assert torch.autograd.gradcheck(lambda *_: pooler(x, graph).x, leaves, fast_mode=many)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_softmax_of_many_half_precision_scores_is_that_of_float32(dtype: torch.dtype) -> None:
    n = 2000
    star = torch.stack([torch.arange(1, n), torch.zeros(n - 1, dtype=torch.int64)])
    graph = RaggedGraph.from_edge_index(star, n)
    x = torch.zeros(n, F, dtype=dtype)
    score = TopKPool(F, min_score=0.9).to(dtype)(x, graph).score
    torch.testing.assert_close(score, torch.full((n,), 1 / n, dtype=dtype))
    score = EdgePool(F, add_to_edge_score=0).to(dtype)(x, graph).score
    torch.testing.assert_close(score, torch.full((n - 1,), 1 / (n - 1), dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("heuristic", ["greedy", None])
def test_kmis_tells_large_degrees_apart_in_half_precision(heuristic: str | None, dtype: torch.dtype) -> None:
    """Two hubs of 2048 and 2047 leaves that are neighbours: the larger one is first without a heuristic."""
    first, second = torch.zeros(2048, dtype=torch.int64), torch.ones(2047, dtype=torch.int64)
    ends = torch.stack([torch.cat([first, second]), torch.arange(2, 4097)])
    ends = torch.cat([ends, torch.tensor([[0], [1]])], 1)
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1))
    for seed in range(4):
        pooler = KMISPool(scorer="degree", heuristic=heuristic, seed=seed)
        out = pooler(torch.ones(graph.num_nodes, 2, dtype=dtype), graph)
        exact = pooler(torch.ones(graph.num_nodes, 2), graph)
        assert torch.equal(out.so.cluster, exact.so.cluster)
        assert out.x.dtype is dtype


def test_normalized_cut_of_nodes_without_degree() -> None:
    """A sink of a directed graph, and a node whose edges have weight 0."""
    x = torch.ones(3, 2)
    sink = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]))
    assert GraclusPool(score="normalized_cut")(x, sink).score.tolist() == [2, 1]
    ends = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    weightless = RaggedGraph.from_edge_index(ends, edge_weight=torch.tensor([0.0, 0.0, 1.0, 1.0]))
    out = GraclusPool(score="normalized_cut")(x, weightless)
    assert out.score.tolist() == [0, 0, 2, 2]
    assert out.so.cluster.tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", sorted(HARD_POOLERS))
def test_outputs_are_saved_and_loaded_without_trust_in_the_file(name: str, tmp_path: Path) -> None:
    graph = sorted_batch(3)
    pooler = made(name)
    with torch.no_grad():
        out = pooler(torch.randn(graph.num_nodes, F, dtype=torch.float64), graph)
    torch.save(out, tmp_path / "out.pt")
    same = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(same.x, out.x)
    assert torch.equal(pooler(same.x, same.graph).x, pooler(out.x, out.graph).x)
    assert torch.equal(pooler.lift(same.x, same.so), pooler.lift(out.x, out.so))


def test_two_levels_and_a_linear_classifier_learn() -> None:
    """Whether a graph is a cycle or a star: from degrees, through two levels."""
    n, graphs = 8, 40
    ring = torch.stack([torch.arange(n), torch.arange(n).roll(-1)])
    star = torch.stack([torch.zeros(n - 1, dtype=torch.int64), torch.arange(1, n)])
    label = torch.arange(graphs) % 2
    ends = torch.cat([(star if b % 2 else ring) + b * n for b in range(graphs)], 1)
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), ptr=torch.arange(graphs + 1) * n)
    x = torch.stack([graph.degree, torch.ones(graphs * n)], 1)
    for name in sorted(HARD_POOLERS):
        torch.manual_seed(1)
        pools = [get_pooler(name, in_channels=2) for _ in range(2)]
        head = torch.nn.Linear(4, 2)
        parameters = [*head.parameters(), *(p for pool in pools for p in pool.parameters())]
        optimizer = torch.optim.Adam(parameters, 0.05)
        for _ in range(80):
            first = pools[0](x, graph)
            second = pools[1](first.x, first.graph)
            of = second.batch[:, None].expand_as(second.x)
            summary = torch.cat(
                [torch.zeros(graphs, 2).scatter_reduce(0, of, second.x, r) for r in ("sum", "amax")], 1
            )
            loss = torch.nn.functional.cross_entropy(head(summary), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) < 0.3, name


@pytest.mark.parametrize("name", sorted(HARD_POOLERS))
def test_compiled_poolers_select_as_others_where_edges_are_there_twice(name: str) -> None:
    torch.manual_seed(0)
    ends = torch.randint(12, (2, 30))
    ends = torch.cat([ends, ends[:, :10]], 1)
    pools = torch.nn.ModuleList([made(name) for _ in range(2)])

    def levels(x: Tensor) -> list[HardPoolingOutput]:
        first = pools[0](x, ends)
        return [first, pools[1](first.x, first.graph)]

    torch.compiler.reset()
    x = torch.randn(12, F, dtype=torch.float64)
    for a, b in zip(torch.compile(levels, backend="eager")(x), levels(x), strict=True):
        assert torch.equal(a.so.to_dense(), b.so.to_dense())
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.edge_index, b.edge_index)


def test_bad_arguments_are_named() -> None:
    graph = sorted_batch(3)
    x = torch.ones(graph.num_nodes, F)
    for make, message in {
        (lambda: TopKPool(F, 1.5)): r"ratio must be in \(0, 1\], got 1.5; give k for a number of nodes",
        (lambda: TopKPool(F, k=2, min_score=0.1)): "at most one of k and min_score must be given, got k=2",
        (
            lambda: TopKPool(F, nonlinearity="relu")
        ): "nonlinearity must be 'tanh', 'sigmoid' or a function, got 'relu'",
        (
            lambda: EdgePool(F, edge_score="max")
        ): "edge_score must be one of 'softmax', 'tanh', 'sigmoid', got 'max'",
        (lambda: GraclusPool(score="degree")): "score must be 'weight' or 'normalized_cut', got 'degree'",
        (
            lambda: GraclusPool(reduce="median")
        ): "reduce must be one of 'sum', 'mean', 'max', 'min', got 'median'",
        (lambda: KMISPool()): "in_channels must be given with scorer='linear', got None",
        (lambda: KMISPool(F, hops=0)): "hops must be at least 1, got 0",
        (lambda: KMISPool(F, hops=1.5)): "hops must be an int, got float",  # type: ignore[arg-type]
        (lambda: KMISPool(scorer=None)): "scorer must be one of 'linear', .* or a module, got None",  # type: ignore[arg-type]
        (lambda: TopKPool(F, k=0)): "k must be at least 1, got 0",
        (lambda: TopKPool(F, k=2.0)): "k must be an int, got float",  # type: ignore[arg-type]
        (lambda: TopKPool(F, "half")): "ratio must be a number, got str",  # type: ignore[arg-type]
        (lambda: TopKPool(F, min_score=float("nan"))): "min_score must not be NaN",
        (lambda: TopKPool(2.5)): "in_channels must be an int, got float",  # type: ignore[arg-type]
        (lambda: SAGPool(-1)): "in_channels must not be negative, got -1",
        (lambda: EdgePool([F, 3])): "in_channels must be an int, got list",  # type: ignore[arg-type]
        (lambda: EdgePool(F, seed=0.5)): "seed must be an int, got float",  # type: ignore[arg-type]
        (lambda: get_pooler("topk")): "in_channels must be given with name='topk', got None",
        (lambda: TopKPool(F)(x, graph, so=1)): "so must be an Assignment, got int",
        (lambda: TopKPool(F)(x, so=1, lifting=True)): "so must be an Assignment, got int",
        (lambda: NDPPool(threshold=-0.1)): "threshold must not be negative, got -0.1",
        (lambda: NDPPool(seed=0.5)): "seed must be an int, got float",  # type: ignore[arg-type]
        (lambda: KMISPool(scorer="best")): "scorer must be one of 'linear', .* or a module, got 'best'",
        (
            lambda: TopKPool(F)(x.view(1, -1, F), torch.ones(1, len(x), len(x)))
        ): "adj must be a RaggedGraph, edge_index",
        (lambda: SAGPool(F, scorer=torch.nn.Identity())(x, graph)): r"Identity|scorer must return",
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            make()
    negative = graph.with_value(-torch.ones(graph.num_edges))
    with pytest.raises(ValueError, match="adj must have weights that are not negative"):
        GraclusPool()(x, negative)
    with pytest.raises(ValueError, match="so must be the assignment of the pooling layer with lifting=True"):
        TopKPool(F)(x, lifting=True)
    with pytest.raises(ValueError, match=r"name must be one of 'acc', 'asap', .*'topk'"):
        get_pooler("best")

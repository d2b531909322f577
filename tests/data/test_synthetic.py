"""Random graphs: exact numbers of edges, planted communities, skewed degrees, and seeds."""

from __future__ import annotations

import pytest
import torch

from hierpool import RaggedGraph
from hierpool.data import rmat, stochastic_block_model


def check_is_simple(graph: RaggedGraph, nodes: int, edges: int) -> None:
    """Undirected, without weights, self-loops and duplicates, with that many undirected edges."""
    assert (graph.num_graphs, graph.num_nodes, graph.num_edges) == (1, nodes, 2 * edges)
    assert graph.value is None
    assert graph.is_symmetric
    row, col = graph.row.long(), graph.col.long()
    assert not (row == col).any()
    assert (row * nodes + col).unique().numel() == 2 * edges
    assert torch.equal((row * nodes + col).sort().values, (col * nodes + row).sort().values)


@pytest.mark.parametrize(
    ("nodes", "communities", "degree", "mixing"),
    [(1000, 10, 8.0, 0.25), (999, 7, 6.0, 0.0), (500, 500, 4.0, 1.0), (60, 1, 20.0, 0.0), (5, 2, 0.0, 0.5)],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_planted_communities(
    nodes: int, communities: int, degree: float, mixing: float, shuffle: bool
) -> None:
    graph, labels = stochastic_block_model(
        nodes, communities, mean_degree=degree, mixing=mixing, seed=3, shuffle=shuffle
    )
    edges = round(nodes * degree / 2)
    check_is_simple(graph, nodes, edges)
    sizes = labels.bincount()
    assert len(sizes) == communities
    assert sizes.max() - sizes.min() <= 1
    between = labels[graph.row.long()] != labels[graph.col.long()]
    assert int(between.sum()) == 2 * round(edges * mixing)
    assert shuffle is not torch.equal(labels, labels.sort().values) or communities == 1


def test_pairs_are_drawn_evenly() -> None:
    """Degrees and pairs of communities scatter as those of independent draws do."""
    graph, labels = stochastic_block_model(20_000, 8, mean_degree=10, mixing=0.5, seed=1)
    degree = graph.degree.double()
    assert degree.var().item() == pytest.approx(10, rel=0.1)
    pairs = torch.bincount(labels[graph.row.long()] * 8 + labels[graph.col.long()], minlength=64).view(8, 8)
    inside, outside = pairs.diagonal().double(), pairs[~torch.eye(8, dtype=torch.bool)].double()
    assert inside.sub(100_000 / 8).abs().max() < 5 * (2 * 100_000 / 8) ** 0.5
    assert outside.sub(100_000 / 56).abs().max() < 5 * (100_000 / 56) ** 0.5


@pytest.mark.parametrize("shuffle", [False, True])
def test_rmat(shuffle: bool) -> None:
    graph = rmat(12, mean_degree=10, seed=2, shuffle=shuffle)
    check_is_simple(graph, 4096, 20_480)
    degree = graph.degree
    assert degree.max() > 15 * degree.mean()
    assert (degree == 0).float().mean() > 0.2
    head = degree[:256].sum() / degree.sum()  # the upper left sixteenth by each side
    assert head < 0.12 if shuffle else head > 0.3


def test_even_quarters_are_an_even_graph() -> None:
    degree = rmat(12, mean_degree=10, probabilities=(0.25, 0.25, 0.25, 0.25)).degree.double()
    assert degree.var().item() == pytest.approx(10, rel=0.15)


def test_a_dense_graph_is_filled() -> None:
    check_is_simple(rmat(3, mean_degree=6.75, seed=1), 8, 27)
    graph, labels = stochastic_block_model(12, 3, mean_degree=3, mixing=0.0)
    check_is_simple(graph, 12, 18)
    assert torch.equal(
        graph.to_dense()[0].bool(), (labels[:, None] == labels) & ~torch.eye(12, dtype=torch.bool)
    )


def test_seeds() -> None:
    def columns(seed: int) -> list[torch.Tensor]:
        planted = stochastic_block_model(300, 3, mean_degree=5, mixing=0.2, seed=seed)
        return [planted.graph.col, planted.labels, rmat(8, mean_degree=5, seed=seed).col]

    torch.manual_seed(99)  # the global generator is not used
    first, again, other = columns(0), columns(0), columns(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_nodes": 0}, "num_nodes must lie between 1 and 2\\^31 - 1, got 0"),
        ({"communities": 0}, "communities must lie between 1 and num_nodes = 100, got 0"),
        ({"communities": 101}, "communities must lie between 1 and num_nodes = 100, got 101"),
        ({"mixing": 1.5}, "mixing must lie between 0 and 1, got 1.5"),
        ({"mean_degree": -1.0}, "mean_degree must be finite and not negative, got -1.0"),
        ({"mean_degree": float("inf")}, "mean_degree must be finite and not negative, got inf"),
        ({"communities": 100}, "asks for 200 edges inside communities, but there are only 0 pairs"),
        ({"communities": 1}, "asks for 50 edges between communities, but there are only 0 pairs"),
    ],
)
def test_bad_planted_graphs(options: dict[str, float], message: str) -> None:
    good = {"num_nodes": 100, "communities": 4, "mean_degree": 5.0, "mixing": 0.2}
    with pytest.raises(ValueError, match=message):
        stochastic_block_model(**(good | options))  # type: ignore[arg-type]


def test_bad_rmat() -> None:
    with pytest.raises(ValueError, match="scale must lie between 0 and 31, got 40"):
        rmat(40, mean_degree=1)
    with pytest.raises(ValueError, match="probabilities must not be negative and sum to 1"):
        rmat(4, mean_degree=1, probabilities=(0.5, 0.5, 0.5, -0.5))
    with pytest.raises(ValueError, match="asks for 80 edges in the graph, but there are only 28 pairs"):
        rmat(3, mean_degree=20)
    with pytest.raises(ValueError, match="asks for 8 different edges, but only 0 were found"):
        rmat(3, mean_degree=2, probabilities=(1.0, 0.0, 0.0, 0.0))

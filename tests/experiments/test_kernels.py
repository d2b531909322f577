"""Graph kernels against their definitions, and against GraKeL where it is right."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch

from hierpool.data import Graph, GraphDataset
from hierpool.experiments import kernels
from hierpool.experiments.features import node_labels

np = pytest.importorskip("numpy", reason="numpy (extra: experiments) is not installed")
pytest.importorskip("scipy", reason="scipy (extra: experiments) is not installed")


def make_labelled(seed: int = 0, labels: int = 3) -> GraphDataset:
    """Random graphs, some with isolated nodes, of which one has no edge and one a single node."""
    draw = torch.Generator().manual_seed(seed)
    graphs = []
    for i, n in enumerate((1, 2, 5, 6, 7, 9, 12, 12)):
        adj = (torch.rand(n, n, generator=draw) < (0.0 if i == 1 else 0.4)).triu(1)
        x = torch.nn.functional.one_hot(torch.randint(labels, (n,), generator=draw), labels).float()
        graphs.append(Graph(x, (adj | adj.T).nonzero().T.contiguous(), i % 2))
    return GraphDataset("RANDOM", tuple(graphs), 2, "labels", "here", "0123")


DATA = make_labelled()
LABELS = [one.tolist() for one in node_labels(DATA)]
NEIGHBOURS = [
    [graph.edge_index[1][graph.edge_index[0] == i].tolist() for i in range(len(graph.x))]
    for graph in DATA.graphs
]


def product(features: Any) -> Any:
    return sum((one @ one.T).toarray() for one in features)


def refined(rounds: int) -> list[list[Counter[Any]]]:
    """Counts of the colours of each round and graph; a colour is the nested description of the neighbourhood."""
    colours: list[list[Any]] = [list(one) for one in LABELS]
    found = [[Counter(one) for one in colours]]
    for _ in range(rounds):
        colours = [
            [(own[i], tuple(sorted((own[j] for j in near[i]), key=repr))) for i in range(len(own))]
            for own, near in zip(colours, NEIGHBOURS, strict=True)
        ]
        found.append([Counter(one) for one in colours])
    return found


def test_labels_are_those_of_the_features() -> None:
    for graph, labels in zip(DATA.graphs, LABELS, strict=True):
        same = torch.tensor(labels)[:, None] == torch.tensor(labels)
        assert torch.equal(same, (graph.x @ graph.x.T).bool())


def test_weisfeiler_leman_counts_colours() -> None:
    rounds = refined(3)
    expected = [[sum(sum(a[c] * b[c] for c in a) for a, b in zip(*pair, strict=True))
                 for pair in itertools.product(zip(*rounds, strict=True), repeat=2)]]  # fmt: skip
    got = product(kernels.weisfeiler_leman(DATA, 3))
    assert got.ravel().tolist() == expected[0]


def test_optimal_assignment_intersects_counts() -> None:
    rounds = refined(3)
    expected = [sum(sum((a & b).values()) for a, b in zip(*pair, strict=True))
                for pair in itertools.product(zip(*rounds, strict=True), repeat=2)]  # fmt: skip
    got = product(kernels.optimal_assignment(DATA, 3))
    assert got.ravel().tolist() == expected


def path_counts(labels: list[int], near: list[list[int]]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for start in range(len(labels)):
        length = {start: 0}
        queue = [start]
        for i in queue:
            for j in near[i]:
                if j not in length:
                    length[j] = length[i] + 1
                    queue.append(j)
        found.update((labels[start], labels[end], d) for end, d in length.items() if d)
    return found


def graphlet_counts(labels: list[int], near: list[list[int]]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for nodes in itertools.combinations(range(len(labels)), 3):
        degrees = [sum(j in near[i] for j in nodes) for i in nodes]
        if sum(degrees) == 6:
            found["triangle", tuple(sorted(labels[i] for i in nodes))] += 1
        elif sum(degrees) == 4:
            centre = nodes[degrees.index(2)]
            ends = tuple(sorted(labels[i] for i in nodes if i != centre))
            found["path", labels[centre], ends] += 1
    return found


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    ("compute", "count"), [(kernels.shortest_paths, path_counts), (kernels.graphlets, graphlet_counts)]
)
def test_counts_by_definition(compute: Any, count: Any, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not dense:
        monkeypatch.setattr(kernels, "_LARGEST_DENSE", 3)
    found = [count(*one) for one in zip(LABELS, NEIGHBOURS, strict=True)]
    expected = [sum(a[key] * b[key] for key in a) for a, b in itertools.product(found, repeat=2)]
    assert product(compute(DATA)).ravel().tolist() == expected


def grakel_graphs() -> list[Any]:
    """Adjacency matrices: of an edge list, GraKeL drops nodes without edges."""
    graphs = []
    for graph, labels in zip(DATA.graphs, LABELS, strict=True):
        adj = np.zeros((len(labels),) * 2, dtype=int)
        adj[tuple(graph.edge_index.numpy())] = 1
        graphs.append([adj, dict(enumerate(labels)), {}])
    return graphs


def test_kernels_are_those_of_grakel() -> None:
    grakel = pytest.importorskip("grakel", reason="grakel (extra: train) is not installed")
    graphs = grakel_graphs()
    ours = [
        (kernels.weisfeiler_leman(DATA, 3), grakel.WeisfeilerLehman(n_iter=3, normalize=True)),
        (
            kernels.optimal_assignment(DATA, 3),
            grakel.WeisfeilerLehmanOptimalAssignment(n_iter=3, normalize=True),
        ),
        (kernels.shortest_paths(DATA), grakel.ShortestPath(normalize=True, with_labels=True)),
    ]
    for features, theirs in ours:
        *_, kernel = kernels.grams(features)
        expected = np.nan_to_num(theirs.fit_transform(graphs))
        np.testing.assert_allclose(kernel, expected, atol=1e-12, err_msg=type(theirs).__name__)


def test_graphs_without_features_have_zero_rows() -> None:
    (kernel,) = kernels.grams(kernels.graphlets(DATA))
    assert not kernel[:2].any()
    assert np.allclose(kernel.diagonal()[2:], 1)

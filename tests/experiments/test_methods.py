"""The methods: all of them run, and their own parts compute what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.data import Graph, GraphDataset, Split, collate_ragged, load_tu
from hierpool.experiments import features, layers, methods, networks
from hierpool.experiments.folds import make_folds
from hierpool.experiments.methods import METHODS, Task
from hierpool.experiments.protocol import Protocol
from hierpool.experiments.svm import classify
from hierpool.experiments.training import train
from hierpool.nn import HARD_POOLERS, POOLERS
from tests.experiments.toys import SHORT, write_data

pytest.importorskip("sklearn", reason="scikit-learn (extra: experiments) is not installed")
pytest.importorskip("torch_geometric", reason="torch_geometric (extra: pyg) is not installed")
HOW = Protocol(**SHORT | {"penalties": (1.0,), "epochs": 2})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> GraphDataset:
    return load_tu("TOY", write_data(tmp_path_factory.mktemp("data")))


def outcome(name: str, data: GraphDataset, how: Protocol = HOW, seed: int = 0) -> dict[str, Any]:
    method = METHODS[name]
    task = Task(data, make_folds(data.labels)[0], how, seed)
    return method.run(method.prepare(data, how), task)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs(name: str, data: GraphDataset) -> None:
    found = outcome(name, data)
    assert {found[f"{part}_accuracy"] * 4 for part in ("test", "validation")} <= set(range(5))
    if METHODS[name].is_random:
        assert found["epochs"] == 2
        assert found["parameters"] > 100
        assert found["seconds_per_epoch"] > 0


def test_every_pooler_is_a_method() -> None:
    assert {*POOLERS, *HARD_POOLERS} - {"diff", "det"} <= {*METHODS}
    assert [m.name for m in methods.select(["wl", "majority"])] == ["majority", "wl"]
    with pytest.raises(ValueError, match=r"methods must be from majority, .* got 'patchysan'"):
        methods.select(["patchysan"])


def test_a_method_that_ignores_edges_fails_where_only_edges_differ() -> None:
    """Two triangles against a ring of six nodes: a perceptron cannot, triangles can."""
    ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
    triangles = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
    graphs = [
        Graph(torch.ones(6, 2), torch.cat([e, e.flip(0)], 1), y) for y, e in enumerate((ring, triangles))
    ]
    dataset = GraphDataset("RINGS", tuple(graphs * 20), 2, "labels", "here", "0")
    assert outcome("graphlet", dataset)["test_accuracy"] == 1
    assert outcome("wl", dataset)["test_accuracy"] == 0.5
    assert outcome("perceptron", dataset)["test_accuracy"] == 0.5


# ---- protocol -------------------------------------------------------------------------------------------------------


class Bias(torch.nn.Module):
    """Logits that do not depend on the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([0.0, 3.0]))

    def forward(self, x: Tensor, graph: Any) -> networks.Classified:
        return networks.Classified(self.logits.expand(graph.num_graphs, 2))


def biased() -> tuple[GraphDataset, Split]:
    """Training graphs are of class 0; of the others, half."""
    edges = torch.zeros(2, 0, dtype=torch.long)
    graphs = tuple(Graph(torch.ones(1, 1), edges, y) for y in [0] * 8 + [0, 0, 0, 1] + [1, 1, 1, 1, 0])
    return GraphDataset("BIAS", graphs, 2, "labels", "", ""), Split(*torch.arange(17).split([8, 4, 5]))


def test_the_epoch_with_the_least_validation_loss_is_tested() -> None:
    """The loss of 3 of 4 graphs of class 0 is least at a probability of 3/4, before that of class 0 grows to 1."""
    dataset, split = biased()
    net = Bias()
    how = replace(HOW, epochs=300, patience=5, lr=0.1)
    found = train(net, dataset, split, how, 0)
    assert found["epochs"] == found["best_epoch"] + 5 < 300
    assert net.logits.softmax(-1)[0].item() == pytest.approx(0.75, abs=0.05)
    assert (found["test_accuracy"], found["validation_accuracy"]) == (0.2, 0.75)
    assert found["validation_loss"] == pytest.approx(0.5623, abs=2e-3)


def test_the_protocol_of_the_paper_has_a_curve_and_no_test() -> None:
    dataset, split = biased()
    found = train(Bias(), dataset, split, replace(HOW, name="paper", epochs=40, patience=1, lr=0.1), 0)
    assert found["epochs"] == 40
    assert (found["validation_curve"][0], found["validation_curve"][-1]) == (0.8, 0.2)
    assert "test_accuracy" not in found


def test_a_gradient_that_is_not_finite() -> None:
    dataset, split = biased()
    net = Bias()
    with torch.no_grad():
        net.logits[0] = torch.nan
    with pytest.raises(FloatingPointError, match="gradient is not finite in epoch 1"):
        train(net, dataset, split, HOW, 0)


class Exploding(Bias):
    """Infinite logits in evaluation."""

    def forward(self, x: Tensor, graph: Any) -> networks.Classified:
        out = super().forward(x, graph)
        return out if self.training else networks.Classified(out.logits * torch.inf)


def test_validation_losses_that_are_not_finite() -> None:
    dataset, split = biased()
    with pytest.raises(FloatingPointError, match="validation loss is not finite in any epoch"):
        train(Exploding(), dataset, split, HOW, 0)


def test_the_support_vector_machine_is_chosen_on_validation_graphs() -> None:
    """The first matrix says nothing, the second the class, the third is noise that outweighs it."""
    sparse = pytest.importorskip("scipy.sparse")
    y = torch.arange(60) % 2
    draw = torch.Generator().manual_seed(0)
    one_hot = torch.nn.functional.one_hot(y, 2).double()
    noise = 30 * torch.randn(60, 5, generator=draw, dtype=torch.float64)
    matrices = [sparse.csr_array(m.numpy()) for m in (torch.ones(60, 1).double(), one_hot, noise)]
    edges = torch.zeros(2, 0, dtype=torch.long)
    graphs = tuple(Graph(torch.ones(1, 1), edges, label) for label in y.tolist())
    dataset = GraphDataset("HINTS", graphs, 2, "labels", "", "")
    found = classify(matrices, dataset, make_folds(y)[0], replace(HOW, penalties=(10.0, 1.0)))
    assert found == {"test_accuracy": 1.0, "validation_accuracy": 1.0, "rounds": 1, "penalty": 1.0}


# ---- parts of networks ----------------------------------------------------------------------------------------------


def edges_of(data: GraphDataset) -> list[tuple[int, int, int]]:
    """Row, column and label of the edges of a batch of all graphs."""
    found, first = [], 0
    for graph in data.graphs:
        assert graph.edge_labels is not None
        ends = (graph.edge_index + first).T.tolist()
        found += [(i, j, label) for (i, j), label in zip(ends, graph.edge_labels.tolist(), strict=True)]
        first += len(graph.x)
    return found


def test_edge_conditioned_convolution(data: GraphDataset) -> None:
    batch = collate_ragged(features.with_edge_labels(data).graphs)
    stack = layers.ECCStack(data.num_features, 3, 1, data.num_edge_labels).double()
    x = torch.randn(batch.x.shape, dtype=torch.float64)
    (conv,) = stack.convs
    matrices = conv.of_labels.weight.split(data.num_features, 1)
    expected, degree = conv.own(x), torch.zeros(len(x), 1).double()
    sums = torch.zeros_like(expected)
    for i, j, label in edges_of(data):
        sums[i] += matrices[label] @ x[j]
        degree[i] += 1
    expected = expected + sums / degree
    norm = stack.norms[0].eval()
    torch.testing.assert_close(stack(x, batch.graph), norm(expected.relu()))


def test_structure2vec(data: GraphDataset) -> None:
    batch = collate_ragged(data.graphs)
    layer = layers.Structure2Vec(data.num_features, 4, 3).double()
    x = batch.x.double()
    adj = torch.zeros(len(x), len(x)).double()
    for i, j, _ in edges_of(data):
        adj[i, j] = 1
    h = torch.zeros(len(x), 4).double()
    for _ in range(3):
        h = (layer.own(x) + adj @ layer.neighbours(h)).relu()
    torch.testing.assert_close(layer(x, batch.graph), h)


def test_a_supernode_is_joined_to_all_nodes(data: GraphDataset) -> None:
    batch = collate_ragged(features.with_supernode(data).graphs)
    sizes = [len(graph.x) for graph in data.graphs]
    last = torch.tensor(sizes).cumsum(0) + torch.arange(len(sizes))
    assert batch.graph.degree[last].tolist() == sizes
    assert batch.x[:, -1].nonzero().flatten().tolist() == last.tolist()
    assert torch.equal(layers.LastNode(4)(batch.x, batch.graph), batch.x[last])


def test_attributes_are_scaled_by_the_training_graphs() -> None:
    edges = torch.zeros(2, 0, dtype=torch.long)
    values = torch.tensor([[1.0, 5.0, 0.0], [3.0, 5.0, 1.0], [100.0, 7.0, 1.0]])
    graphs = tuple(Graph(x[None], edges, 0) for x in values)
    dataset = GraphDataset("PROTEINS", graphs, 1, "attributes and labels", "", "")
    scaled = features.standardized(dataset, torch.tensor([0, 1]))
    assert [g.x[0].tolist() for g in scaled.graphs] == [[-1, 0, 0], [1, 0, 1], [98, 2, 1]]
    assert [g.x[0].tolist() for g in features.without_attributes(dataset, HOW).graphs] == [[0], [1], [1]]
    assert [one.tolist() for one in features.node_labels(dataset)] == [[0], [1], [1]]
    other = replace(dataset, features="degree")
    assert [one.tolist() for one in features.node_labels(other)] == [[0]] * 3


def test_both_operators_train_the_same_network(data: GraphDataset) -> None:
    """One number of clusters for all graphs, with hierpool's operator and PyTorch Geometric's."""
    found = [outcome(name, data) for name in ("diffpool-one-k", "diffpool-one-k-pyg")]
    assert found[0]["validation_loss"] == pytest.approx(found[1]["validation_loss"], rel=1e-3)
    assert found[0]["parameters"] == found[1]["parameters"]


def test_the_levels_of_fixed_poolers_are_those_of_each_batch(data: GraphDataset) -> None:
    """Pooled once before training, or in every step."""
    task = Task(data, make_folds(data.labels)[0], HOW, 0)
    method = METHODS["ndp"]
    once, always = (method.run(d, task) for d in (method.prepare(data, HOW), data))
    assert once["validation_loss"] == pytest.approx(always["validation_loss"], rel=1e-5)

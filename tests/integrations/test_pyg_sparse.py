"""Sparse pooling against the dense operator and against PyG with conversions, on drawn cases and on real data."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from hierpool import dense_diff_pool, diff_pool
from hierpool.data import load_tu
from hierpool.data.tu import GraphDataset
from tests.support.data import data_root
from tests.support.oracle import assert_error, eps_of, max_error
from tests.support.running import BACKENDS, choose

nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])")
utils = pytest.importorskip("torch_geometric.utils")

OUTPUTS = ("x", "adj", "link_loss", "ent_loss")
CASES, PER_TEST = 500, 50


class Batch(NamedTuple):
    """A sparse batch in float64, and weights of the outputs in the gradient."""

    x: Tensor  # [N, F]
    edge_index: Tensor
    edge_weight: Tensor | None
    s: Tensor  # [N, K]
    batch: Tensor
    graphs: int
    weights: tuple[Tensor, ...]

    @property
    def leaves(self) -> list[Tensor]:
        """What gets a gradient."""
        return [t for t in (self.x, self.s, self.edge_weight) if t is not None]

    def to(self, dtype: torch.dtype) -> Batch:
        """The same values as leaves of this dtype."""
        x, s = (t.detach().to(dtype).requires_grad_() for t in (self.x, self.s))
        weight = self.edge_weight
        weight = None if weight is None else weight.detach().to(dtype).requires_grad_()
        weights = tuple(w.to(dtype) for w in self.weights)
        return self._replace(x=x, s=s, edge_weight=weight, weights=weights)


def sparse(b: Batch, backend: str = "auto") -> tuple[Tensor, ...]:
    return diff_pool(b.x, b.edge_index, b.s, b.edge_weight, b.batch, batch_size=b.graphs, backend=backend)[:4]


def places(b: Batch) -> tuple[Tensor, int]:
    """The place of each node in its graph, in the order of numbers, and the size of the largest."""
    place = torch.zeros_like(b.batch)
    for graph in range(b.graphs):
        own = (b.batch == graph).nonzero().flatten()
        place[own] = torch.arange(own.numel())
    return place, int(place.max()) + 1


def dense(b: Batch) -> tuple[Tensor, ...]:
    """Our dense operator on matrices that are filled edge by edge."""
    place, n = places(b)

    def padded(t: Tensor) -> Tensor:
        return t.new_zeros(b.graphs, n, t.size(1)).index_put((b.batch, place), t)

    row, col = b.edge_index
    weight = torch.ones(row.numel(), dtype=b.x.dtype) if b.edge_weight is None else b.edge_weight
    where = (b.batch[row], place[row], place[col])
    adj = weight.new_zeros(b.graphs, n, n).index_put(where, weight, accumulate=True)
    mask = torch.zeros(b.graphs, n, dtype=torch.bool).index_put((b.batch, place), torch.tensor(True))
    return dense_diff_pool(padded(b.x), adj, padded(b.s), mask)


def pyg(b: Batch) -> tuple[Tensor, ...]:
    """PyG's conversions want a sorted batch."""
    order = b.batch.argsort(stable=True)
    number = torch.empty_like(order).index_copy(0, order, torch.arange(order.numel()))
    batch = b.batch[order]
    x, mask = utils.to_dense_batch(b.x[order], batch, batch_size=b.graphs)
    s, _ = utils.to_dense_batch(b.s[order], batch, batch_size=b.graphs)
    weight = torch.ones(b.edge_index.size(1), dtype=b.x.dtype) if b.edge_weight is None else b.edge_weight
    adj = utils.to_dense_adj(number[b.edge_index], batch, weight, x.size(1), b.graphs)
    return nn.dense_diff_pool(x, adj, s, mask)


def evaluate(function: Any, b: Batch, dtype: torch.dtype, **options: Any) -> dict[str, Tensor]:
    """Values and gradients by name."""
    b = b.to(dtype)
    outputs = function(b, **options)
    grads = torch.autograd.grad(outputs, b.leaves, b.weights)
    found = dict(zip(OUTPUTS, outputs, strict=True))
    return found | dict(zip(("gradient of x", "of s", "of edge_weight"), grads, strict=False))


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], where: str) -> None:
    for name, value in expected.items():
        # PyG's 1e-15 inside the logarithm, and the order of sums.
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-12, msg=f"{name}, {where}: ".__add__)


def draw(seed: int) -> Batch:
    """Direction, weights, duplicates, self-loops, the order of nodes, empty graphs and isolated tails at random."""
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    sizes = [choice.choice([0, 1, 2, choice.randint(3, 40)]) for _ in range(choice.randint(1, 6))]
    sizes[choice.randrange(len(sizes))] = choice.randint(1, 40)  # PyG has no batch without nodes
    k, f = choice.randint(1, 12), choice.randint(1, 20)
    ends, first = [], 0
    for size in sizes:
        connected = choice.randint(0, size)  # the nodes after them are a tail without edges
        count = int(choice.choice([0, 0.5, 2, 6]) * connected)
        ends.append(first + torch.randint(0, max(connected, 1), (2, count), generator=generator))
        first += size
    edges = torch.cat(ends, 1)
    weight = normal(edges.size(1)) if choice.random() < 0.6 else None
    if choice.random() < 0.5:
        edges, weight = torch.cat([edges, edges.flip(0)], 1), None if weight is None else weight.repeat(2)
    if choice.random() < 0.5:  # some edges twice or more
        again = torch.randint(0, max(edges.size(1), 1), (edges.size(1) // 2,), generator=generator)
        edges = torch.cat([edges, edges[:, again]], 1)
        weight = None if weight is None else torch.cat([weight, normal(again.numel())])
    shuffled = torch.randperm(edges.size(1), generator=generator)
    edges, weight = edges[:, shuffled], None if weight is None else weight[shuffled]
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    if choice.random() < 0.5:
        number = torch.randperm(first, generator=generator)  # of each node
        edges, batch = number[edges], torch.empty_like(batch).index_copy(0, number, batch)
    b = len(sizes)
    weights = (normal(b, k, f), normal(b, k, k), normal(), normal())
    return Batch(normal(first, f), edges, weight, normal(first, k), batch, b, weights)


CHUNKS = pytest.mark.parametrize(
    "first", range(0, CASES, PER_TEST), ids=lambda s: f"seeds{s}-{s + PER_TEST - 1}"
)


@CHUNKS
def test_drawn_cases_in_float64(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        b = draw(seed)
        ours = evaluate(sparse, b, torch.float64)
        assert_close(ours, evaluate(dense, b, torch.float64), f"dense, seed {seed}")
        assert_close(ours, evaluate(pyg, b, torch.float64), f"PyG, seed {seed}")


@pytest.mark.parametrize("name", BACKENDS)
def test_drawn_cases_by_every_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = choose(name, monkeypatch)
    for seed in range(0, CASES, 10):
        b = draw(seed)
        ours = evaluate(sparse, b, torch.float64, backend=backend)
        assert_close(ours, evaluate(dense, b, torch.float64), f"seed {seed}")


@CHUNKS
def test_drawn_cases_in_float32(first: int) -> None:
    """The truth is PyG in float64; ours may be off by twice what PyG in float32 is."""
    for seed in range(first, first + PER_TEST):
        b = draw(seed).to(torch.float32).to(torch.float64)
        truth, theirs = (evaluate(pyg, b, dtype) for dtype in (torch.float64, torch.float32))
        ours = evaluate(sparse, b, torch.float32)
        # Upstream gradients of both signs cancel in sums over clusters; without signs they give the size of the terms.
        unsigned = evaluate(sparse, b._replace(weights=tuple(w.abs() for w in b.weights)), torch.float64)
        for name, value in truth.items():
            label, base = f"{name}, seed {seed}", max_error(theirs[name], value)
            scale = torch.cat([value.flatten(), unsigned[name].flatten()])
            assert_error(label, ours[name], value, scale, eps_of(torch.float32), 40, base)


@pytest.fixture(scope="module", params=["ENZYMES", "PROTEINS", "IMDB-BINARY"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GraphDataset:
    return load_tu(request.param, data_root(f"tu/{request.param}"), cache=tmp_path_factory.mktemp("cache"))


def test_every_real_batch(dataset: GraphDataset) -> None:
    k, f, size = 8, 4, 32
    for first in range(0, len(dataset.graphs), size):
        graphs = dataset.graphs[first : first + size]
        nodes = torch.tensor([graph.x.size(0) for graph in graphs])
        offset = nodes.cumsum(0) - nodes
        generator = torch.Generator().manual_seed(first)

        def normal(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        n, b = int(nodes.sum()), len(graphs)
        edges = torch.cat([graph.edge_index + o for graph, o in zip(graphs, offset, strict=True)], 1)
        batch = torch.repeat_interleave(torch.arange(b), nodes)
        x = torch.cat([graph.x for graph in graphs]).double() @ normal(dataset.num_features, f)
        weights = (normal(b, k, f), normal(b, k, k), normal(), normal())
        drawn = Batch(x, edges, None, normal(n, k), batch, b, weights)
        ours = evaluate(sparse, drawn, torch.float64)
        assert_close(ours, evaluate(dense, drawn, torch.float64), f"dense, graphs from {first}")
        theirs = evaluate(pyg, drawn, torch.float64)
        assert_close(ours, theirs, f"PyG, graphs from {first}")
        rounded = evaluate(sparse, drawn, torch.float32)
        for name, value in theirs.items():
            label = f"{name} in float32, graphs from {first}"
            # Rounding of the inputs, then of sums over the largest graph.
            assert_error(label, rounded[name], value, value, 2 * eps_of(torch.float32), int(nodes.max()))

"""Forward-mode and second derivatives of every public function and layer, weights of edges included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hierpool import Assignment, RaggedGraph, sparse_pool, sparse_soft_pool, top_m_softmax, walk_cut
from hierpool.nn import HardPoolingOutput
from tests.support.public import Example, examples, named

f64 = torch.float64
Function = Callable[..., Sequence[Tensor]]
N = 6
EDGES = torch.tensor([[0, 1, 1, 2, 0, 2, 2, 0, 3, 4, 5, 5], [1, 0, 2, 1, 2, 0, 2, 0, 4, 3, 5, 3]])
BATCH = torch.tensor([0, 0, 0, 1, 1, 1])


def tensors(out: Any) -> list[Tensor]:
    if isinstance(out, HardPoolingOutput):
        return [*named(out).values(), *(t for t in (out.edge_weight,) if t is not None)]
    return list(named(out).values())


def made(example: Example) -> tuple[Function, list[Tensor]]:
    """An example as a function of its floating tensors and parameters, and these."""
    layer, given = example.make(), example.arguments()
    own = dict(layer.eval().named_parameters()) if isinstance(layer, nn.Module) else {}
    wanted = [name for name, t in given.items() if isinstance(t, Tensor) and t.is_floating_point()]

    def function(*values: Tensor) -> list[Tensor]:
        arguments = given | dict(zip(wanted, values, strict=False))
        if not isinstance(layer, nn.Module):
            return tensors(layer(**arguments))
        parameters = dict(zip(own, values[len(wanted) :], strict=True))
        return tensors(torch.func.functional_call(layer, parameters, (), arguments))

    return function, [t.detach() for t in (*(given[name] for name in wanted), *own.values())]


def check(function: Function, values: Sequence[Tensor], *, second: bool = True) -> None:
    """Compare derivatives of one direction that are computed in several ways."""
    random = torch.Generator().manual_seed(6)

    def like(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=random, dtype=f64)

    values = tuple(values)
    directions = tuple(map(like, values))
    results = function(*(t.clone().requires_grad_() for t in values))
    used = {i: like(t) for i, t in enumerate(results) if t.requires_grad and not t.isnan().any()}

    def loss(*values: Tensor) -> Tensor:
        out = function(*values)
        return torch.stack([(out[i] * weight).sum() for i, weight in used.items()]).sum()

    def slope(values: Sequence[Tensor], create_graph: bool = False) -> Tensor:
        needed = {"allow_unused": True, "materialize_grads": True, "create_graph": create_graph}
        gradients = torch.autograd.grad(loss(*values), values, **needed)
        return torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()

    leaves = [t.clone().requires_grad_() for t in values]
    expected = slope(leaves)
    torch.testing.assert_close(torch.func.jvp(loss, values, directions)[1], expected)
    if not second:
        return
    each = tuple(range(len(values)))
    twice = torch.func.jvp(torch.func.grad(loss, each), values, directions)[1]
    again = slope(leaves, create_graph=True)
    if again.requires_grad:
        got = torch.autograd.grad(again, leaves, allow_unused=True, materialize_grads=True)
        torch.testing.assert_close(got, twice)
    else:
        assert all(not t.any() for t in twice)


@pytest.mark.parametrize("example", [e for e in examples() if e.name != "select_valid"], ids=str)
def test_of_every_function_and_layer(example: Example) -> None:
    # torch.cdist, which a dense GTVConv calls, has no second derivative.
    check(*made(example), second=(example.name, example.is_sparse) != ("GTVConv", False))


def weights(seed: int = 0) -> Tensor:
    return torch.rand(EDGES.size(1), generator=torch.Generator().manual_seed(seed), dtype=f64) + 0.2


def graph_of(weight: Tensor, attr: Tensor | None = None) -> RaggedGraph:
    return RaggedGraph.from_edge_index(EDGES, N, edge_weight=weight, edge_attr=attr, batch=BATCH)


@pytest.mark.parametrize("loops", ["keep", "drop", "separate"])
@pytest.mark.parametrize("edge_reduce", ["sum", "mean", "max", "min", "mul"])
def test_of_weights_and_features_of_edges(edge_reduce: Any, loops: Any) -> None:
    weight, attr = weights(), torch.stack([weights(1), weights(2)], 1)
    # Products of these have one and two factors that are 0.
    weight[6] = attr[0, 0] = attr[2, 0] = attr[5, 0] = 0

    def function(weight: Tensor, attr: Tensor, share: Tensor) -> list[Tensor]:
        graph = graph_of(weight, attr)
        assignment = Assignment.from_clusters(torch.tensor([0, 0, 1, 0, 0, -1]), graph, share)
        options = {"edge_reduce": edge_reduce, "loops": loops, "weighted_edges": True}
        found = sparse_pool(None, graph, assignment, **options)
        return [t for t in (found.graph.value, found.graph.edge_attr, *found[2:]) if t is not None]

    check(function, [weight, attr, torch.linspace(0.5, 1.5, N, dtype=f64)])


@pytest.mark.parametrize("kind", ["walk_cut", "dense walk_cut", "soft", "normalised"])
def test_of_weights(kind: str) -> None:
    """A tangent of symmetric weights need not be symmetric."""
    rows = torch.randn(N, 3, generator=torch.Generator().manual_seed(3), dtype=f64)

    def function(s: Tensor, weight: Tensor) -> Sequence[Tensor]:
        graph = graph_of(weight)
        if kind == "walk_cut":
            return list(walk_cut(s, graph))
        if kind == "dense walk_cut":
            return list(walk_cut(s.view(2, 3, 3), graph.to_dense(), symmetric=True))
        if kind == "soft":
            record = sparse_soft_pool(s, graph, top_m_softmax(s, graph, 2))
            return [record.adj.value, *record[4:]]  # type: ignore[list-item]
        assignment = Assignment.from_clusters(torch.tensor([0, 0, 1, 0, 1, -1]), graph)
        pooled = sparse_pool(s, graph, assignment, degree_norm=True, edge_weight_norm=True).graph
        return [pooled.value]  # type: ignore[list-item]

    check(function, [rows, torch.ones(EDGES.size(1), dtype=f64)])

"""What ragged batches alone have: hubs, more rows than segments of them, layouts, transposes, the caller's order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph
from tests.support.cases import over
from tests.support.oracle import Fields, assert_error, eps_of, max_error
from tests.support.running import best, both, check, gradients_of, random_upstream, run
from tests.support.sparse import Ragged, RaggedCase, ragged

SEED = 7
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
KINDS = ("star", "hubs-in", "hub-among-small", "many-tiles")
PART = 2**15  # entries: a row of more is a hub, whose sum is taken in parts


def star(leaves: int, directed: bool) -> Tensor:
    """Edges from node 0 to all others, and back."""
    out = torch.stack([torch.zeros(leaves, dtype=torch.int64), torch.arange(1, leaves + 1)])
    return out if directed else torch.cat([out, out.flip(0)], 1)


def large_batch(kind: str, draw: torch.Generator) -> tuple[Tensor, list[int]]:
    """Edges and sizes of batches too large for a dense adjacency."""
    if kind == "star":
        return star(PART + 7, False), [PART + 8]
    if kind == "hubs-in":  # they are hubs of the transpose only
        hubs = star(2 * PART, True).flip(0)
        return torch.cat([hubs, hubs + torch.tensor([[0], [1]])], 1), [2 * PART + 2]
    if kind == "hub-among-small":
        hub, pairs = star(PART + 1, True), torch.arange(60).reshape(2, 30)
        return torch.cat([pairs + 8, hub + 75, pairs + PART + 95], 1), [5, 0, 70, PART + 10, 0, 90]
    n = 20_000  # 79 tiles, more than segments
    return torch.randint(0, n, (2, 5 * n), generator=draw), [n]


@pytest.mark.parametrize(
    ("kind", "weighted", "dtype"),
    [
        *((kind, True, f32) for kind in KINDS),
        *zip(KINDS, (True, False) * 2, (f64, bf16) * 2, strict=True),
        *zip(KINDS, (False, True) * 2, (bf16, f64) * 2, strict=True),
    ],
    ids=str,
)
def test_large(kind: str, weighted: bool, dtype: torch.dtype, native_isa: str) -> None:
    """Against the reference in float64, whose own truth is that of the grid: at most twice the reference's error."""
    draw = torch.Generator().manual_seed(SEED)
    edges, sizes = large_batch(kind, draw)
    n, ptr = sum(sizes), torch.tensor([0, *sizes]).cumsum(0)
    weight = torch.rand(edges.size(1), generator=draw).to(dtype) if weighted else None
    graph = RaggedGraph.from_edge_index(edges, n, edge_weight=weight, ptr=ptr)
    x, s = (torch.randn(n, width, generator=draw).to(dtype) for width in (3, 5))

    def pool(backend: str, cast: torch.dtype) -> list[Tensor]:
        """All fields, then gradients to x, s and the weights."""
        value = None if graph.value is None else graph.value.to(cast).requires_grad_()
        leaves = [x.to(cast).requires_grad_(), s.to(cast).requires_grad_()]
        moved = graph.with_value(value, symmetric=graph.is_symmetric)
        record = hierpool.soft_pool(leaves[0], moved, leaves[1], backend=backend)
        upstream = random_upstream(record, SEED)
        leaves += [] if value is None else [value]
        return [*record[:8], *torch.autograd.grad(record[:8], leaves, upstream)]  # type: ignore[list-item]

    exact, plain, got = pool("reference", f64), pool("reference", dtype), pool(native_isa, dtype)
    names = [*Fields._fields, *(f"gradient of {name}" for name in ("x", "s", "adj"))]
    for name, value, base, one in zip(names, exact, plain, got, strict=False):
        assert_error(name, one, value, value, eps_of(dtype), 2 * PART, max_error(base, value))


@pytest.mark.parametrize("layout", ["transposed", "strided", "sliced"])
@over(SEED, *ragged("n513", "tails-shuffled"))
def test_layouts(case: RaggedCase, layout: str, native: str) -> None:
    """Strides of x, s, the weights and the upstream gradients change no bit."""
    inputs = case.make(SEED, f32)
    record, grads, upstream = run(inputs, native)
    lay = replace(case.case, layout=layout).lay
    weights = inputs.adj if layout == "transposed" else lay(inputs.adj)
    leaves = inputs._replace(x=lay(inputs.x), adj=weights, s=lay(inputs.s)).leaves()
    assert not leaves.x.is_contiguous()
    other = leaves.pool(native)
    strided = [u if u is None or u.dim() < 2 else lay(u) for u in upstream]
    for one, same in zip(
        (*record[:8], *grads), (*other[:8], *gradients_of(other, leaves, strided)), strict=True
    ):
        assert torch.equal(one, same)


@both
@over(SEED, *ragged("directed-holes", "tails", "n513", "complete-n182"))
def test_callers_order_changes_no_bit(case: RaggedCase, backend: str) -> None:
    """Nodes of mixed graphs, each graph's in its order, give what the sorted batch gives, in the caller's order."""
    inputs = case.make(SEED, f32)
    order = mixed(inputs)
    record, grads, upstream = run(inputs, backend)
    shuffled = reorder(inputs, order)
    assert (shuffled.graph.order is None) == (inputs.graph.num_graphs == 1)
    upstream = [upstream[0][order], *upstream[1:]]
    other, other_grads, _ = run(shuffled, backend, upstream)
    for name, one, same in zip(Fields._fields, (record.s[order], *record[1:8]), other[:8], strict=True):
        assert torch.equal(one, same), name
    assert torch.equal(grads.x[order], other_grads.x)
    assert torch.equal(grads.s[order], other_grads.s)
    assert torch.equal(grads.adj, other_grads.adj)


def mixed(inputs: Ragged) -> Tensor:
    """The nodes in another order, in which those of one graph keep theirs: the first of each graph first."""
    place = torch.arange(inputs.s.size(0)) - inputs.graph.ptr[inputs.graph.batch]
    return place.argsort(stable=True)


def reorder(inputs: Ragged, order: Tensor) -> Ragged:
    """The same batch with the nodes in this order."""
    number = torch.empty_like(order).index_copy(0, order, torch.arange(order.numel()))
    edges, weight = inputs.graph.to_edge_index()
    graph = RaggedGraph.from_edge_index(
        number[edges],
        order.numel(),
        edge_weight=weight,
        batch=inputs.graph.batch[order],
        num_graphs=inputs.graph.num_graphs,
    )
    return inputs._replace(
        x=inputs.x[order], s=inputs.s[order], adj=graph.value, graph=graph, place=inputs.place[order]
    )


@both
@over(SEED, *ragged("directed-holes", "tails", "n513-directed-sparse", "base-unweighted"))
def test_both_widths_of_indices_give_the_same_bits(case: RaggedCase, backend: str) -> None:
    narrow, wide = (replace(case, index=dtype).make(SEED, f32) for dtype in (torch.int32, torch.int64))
    record, grads, upstream = run(narrow, backend)
    other, other_grads, _ = run(wide, backend, upstream)
    for one, same in zip((*record[:8], *grads), (*other[:8], *other_grads), strict=True):
        assert torch.equal(one, same)


@best
@over(SEED, *ragged("base", "signed", "n33-k31-f32", "n513", "complete-n182"))
def test_symmetry_that_is_not_known_changes_nothing(case: RaggedCase, backend: str) -> None:
    """A symmetric matrix that says it is not takes the way of directed ones."""
    inputs = case.make(SEED)
    assert inputs.graph.is_symmetric
    directed = inputs._replace(graph=inputs.graph.with_value(inputs.adj, symmetric=False))
    check(directed, backend)


@both
@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@over(SEED, *ragged("directed-holes", "tails", "last-edgeless"))
def test_gradient_of_edge_weights(case: RaggedCase, dtype: torch.dtype, backend: str) -> None:
    """Every one of several equal edges gets the gradient of their sum, in the order it was given."""
    inputs = case.make(SEED, dtype)
    _, grads, upstream = run(inputs, backend)
    edges, value = inputs.graph.to_edge_index()
    order = torch.randperm(3 * value.numel(), generator=torch.Generator().manual_seed(SEED))
    weight = (
        value.repeat(3) * torch.tensor([0.5, 0.25, 0.25], dtype=dtype).repeat_interleave(value.numel())
    )[order]
    weight.requires_grad_()
    graph = RaggedGraph.from_edge_index(
        edges.repeat(1, 3)[:, order], inputs.s.size(0), edge_weight=weight, ptr=inputs.graph.ptr
    )
    record = hierpool.soft_pool(inputs.x, graph, inputs.s, backend=backend)
    fields = [(t, u) for t, u in zip(record[:8], upstream, strict=True) if t is not None and t.requires_grad]
    (got,) = torch.autograd.grad([t for t, _ in fields], weight, [u for _, u in fields])
    assert torch.equal(got, grads.adj.repeat(3)[order])

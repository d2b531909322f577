"""The cross-entropy link loss of ragged batches: that of the same graphs padded, gradients of stored entries alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph
from tests.support.cases import WIDTHS, Case, over
from tests.support.link import LINK_GRID, LinkInputs, LinkValues, assert_values, make, values
from tests.support.running import best, both, cover

SEED = 6
UPSTREAM = -1.7
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
NO_GRAPHS = {"no-graphs", "expanded"}  # nothing to make a graph from; entries of one memory
CASES = [case for case in LINK_GRID if case.name not in NO_GRAPHS]


def ragged_values(inputs: LinkInputs, backend: str, **options: Any) -> LinkValues:
    """Loss and gradients of the ragged batch, laid out as those of the padded one; entries that are not stored stay
    with the gradient that the padded batch gives them."""
    s, graph = inputs.ragged()
    s = s.detach().requires_grad_()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_()
    loss = hierpool.link_bce(
        s, graph.with_value(value, symmetric=graph.is_symmetric), backend=backend, **options
    )
    ds, dvalue = torch.autograd.grad(loss, (s, value), torch.tensor(UPSTREAM, dtype=loss.dtype))
    padded = values(inputs, backend, UPSTREAM, **options)
    grad_s = torch.zeros_like(padded.s)
    grad_s[inputs.valid] = ds
    number = torch.full(inputs.s.shape[:2], -1)
    number[inputs.valid] = torch.arange(s.size(0))
    dense = torch.zeros(s.size(0), s.size(0), dtype=dvalue.dtype)
    dense[graph.row, graph.col.long()] = dvalue
    grad_adj = padded.adj.clone()
    stored = inputs.valid[:, :, None] & inputs.valid[:, None, :] & (inputs.adj != 0)
    for b, i, j in stored.nonzero().tolist():
        grad_adj[b, i, j] = dense[number[b, i], number[b, j]]
    return LinkValues(loss.detach(), grad_s, grad_adj)


@cover(SEED, *CASES, dtypes=[f64, f32], everywhere=WIDTHS[:5])
def test_grid(case: Case, dtype: torch.dtype, backend: str) -> None:
    case = replace(case, density=min(case.density, 0.1)) if case.n > 100 else case
    inputs = make(case, SEED, dtype)
    plain = None if backend == "reference" else values(inputs, "reference", UPSTREAM)
    assert_values(ragged_values(inputs, backend), inputs, UPSTREAM, plain)


@best
@pytest.mark.parametrize("dtypes", [(bf16, bf16), (f16, f16), (f32, f64), (f64, f32), (bf16, f32)], ids=str)
@over(SEED, "directed-holes", "n33-k31-f32", "num_nodes")
def test_dtypes(case: Case, dtypes: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    inputs = make(case, SEED, *dtypes)
    plain = None if backend == "reference" else values(inputs, "reference", UPSTREAM)
    assert_values(ragged_values(inputs, backend), inputs, UPSTREAM, plain)


@best
@pytest.mark.parametrize("options", [{"eps": 1e-3}, {"normalize": None}], ids=str)
@over(SEED, "num_nodes", "directed-holes")
def test_options(case: Case, options: dict[str, Any], backend: str) -> None:
    inputs = make(case, SEED)
    plain = None if backend == "reference" else values(inputs, "reference", UPSTREAM, **options)
    assert_values(ragged_values(inputs, backend, **options), inputs, UPSTREAM, plain, **options)


def batch_of(sizes: list[int], seed: int, symmetric: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Edges with duplicates and self-loops, the graph of every node, and an assignment in float64."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.tensor([0, *sizes]).cumsum(0)
    edges = [
        start + torch.randint(0, size, (2, 3 * size), generator=draw)
        for start, size in zip(first.tolist(), sizes, strict=False)
        if size
    ]
    edge_index = torch.cat(edges, 1)
    if symmetric:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    s = torch.randn(int(first[-1]), 5, generator=draw, dtype=f64).softmax(-1)
    return edge_index, batch, s


def written_out(edge_index: Tensor, batch: Tensor, s: Tensor, normalize: str, eps: float = 1e-7) -> Tensor:
    """All pairs of all graphs, with the sum of the duplicates as the entry."""
    n = batch.numel()
    adj = torch.zeros(n, n, dtype=s.dtype)
    adj.index_put_((edge_index[0], edge_index[1]), torch.ones((), dtype=s.dtype), accumulate=True)
    q = (s @ s.T).clamp(max=1)
    terms = -adj * (q + eps).log() - (1 - adj) * (1 - q + eps).log()
    counts = batch.bincount()
    pairs = counts.square().sum() if normalize == "valid" else counts.numel() * counts.max() ** 2
    return torch.where(batch[:, None] == batch, terms, 0).sum() / pairs


@both
@pytest.mark.parametrize("normalize", ["valid", "numel"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("unsorted", [True, False])
def test_a_batch_of_edges(unsorted: bool, symmetric: bool, normalize: Any, backend: str) -> None:
    """Unweighted, with duplicates, self-loops, an isolated tail and an empty graph; nodes in any order."""
    edge_index, batch, s = batch_of([7, 0, 1, 160, 12], SEED, symmetric)
    if unsorted:
        order = torch.randperm(batch.numel(), generator=torch.Generator().manual_seed(SEED))
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel())
        edge_index, batch, s = place[edge_index], batch[order], s[order]
    graph = RaggedGraph.from_edge_index(edge_index, batch=batch, num_graphs=5)
    assert graph.is_symmetric == symmetric
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    loss = hierpool.link_bce(ours, graph, normalize=normalize, backend=backend)
    expected = written_out(edge_index, batch, theirs, normalize)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    grads = torch.autograd.grad(loss, ours) + torch.autograd.grad(expected, theirs)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-13)


@both
def test_a_batch_without_weights_is_one_of_ones(backend: str) -> None:
    edge_index, batch, s = batch_of([9, 30], SEED)
    edge_index = edge_index.unique(dim=1).contiguous()
    bare = RaggedGraph.from_edge_index(edge_index, batch=batch)
    ones = RaggedGraph.from_edge_index(
        edge_index, edge_weight=torch.ones(edge_index.size(1), dtype=f64), batch=batch
    )
    assert bare.value is None
    losses = [hierpool.link_bce(s, graph, backend=backend) for graph in (bare, ones)]
    assert torch.equal(*losses)


@both
@pytest.mark.parametrize("wide", [False, True])
def test_both_widths_of_indices(wide: bool, backend: str) -> None:
    edge_index, batch, s = batch_of([9, 150], SEED)
    graph = RaggedGraph.from_edge_index(edge_index, batch=batch)
    dtype = torch.int64 if wide else torch.int32
    other = RaggedGraph(graph.rowptr.to(dtype), graph.col.to(dtype), graph.value, graph.ptr)
    expected = hierpool.link_bce(s, graph, backend=backend)
    assert torch.equal(hierpool.link_bce(s, other, backend=backend), expected)


@both
def test_no_node_at_all(backend: str) -> None:
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), num_nodes=0)
    s = torch.zeros(0, 3, requires_grad=True)
    loss = hierpool.link_bce(s, graph, backend=backend)
    loss.backward()
    assert loss.item() == 0
    assert s.grad is not None
    assert s.grad.shape == (0, 3)


@pytest.mark.parametrize("symmetric", [False, True])
def test_threads_change_no_bit(symmetric: bool, native_isa: str) -> None:
    edge_index, batch, s = batch_of([700, 3, 150, 1, 290], SEED, symmetric)
    half = torch.rand(edge_index.size(1) // 2, generator=torch.Generator().manual_seed(SEED))
    weight = torch.cat([half, half])  # of an edge and of its reverse
    s = s.float()

    def run() -> tuple[Tensor, ...]:
        leaf, value = s.clone().requires_grad_(), weight.clone().requires_grad_()
        graph = RaggedGraph.from_edge_index(edge_index, edge_weight=value, batch=batch)
        assert graph.is_symmetric == symmetric
        loss = hierpool.link_bce(leaf, graph, backend=native_isa)
        return loss, *torch.autograd.grad(loss, (leaf, value))

    expected = run()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        got = run()
        torch.set_num_threads(1)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), threads

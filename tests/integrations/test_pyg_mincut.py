"""MinCut pooling against the installed PyG, dense and sparse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import dense_mincut_pool, mincut_pool
from tests.support.pyg import (
    Example,
    Outcome,
    assert_equal_to_rounding,
    assert_within_the_rule,
    draw,
    outcome,
    same_layout,
)
from tests.support.running import BACKENDS, choose
from tests.support.sparse import RAGGED_SMALL, Ragged, RaggedCase, ragged

nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])")

OUTPUTS = ("x", "adj", "mincut_loss", "ortho_loss")
CASES, PER_TEST = 120, 30
CHUNKS = pytest.mark.parametrize(
    "first", range(0, CASES, PER_TEST), ids=lambda s: f"seeds{s}-{s + PER_TEST - 1}"
)


def evaluate(function: Any, example: Example, dtype: torch.dtype, **options: Any) -> Outcome:
    e = example.to(dtype)
    leaves = {"gradient of x": e.x, "of adj": e.adj, "of s": e.s}
    results = function(e.x, e.adj * e.between.to(dtype), e.s, e.mask, e.temp, **options)
    return outcome(OUTPUTS, results, leaves, e)


@CHUNKS
@pytest.mark.parametrize("name", BACKENDS)
def test_float64(first: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = choose(name, monkeypatch)
    for seed in range(first, first + PER_TEST):
        theirs = evaluate(nn.dense_mincut_pool, draw(seed), torch.float64)
        ours = evaluate(dense_mincut_pool, draw(seed), torch.float64, backend=backend)
        assert_equal_to_rounding(ours, theirs, f"seed {seed}")


@CHUNKS
@pytest.mark.parametrize("name", BACKENDS)
def test_float32(first: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = choose(name, monkeypatch)
    for seed in range(first, first + PER_TEST):
        example = draw(seed).to(torch.float32).to(torch.float64)
        truth, theirs = (evaluate(nn.dense_mincut_pool, example, t) for t in (torch.float64, torch.float32))
        ours = evaluate(dense_mincut_pool, example, torch.float32, backend=backend)
        assert_within_the_rule(ours, theirs, truth, example.x.size(-2), f"seed {seed}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", range(4), ids="seed{}".format)
def test_shapes_and_dtypes(seed: int, dtype: torch.dtype) -> None:
    e = draw(seed)
    x, adj, s = (t.to(dtype) for t in e[:3])
    ours = dense_mincut_pool(x, adj, s, e.mask, e.temp)
    assert same_layout(ours, nn.dense_mincut_pool(x, adj, s, e.mask, e.temp))
    assert all(t.isfinite().all() for t in ours)


def test_two_dimensional_inputs_are_one_graph() -> None:
    e = draw(0)
    x, adj, s = (t[0] if t.dim() == 3 else t for t in e[:3])
    flat, batch = dense_mincut_pool(x, adj, s), dense_mincut_pool(x[None], adj[None], s[None])
    for one, other in zip(flat, batch, strict=True):
        assert torch.equal(one, other)
    assert flat[0].dim() == 3


# -------------------------------------------------------------- what is finite and right here, and was not: both sides


# ------------------------------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize("case", RAGGED_SMALL, ids=lambda c: c.name)
def test_sparse_is_dense_not_padded(case: RaggedCase) -> None:
    inputs = case.make(3)
    if inputs.given:
        inputs = inputs._replace(s=2 * inputs.s)
    leaves = inputs.leaves()
    graph = leaves.graph
    if leaves.adj is not None:
        graph = graph.with_value(leaves.adj, symmetric=graph.is_symmetric)
    got = mincut_pool(leaves.x, graph, leaves.s, temperature=0.7)
    padded = inputs.padded
    x, s = inputs.pad(inputs.x).requires_grad_(), inputs.pad(inputs.s).requires_grad_()
    adj = padded.adj.detach().double().requires_grad_()
    expected = dense_mincut_pool(x, adj, s, padded.valid, 0.7)
    torch.testing.assert_close(got[:4], expected)
    torch.testing.assert_close(got.s, (inputs.s / 0.7).softmax(-1))
    weights = [torch.randn_like(t) for t in expected]
    ours = torch.autograd.grad(got[:4], [leaves.x, leaves.s], weights, retain_graph=True)
    theirs = torch.autograd.grad(expected, [x, s, adj], weights)
    torch.testing.assert_close(ours, [inputs.nodes(t) for t in theirs[:2]])
    if leaves.adj is not None:
        (of_value,) = torch.autograd.grad(got[:4], leaves.adj, weights)
        torch.testing.assert_close(of_value, inputs.entries(theirs[2]))


@pytest.mark.parametrize("name", ["directed-holes", "tails-shuffled"])
def test_forms_of_a_sparse_graph(name: str) -> None:
    (case,) = ragged(name)
    inputs = case.make(1)
    graph = inputs.graph
    edges, weight = graph.to_edge_index()
    got = mincut_pool(inputs.x, edges, inputs.s, weight, graph.batch, batch_size=graph.num_graphs)
    whole = mincut_pool(inputs.x, graph, inputs.s, sparse_output=True)
    assert all(torch.equal(one, other) for one, other in zip(got[:5], whole[:5], strict=True))
    assert got.sparse is None
    coarse = whole.sparse
    assert coarse is not None
    b, k, _ = whole.x.shape
    again = hierpool.RaggedGraph.from_edge_index(
        coarse.edge_index, b * k, edge_weight=coarse.edge_weight, batch=coarse.batch, num_graphs=b
    )
    torch.testing.assert_close(again.to_dense(), whole.adj)
    with pytest.raises(ValueError, match="drop must be None unless sparse_output=True"):
        mincut_pool(inputs.x, graph, inputs.s, drop=0.1)


# --------------------------------------------------------------------------------------------------- compilers, bits


def _batch(seed: int = 2) -> Ragged:
    (case,) = ragged("directed-holes")
    return case.make(seed, torch.float32)


@pytest.mark.slow
def test_compiled() -> None:
    inputs = _batch()
    padded = inputs.padded

    def dense(x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return dense_mincut_pool(x, padded.adj, s, padded.valid)

    def sparse(x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return mincut_pool(x, inputs.graph, s)[:4]

    for function, x, s in ((dense, padded.x, padded.s), (sparse, inputs.x, inputs.s)):
        leaves = [x.detach().requires_grad_(), s.detach().requires_grad_()]
        expected = function(*leaves)
        got = torch.compile(function, fullgraph=True, backend="aot_eager")(*leaves)
        torch.testing.assert_close(got, expected)
        weights = [torch.randn_like(t) for t in expected]
        torch.testing.assert_close(
            torch.autograd.grad(got, leaves, weights),
            torch.autograd.grad(expected, leaves, weights),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_same_bits_for_every_number_of_threads(sparse: bool) -> None:
    (case,) = ragged("many")
    inputs = case.make(0, torch.float32)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        leaf = (inputs.s if sparse else inputs.padded.s).detach().requires_grad_()
        if sparse:
            out = mincut_pool(inputs.x, inputs.graph, leaf)[:4]
        else:
            out = dense_mincut_pool(inputs.padded.x, inputs.padded.adj, leaf, inputs.padded.valid)
        found.append([*out, *torch.autograd.grad([t.sum() for t in out], leaf)])
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temp": 0.0}, "temperature"),
        ({"mask": torch.ones(3)}, "mask must be viewable"),
        ({"adj": torch.ones(2, 1, 6, 6)}, "adj must have shape"),
        ({"backend": "cudnn"}, "backend must be one of"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    x, adj, s = torch.ones(2, 6, 3), torch.ones(2, 6, 6), torch.ones(2, 6, 4)
    with pytest.raises(ValueError, match=message):
        dense_mincut_pool(**({"x": x, "adj": adj, "s": s} | change))

"""Identities of soft pooling on drawn inputs, padded and ragged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierpool import RaggedGraph
from tests.support.cases import Case, Inputs, Recipe, over
from tests.support.oracle import Fields, assert_error, assign, eps_of, fields, rounding
from tests.support.running import INTERPRETED, best, both, cover, random_upstream, run
from tests.support.sparse import Ragged, RaggedCase, padded_of, ragged

SEED = 5
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


def padded(**choices: Any) -> st.SearchStrategy[Case]:
    """Cases of small padded batches."""
    sizes = {"b": st.integers(1, 4), "n": st.integers(0, 20), "k": st.integers(1, 9), "f": st.integers(0, 6)}
    drawn = {
        "density": st.sampled_from([0.0, 0.1, 0.5, 2.0]),
        "weights": st.sampled_from(["ones", "uniform", "signed"]),
        "directed": st.booleans(),
    }
    return st.builds(Case, name=st.just("drawn"), **sizes, **(drawn | choices))


PADDED = padded(r=st.sampled_from([None, 1, 3]), valid=st.sampled_from(["all", "mask", "holes", "num_nodes"]))
RAGGED = st.builds(
    RaggedCase,
    case=padded(valid=st.sampled_from(["all", "holes", "num_nodes"])),
    index=st.sampled_from([torch.int32, torch.int64]),
    shuffled=st.booleans(),
)
CASES = PADDED | RAGGED
SEEDS = st.integers(0, 2**31)
# The backend is chosen once per test, which is what the health check asks to confirm.
drawn = settings(
    max_examples=10 if INTERPRETED else 40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_same(
    got: Sequence[Tensor | None], expected: Sequence[Tensor | None], inputs: Inputs | Ragged
) -> None:
    """Equal in every field but for the order of the sums."""
    exact = padded_of(inputs).double()
    magnitudes = exact._replace(x=exact.x.abs(), adj=exact.adj.abs())
    p = torch.where(exact.valid[..., None], exact.s, 0)
    scales = fields(magnitudes, p if inputs.given else assign(p, exact.temperature), majorant=True)
    for name, one, other, scale in zip(Fields._fields, got[:8], expected[:8], scales, strict=True):
        assert one is not None
        assert other is not None
        if name == "link_norm":
            one, other, scale = one.square(), other.square(), scale.square()
        assert_error(name, one, other, scale, eps_of(f64), inputs.terms)


def reorder(inputs: Inputs, order: Tensor) -> Inputs:
    """The nodes in another order; ``order`` is a permutation."""
    mask = inputs.valid[:, order]
    adj = inputs.adj[..., order, :][..., order]
    return inputs._replace(x=inputs.x[:, order], adj=adj, s=inputs.s[:, order], mask=mask, num_nodes=None)


@best
@given(case=PADDED, seed=SEEDS)
@drawn
def test_permuting_nodes_permutes_only_s(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    order = torch.randperm(case.n, generator=torch.Generator().manual_seed(seed))
    expected = inputs.pool(backend)
    permuted = reorder(inputs, order)
    assert_same(permuted.pool(backend), expected._replace(s=expected.s[:, order]), permuted)


@best
@given(case=RAGGED, seed=SEEDS)
@drawn
def test_permuting_nodes_of_a_ragged_batch(case: RaggedCase, seed: int, backend: str) -> None:
    inputs = case.case.make(seed)
    one, other = (Ragged.of(inputs, shuffle=torch.Generator().manual_seed(seed + i)) for i in range(2))
    expected = one.pool(backend)
    assert_same(other.pool(backend), expected._replace(s=other.nodes(one.pad(expected.s))), other)


@both
@given(case=RAGGED, seed=SEEDS)
@drawn
def test_dense_and_sparse_agree(case: RaggedCase, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    record, grads, upstream = run(inputs, backend)
    dense, dense_grads, _ = run(inputs.padded, backend, [inputs.pad(upstream[0]), *upstream[1:]])
    assert_same(record, dense._replace(s=inputs.nodes(dense.s)), inputs)
    expected = (inputs.nodes(dense_grads.x), inputs.entries(dense_grads.adj), inputs.nodes(dense_grads.s))
    torch.testing.assert_close(tuple(grads), expected, rtol=1e-9, atol=1e-9)


@best
@given(case=CASES, seed=SEEDS)
@drawn
def test_permuting_clusters_permutes_rows_and_columns(case: Recipe, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    order = torch.randperm(inputs.s.size(-1), generator=torch.Generator().manual_seed(seed))
    one = inputs.pool(backend)
    assert one.gram is not None
    expected = one._replace(
        s=one.s[..., order],
        x=one.x[:, order],
        adj=one.adj[..., order, :][..., order],
        gram=one.gram[:, order][..., order],
        vectors=one.vectors[..., order],
    )
    whole = padded_of(inputs)
    permuted = whole._replace(s=whole.s[..., order])
    assert_same(
        inputs._replace(s=inputs.s[..., order]).pool(backend),
        expected,
        permuted if whole is inputs else inputs,
    )


@best
@given(case=PADDED, seed=SEEDS, more=st.integers(1, 9))
@drawn
def test_padding_changes_nothing(case: Case, seed: int, more: int, backend: str) -> None:
    inputs = case.make(seed)
    pad = torch.nn.functional.pad
    wider = inputs._replace(
        x=pad(inputs.x, (0, 0, 0, more), value=3),
        adj=pad(inputs.adj, (0, more, 0, more), value=3),
        s=pad(inputs.s, (0, 0, 0, more), value=3),
        mask=pad(inputs.valid, (0, more)),
        num_nodes=None,
    )
    record = wider.pool(backend)
    assert not record.s[:, case.n :].any()
    assert_same(record._replace(s=record.s[:, : case.n]), inputs.pool(backend), inputs)


def graph_of(inputs: Inputs, b: int) -> Inputs:
    """One graph of the batch, alone."""
    x, adj, s, mask = (t[b : b + 1] for t in (*inputs[:3], inputs.valid))
    return inputs._replace(x=x, adj=adj, s=s, mask=mask, num_nodes=None)


@best
@given(case=CASES, seed=SEEDS)
@drawn
def test_a_batch_is_its_graphs_one_by_one(case: Recipe, seed: int, backend: str) -> None:
    """Of a ragged batch to the bit, totals apart: a graph's sums do not know of others.

    The Triton kernels divide rows among programs by the mean size of graphs.
    """
    inputs = case.make(seed)
    if isinstance(inputs, Ragged):
        inputs = Ragged.of(inputs.padded)
        # All matrices of a batch are multiplied as directed ones if one of them is.
        known = inputs.graph.is_symmetric
        graphs = [Ragged.of(graph_of(inputs.padded, b)) for b in range(inputs.padded.s.size(0))]
        singles = [g._replace(graph=g.graph.with_value(g.adj, symmetric=known)).pool(backend) for g in graphs]
    else:
        singles = [graph_of(inputs, b).pool(backend) for b in range(inputs.s.size(0))]
    whole = inputs.pool(backend)
    joined = [torch.cat([single[i] for single in singles]) for i in range(6)]  # type: ignore[misc]
    if isinstance(inputs, Ragged) and backend != "triton":
        assert all(torch.equal(one, other) for one, other in zip(whole[:6], joined, strict=True))  # type: ignore[arg-type]
    total = torch.stack([single.total_entropy for single in singles]).sum()
    norm = torch.stack([single.link_norm for single in singles]).square().sum(0).sqrt()
    assert_same(whole, [*joined, total, norm], inputs)


@best
@given(case=CASES, seed=SEEDS)
@drawn
def test_a_hard_assignment_contracts_the_graph(case: Recipe, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    k = inputs.s.size(-1)
    label = torch.randint(0, k, inputs.s.shape[:-1], generator=torch.Generator().manual_seed(seed))
    record = inputs._replace(s=torch.nn.functional.one_hot(label, k).double(), given=True).pool(backend)
    whole = padded_of(inputs)
    label = inputs.pad(label) if isinstance(inputs, Ragged) else label
    adj = whole.adj if whole.adj.dim() == 4 else whole.adj[:, None]
    expected = torch.zeros(adj.size(0), adj.size(1), k, k, dtype=f64)
    for b in range(adj.size(0)):
        nodes = whole.valid[b].nonzero().flatten().tolist()
        for i in nodes:
            for j in nodes:
                expected[b, :, label[b, i], label[b, j]] += adj[b, :, i, j]
    # Sums of at most 400 weights of size 1.
    torch.testing.assert_close(record.adj.reshape(expected.shape), expected, rtol=0, atol=1e-12)
    assert not record.entropy.any()


@best
@given(case=CASES, seed=SEEDS, factor=st.sampled_from([-2.0, 0.0, 0.5, 4.0]))
@drawn
def test_scaling_the_adjacency(case: Recipe, seed: int, factor: float, backend: str) -> None:
    inputs = case.make(seed)
    one, scaled = inputs.pool(backend), inputs._replace(adj=inputs.adj * factor).pool(backend)
    for name in ("adj", "volume", "total_degree", "cut_degree"):  # powers of two: exact
        assert torch.equal(getattr(scaled, name), factor * getattr(one, name)), name
    assert torch.equal(scaled.adj_sq, factor**2 * one.adj_sq)
    assert torch.equal(scaled.s, one.s)
    assert torch.equal(scaled.x, one.x)


@best
@given(case=CASES, seed=SEEDS)
@drawn
def test_row_sums(case: Recipe, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    record = inputs.pool(backend)
    assert record.gram is not None
    valid = padded_of(inputs).valid
    assert torch.equal(record.num_nodes, valid.sum(1).double())
    rows = inputs.nodes(valid) if isinstance(inputs, Ragged) else valid
    torch.testing.assert_close(record.s.sum(-1), rows.double())
    torch.testing.assert_close(record.size.sum(-1), record.num_nodes)
    torch.testing.assert_close(record.gram.sum(-1), record.size)
    torch.testing.assert_close(record.adj.sum(-1), record.volume)
    torch.testing.assert_close(record.adj.sum((-1, -2)), record.total_degree)


# ---- at the edges ---------------------------------------------------------------------------------------------------


@cover(
    SEED, "base", "holes", "n33-k31-f32", "n513", "n1100", *ragged("base", "holes", "n513", "complete-n182"),
    dtypes=[f64, f32],
)  # fmt: skip
def test_the_product_of_s_is_at_distance_zero(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    whole = padded_of(inputs)
    s = whole.pool("reference").s
    moved = whole._replace(adj=s @ s.mT)
    record = (Ragged.of(moved) if isinstance(inputs, Ragged) else moved).pool(backend)
    assert (record.link_sq <= rounding(whole.s.size(1)) * eps_of(dtype) * record.adj_sq).all()
    assert (record.link_sq >= 0).all()


@both
@over(SEED, *ragged("directed-holes", "tails", "n513-directed-sparse"))
def test_stored_zeros_change_nothing_but_have_gradients(case: RaggedCase, backend: str) -> None:
    inputs = case.make(SEED)
    edges, weights = inputs.graph.to_edge_index()
    assert weights is not None
    first = inputs.graph.ptr[:-1][inputs.graph.ptr.diff() > 1]
    more = torch.cat([edges, torch.stack([first, first + 1])], 1)
    value = torch.cat([weights, torch.zeros(first.numel(), dtype=f64)])
    graph = RaggedGraph.from_edge_index(more, inputs.s.size(0), edge_weight=value, ptr=inputs.graph.ptr)
    assert graph.num_edges >= inputs.graph.num_edges
    stored = inputs._replace(graph=graph, adj=graph.value)
    assert_same(stored.pool(backend), inputs.pool(backend), inputs)
    upstream = random_upstream(inputs.pool(backend), SEED)
    _, got, _ = run(stored, backend, upstream)
    _, expected, _ = run(inputs.padded, backend, [inputs.pad(upstream[0]), *upstream[1:]])
    torch.testing.assert_close(got.adj, stored.entries(expected.adj), rtol=1e-9, atol=1e-9)

"""Identities of soft pooling on drawn ragged batches, and infinities, NaN and hubs among their rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierpool import RaggedGraph
from tests.support.cases import Case, over
from tests.support.oracle import Fields, eps_of, rounding
from tests.support.running import INTERPRETED, check, random_upstream, run
from tests.support.sparse import Ragged, RaggedCase, ragged

SEED = 5
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16

PADDED = st.builds(
    Case,
    name=st.just("drawn"),
    b=st.integers(1, 4),
    n=st.integers(0, 20),
    k=st.integers(1, 9),
    f=st.integers(0, 6),
    valid=st.sampled_from(["all", "holes", "num_nodes"]),
    density=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    weights=st.sampled_from(["uniform", "signed"]),
    directed=st.booleans(),
)
CASES = st.builds(
    RaggedCase, case=PADDED, index=st.sampled_from([torch.int32, torch.int64]), shuffled=st.booleans()
)
SEEDS = st.integers(0, 2**31)
# The backend is chosen once per test, which is what the health check asks to confirm.
drawn = settings(
    max_examples=10 if INTERPRETED else 25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_same(got: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    """Equal but for the order of float64 sums, of which the norm is a root."""
    for name, one, other in zip(Fields._fields, got, expected, strict=True):
        atol = 1e-6 if name == "link_norm" else 1e-10
        torch.testing.assert_close(one, other, rtol=1e-10, atol=atol, msg=f"{name}: ".__add__)


@given(case=CASES, seed=SEEDS)
@drawn
def test_dense_and_sparse_agree(case: RaggedCase, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    record, grads, upstream = run(inputs, backend)
    padded, padded_grads, _ = run(inputs.padded, backend, [inputs.pad(upstream[0]), *upstream[1:]])
    assert_same(record, padded._replace(s=inputs.nodes(padded.s)))
    expected = (inputs.nodes(padded_grads.x), inputs.entries(padded_grads.adj), inputs.nodes(padded_grads.s))
    torch.testing.assert_close(tuple(grads), expected, rtol=1e-9, atol=1e-9)


@given(case=CASES, seed=SEEDS)
@drawn
def test_permuting_nodes_permutes_only_s(case: RaggedCase, seed: int, backend: str) -> None:
    padded = case.case.make(seed)
    one, other = (Ragged.of(padded, shuffle=torch.Generator().manual_seed(seed + i)) for i in range(2))
    expected = one.pool(backend)
    assert_same(other.pool(backend), expected._replace(s=other.nodes(one.pad(expected.s))))


@given(case=CASES, seed=SEEDS)
@drawn
def test_permuting_clusters_permutes_rows_and_columns(case: RaggedCase, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    order = torch.randperm(case.case.k, generator=torch.Generator().manual_seed(seed))
    one = inputs.pool(backend)
    assert one.gram is not None
    expected = one._replace(
        s=one.s[:, order],
        x=one.x[:, order],
        adj=one.adj[:, order][..., order],
        gram=one.gram[:, order][..., order],
        vectors=one.vectors[..., order],
    )
    assert_same(inputs._replace(s=inputs.s[:, order]).pool(backend), expected)


def graph_of(inputs: Ragged, b: int) -> Ragged:
    """One graph of the batch, alone."""
    padded = inputs.padded
    alone = padded._replace(
        x=padded.x[b : b + 1],
        adj=padded.adj[b : b + 1],
        s=padded.s[b : b + 1],
        mask=padded.valid[b : b + 1],
        num_nodes=None,
    )
    return Ragged.of(alone)


@given(case=CASES, seed=SEEDS)
@drawn
def test_a_batch_is_its_graphs_one_by_one(case: RaggedCase, seed: int, native: str) -> None:
    """To the bit, totals apart: a graph's sums do not know of others."""
    inputs = Ragged.of(case.case.make(seed))
    whole = inputs.pool(native)
    graphs = [graph_of(inputs, b) for b in range(case.case.b)]
    # All matrices of a batch are multiplied as directed ones if one of them is.
    symmetric = inputs.graph.is_symmetric
    graphs = [g._replace(graph=g.graph.with_value(g.adj, symmetric=symmetric)) for g in graphs]
    singles = [g.pool(native) for g in graphs]
    for name, field, *parts in zip(whole._fields[:6], whole, *singles, strict=False):
        assert field is not None
        assert torch.equal(field, torch.cat(parts)), name  # type: ignore[arg-type]
    total = torch.stack([single.total_entropy for single in singles]).sum()
    norm = torch.stack([single.link_norm for single in singles]).square().sum().sqrt()
    torch.testing.assert_close((whole.total_entropy, whole.link_norm), (total, norm))


@given(case=CASES, seed=SEEDS)
@drawn
def test_a_hard_assignment_contracts_the_graph(case: RaggedCase, seed: int, backend: str) -> None:
    inputs, k = case.make(seed), case.case.k
    label = torch.randint(0, k, (inputs.s.size(0),), generator=torch.Generator().manual_seed(seed))
    hard = inputs._replace(s=torch.nn.functional.one_hot(label, k).double(), given=True)
    record = hard.pool(backend)
    expected = torch.zeros(case.case.b, k, k, dtype=f64)
    edges, weights = inputs.graph.to_edge_index()
    assert weights is not None
    for i, j, weight in zip(*edges.tolist(), weights, strict=True):
        expected[inputs.graph.batch[i], label[i], label[j]] += weight
    # Sums of at most 400 weights of size 1.
    torch.testing.assert_close(record.adj, expected, rtol=0, atol=1e-12)
    assert not record.entropy.any()


@given(case=CASES, seed=SEEDS, factor=st.sampled_from([-2.0, 0.0, 0.5, 4.0]))
@drawn
def test_scaling_the_adjacency(case: RaggedCase, seed: int, factor: float, backend: str) -> None:
    inputs = case.make(seed)
    assert inputs.adj is not None
    one, scaled = inputs.pool(backend), inputs._replace(adj=inputs.adj * factor).pool(backend)
    for name in ("adj", "volume", "total_degree", "cut_degree"):  # powers of two: exact
        assert torch.equal(getattr(scaled, name), factor * getattr(one, name)), name
    assert torch.equal(scaled.adj_sq, factor**2 * one.adj_sq)
    assert torch.equal(scaled.s, one.s)
    assert torch.equal(scaled.x, one.x)


@given(case=CASES, seed=SEEDS)
@drawn
def test_row_sums(case: RaggedCase, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    record = inputs.pool(backend)
    assert record.gram is not None
    assert torch.equal(record.num_nodes, inputs.padded.valid.sum(1).double())
    torch.testing.assert_close(record.s.sum(-1), torch.ones_like(record.s[:, 0]))
    torch.testing.assert_close(record.size.sum(-1), record.num_nodes)
    torch.testing.assert_close(record.gram.sum(-1), record.size)
    torch.testing.assert_close(record.adj.sum(-1), record.volume)
    torch.testing.assert_close(record.adj.sum((-1, -2)), record.total_degree)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@over(SEED, *ragged("base", "holes", "n33-k31-f32", "n513", "complete-n182"))
def test_the_product_of_s_is_at_distance_zero(case: RaggedCase, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    s = inputs.padded.pool("reference").s
    record = Ragged.of(inputs.padded._replace(adj=s @ s.mT)).pool(backend)
    assert (record.link_sq <= rounding(case.case.n) * eps_of(dtype) * record.adj_sq).all()
    assert (record.link_sq >= 0).all()


@pytest.mark.parametrize("dtype", [f64, f32, bf16], ids=str)
@over(SEED, *ragged("base", "holes", "temperature", "n33-k31-f32", "n513"))
def test_logits_of_minus_infinity(case: RaggedCase, dtype: torch.dtype, backend: str) -> None:
    padded = case.case.make(SEED, dtype)
    off = torch.rand(padded.s.shape, generator=torch.Generator().manual_seed(SEED)) < 0.4
    off[..., 0] = False
    inputs = Ragged.of(padded._replace(s=padded.s.masked_fill(off, -float("inf"))))
    record, grads, _ = run(inputs, backend)
    assert not record.s[inputs.nodes(off)].any()
    assert not grads.s[inputs.nodes(off)].any()
    check(inputs, backend)


@pytest.mark.parametrize("row", [[-float("inf")] * 4, [float("nan"), 0, 1, 2]], ids=str)
def test_a_row_without_softmax_is_nan_as_in_torch(row: list[float], backend: str) -> None:
    (case,) = ragged("base")
    inputs = case.make(SEED, f32)
    inputs.s[12] = torch.tensor(row)
    record = inputs.pool(backend)
    assert torch.equal(record.s.isnan(), inputs.s.softmax(-1).isnan())
    # It stays in its graph, and is not hidden there.
    assert record.scalars[0].isfinite().all()
    for value in (
        record.x[1],
        record.adj[1],
        record.gram,
        record.entropy[1],
        record.link_sq[1],
        record.link_norm,
    ):
        assert value is not None
        assert value.isnan().any()


@pytest.mark.parametrize("n", [30, 600])
def test_nan_of_a_weight_is_not_hidden(n: int, backend: str) -> None:
    inputs = RaggedCase(Case("nan", b=2, n=n, density=10 / n, directed=True)).make(SEED, f32)
    assert inputs.adj is not None
    inputs.adj[-1] = float("nan")
    inputs.x[n - 1, 2] = float("nan")
    record = inputs.pool(backend)
    for name in ("adj", "total_degree", "adj_sq", "link_sq", "volume", "cut_degree"):
        value = getattr(record, name)
        assert value[1].isnan().any(), name
        assert value[0].isfinite().all(), name
    assert torch.equal(record.x.isnan().any(1), torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool())


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
    stored = replace_graph(inputs, graph)
    assert_same(stored.pool(backend), inputs.pool(backend))
    upstream = random_upstream(inputs.pool(backend), SEED)
    _, got, _ = run(stored, backend, upstream)
    _, expected, _ = run(inputs.padded, backend, [inputs.pad(upstream[0]), *upstream[1:]])
    torch.testing.assert_close(got.adj, stored.entries(expected.adj), rtol=1e-9, atol=1e-9)


def replace_graph(inputs: Ragged, graph: RaggedGraph) -> Ragged:
    return inputs._replace(graph=graph, adj=graph.value)

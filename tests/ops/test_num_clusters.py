"""A number of clusters for each graph: a batch gives the same as its graphs alone, each with its own number."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import hierpool
from hierpool import SoftPoolRecord
from tests.support.cases import Case, Inputs
from tests.support.oracle import Fields, assert_error, eps_of, max_error
from tests.support.running import BACKENDS, INTERPRETED, random_upstream
from tests.support.sparse import Ragged

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
CASES = 300
GROUPS = 10


class Drawn(NamedTuple):
    """A padded batch, the same graphs as a ragged batch if they have one edge type, and numbers of clusters."""

    padded: Inputs
    ragged: Ragged | None
    counts: Tensor
    dtype: torch.dtype


def draw(seed: int) -> Drawn:
    pick = random.Random(seed)
    large = seed % 25 == 0 and not INTERPRETED
    b = pick.randint(1, 3 if large else 5)
    n = pick.randint(513, 700) if large else pick.choice([0, 1, 2, 9, 17, 33, 40])
    k = pick.choice([1, 2, 5, 16, 17, 40, 70])
    dtype = pick.choice([f64, f32, f32, bf16, f16])
    case = Case(
        f"drawn-{seed}", b, n, k, pick.choice([0, 1, 5, 18]), r=pick.choice([None, None, 1, 3]),
        valid=pick.choice(["all", "mask", "holes", "num_nodes", "none"]), density=pick.choice([0.05, 0.5, 2.0]),
        weights=pick.choice(["ones", "uniform", "signed"]), directed=pick.random() < 0.5,
        layout=pick.choice(["contiguous", "transposed", "strided", "sliced"]), given=pick.random() < 0.2,
        temperature=1.0,
    )  # fmt: skip
    if not case.given:
        case = Case(**{**vars(case), "temperature": pick.choice([1.0, 0.5])})
    padded = case.make(seed, dtype)
    ragged = None
    if case.r is None:
        shuffle = torch.Generator().manual_seed(seed) if pick.random() < 0.5 else None
        ragged = Ragged.of(padded, case.weights != "ones", pick.choice([torch.int32, torch.int64]), shuffle)
    counts = torch.tensor([pick.randint(1, k) for _ in range(b)])
    return Drawn(padded, ragged, counts, dtype)


def poisoned(s: Tensor, counts: Tensor) -> Tensor:
    """``s [B, N, K]`` with NaN in the columns that are no clusters of the graph."""
    exists = torch.arange(s.size(-1)) < counts[:, None, None]
    return torch.where(exists, s, torch.nan)


def alone(inputs: Inputs, counts: Tensor) -> list[Tensor]:
    """The fields of the record of a batch, from plain PyTorch on the valid nodes of one graph at a time."""
    k, found = inputs.s.size(-1), []
    for b, count in enumerate(counts.tolist()):
        valid = inputs.valid[b].nonzero()[:, 0]
        adj = inputs.adj[b].index_select(-1, valid).index_select(-2, valid)
        record = hierpool.soft_pool(
            inputs.x[b, valid][None], adj[None], inputs.s[b, valid, :count][None], backend="reference",
            assignment="given" if inputs.given else "softmax", temperature=inputs.temperature,
        )  # fmt: skip
        more = k - count
        s = torch.zeros(inputs.s.shape[1:], dtype=record.s.dtype).index_copy(
            0, valid, F.pad(record.s[0], (0, more))
        )
        matrices = (F.pad(t, (0, more, 0, more)) for t in (record.adj, record.gram) if t is not None)
        found.append(
            [
                s[None],
                F.pad(record.x, (0, 0, 0, more)),
                *matrices,
                F.pad(record.vectors, (0, more)),
                record.scalars,
            ]
        )
    fields = [torch.cat(parts) for parts in zip(*found, strict=True)]
    types = inputs.adj.size(1) if inputs.adj.dim() == 4 else 1
    squares = fields[5][:, 2 + 3 * types :].double().square().sum(0)
    safe = torch.where(squares > 0, squares, 1).sqrt()
    norm = torch.where(squares > 0, safe, 0).to(fields[5].dtype)
    return [*fields, fields[5][:, 1].sum(), norm if inputs.adj.dim() == 4 else norm[0]]


def differentiated(fields: Any, leaves: list[Tensor], upstream: list[Tensor]) -> list[Tensor]:
    grads = torch.autograd.grad(fields, leaves, upstream, allow_unused=True, materialize_grads=True)
    return [t.detach() for t in (*fields, *grads)]


def check(drawn: Drawn, ragged: bool, backend: str) -> None:
    padded, counts = drawn.padded, drawn.counts
    inputs = drawn.ragged if ragged and drawn.ragged is not None else padded
    leaves = inputs.leaves()
    s = leaves.s
    if isinstance(inputs, Ragged):
        graph = torch.div(inputs.place, max(padded.s.size(1), 1), rounding_mode="floor")
        laid: Any = leaves._replace(s=poisoned(s[:, None], counts[graph])[:, 0])
    else:
        laid = leaves._replace(s=poisoned(s, counts))
    record: SoftPoolRecord = laid.pool(backend, num_clusters=counts)
    assert record.num_clusters is not None
    fields = [t for t in record[:8] if t is not None]
    upstream = random_upstream(record, 3)
    tensors = [t for t in leaves[:3] if t is not None]
    got = differentiated(fields, tensors, upstream)

    compared = []
    for dtype in (f64, drawn.dtype):
        one = padded.double() if dtype is f64 else padded
        own = one.leaves()
        expected = alone(own, counts)
        rows = upstream[0]
        if isinstance(inputs, Ragged):
            b, n, k = padded.s.shape
            expected[0] = expected[0].view(b * n, k)[inputs.place]
        weights = [rows, *upstream[1:]]
        weights = [w.to(t.dtype) for w, t in zip(weights, expected, strict=True)]
        values = differentiated(expected, list(own[:3]), weights)
        if isinstance(inputs, Ragged):
            values[-3:] = of_nodes(values[-3:], inputs, drawn)
        compared.append(values)
    exact, plain = compared
    scale = max([1.0, *(float(t.abs().max()) for t in exact if t.numel())])
    types = padded.adj.size(1) if padded.adj.dim() == 4 else 1
    adj_norm, link = exact[5][:, 2 + types : 2 + 2 * types], exact[5][:, 2 + 3 * types :]
    # The gradient of |D|, D = A - S S^T, is D / |D|, and D is a difference.
    scale *= float(torch.where(link > 0, adj_norm / link, 1).clamp(min=1).max()) if link.numel() else 1
    names = [*Fields._fields, *(f"gradient of {name}" for name in ("x", "adj", "s"))]
    if isinstance(inputs, Ragged) and inputs.adj is None:
        names.remove("gradient of adj")
    for name, one, true, base in zip(names, got, exact, plain, strict=True):
        eps = max(eps_of(one.dtype), eps_of(f32) if drawn.dtype is not f64 else 0.0)
        if backend == "triton":  # another exponential may round S of 16 bits to its neighbour
            eps = max(eps, eps_of(drawn.dtype))
        assert_error(name, one, true, torch.tensor(scale), eps, 16, max_error(base, true))


def of_nodes(grads: list[Tensor], inputs: Ragged, drawn: Drawn) -> list[Tensor]:
    """Gradients of a padded batch at the nodes and entries of the ragged one."""
    dx, dadj, ds = grads
    dx, ds = (t.flatten(0, 1)[inputs.place] for t in (dx, ds))
    if inputs.adj is None:
        return [dx, ds]
    n = drawn.padded.s.size(1)
    row, col = inputs.graph.to_edge_index()[0]
    row, col = inputs.place[row], inputs.place[col]
    return [dx, dadj[torch.div(row, n, rounding_mode="floor"), row % n, col % n], ds]


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_batch_is_its_graphs_alone(group: int, backend: str) -> None:
    for seed in range(group, CASES, GROUPS):
        drawn = draw(seed)
        check(drawn, False, backend)
        if drawn.ragged is not None:
            check(drawn, True, backend)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([1, 6]), r"num_clusters must lie between 1 and K = 5, got values from 1 to 6"),
        (torch.tensor([0, 5]), r"num_clusters must lie between 1 and K = 5, got values from 0 to 5"),
        (9, r"num_clusters must lie between 1 and K = 5, got values from 9 to 9"),
        (torch.tensor([1, 2, 3]), r"num_clusters must have shape \[B\] = \[2\], got \(3,\)"),
        (torch.tensor([1.0, 2.0]), "num_clusters must have dtype int64, .*got float32"),
        (True, "num_clusters must be an int or an integer tensor, got True"),
        ("2", "num_clusters must be an int or an integer tensor, got '2'"),
    ],
)
def test_bad_numbers_are_named(value: Any, message: str) -> None:
    x, adj, s = torch.ones(2, 3, 4), torch.ones(2, 3, 3), torch.ones(2, 3, 5)
    with pytest.raises((ValueError, TypeError), match=message):
        hierpool.soft_pool(x, adj, s, num_clusters=value)


def test_one_number_for_all_graphs() -> None:
    inputs = Case("one", b=3, valid="num_nodes").make(1)
    expected = inputs._replace(s=inputs.s[..., :2]).pool()
    for number in (2, torch.tensor(2), torch.tensor([2], dtype=torch.int32), torch.tensor([2, 2, 2])):
        got = inputs.pool(num_clusters=number)
        torch.testing.assert_close(got.adj[:, :2, :2], expected.adj)
        torch.testing.assert_close(got.link_norm, expected.link_norm)
        assert not got.s[..., 2:].any()
        assert not got.adj[:, 2:].any()


def test_results_are_the_same_bits_for_all_threads() -> None:
    inputs = Case("threads", b=2, n=700, k=40, density=0.1, directed=True).make(2, f32)
    counts = torch.tensor([7, 33])
    expected = inputs.pool(num_clusters=counts)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        got = inputs.pool(num_clusters=counts)
        assert all(torch.equal(a, b) for a, b in zip(got[:8], expected[:8], strict=True) if a is not None)

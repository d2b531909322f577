"""Graphs with numbers of clusters of their own: programs of other columns end at once, and nothing there matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed")

from triton.runtime.interpreter import InterpreterBuilder

from hierpool import SoftPoolRecord
from hierpool.contract import existing_clusters, ranges_of
from hierpool_kernels.core.adjacency import Dense
from hierpool_kernels.core.launch import watch
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import INTERPRETER, Target
from hierpool_kernels.soft_pool import Options
from hierpool_kernels.soft_pool_fwd import launch_soft_pool_fwd
from tests.support.cases import Case, Inputs
from tests.support.oracle import Gradients, truth
from tests.support.running import FIELDS, assert_fields, assert_gradients, gradients_of, run
from tests.support.sparse import Ragged, RaggedCase

SEED = 5
f32, bf16 = torch.float32, torch.bfloat16
COUNTS = [1, 17, 40, 300, 16]

# Three tiles of columns, of which the last is not whole.
BASE = Case("dense", b=5, n=40, k=70, f=5, directed=True, valid="num_nodes", sizes=(40, 33, 40, 37, 0))
SYMMETRIC = replace(BASE, name="symmetric", directed=False, temperature=0.7)
GIVEN = replace(BASE, name="given", given=True)
ONE_TILE = replace(BASE, name="one-tile", k=20)


@dataclass(frozen=True)
class Hubs(RaggedCase):
    """Two nodes with edges to all others, and one with edges from all: rows longer than a part, of A and of A^T."""

    def make(self, seed: int, *dtypes: Any) -> Ragged:
        padded = self.case.make(seed, *dtypes)
        kept = torch.zeros_like(padded.adj)
        kept[:, :2] = kept[:, :, 5] = 1
        return Ragged.of(padded._replace(adj=padded.adj * kept))


CASES = [
    BASE,
    replace(BASE, name="types-holes", n=25, r=2, valid="holes"),
    SYMMETRIC,
    GIVEN,
    ONE_TILE,
    RaggedCase(BASE),
    RaggedCase(SYMMETRIC, index=torch.int64),
    RaggedCase(replace(GIVEN, weights="ones"), weighted=False),
    RaggedCase(ONE_TILE, index=torch.int64),
    Hubs(replace(BASE, name="hubs", n=90, density=2.0, sizes=(90, 70, 80, 90, 0))),
]
WIDE = replace(BASE, name="wide", k=300, n=10, sizes=(10, 9, 8, 7, 3))


def name_of(value: Any) -> str:
    return getattr(value, "name", str(value))


def counts_of(k: int) -> Tensor:
    return torch.tensor(COUNTS).clamp(max=k)


def exists(inputs: Inputs | Ragged, counts: Tensor) -> Tensor:
    """Whether a column of S is a cluster of the graph, ``[B, 1, K]``, or ``[N, K]`` of a ragged batch."""
    found = existing_clusters(counts, inputs.s.size(-1))
    if isinstance(inputs, Ragged):
        return found[ranges_of(inputs.graph.ptr, inputs.s.size(0))]
    return found[:, None]


def masks_of(inputs: Inputs | Ragged, counts: Tensor, adj: Tensor) -> list[Tensor]:
    """Where fields of the record, up to the vectors, are of clusters."""
    found = existing_clusters(counts, inputs.s.size(-1))
    both = found[:, :, None] & found[:, None]
    return [
        exists(inputs, counts), found[:, :, None], both if adj.dim() == 3 else both[:, None], both, found[:, None],
    ]  # fmt: skip


@contextmanager
def unwritten_is_nan() -> Iterator[None]:
    """Memory that was allocated and not written is NaN inside the context."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def random_upstream(inputs: Inputs | Ragged, counts: Tensor, record: SoftPoolRecord) -> list[Tensor | None]:
    """Gradients of the fields of each graph, NaN where rows or columns are no clusters."""
    draw = torch.Generator().manual_seed(SEED)
    found = [torch.randn(t.shape, generator=draw).to(t.dtype) for t in record[:6]]  # type: ignore[union-attr]
    masks = masks_of(inputs, counts, record.adj)
    return [*(torch.where(m, t, torch.nan) for m, t in zip(masks, found, strict=False)), found[5], None, None]


def graph_alone(inputs: Inputs, b: int, count: int) -> Inputs:
    nodes = {name: getattr(inputs, name) for name in ("x", "adj", "s", "mask", "num_nodes")}
    one = {name: None if t is None else t[b : b + 1] for name, t in nodes.items()}
    return inputs._replace(**one)._replace(s=inputs.s[b : b + 1, :, :count])


def fields_alone(fields: Sequence[Any], b: int, count: int) -> list[Any]:
    """Fields up to the scalars of one graph and its clusters."""
    s, x, adj, gram, vectors, scalars = (t[b : b + 1] for t in fields[:6])
    few = adj[..., :count, :count], gram[..., :count, :count], vectors[..., :count]
    return [s[..., :count], x[:, :count], *few, scalars]


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, f32) for case in (*CASES, WIDE, RaggedCase(WIDE))]
    + [(case, bf16) for case in (BASE, RaggedCase(BASE))],
    ids=name_of,
)
def test_a_graph_is_pooled_as_alone(case: Case | RaggedCase, dtype: torch.dtype) -> None:
    """With NaN in all columns that are no clusters, and in what no kernel has written."""
    inputs: Any = case.make(SEED, dtype)
    counts = counts_of(inputs.s.size(-1))
    leaves = inputs._replace(s=torch.where(exists(inputs, counts), inputs.s, torch.nan)).leaves()
    with unwritten_is_nan():
        record = leaves.pool("triton", num_clusters=counts)
        upstream = random_upstream(inputs, counts, record)
        grads = gradients_of(record, leaves, upstream)
    masks = masks_of(inputs, counts, record.adj)
    for field, mask in zip((*record[:5], grads.s), (*masks, masks[0]), strict=True):
        assert not field[~mask.expand(field.shape)].any()  # type: ignore[index]

    padded, fields, stored = inputs, list(record[:6]), None
    if isinstance(inputs, Ragged):
        padded, fields[0], upstream[0] = inputs.padded, inputs.pad(fields[0]), inputs.pad(upstream[0])
        if inputs.adj is not None:
            stored = inputs.dense(torch.ones_like(inputs.adj))
            grads = grads._replace(adj=inputs.dense(grads.adj))
        grads = grads._replace(x=inputs.pad(grads.x), s=inputs.pad(grads.s))
    for b, count in enumerate(counts.tolist()):
        one = graph_alone(padded, b, count)
        own = fields_alone(fields, b, count)
        exact = truth(one, own[0], [*fields_alone(upstream, b, count), None, None])
        entropy, link = (
            own[5][0, 1],
            own[5][0, -1 if record.adj.dim() == 3 else slice(-record.adj.size(1), None)],
        )
        assert_fields([*own, entropy, link], exact, one, None)
        expected = exact.gradients
        if isinstance(inputs, Ragged):
            expected = expected._replace(adj=expected.adj * (0 if stored is None else stored[b : b + 1]))
            if stored is None:
                grads = grads._replace(adj=torch.zeros_like(padded.adj))
        own_grads = Gradients(grads.x[b : b + 1], grads.adj[b : b + 1], grads.s[b : b + 1, :, :count])
        assert_gradients(own_grads, exact._replace(gradients=expected), one, None)


@pytest.mark.parametrize("case", [*CASES[:2], *CASES[-2:]], ids=name_of)
def test_as_many_clusters_as_columns_change_no_bit(case: Case | RaggedCase) -> None:
    inputs: Any = case.make(SEED, f32)
    record, grads, upstream = run(inputs, "triton")
    counts = torch.full((BASE.b,), inputs.s.size(-1))
    again, grads_again, _ = run(inputs, "triton", upstream, num_clusters=counts)
    for one, other in zip((*record[:FIELDS], *grads), (*again[:FIELDS], *grads_again), strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


def test_numbers_out_of_range_are_taken_as_the_nearest() -> None:
    """Nobody checks num_clusters on a device."""
    inputs, target = BASE.make(SEED, f32), Target(INTERPRETER, "ieee")
    edges, options = Dense.of(inputs.adj[:, None]), Options(True, True, True, False, True)
    outputs = []
    for counts in ([0, -5, BASE.k + 1, 1000, 7], [1, 1, BASE.k, BASE.k, 7]):
        rows = Rows.padded(BASE.b, BASE.n, None, None, torch.tensor(counts))
        outputs.append(
            launch_soft_pool_fwd(inputs.s, inputs.x, edges, rows, None, False, False, options, target)
        )
    for one, other in zip(*(found[:FIELDS] for found in outputs), strict=True):
        assert torch.equal(one, other)


# ---- work -----------------------------------------------------------------------------------------------------------


@contextmanager
def watch_loads() -> Iterator[tuple[Counter[tuple[str, str]], list[np.ndarray[Any, Any]]]]:
    """Of each kernel, the numbers of products of tiles, of elements and of NaNs that are read inside the context;
    addresses of the elements."""
    found: Counter[tuple[str, str]] = Counter()
    addresses: list[np.ndarray[Any, Any]] = []
    load, dot = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_dot

    def watched_load(self: Any, ptrs: Any, mask: Any, *more: Any) -> Any:
        read = ptrs.data[np.broadcast_to(mask.data.astype(bool), ptrs.data.shape)]
        found[launched[-1].name, "elements"] += read.size
        addresses.append(read)
        values = load(self, ptrs, mask, *more)
        found[launched[-1].name, "NaNs"] += int(np.count_nonzero(values.data != values.data))
        return values

    def watched_dot(self: Any, *operands: Any) -> Any:
        found[launched[-1].name, "products"] += 1
        return dot(self, *operands)

    with watch() as launched, pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_masked_load", watched_load)
        patch.setattr(InterpreterBuilder, "create_dot", watched_dot)
        yield found, addresses


@pytest.mark.parametrize("case", [BASE, GIVEN, CASES[-1]], ids=name_of)
def test_work_is_proportional_to_the_clusters(case: Case | RaggedCase) -> None:
    """Of every kernel, forward and backward, with the clusters of one tile of columns out of five. Some also read what
    has no columns, such as A for its row sums."""
    wide = (
        replace(case, case=replace(case.case, k=160))
        if isinstance(case, RaggedCase)
        else replace(case, k=160)
    )
    inputs: Any = wide.make(SEED, f32)
    works = []
    for counts in (None, torch.full((BASE.b,), 20)):
        with watch_loads() as (found, _):
            run(inputs, "triton", num_clusters=counts)
        works.append(found)
    whole, few = works
    assert whole.keys() == few.keys()
    for kernel, what in whole.keys() - {("_soft_pool_scalars_fwd_kernel", "elements")}:
        factor = 5 if what == "products" else 2
        assert factor * few[kernel, what] <= whole[kernel, what], (kernel, what)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_is_read_was_written(case: Case | RaggedCase) -> None:
    inputs: Any = case.make(SEED, f32)
    with unwritten_is_nan(), watch_loads() as (found, _):
        run(inputs, "triton", num_clusters=counts_of(inputs.s.size(-1)))
    assert not [kernel for (kernel, what), count in found.items() if what == "NaNs" and count]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_no_logit_beyond_the_clusters_is_read(case: Case | RaggedCase) -> None:
    """But for those of a vector of 16."""
    inputs: Any = case.make(SEED, f32)
    counts = counts_of(inputs.s.size(-1))
    with watch_loads() as (_, addresses):
        run(inputs, "triton", num_clusters=counts)
    read = np.unique(np.concatenate([a.reshape(-1) for a in addresses]).astype(np.int64))
    needed, allowed = (exists(inputs, c).expand(inputs.s.shape) for c in (counts, (counts + 15) // 16 * 16))
    offsets = (read - inputs.s.data_ptr()) // inputs.s.element_size()
    offsets = torch.from_numpy(offsets[(offsets >= 0) & (offsets < inputs.s.numel())])
    assert allowed.flatten()[offsets].all()
    assert len(offsets) >= needed[inputs.valid].sum()

"""Example calls of every operator, for the tests of what all operators have in common.

A new operator needs a function of its name here. It returns the fields of the call of a batch, and the options other
than ``backend``; or ``None`` for a batch that the operator does not take.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import accumulate
from pkgutil import iter_modules
from typing import Any, get_type_hints

import torch
from torch import Tensor

from hierpool import ops
from hierpool.contract import (
    Csr,
    Loops,
    Padded,
    Ragged,
    Reduce,
    existing_clusters,
    ranges_of,
)
from hierpool.ops._operator import OPERATORS, Operator
from hierpool.ops.cut_terms import Kind
from hierpool.ops.edge_pool import scores_of as scores_of_entries
from hierpool.reference.scored_pool import scores_of
from tests.support.batches import PADDED, RAGGED, Batch, draw
from tests.support.cases import Case
from tests.support.sparse import RaggedCase

Fields = tuple[dict[str, Any], dict[str, Any]]
Leaves = dict[str, Tensor]


def soft_pool(batch: Batch) -> Fields:
    fields = {"logits": batch["s"], "x": batch["x"], "adj": batch.edges, "rows": batch.rows}
    known = batch.symmetric if batch.is_ragged else batch.symmetric or None
    options = {"given": False, "symmetric": known, "gram": True, "link": True, "entropy": True}
    return (
        fields | {"temperature": batch["temperature"], "num_clusters": batch.num_clusters},
        options | {"mean": batch.symmetric, "save": True},
    )


def spmm(batch: Batch) -> Fields | None:
    if not isinstance(batch.adj, Csr):
        return None
    return {"x": batch["x"], "adj": batch.edges}, {"transpose": batch.adj.rowptr.dtype is torch.int64}


def spmm_max(batch: Batch) -> Fields | None:
    if not isinstance(batch.adj, Csr):
        return None
    return {"x": batch["x"], "adj": batch.edges}, {"smallest": batch.adj.rowptr.dtype is torch.int64}


def scored_pool(batch: Batch) -> Fields | None:
    """Five clusters, and nodes without a cluster."""
    if not isinstance(batch.adj, Csr):
        return None
    x, col = batch["x"], batch.adj.col
    n, wide = x.size(0), col.dtype is torch.int64
    cluster = torch.arange(n, dtype=col.dtype, device=col.device) % 6 - 1
    options = {"activation": "tanh" if wide else "sigmoid", "is_unit": wide, "multiplier": 2.0 - wide}
    weight, bias = batch["direction"], None if wide else batch["offset"]
    known = [None if t is None else t.detach() for t in (x, weight, bias)]
    scores = scores_of(*known, options["activation"], options["is_unit"])  # type: ignore[arg-type]
    rows = [range(k + 1, n, 6) for k in range(5)]
    first, node = accumulate(map(len, rows), initial=0), [i for of in rows for i in of]
    structure = {
        "cluster": cluster,
        "first": torch.tensor(list(first), dtype=col.dtype, device=col.device),
        "node": torch.tensor(node, dtype=col.dtype, device=col.device),
    }
    return {"x": x, "weight": weight, "bias": bias, "score": scores} | structure, options


def edge_pool(batch: Batch) -> Fields | None:
    """Of six nodes two pairs, one that is paired with itself, and one alone; not all are joined."""
    if not isinstance(batch.adj, Csr):
        return None
    x, rowptr, col = batch["x"], batch.adj.rowptr, batch.adj.col
    n, wide = x.size(0), col.dtype is torch.int64
    mate = [(i + 1, i - 1, i + 1, i - 1, i, -1)[i % 6] for i in range(n)]
    mate = [j if j < n else -1 for j in mate]
    members = [[i, j] if j > i else [i] for i, j in enumerate(mate) if not 0 <= j < i]
    first, node = accumulate(map(len, members), initial=0), [i for of in members for i in of]
    options = {"activation": "softmax" if batch.symmetric else "tanh" if wide else "sigmoid", "shift": 0.25}
    weight, bias = batch["direction"].repeat(2), batch["offset"]
    known = scores_of_entries(x.detach(), weight.detach(), bias.detach(), rowptr, col, options["activation"])
    structure = {"rowptr": rowptr, "col": col} | {
        name: torch.tensor(list(numbers), dtype=col.dtype, device=col.device)
        for name, numbers in (("mate", mate), ("first", first), ("node", node))
    }
    return {"x": x, "weight": weight, "bias": bias, "known": known} | structure, options


def coalesce(batch: Batch) -> Fields | None:
    """Five clusters, every pair of which has an entry, and nodes without a cluster; with int64, two values an entry."""
    if not isinstance(batch.adj, Csr) or batch.symmetric or batch.get("value") is None:
        return None
    rowptr, col = batch.adj.rowptr, batch.adj.col
    n, wide = rowptr.numel() - 1, col.dtype is torch.int64

    def numbers(*of: int) -> Tensor:
        return torch.arange(*of, dtype=col.dtype, device=col.device)

    cluster = numbers(n) % 6 - 1
    members = [numbers(k + 1, max(n, k + 1), 6) for k in range(5)]
    first, second = cluster[ranges_of(rowptr, col.numel())], cluster[col]
    slot = torch.where((first < 0) | (second < 0), -1, 5 * first + second).to(col.dtype)
    if wide:  # self-loops apart
        slot = torch.where((slot >= 0) & (first == second), 25 + first, slot)
    sizes = accumulate((one.numel() for one in members), initial=0)
    structure = {
        "first": torch.tensor(list(sizes), dtype=col.dtype, device=col.device), "node": torch.cat(members),
        "merged_rowptr": 5 * numbers(6), "merged_col": numbers(25) % 5,
    }  # fmt: skip
    options = {"reduce": int(Reduce.MAX if wide else Reduce.MEAN), "loops": wide, "symmetric": False}
    value = torch.stack([batch["value"], batch["value"].square()], 1) if wide else batch["value"]
    return {"value": value, "slot": slot, "rowptr": rowptr} | structure, options


def triple_product(batch: Batch) -> Fields | None:
    """Five clusters, every pair of which has an entry; each node but the first has two of them."""
    if not isinstance(batch.adj, Csr):
        return None
    col = batch.adj.col
    n, wide = batch.adj.rowptr.numel() - 1, col.dtype is torch.int64
    pairs = [(i, k) for i in range(1, n) for k in sorted((i % 5, (i + 2) % 5))]
    by_cluster = sorted(range(len(pairs)), key=lambda p: (pairs[p][1], p))

    def numbers(of: Iterable[int]) -> Tensor:
        return torch.tensor(list(of), dtype=col.dtype, device=col.device)

    def pointers(of: Iterable[int], count: int) -> Tensor:
        sizes = Counter(of)
        return numbers(accumulate((sizes[i] for i in range(count)), initial=0))

    structure = {
        "s_rowptr": pointers((i for i, _ in pairs), n), "cluster": numbers(k for _, k in pairs),
        "first": pointers((k for _, k in pairs), 5), "node": numbers(pairs[p][0] for p in by_cluster),
        "entry": numbers(by_cluster),
        "product_rowptr": (5 - wide) * numbers(range(6)),
        "product_col": numbers(p % 5 for p in range(25) if p % 6 or not wide),  # with self-loops apart
    }  # fmt: skip
    weight = batch["x"][1:, :2].flatten()
    options = {"loops": int(Loops.SEPARATE if wide else Loops.KEEP), "symmetric": batch.symmetric}
    return {"weight": weight, "adj": batch.edges} | structure, options


def link_bce(batch: Batch) -> Fields | None:
    if batch.has_types:
        return None
    fields = {"s": batch["assigned"], "adj": batch.edges, "rows": batch.rows}
    eps = torch.tensor(0.01, dtype=torch.float64)
    return fields | {"eps": eps}, {"normalize": "valid", "symmetric": batch.symmetric}


def total_variation(batch: Batch) -> Fields | None:
    if batch.has_types:
        return None
    return {"s": batch["s"], "adj": batch.edges, "rows": batch.rows}, {}


def asymmetric_norm(batch: Batch) -> Fields:
    return {"s": batch["s"], "rows": batch.rows, "num_clusters": batch.num_clusters}, {}


def edge_distances(batch: Batch) -> Fields | None:
    if not batch.is_ragged:
        return None
    return {"x": batch["x"], "adj": batch.adj, "source": batch.entry}, {}


def cut_pool(batch: Batch) -> Fields | None:
    if batch.has_types:
        return None
    by_maps = batch.symmetric or not batch.is_ragged
    maps = tuple(batch[name] for name in ("w1", "b1", "w2", "b2")) if by_maps else ()
    rows = batch.rows if batch.is_ragged else Padded(batch.mask)
    fields = {"logits": None if by_maps else batch["s"], "x": batch["x"], "adj": batch.edges, "rows": rows}
    known = batch.symmetric if batch.is_ragged else batch.symmetric or None
    fields["num_clusters"] = batch.num_clusters
    options = {"kind": Kind.DMON if by_maps else Kind.MINCUT, "selu": by_maps, "sizes": True}
    return (
        fields | {"temperature": None if by_maps else batch["temperature"], "maps": maps},
        options | {"symmetric": known, "save": True},
    )


def cut_terms(batch: Batch) -> Fields:
    kind = Kind.MINCUT if batch.is_ragged else Kind.DMON_CROSSED if batch.symmetric else Kind.DMON
    scalars = batch["scalars"]
    nodes = torch.full_like(scalars[:, :1], 4)  # has no gradient
    fields = {"adj": batch["pooled"], "gram": batch["gram"], "vectors": batch["vectors"]}
    if (counts := batch.num_clusters) is not None:  # soft pooling writes 0 beyond them
        exists = existing_clusters(counts, fields["adj"].size(-1))
        both = exists[:, None] & exists[..., None]
        masks = {"adj": both, "gram": both, "vectors": exists[:, None]}
        fields = {name: torch.where(masks[name], t, 0) for name, t in fields.items()}
    fields |= {"scalars": torch.cat([nodes, scalars], 1), "num_clusters": counts}
    return fields, {"kind": kind}


def linear_maps(batch: Batch) -> Fields:
    return {
        "x": batch["x"],
        "mask": batch.mask,
        "maps": tuple(batch[name] for name in ("w1", "b1", "w2", "b2")),
    }, {}


def sage_stack(batch: Batch) -> Fields | None:
    """Two layers and a norm between them; of a dense batch, the first multiplies with its weight first."""
    if batch.has_types:
        return None
    norm = batch["gain"].new_full((1, 2, 7), 1.5)
    names = ("relation", "root", "bias", "gain", "bias", "second", "second", "vector")
    return (
        {"x": batch["x"], "adj": batch.edges, "mask": batch.mask, "running": norm}
        | {"layers": tuple(batch[name] for name in names)},
        {"root": True, "bias": True, "mean": True, "aggregate_first": batch.is_ragged, "normalize": True}
        | {"training": not batch.symmetric, "momentum": 0.1, "eps": 1e-3},
    )


def segment_max(batch: Batch) -> Fields | None:
    x, rows = batch["x"], batch.rows
    if isinstance(rows, Ragged):
        groups = min(x.size(0), 3)
        return {"x": x, "group": torch.arange(x.size(0), device=x.device) % 3, "mask": None}, {
            "groups": groups
        }
    return {"x": x, "group": None, "mask": batch.mask}, {"groups": x.size(0)}


@cache
def operators() -> dict[str, Operator]:
    """All operators: those of every module of :mod:`hierpool.ops`."""
    for module in iter_modules(ops.__path__):
        import_module(f"{ops.__name__}.{module.name}")
    return dict(sorted(OPERATORS.items()))


def maker(name: str) -> Callable[[Batch], Fields | None]:
    """The function that makes the example calls of an operator."""
    found = getattr(sys.modules[__name__], name, None)
    assert found is not None, (
        f"operator {name!r} has no example calls: add a function {name}(batch) to tests/support/calls.py,"
        " which returns the fields of its Call and of its Options for a batch"
    )
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Example:
    """How to make a call of an operator."""

    name: str
    case: Case | RaggedCase

    def __str__(self) -> str:
        return f"{self.name}-{self.case.name}"

    @property
    def operator(self) -> Operator:
        return operators()[self.name]

    def draw(self, dtype: torch.dtype = torch.float64, **changes: Any) -> Batch:
        return draw(self.case, dtype, **changes)

    def call(self, batch: Batch, backend: str = "auto") -> Any:
        """The arguments of the operator."""
        fields, options = maker(self.name)(batch)  # type: ignore[misc]
        kind = self.operator.Call
        return kind(**fields, options=get_type_hints(kind)["options"](**options, backend=backend))

    def leaves(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors of the batch that may need a gradient."""
        asked = batch._replace(used=set())
        self.call(asked)
        return {name: t for name, t in batch.tensors.items() if name in asked.used}

    def run(self, batch: Batch, leaves: dict[str, Tensor], backend: str) -> tuple[Tensor, ...]:
        """The results, with ``leaves`` in place of tensors of the batch."""
        call = self.call(batch._replace(tensors=batch.tensors | leaves), backend)
        return tuple(out for out in self.operator(call) if out is not None)


def leaves_of(example: Example, batch: Batch) -> Leaves:
    """The leaves of the call, needing gradients."""
    return {name: t.detach().requires_grad_() for name, t in example.leaves(batch).items()}


def weights_of(results: Sequence[Tensor], seed: int = 2) -> list[Tensor]:
    """A random gradient for each result."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=random, dtype=torch.float64).to(t.dtype) for t in results]


def gradients(results: Sequence[Tensor], leaves: Leaves, weights: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the results weighted by ``weights``; zeros where a leaf has none."""
    wanted = [(t, w) for t, w in zip(results, weights, strict=True) if w is not None and t.requires_grad]
    if not wanted:
        return [torch.zeros_like(t) for t in leaves.values()]
    results, weights = zip(*wanted, strict=True)
    found = torch.autograd.grad(results, list(leaves.values()), weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves.values(), strict=True)]


def evaluate(example: Example, batch: Batch, backend: str) -> list[Tensor]:
    """Results and gradients."""
    leaves = leaves_of(example, batch)
    results = example.run(batch, leaves, backend)
    return [*(t.detach() for t in results), *gradients(results, leaves, weights_of(results))]


def flat(fields: Any) -> list[Any]:
    """The fields with their tuples spread out."""
    return [one for field in fields for one in (field if isinstance(field, tuple) else (field,))]


def examples(*names: str) -> list[Example]:
    """The example calls of all operators, or of cases with these names."""
    found = []
    for name in operators():
        make = getattr(sys.modules[__name__], name, None)
        for case in (*PADDED, *RAGGED):
            plain = getattr(case, "case", case).name
            if not make or (names and plain not in names):
                continue
            batch = draw(case, torch.float64)
            takes = make(batch) is not None and (batch.counts is None or "num_clusters" in batch.used)
            if takes:
                found.append(Example(name, case))
    return found

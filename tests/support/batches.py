"""Batches in each form that operators take, for the tests of what all operators have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import reference
from hierpool.contract import Csr, Dense, Padded, Ragged, existing_columns
from tests.support.cases import Case
from tests.support.sparse import RaggedCase

_BASE = Case("dense", b=3, n=7, directed=True)
_SOME = replace(_BASE, valid="num_nodes", sizes=(7, 0, 4))
_SYMMETRIC = replace(_SOME, directed=False, weights="ones", density=0.7)
PADDED = (
    _BASE,
    replace(_BASE, name="mask", valid="holes"),
    replace(_SOME, name="num_nodes"),
    replace(_BASE, name="strided", layout="strided", valid="mask"),
    replace(_BASE, name="types", r=2, valid="mask"),
    replace(_BASE, name="no-graphs", b=0),
    replace(_BASE, name="no-nodes", n=0),
    replace(_BASE, name="one-cluster", k=1, valid="mask"),
    replace(_BASE, name="symmetric", directed=False),
    replace(_BASE, name="counts", valid="holes"),
    replace(_SOME, name="counts-symmetric", r=2, directed=False),
)
RAGGED = (
    RaggedCase(replace(_SOME, name="ragged")),
    RaggedCase(replace(_SOME, name="strided", layout="strided")),
    RaggedCase(replace(_SOME, name="ones", weights="ones"), weighted=False),
    RaggedCase(replace(_SYMMETRIC, name="symmetric"), weighted=False),
    RaggedCase(replace(_BASE, name="no-nodes", n=0)),
    RaggedCase(replace(_SOME, name="one-cluster", k=1), index=torch.int64),
    RaggedCase(replace(_SOME, name="counts")),
    RaggedCase(replace(_SYMMETRIC, name="counts-symmetric"), weighted=False),
)


class Batch(NamedTuple):
    """A batch, and the tensors among which the arguments of operators are."""

    tensors: dict[str, Tensor]
    adj: Dense | Csr  # a Csr without values, with its transpose
    entry: Tensor | None  # of each entry of the transpose of a Csr
    rows: Padded | Ragged
    symmetric: bool
    counts: Tensor | None  # number of clusters of each graph
    used: set[str]  # names of tensors that were asked for

    def get(self, name: str) -> Tensor | None:
        """The tensor of this name; the value of a graph without weights is ``None``."""
        self.used.add(name)
        return self.tensors.get(name)

    def __getitem__(self, name: Any) -> Tensor:  # type: ignore[override]
        found = self.get(name)
        assert found is not None
        return found

    @property
    def num_clusters(self) -> Tensor | None:
        self.used.add("num_clusters")
        return self.counts

    @property
    def is_ragged(self) -> bool:
        return isinstance(self.adj, Csr)

    @property
    def has_types(self) -> bool:
        return isinstance(self.adj, Dense) and self.adj.value.dim() == 4

    def double(self) -> Batch:
        """The same values in float64, contiguous."""
        return self._replace(tensors={name: t.double().contiguous() for name, t in self.tensors.items()})

    def to(self, device: str) -> Batch:
        """The batch on a device."""

        def move(t: Any) -> Any:
            return None if t is None else t.to(device)

        adj, rows = (type(one)(*map(move, one)) for one in (self.adj, self.rows))
        tensors = {name: move(t) for name, t in self.tensors.items()}
        return self._replace(
            tensors=tensors, adj=adj, rows=rows, entry=move(self.entry), counts=move(self.counts)
        )

    def padded_with(self, value: float) -> Batch:
        """The padded batch with ``value`` in rows and columns of nodes that are not valid."""
        assert isinstance(self.rows, Padded)
        valid = self.mask
        assert valid is not None
        both = valid[:, None] & valid[..., None]
        masks = dict.fromkeys(("x", "s", "assigned"), valid[..., None])
        masks["value"] = both[:, None] if self.has_types else both
        filled = {name: torch.where(mask, self.tensors[name], value) for name, mask in masks.items()}
        return self._replace(tensors=self.tensors | filled)

    @property
    def edges(self) -> Dense | Csr:
        """The adjacency with its values, and with its transpose if it is not symmetric."""
        value = self.get("value")
        if isinstance(self.adj, Dense):
            assert value is not None
            return Dense(value)
        if self.symmetric:
            return Csr(value, *self.adj[1:3])
        turned = None if value is None else value.detach()[self.entry]
        return self.adj._replace(value=value, value_t=turned)

    @property
    def mask(self) -> Tensor | None:
        """Valid nodes of a padded batch."""
        return reference.valid_rows(self.tensors["s"], *self.rows) if isinstance(self.rows, Padded) else None


def draw(case: Case | RaggedCase, dtype: torch.dtype, seed: int = 1, **changes: Any) -> Batch:
    """A batch; ``changes`` are those of a case."""
    padded = case.case if isinstance(case, RaggedCase) else case
    if padded.sizes and "n" in changes:
        b, n = changes.get("b", padded.b), changes["n"]
        changes["sizes"] = (n, 0, *range(n // 2, n))[:b]
    padded = replace(padded, **changes)
    if isinstance(case, RaggedCase):
        inputs: Any = replace(case, case=padded).make(seed, dtype)
        graph, lay = inputs.graph, padded.lay
        entry = graph.reversed_entries()
        adj: Dense | Csr = Csr(None, graph.rowptr, graph.col, *entry[:2])
        rows: Padded | Ragged = Ragged(graph.ptr)
        symmetric, nodes = graph.is_symmetric, inputs.s.shape[:1]
        x, s, entry_of = lay(inputs.x), lay(inputs.s), entry[2]
    else:
        inputs, lay = padded.make(seed, dtype), padded.lay
        adj, rows = Dense(inputs.adj), Padded(inputs.mask, inputs.num_nodes)
        symmetric, nodes = not padded.directed, inputs.s.shape[:2]
        x, s, entry_of = inputs.x, inputs.s, None
    (b, k), f = (len(rows.ptr) - 1 if isinstance(rows, Ragged) else s.size(0), s.size(-1)), x.size(-1)
    random = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "h": (*nodes, f), "w1": (6, f), "b1": (6,), "w2": (k, 6), "b2": (k,), "relation": (7, f), "root": (7, f),
        "bias": (7,), "gram": (b, k, k), "vectors": (b, 2, k), "scalars": (b, 5), "pooled": (b, k, k),
        "gain": (7,), "second": (11, 7), "vector": (11,), "direction": (f,), "offset": (1,),
    }  # fmt: skip
    tensors = {
        name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()
    }
    for name in ("gram", "vectors", "scalars", "pooled"):
        tensors[name] = tensors[name].abs() + 0.1
    for name in ("w1", "w2"):  # clusters that overlap
        tensors[name] /= 3
    tensors = {name: lay(t.to(dtype)) for name, t in tensors.items()}
    given = {
        "x": x,
        "s": s,
        "assigned": lay(s.softmax(-1)),
        "temperature": torch.tensor(0.7, dtype=dtype),
        "value": inputs.adj,
    }
    tensors |= {name: t for name, t in given.items() if t is not None}
    counts = None
    if padded.name.startswith("counts"):
        counts = torch.arange(b - 1, -1, -1).remainder(k) + 1
        tensors["s"] = torch.where(existing_columns(counts, s, rows), tensors["s"], torch.nan)
    return Batch(tensors, adj, entry_of, rows, symmetric, counts, set())

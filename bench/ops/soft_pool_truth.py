"""The truth for one large graph in float64, a part of the nodes at a time, so that it fits beside the inputs.

Values and gradients by the formulas of soft pooling, with S = softmax(L), M = A S of a symmetric A of ones, and
D = S^T S; with ``c`` the upstream gradient of the link loss over ``2 |A - S S^T| N^2`` and ``e`` that of the entropy
over N:

    x = S^T X    adj = S^T M    link = sqrt(E - 2 tr(adj) + |D|^2) / N^2    entropy = -sum S log S / N
    dS = X dx^T + M (dadj + dadj^T) + 4 c (S D - M) - e (1 + log S)
    dL = S (dS - rowsum(S dS))    dX = S dx
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.harness.precision import Tolerance
from bench.harness.truth import Pool, Verdict
from bench.ops.batches import SparseBatch

PART_BYTES = 1 << 29  # of the rows of S that the entries of a part gather


class Parts:
    """Nodes ``first`` to ``last`` with their rows of X, S and M, one part after the other."""

    def __init__(self, batch: SparseBatch, part_bytes: int = PART_BYTES) -> None:
        if len(batch.sizes) != 1 or not batch.symmetric:
            raise ValueError("the truth in parts is for one graph whose adjacency is symmetric")
        self.batch = batch
        row, self.col = batch.edge_index
        nodes = torch.arange(batch.x.size(0) + 1, device=row.device)
        self.rowptr = torch.searchsorted(row, nodes)
        entries = max(1, batch.entries // batch.x.size(0))
        self.rows = max(1, part_bytes // (8 * entries * batch.clusters))

    def logits(self, nodes: Tensor | slice) -> Tensor:
        """Rows of L in float64."""
        batch = self.batch
        if batch.given is not None:
            return batch.given.detach()[nodes].double()
        assert batch.weight is not None
        weight, bias = (t.detach().double() for t in (batch.weight, batch.bias))  # type: ignore[union-attr]
        return F.linear(batch.x.detach()[nodes].double(), weight, bias)

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        n = self.batch.x.size(0)
        for first in range(0, n, self.rows):
            part = slice(first, min(first + self.rows, n))
            begin, end = int(self.rowptr[part.start]), int(self.rowptr[part.stop])
            neighbours = self.logits(self.col[begin:end]).softmax(-1)
            counts = self.rowptr[part.start : part.stop + 1].diff()
            own = torch.repeat_interleave(counts, output_size=end - begin)
            s = self.logits(part).softmax(-1)
            yield (
                part,
                self.batch.x.detach()[part].double(),
                s,
                torch.zeros_like(s).index_add(0, own, neighbours),
            )


@dataclass
class Worst:
    """The largest error of a tensor that is seen in parts, and the largest element of the truth."""

    error: float = 0.0
    scale: float = 0.0

    def see(self, got: Tensor, truth: Tensor) -> None:
        difference = float((got.double() - truth).abs().max())
        if math.isnan(difference) or difference > self.error:  # and NaN stays
            self.error = difference
        self.scale = max(self.scale, float(truth.abs().max()))


def values(parts: Parts) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The four outputs, without the dimension of graphs, and D."""
    batch, k = parts.batch, parts.batch.clusters
    zeros = batch.x.new_zeros
    x, adj, gram, entropy = (
        zeros(shape, dtype=torch.float64) for shape in ((k, batch.x.size(1)), (k, k), (k, k), ())
    )
    for _, features, s, m in parts:
        x += s.T @ features
        adj += s.T @ m
        gram += s.T @ s
        entropy += torch.special.entr(s).sum()
    squared = batch.entries - 2 * adj.trace() + gram.square().sum()
    n = batch.x.size(0)
    return (x, adj, squared.sqrt() / n**2, entropy / n), gram


def gradients(parts: Parts, link: Tensor, gram: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Of all outputs together: a part, and its rows of dX without what comes through the logits, and of dL."""
    n = parts.batch.x.size(0)
    dx, dadj, dlink, dentropy = (g.double() for g in parts.batch.grads)
    c, e = dlink / (2 * link * n**4), dentropy / n
    both = dadj[0] + dadj[0].T
    for part, features, s, m in parts:
        ds = features @ dx[0].T + m @ both + 4 * c * (s @ gram - m)
        ds -= e * torch.where(s > 0, 1 + s.clamp(min=torch.finfo(s.dtype).tiny).log(), 0)
        yield part, s @ dx[0], s * (ds - (s * ds).sum(-1, keepdim=True))


def compare(parts: Parts, got: tuple[Tensor, ...], link: Tensor, gram: Tensor) -> dict[str, Worst]:
    """How far gradients ``got`` of the leaves are from the truth, by leaf."""
    batch = parts.batch
    worst = {name: Worst() for name in batch.leaf_names}
    if batch.weight is None:
        for part, dx, dlogits in gradients(parts, link, gram):
            worst["x"].see(got[0][part], dx)
            worst["logits"].see(got[1][part], dlogits)
        return worst
    weight = batch.weight.detach().double()
    dweight, dbias = torch.zeros_like(weight), weight.new_zeros(weight.size(0))
    for part, dx, dlogits in gradients(parts, link, gram):
        worst["x"].see(got[0][part], dx + dlogits @ weight)
        dweight += dlogits.T @ batch.x.detach()[part].double()
        dbias += dlogits.sum(0)
    worst["weight"].see(got[1], dweight)
    worst["bias"].see(got[2], dbias)
    return worst


def verify(pool: Pool, batch: SparseBatch, allow: Tolerance, part_bytes: int = PART_BYTES) -> Verdict:
    """Compare the values of ``pool`` and its combined gradients with the truth."""
    verdict, parts = Verdict(), Parts(batch, part_bytes)
    outputs = pool(batch)
    got = torch.autograd.grad(outputs, batch.leaves, batch.grads)
    expected, gram = values(parts)
    for name, value, true in zip(batch.output_names, outputs, expected, strict=True):
        true = true[None] if name in ("x", "adj") else true
        verdict.judge(name, value.detach(), true, allow.values * float(true.abs().max()))
    for name, found in compare(parts, got, expected[2], gram).items():
        verdict.record(f"d{name} from all", found.error, found.scale, allow.gradients * found.scale)
    return verdict

"""The same batch of graphs in both forms: padded with dense adjacency, and ragged with a sparse one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool import RaggedGraph


class BothForms(NamedTuple):
    """One batch; ``x[mask]`` are the nodes of ``graph``."""

    x: Tensor  # [B, N, F] float64
    adj: Tensor  # [B, N, N] float64
    mask: Tensor  # [B, N] bool
    graph: RaggedGraph

    @property
    def nodes(self) -> Tensor:
        """Features of the ragged batch, ``[nodes, F]``."""
        return self.x[self.mask]


def both_forms(
    sizes: Sequence[int], features: int = 4, *, directed: bool = False, weighted: bool = False, seed: int = 0
) -> BothForms:
    """Random graphs of these sizes, with a self-loop and, in graphs of three nodes or more, an isolated node."""
    generator = torch.Generator().manual_seed(seed)
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    x = torch.randn(b, n, features, generator=generator, dtype=torch.float64) * mask[..., None]
    adj = (torch.rand(b, n, n, generator=generator) < 0.4).double()
    if weighted:
        adj *= 0.1 + torch.rand(b, n, n, generator=generator, dtype=torch.float64)
    if not directed:
        adj = adj.triu() + adj.triu(1).mT
    for i, size in enumerate(sizes):
        adj[i, :, size:] = adj[i, size:] = 0
        if size >= 3:
            adj[i, 1] = adj[i, :, 1] = 0
            adj[i, 0, 0] = 1
    return BothForms(x, adj, mask, RaggedGraph.from_dense(adj if weighted else adj.bool(), mask))

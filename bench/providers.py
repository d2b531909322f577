"""The implementations that are timed, behind one signature.

A pool takes a `Batch`, or a `SparseBatch` (`sparse_providers`), and returns pooled x, pooled adj, link loss and
entropy loss with the values of PyG's ``dense_diff_pool(..., normalize=True)``. Packages are imported when a provider is
loaded, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bench.kinds import Workload
from bench.workloads import Batch

Outputs: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
Pool: TypeAlias = Callable[[Any], Outputs]  # of a Batch or a SparseBatch


class ProviderUnavailable(RuntimeError):
    """The provider cannot run here; the message is the reason that the report prints."""


@dataclass(frozen=True)
class Provider:
    """One implementation.

    ``counted`` says what the figure includes; ``kinds`` of workloads it runs on. ``fp32_norm`` marks a link loss taken
    as one float32 norm of B N N entries, whose drift `bench.verify` allows for. ``symmetry`` limits the provider to
    workloads whose adjacency is symmetric (True) or is not (False).
    """

    name: str
    title: str
    counted: str
    load: Callable[[], Pool]
    fp32_norm: bool = False
    symmetry: bool | None = None
    kinds: tuple[str, ...] = ("dense",)

    def applies(self, workload: Workload) -> bool:
        return workload.kind in self.kinds and self.symmetry in (None, workload.symmetric)


def load_pyg() -> Pool:
    """PyG's eager function."""
    try:
        from torch_geometric.nn import dense_diff_pool
    except ImportError as error:
        raise ProviderUnavailable(f"{error}: pip install 'hierpool[bench]'") from error
    return lambda batch: dense_diff_pool(batch.x, batch.adj, batch.logits, batch.mask)


def load_pyg_compiled() -> Pool:
    """PyG's function under torch.compile with static shapes; compilation happens on the first, untimed call."""
    load_pyg()
    from torch_geometric.nn import dense_diff_pool

    torch._dynamo.reset()  # each workload gets its own static graph
    compiled = torch.compile(dense_diff_pool, fullgraph=True, dynamic=False)
    return lambda batch: compiled(batch.x, batch.adj, batch.logits, batch.mask)


def load_tgp() -> Pool:
    """tgp's dense DiffPool built from its own parts, with S from the given logits in place of its MLP.

    Reducer, connector (post-processing off) and both losses are tgp's. The entropy is divided by the padded node count,
    as PyG does, with one scalar product.
    """
    try:
        from tgp.connect import DenseConnect
        from tgp.reduce import BaseReduce
        from tgp.select import SelectOutput
        from tgp.utils.losses import entropy_loss, link_pred_loss
    except ImportError as error:
        raise ProviderUnavailable(
            f"{error}: tgp needs torch-geometric-pool, torch-scatter (a source build), scikit-learn and scipy"
        ) from error
    reduce = BaseReduce()
    connect = DenseConnect(remove_self_loops=False, degree_norm=False, adj_transpose=False)

    def pool(batch: Batch) -> Outputs:
        s = torch.softmax(batch.logits, dim=-1)
        rows = s.shape[0] * s.shape[1]
        num_nodes = rows
        if batch.mask is not None:
            s = s * batch.mask.unsqueeze(-1)
            num_nodes = int(batch.mask.sum())
        selected = SelectOutput(s=s, in_mask=batch.mask)
        x, _ = reduce(x=batch.x, so=selected)
        adj, _ = connect(edge_index=batch.adj, so=selected)
        link = link_pred_loss(s, batch.adj, normalize_loss=True)
        return x, adj, link, entropy_loss(s, num_nodes) * (num_nodes / rows)

    return pool


def load_hierpool(symmetric: bool | None, backend: str) -> Callable[[], Pool]:
    """Our drop-in function with the given ``symmetric`` and ``backend`` (never a silent fallback)."""

    def load() -> Pool:
        try:
            import hierpool
        except ImportError as error:
            raise ProviderUnavailable(f"{error}: pip install -e .") from error
        probe = torch.zeros(1, 1, 1)
        try:
            hierpool.dense_diff_pool(probe, probe, probe, symmetric=symmetric, backend=backend)
        except RuntimeError as error:
            raise ProviderUnavailable(str(error)) from error
        return lambda batch: hierpool.dense_diff_pool(
            batch.x, batch.adj, batch.logits, batch.mask, symmetric=symmetric, backend=backend
        )

    return load

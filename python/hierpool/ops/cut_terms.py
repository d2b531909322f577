"""The last step of MinCut and DMoN pooling: losses, and the adjacency of the next layer."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from torch import Tensor

from hierpool import losses
from hierpool.connect import postprocess_adj
from hierpool.losses._tensors import cluster_count, reciprocal
from hierpool.ops._operator import Operator
from hierpool.record import SoftPoolRecord


class Kind(IntEnum):
    """Which losses to compute. The numbers are those of the C++ kernels."""

    MINCUT = 0  # normalised cut, orthogonality
    DMON = 1  # spectral, orthogonality, cluster
    DMON_CROSSED = 2  # with the cluster sizes of every graph divided by the size of every graph


class Options(NamedTuple):
    """Arguments that are not tensors."""

    kind: Kind
    backend: str


class Call(NamedTuple):
    """Fields of the record of soft pooling, in its accumulation dtype."""

    adj: Tensor  # [B, K, K]
    gram: Tensor  # [B, K, K]
    vectors: Tensor  # [B, 2, K]
    scalars: Tensor  # [B, 6]
    num_clusters: Tensor | None  # int64 [B]; None: K
    options: Options


class Out(NamedTuple):
    """The results, and tensors that the backward needs."""

    pooled: Tensor  # [B, K, K]: A' without its diagonal, normalised by degrees
    first: Tensor  # []: normalised cut, or spectral loss
    ortho: Tensor  # []
    cluster: Tensor  # []; 0 for MinCut
    parts: tuple[Tensor, ...]


class Upstream(NamedTuple):
    """Gradients of the results; ``None`` is zero."""

    pooled: Tensor | None
    first: Tensor | None
    ortho: Tensor | None
    cluster: Tensor | None


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    pooled: Tensor
    parts: tuple[Tensor, ...]


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    adj: Any
    gram: Any
    vectors: Any
    scalars: Any


class CutTerms(Operator, opaque=False):
    """The operator of the last step."""

    def composite(self, call: Call) -> Out:
        adj, gram, vectors, scalars, num_clusters, (kind, _) = call
        empty: Any = None
        record = SoftPoolRecord(empty, empty, adj, gram, vectors, scalars, empty, empty, num_clusters)
        pooled = postprocess_adj(adj, remove_self_loops=True, degree_norm=True)
        ortho = losses.orthogonality_loss(record)
        if kind is Kind.MINCUT:
            return Out(pooled, losses.mincut_loss(record), ortho, ortho.new_zeros(()), ())
        cluster = losses.cluster_loss(record) if kind is Kind.DMON else crossed_cluster_loss(record)
        return Out(pooled, losses.spectral_loss(record), ortho, cluster, ())


OPERATOR = CutTerms()


def crossed_cluster_loss(record: SoftPoolRecord) -> Tensor:
    r"""DMoN's cluster loss with the cluster sizes of every graph divided by the size of every graph.

    .. math:: \frac{1}{B^2} \sum_{b, b'} \sqrt{K_b} \frac{|S_b^T 1|}{n_{b'}} - 1

    PyTorch Geometric's ``DMoNPooling`` computes this value, because it divides ``[B]`` by ``[B, 1]``. It equals
    :func:`hierpool.losses.cluster_loss` if all graphs have the same number of nodes. A graph without nodes adds 0;
    PyTorch Geometric returns NaN.
    """
    b = record.size.size(0)
    lengths = (record.size.norm(dim=-1) * cluster_count(record) ** 0.5).sum()
    shares = record.num_nodes.masked_fill(record.num_nodes == 0, float("inf")).reciprocal().sum()
    return lengths * shares * reciprocal(b) ** 2 - 1

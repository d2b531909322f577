"""The record of soft pooling: the sums over nodes from which all soft poolers compute their results and losses.

Source of the operator: Ying et al., "Hierarchical Graph Representation Learning with Differentiable Pooling",
NeurIPS 2018 (arXiv:1806.08804).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hierpool.graph import Assignment, RaggedGraph

# Columns of `scalars` [B, 2 + 4R]: two for the graph, then four groups with one column for each edge type.
NUM_NODES = 0
ENTROPY = 1
CUT_DEGREE, ADJ_NORM, TOTAL_DEGREE, LINK = range(4)


def scalar_columns(group: int, channels: int) -> slice:
    """Columns of `scalars` with one of the four groups."""
    start = 2 + group * channels
    return slice(start, start + channels)


class SoftPoolRecord(NamedTuple):
    r"""The results of soft pooling.

    With the assignment :math:`S` (zero on invalid rows), features :math:`X`, adjacency :math:`A`, :math:`d = A 1`:

    =================  =====================================================  ==============
    name               value                                                  shape
    =================  =====================================================  ==============
    ``s``              :math:`S`                                              ``[B, N, K]``
    ``x``              :math:`S^T X`                                          ``[B, K, F]``
    ``adj``            :math:`S^T A S`                                        ``[B, K, K]``
    ``gram``           :math:`S^T S`, or ``None``                             ``[B, K, K]``
    ``size``           :math:`S^T 1`                                          ``[B, K]``
    ``volume``         :math:`S^T d`                                          ``[B, K]``
    ``num_nodes``      number of valid nodes :math:`n`                        ``[B]``
    ``entropy``        :math:`-\sum_{ik} s_{ik} \log s_{ik}`                  ``[B]``
    ``cut_degree``     :math:`\sum_i d_i |s_i|^2`                             ``[B]``
    ``adj_norm``       :math:`|A|_F`                                          ``[B]``
    ``adj_sq``         :math:`|A|_F^2`                                        ``[B]``
    ``total_degree``   :math:`\sum_i d_i`                                     ``[B]``
    ``link``           :math:`|A - S S^T|_F`                                  ``[B]``
    ``link_sq``        :math:`|A - S S^T|_F^2`                                ``[B]``
    ``link_norm``      :math:`(\sum_b` ``link_sq`` :math:`)^{1/2}`            ``[]``
    ``total_entropy``  :math:`\sum_b` ``entropy``                             ``[]``
    =================  =====================================================  ==============

    For a ragged batch (:class:`hierpool.RaggedGraph`), ``s`` is ``[N, K]``. With ``num_clusters``, graph :math:`b` has
    the first :math:`K_b` clusters; entries of others are 0.

    With several edge types (an adjacency ``[B, R, N, N]``), ``adj`` is ``[B, R, K, K]``, ``volume`` is ``[B, R, K]``,
    every scalar that depends on :math:`A` is ``[B, R]``, and ``link_norm`` is ``[R]``.

    ``s`` has the dtype of the logits and ``x`` that of the features. All other fields are float64 if an input is
    float64, else float32. A field whose computation is switched off (``gram``, ``entropy``, ``link``, ``link_sq`` and
    their sums) is ``None``. The fields from ``size`` to ``link`` are views of packed tensors, except the squares
    ``adj_sq`` and ``link_sq``. In float32 these are inf for norms above 1.8e19 and 0 for norms below 2e-23; the norms
    are not computed from them. The gradient of a norm is 0 where it is 0.
    """

    s: Tensor  # [B, N, K], or [N, K]
    x: Tensor  # [B, K, F]
    adj: Tensor
    gram: Tensor | None
    vectors: Tensor  # [B, 1 + R, K]: size, then the volume of each edge type
    scalars: Tensor  # [B, 2 + 4R]
    total_entropy: Tensor | None  # []
    link_norm: Tensor | None  # [], or [R] with several edge types
    num_clusters: Tensor | None = None  # int64 [B]; None: K

    def _per_type(self, group: int) -> Tensor:
        if self.adj.dim() == 3:
            return self.scalars.select(-1, 2 + group)
        return self.scalars[:, scalar_columns(group, self.adj.size(1))]

    @property
    def size(self) -> Tensor:
        return self.vectors.select(1, 0)

    @property
    def volume(self) -> Tensor:
        return self.vectors.select(1, 1) if self.adj.dim() == 3 else self.vectors[:, 1:]

    @property
    def num_nodes(self) -> Tensor:
        return self.scalars.select(-1, NUM_NODES)

    @property
    def entropy(self) -> Tensor | None:
        return None if self.total_entropy is None else self.scalars.select(-1, ENTROPY)

    @property
    def cut_degree(self) -> Tensor:
        return self._per_type(CUT_DEGREE)

    @property
    def adj_norm(self) -> Tensor:
        return self._per_type(ADJ_NORM)

    @property
    def adj_sq(self) -> Tensor:
        return self.adj_norm.square()

    @property
    def total_degree(self) -> Tensor:
        return self._per_type(TOTAL_DEGREE)

    @property
    def link(self) -> Tensor | None:
        return None if self.link_norm is None else self._per_type(LINK)

    @property
    def link_sq(self) -> Tensor | None:
        return None if self.link is None else self.link.square()


class SparsePoolRecord(NamedTuple):
    r"""The results of soft pooling with a sparse assignment, for a batch of :math:`B` graphs with :math:`K` clusters.

    Fields have the names of those of :class:`SoftPoolRecord` and, for a dense assignment with the same entries, their
    values. ``adj`` and ``gram`` are graphs, whose nodes are the clusters. Clusters of all graphs follow each other.

    =================  =====================================================  ===========================
    name               value                                                  type or shape
    =================  =====================================================  ===========================
    ``s``              :math:`S`                                              :class:`hierpool.Assignment`
    ``x``              :math:`S^T X`                                          ``[K, F]``
    ``adj``            :math:`S^T A S`                                        :class:`hierpool.RaggedGraph`
    ``gram``           :math:`S^T S`, or ``None``                             :class:`hierpool.RaggedGraph`
    ``size``           :math:`S^T 1`                                          ``[K]``
    ``volume``         :math:`S^T d`                                          ``[K]``
    ``num_nodes``      number of nodes :math:`n`                              ``[B]``
    ``entropy``        :math:`-\sum_{ik} s_{ik} \log s_{ik}`                  ``[B]``
    ``trace``          :math:`\mathrm{tr}(S^T A S)`                           ``[B]``
    ``cut_degree``     :math:`\sum_i d_i |s_i|^2`                             ``[B]``
    ``adj_norm``       :math:`|A|_F`                                          ``[B]``
    ``total_degree``   :math:`\sum_i d_i`                                     ``[B]``
    ``link``           :math:`|A - S S^T|_F`                                  ``[B]``
    ``link_norm``      :math:`(\sum_b` ``link_sq`` :math:`)^{1/2}`            ``[]``
    ``total_entropy``  :math:`\sum_b` ``entropy``                             ``[]``
    =================  =====================================================  ===========================

    ``x`` has the dtype of the features, ``adj`` that of :func:`hierpool.sparse_pool`. All others are float64 if an
    input is float64, else float32. A field whose computation is switched off (``gram``, ``entropy``, ``link`` and their
    sums) is ``None``. The gradient of a norm is 0 where it is 0.
    """

    s: Assignment
    x: Tensor  # [K, F]
    adj: RaggedGraph
    gram: RaggedGraph | None
    size: Tensor  # [K]
    volume: Tensor  # [K]
    num_nodes: Tensor  # [B]
    entropy: Tensor | None
    trace: Tensor
    cut_degree: Tensor
    adj_norm: Tensor
    total_degree: Tensor
    link: Tensor | None
    link_norm: Tensor | None  # []
    total_entropy: Tensor | None  # []

    @property
    def num_clusters(self) -> Tensor:
        """Clusters of each graph, int64 ``[B]``."""
        return self.s.cluster_ptr.diff()

    @property
    def adj_sq(self) -> Tensor:
        return self.adj_norm.square()

    @property
    def link_sq(self) -> Tensor | None:
        return None if self.link is None else self.link.square()


torch.serialization.add_safe_globals([SoftPoolRecord, SparsePoolRecord])  # for torch.load

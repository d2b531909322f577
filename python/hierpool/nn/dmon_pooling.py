"""DMoN pooling with the interface of PyTorch Geometric's layer, for padded and sparse batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.nn.mlp import MLP, channels_of, is_plain
from hierpool.ops._checks import as_batch, check_flag, viewed_mask
from hierpool.ops._shared import as_one_batch, graph_of
from hierpool.ops.cut_pool import cut_pool
from hierpool.ops.cut_terms import Kind
from hierpool.reference.linear_maps import Map
from hierpool.selection._shared import check_count, check_probability

_WANTED = ("s", "x", "adj", "first", "ortho", "cluster")

DMoNOutput = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class DMoNPooling(nn.Module):
    r"""Pooling trained by spectral modularity, with the interface and values of ``torch_geometric.nn.DMoNPooling``.

    .. math::
        S = m \odot \mathrm{softmax}(\mathrm{MLP}(X)), \quad X' = \mathrm{selu}(S^T X), \quad
        A' = \hat D^{-1/2} \hat A \hat D^{-1/2}

    with :math:`\hat A` the matrix :math:`S^T A S` without its diagonal and :math:`\hat D` its row sums. The losses
    are the means over graphs of

    ==========  ==============================================================================================
    spectral    :math:`-\frac{1}{2m} (\mathrm{tr}(S^T A S) - \frac{1}{2m} |S^T d|^2)`, with :math:`d = A 1`,
                :math:`2m = 1^T d`
    ortho       :math:`|\, S^T S / |S^T S|_F - I_K / \sqrt K \,|_F`
    cluster     :math:`\frac{\sqrt K}{n} |S^T 1| - 1`, with the number :math:`n` of valid nodes of the graph
    ==========  ==============================================================================================

    State dicts can be exchanged with PyG's layer, and the same seed gives the same parameters. Results are finite in
    three cases in which PyG's are not: a graph without edges has spectral loss 0, a graph without nodes adds 0 to every
    loss, and an empty cluster has row and column 0 in :math:`A'`. The gradients are 0 in these cases. PyG divides the
    cluster loss of every graph by the sizes of all graphs; with ``pyg_compat=True`` this layer does the same
    (:func:`hierpool.ops.cut_terms.crossed_cluster_loss`). For graphs of equal size both are equal.

    Args:
        channels: number of features of a node, or a list: the inputs of each layer of a perceptron without activations.
        k: :math:`K`, number of clusters.
        dropout: probability of dropping a logit while training.
        pyg_compat: compute the cluster loss of graphs of unequal sizes as PyG does.
        backend: see :func:`hierpool.soft_pool`.

    Raises:
        ValueError: ``channels`` or ``k`` is not positive, or ``dropout`` is not in [0, 1].

    Source: Tsitsulin, Palowitch, Perozzi, Müller, JMLR 24, 2023 (arXiv:2006.16904).
    """

    # Also an attribute of the class, for pickled layers of PyG that are loaded as this class.
    pyg_compat: bool = False
    backend: str = "auto"

    def __init__(
        self,
        channels: int | Sequence[int],
        k: int,
        dropout: float = 0.0,
        *,
        pyg_compat: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        k = check_count("k", k)
        check_flag("pyg_compat", pyg_compat)
        self.mlp = MLP([*channels_of("channels", channels), k])
        self.dropout = check_probability("dropout", dropout)
        self.pyg_compat = bool(pyg_compat)
        self.backend = backend
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        self.mlp.reset_parameters()

    def forward(
        self,
        x: Tensor,
        adj: Tensor | RaggedGraph | ShardedGraph | None = None,
        mask: Tensor | None = None,
        *,
        edge_index: Tensor | RaggedGraph | ShardedGraph | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        num_clusters: Tensor | int | None = None,
        symmetric: bool | None = None,
    ) -> DMoNOutput:
        """Pool a padded batch, or a sparse batch given by ``edge_index``.

        ``x`` or ``adj`` with one graph is shared by all graphs, as in PyTorch Geometric. It is not copied.

        Args:
            x: node features, ``[B, N, F]`` or ``[N, F]``; with ``edge_index`` the features of all graphs, ``[N, F]``.
            adj: adjacency, ``[B, N, N]`` or ``[N, N]``; or a :class:`hierpool.RaggedGraph` or
                :class:`hierpool.distributed.ShardedGraph`.
            mask: valid nodes, any shape that can be viewed as ``[B, N]`` or ``[N]``; non-zero means valid. Only with
                ``adj``.
            edge_index, edge_weight, batch, ptr, batch_size: instead of ``adj``; see :func:`hierpool.diff_pool`.
            num_clusters: number of clusters of each graph, ``[B]`` or an int; see :func:`hierpool.soft_pool`.
            symmetric: whether every adjacency equals its transpose; ``None``: it is determined exactly.

        Returns:
            ``(s, x, adj, spectral_loss, ortho_loss, cluster_loss)`` of shapes ``[B, N, K]`` (``[N, K]`` with
            ``edge_index``), ``[B, K, F]``, ``[B, K, K]``, ``[]``, ``[]`` and ``[]``.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it.
        """
        if isinstance(adj, RaggedGraph | ShardedGraph):
            if edge_index is not None:
                raise ValueError(f"edge_index must be None if adj is a {type(adj).__name__}, got both")
            adj, edge_index = None, adj
        if (adj is None) == (edge_index is None):
            raise ValueError(f"give adj or edge_index, got {'neither' if adj is None else 'both'}")
        if edge_index is not None:
            if mask is not None:
                raise ValueError("mask must be None with edge_index, which has no padding")
            graph = graph_of(x, edge_index, edge_weight, batch, ptr, batch_size, symmetric)
            s, *rest = self._pooled(x, graph, self._logits(x), num_clusters=num_clusters)
            return graph.in_callers_order(s), *rest
        given = {"edge_weight": edge_weight, "batch": batch, "ptr": ptr, "batch_size": batch_size}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} must be None with adj, got {value!r:.40}")
        x, adj = as_batch("x", x), as_batch("adj", adj)
        if x.dim() != 3 or adj.dim() != 3:
            raise ValueError(
                f"x and adj must have shapes [B, N, F] and [B, N, N], got {list(x.shape)} and {list(adj.shape)}"
            )
        b, n, _ = x.shape
        mask = viewed_mask(mask, adj.size(0) if b == 1 else b, n)
        if mask is not None and mask.size(0) != b:
            x, _, _, mask = as_one_batch(x, None, None, mask)
        if isinstance(num_clusters, Tensor) and num_clusters.numel() > 1:
            x, _, _, mask = as_one_batch(x, adj, None, mask)
        options = {"num_clusters": num_clusters, "symmetric": symmetric}
        results = self._pooled(x, adj, self._logits(x, mask), mask, **options)
        if x.size(0) == adj.size(0) or adj.size(0) == 1:
            return results
        s, pooled, *rest = results  # nothing but A is different for the graphs
        return s[:1], pooled[:1], *rest

    def _pooled(
        self,
        x: Tensor,
        adj: Tensor | RaggedGraph | ShardedGraph,
        s: Any,
        mask: Tensor | None = None,
        **options: Any,
    ) -> Any:
        kind = Kind.DMON_CROSSED if self.pyg_compat else Kind.DMON
        return cut_pool(kind, _WANTED, x, adj, s, mask, selu=True, backend=self.backend, **options)

    def _logits(self, x: Tensor, mask: Tensor | None = None) -> Tensor | list[Map]:
        """The logits, or the linear maps that compute them."""
        mlp = self.mlp
        if is_plain(mlp, MLP) and not (self.training and self.dropout > 0):
            maps = mlp.as_maps()
            if maps is not None:
                return maps
        return F.dropout(mlp(x, mask=mask), self.dropout, training=self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mlp.in_channels}, num_clusters={self.mlp.out_channels})"

"""What a pooling layer returns, with the names of Grattarola et al. and torch-geometric-pool.

Source: Grattarola, Zambon, Bianchi, Alippi, "Understanding Pooling in Graph Neural Networks", TNNLS 2022
(arXiv:2110.05292).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.contract import existing_clusters, sum_of_ranges
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.ops._checks import FLOATS, check_tensor
from hierpool.ops._sharded_product import to_rows
from hierpool.record import SoftPoolRecord


@dataclass
class SelectOutput:
    r"""The assignment :math:`S` of nodes to clusters.

    Attributes:
        s: :math:`S`; dense ``[B, N, K]`` for a padded batch, dense ``[N, K]`` for a ragged batch or for one graph, or
            sparse COO ``[N, K]``.
        graph: the ragged batch whose nodes are the rows of ``s [N, K]``; ``None``: one graph.
        in_mask: valid nodes of a padded batch, bool ``[B, N]``; ``None``: all are valid.
        occupied: clusters that are not empty, bool ``[B, K]``, or ``None`` if not computed yet.
        num_clusters: number of clusters of each graph, int64 ``[B]``, whose columns are the first of ``s``; ``None``:
            :math:`K`.
    """

    s: Tensor
    graph: RaggedGraph | ShardedGraph | None = None
    in_mask: Tensor | None = None
    occupied: Tensor | None = None
    num_clusters: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.s, Tensor) or self.s.is_nested:
            check_tensor("s", self.s, FLOATS)
        if self.s.dim() not in (2, 3):
            raise ValueError(f"s must have shape [B, N, K] or [N, K], got {list(self.s.shape)}")
        if self.graph is not None and (self.s.dim() != 2 or self.s.size(0) != self.graph.num_nodes):
            raise ValueError(f"s must have shape [{self.graph.num_nodes}, K], got {list(self.s.shape)}")
        if self.in_mask is not None and self.in_mask.shape != self.s.shape[:2]:
            raise ValueError(
                f"in_mask must have shape {list(self.s.shape[:2])}, got {list(self.in_mask.shape)}"
            )

    @classmethod
    def from_clusters(
        cls, cluster_index: Tensor, num_supernodes: int, graph: RaggedGraph | ShardedGraph | None = None
    ) -> SelectOutput:
        """A fixed one-hot assignment, dense in float32.

        Args:
            cluster_index: cluster of each node, int64 ``[N]`` or ``[B, N]``, less than ``num_supernodes``; negative if
                the node has no cluster.
            num_supernodes: :math:`K`.
            graph: the ragged batch of the nodes; ``None``: a padded batch or one graph.
        """
        clusters = torch.arange(num_supernodes, device=cluster_index.device)
        return cls((cluster_index[..., None] == clusters).to(torch.float32), graph)

    @property
    def out_mask(self) -> Tensor | None:
        """Clusters that are not empty, bool ``[B, K]``; ``None`` if ``s`` is sparse."""
        if self.occupied is not None or self.is_sparse:
            return self.occupied
        if self.s.dim() == 3:
            return self.s.sum(1) > 0
        if self.graph is None:
            return (self.s.sum(0) > 0)[None]
        return sum_of_ranges(self.graph.in_graph_order(self.s), self.graph.ptr) > 0

    @property
    def s_inv(self) -> Tensor:
        """The transpose of ``s``."""
        return self.s.mT

    @property
    def batch(self) -> Tensor | None:
        """Graph of each node of a ragged batch, int64 ``[N]``."""
        return None if self.graph is None else self.graph.batch

    @property
    def num_nodes(self) -> int:
        """Number of rows of ``s``."""
        return self.s.size(-2)

    @property
    def num_supernodes(self) -> int:
        """:math:`K`."""
        return self.s.size(-1)

    @property
    def is_sparse(self) -> bool:
        """Whether ``s`` is a sparse tensor."""
        return self.s.is_sparse

    @property
    def is_dense(self) -> bool:
        """Whether ``s`` is a dense tensor."""
        return not self.s.is_sparse

    @property
    def node_index(self) -> Tensor | None:
        """Row of each entry of a sparse ``s``."""
        return self.s.indices()[0] if self.is_sparse else None

    @property
    def cluster_index(self) -> Tensor | None:
        """Column of each entry of a sparse ``s``."""
        return self.s.indices()[1] if self.is_sparse else None

    @property
    def weight(self) -> Tensor | None:
        """Value of each entry of a sparse ``s``."""
        return self.s.values() if self.is_sparse else None

    @property
    def is_expressive(self) -> bool:
        """Whether all valid rows have the same sum, other than 0. Reading it synchronises with the device."""
        rows = self.s.sum(-1).to_dense() if self.is_sparse else self.s.sum(-1)
        rows = rows if self.in_mask is None else rows[self.in_mask]
        return bool(rows.numel() and torch.allclose(rows, rows[:1].expand_as(rows)) and rows[0] != 0)

    def apply(self, change: Callable[[Tensor], Tensor]) -> SelectOutput:
        """A copy with ``change`` applied to every tensor except those of ``graph``."""
        others = (self.in_mask, self.occupied, self.num_clusters)
        return SelectOutput(change(self.s), self.graph, *(None if t is None else change(t) for t in others))

    @property
    def existing(self) -> Tensor | None:
        """Whether each column is a cluster of the graph, bool ``[B, K]``; ``None``: all are."""
        if self.num_clusters is None:
            return None
        return existing_clusters(self.num_clusters, self.num_supernodes)

    def to(self, device: torch.device | str) -> SelectOutput:
        """A copy on another device."""
        moved = self.apply(lambda t: t.to(device))
        graph = self.graph
        return replace(moved, graph=graph.to(device)) if isinstance(graph, RaggedGraph) else moved

    def cpu(self) -> SelectOutput:
        """A copy on the CPU."""
        return self.to("cpu")

    def cuda(self) -> SelectOutput:
        """A copy on the current CUDA device."""
        return self.to("cuda")

    def detach(self) -> SelectOutput:
        """A copy detached from the autograd graph."""
        return self.apply(Tensor.detach)

    def __repr__(self) -> str:
        sizes = f"num_nodes={self.num_nodes}, num_supernodes={self.num_supernodes}"
        return f"{type(self).__name__}({sizes}, s={list(self.s.shape)})"


@dataclass
class PoolingOutput:
    """The coarsened graphs and the losses. Unpacks to ``x, edge_index, edge_weight, batch, mask, so, loss``.

    Attributes:
        x: features of the clusters, ``[B, K, F]``; ``[B K, F]`` with ``sparse_output=True``, without rows for clusters
            that a graph does not have.
        edge_index: the pooled adjacency ``[B, K, K]``, or ``[B, R, K, K]`` with several edge types; int64 ``[2, E']``
            with ``sparse_output=True``.
        edge_weight: ``[E']`` with ``sparse_output=True``, else ``None``.
        batch: graph of each row of ``x`` with ``sparse_output=True``, else ``None``.
        so: the assignment of nodes to clusters.
        loss: the auxiliary losses by name, 0-d, multiplied by their coefficients.
        adj: the pooled adjacency ``[B, K, K]``, also with ``sparse_output=True``.
        record: the result of :func:`hierpool.soft_pool`; ``None`` if a function of another library pooled. A pooler
            whose operator computes the losses does not need it: then it is computed when it is first read.
    """

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor | None
    batch: Tensor | None
    so: SelectOutput
    loss: dict[str, Tensor]
    adj: Tensor
    _record: SoftPoolRecord | Callable[[], SoftPoolRecord] | None = None

    @property
    def record(self) -> SoftPoolRecord | None:
        """The record of soft pooling."""
        if callable(self._record):
            self._record = self._record()
        return self._record

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_record": self.record}  # a copy has no layer to compute it

    def __iter__(self) -> Iterator[Any]:
        yield from (self.x, self.edge_index, self.edge_weight, self.batch, self.mask, self.so, self.loss)

    @property
    def mask(self) -> Tensor | None:
        """Clusters that are not empty, bool ``[B, K]``."""
        return self.so.out_mask

    @property
    def has_loss(self) -> bool:
        """Whether there are auxiliary losses."""
        return bool(self.loss)

    def get_loss_value(self, name: str | None = None) -> Any:
        """The loss of this name, or without a name the list of all losses; 0 if there are none."""
        if not self.loss:
            return 0
        return list(self.loss.values()) if name is None else self.loss[name]

    def as_data(self) -> Any:
        """The coarsened graphs as a ``Data`` of PyTorch Geometric; with ``sparse_output=True``, one for all graphs.

        Raises:
            ImportError: PyTorch Geometric is not installed.
        """
        data = require("torch_geometric.data", "pyg").Data
        return data(
            x=self.x,
            edge_index=self.edge_index,
            edge_weight=self.edge_weight,
            batch=self.batch,
            mask=self.mask,
            so=self.so,
            num_nodes=self.x.size(-2),
        )

    def __repr__(self) -> str:
        shapes = {"x": self.x, "edge_index": self.edge_index, "edge_weight": self.edge_weight}
        said = ", ".join(f"{name}={None if t is None else list(t.shape)}" for name, t in shapes.items())
        return f"{type(self).__name__}({said}, loss={list(self.loss)})"


torch.serialization.add_safe_globals([SelectOutput, PoolingOutput])  # for torch.load


def lift(x: Tensor, so: SelectOutput, how: str = "transpose") -> Tensor:
    r"""Map features of clusters to the nodes, :math:`\hat X = S X'` or :math:`(S^+)^T X'`.

    Args:
        x: :math:`X'`, ``[B, K, F]``, or the rows of a sparse output without ``drop``.
        so: the assignment of the pooling layer.
        how: ``"transpose"`` for :math:`S X'`, or ``"inverse"`` for :math:`(S^+)^T X' = S (S^T S)^+ X'` with the
            pseudo-inverse.

    Returns:
        ``[B, N, F]``, or ``[N, F]`` for a ragged batch, in the dtype of ``x``. A ragged batch of several graphs
        synchronises with the device to read the size of the largest graph.

    Raises:
        ValueError: ``how`` is unknown, or shapes do not match.
    """
    if how not in ("transpose", "inverse"):
        raise ValueError(f"how must be 'transpose' or 'inverse', got {how!r}")
    check_tensor("x", x, FLOATS)
    rows, place = _padded_rows(so)
    x = _of_clusters(x, so, *rows.shape[::2])
    if isinstance(so.graph, ShardedGraph):
        if how == "inverse":
            raise ValueError("how must be 'transpose' for the assignment of a ShardedGraph, got 'inverse'")
        x = to_rows(so.graph, x)
    if how == "inverse":
        s = rows.double()
        x = (torch.linalg.pinv(s.mT @ s, hermitian=True) @ x.double()).to(x.dtype)
    lifted = rows.to(x.dtype) @ x
    if so.s.dim() == 3:
        return lifted
    lifted = lifted.flatten(0, 1) if place is None else lifted.flatten(0, 1)[place]
    return lifted if so.graph is None else so.graph.in_callers_order(lifted)


def _of_clusters(x: Tensor, so: SelectOutput, graphs: int, k: int) -> Tensor:
    """``x`` as ``[B, K, F]``, with 0 for clusters that do not exist."""
    exists = so.existing
    count = graphs * k if exists is None else None
    if exists is not None and x.dim() == 2:
        count = int(exists.sum())
        if x.size(0) == count:
            return x.new_zeros(graphs, k, x.size(1)).index_put((exists,), x)
    if x.shape[:-1] not in ((graphs, k), (count,)):
        rows = [graphs * k if count is None else count, "F"]
        raise ValueError(f"x must have shape {[graphs, k, 'F']} or {rows}, got {list(x.shape)}")
    x = x.view(graphs, k, x.size(-1))
    return x if exists is None else torch.where(exists[..., None], x, 0)


def _padded_rows(so: SelectOutput) -> tuple[Tensor, Tensor | None]:
    """The assignment ``[B, M, K]``, and the positions of the rows of a ragged batch in it."""
    s = so.s.to_dense() if so.is_sparse else so.s
    if s.dim() == 3:
        return s, None
    graph = so.graph
    if graph is None or graph.num_graphs == 1:
        return (s if graph is None else graph.in_graph_order(s))[None], None
    sizes = graph.ptr.diff()
    largest = int(sizes.max()) if sizes.numel() else 0
    of = graph.graph_of_node()
    place = of * largest + torch.arange(graph.num_nodes, device=s.device) - graph.ptr[of]
    padded = s.new_zeros(graph.num_graphs * largest, s.size(1))
    padded = padded.index_copy(0, place, graph.in_graph_order(s))
    return padded.view(graph.num_graphs, largest, s.size(1)), place

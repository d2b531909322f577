"""How many clusters a layer gives to each graph."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from hierpool._tracing import is_traced, is_transformed
from hierpool.contract import exact_ratio
from hierpool.distributed import ShardedGraph
from hierpool.distributed.graph import sizes_of
from hierpool.graph import RaggedGraph
from hierpool.selection._shared import check_count
from hierpool.selection.largest import check_ratio

RATIO_OF = ("graph", "largest")


class ClusterCount:
    r"""The number of clusters of a graph: fixed, or a part of its own nodes.

    .. math:: K_b = \max(1, \lceil \mathrm{ratio} \cdot n_b \rceil)

    Args:
        k: the number for all graphs. Give this or ``ratio``.
        ratio: clusters divided by nodes, in (0, 1].
        max_nodes: number of nodes of the largest graph; needed with ``ratio``.
        ratio_of: ``"graph"``: of the nodes of each graph; ``"largest"``: of ``max_nodes``, rounded down, for all
            graphs.

    Attributes:
        most: number of clusters of a graph with ``max_nodes`` nodes.

    Raises:
        ValueError: both or neither of ``k`` and ``ratio`` are given, or an argument is out of range.
    """

    def __init__(
        self, k: int | None, ratio: float | None = None, max_nodes: int | None = None, ratio_of: str = "graph"
    ) -> None:
        if (k is None) == (ratio is None):
            raise ValueError(f"exactly one of k and ratio must be given, got k={k} and ratio={ratio}")
        if ratio_of not in RATIO_OF:
            raise ValueError(f"ratio_of must be 'graph' or 'largest', got {ratio_of!r}")
        self._part: tuple[int, int] | None = None
        self._max_nodes = max_nodes
        if k is not None:
            self.most = check_count("k", k)
            return
        ratio = check_ratio(ratio)
        if max_nodes is None:
            raise ValueError("max_nodes must be at least 1 with ratio, got None")
        self._max_nodes = max_nodes = check_count("max_nodes", max_nodes)
        if ratio_of == "largest":
            self.most = max(1, int(max_nodes * ratio))
            return
        self._part = exact_ratio(ratio)
        self.most = self.for_nodes(max_nodes)

    def for_nodes(self, nodes: int) -> int:
        """The number of clusters of a graph with ``nodes`` nodes."""
        if self._part is None:
            return self.most
        over, under = self._part
        return max(1, -(-nodes * over // under))

    @property
    def is_relative(self) -> bool:
        """Whether graphs of different sizes have different numbers."""
        return self._part is not None

    def of(
        self, x: Tensor, adj: Tensor | RaggedGraph | ShardedGraph, mask: Tensor | None
    ) -> Tensor | int | None:
        """The number of each graph of a batch, int64 ``[B]``, or of all graphs; ``None`` if it is fixed.

        Args:
            x: node features, ``[B, N, F]`` or ``[N, F]``.
            adj: dense adjacency, or the ragged or sharded graph.
            mask: valid nodes, bool ``[B, N]``.

        Raises:
            ValueError: a graph on the CPU has more nodes than ``max_nodes``.
        """
        if self._part is None:
            return None
        if isinstance(adj, Tensor) and mask is None:
            nodes = x.size(1)
            if _is_hidden():
                over, under = self._part
                return torch.sym_max(1, torch.sym_min(self.most, (nodes * over + under - 1) // under))
            self._check(nodes)
            return self.for_nodes(nodes)
        sizes = mask.sum(1) if mask is not None else sizes_of(adj)  # type: ignore[arg-type]
        if sizes.device.type == "cpu" and sizes.numel() and not _is_hidden():
            self._check(int(sizes.max()))
        over, under = self._part
        return ((sizes * over + (under - 1)) // under).clamp(1, self.most)

    def _check(self, nodes: int) -> None:
        assert self._max_nodes is not None
        if nodes > self._max_nodes:
            raise ValueError(
                f"max_nodes must be at least the number of nodes of every graph, got max_nodes={self._max_nodes}"
                f" and a graph of {nodes} nodes"
            )

    def columns(self, num_clusters: Tensor | int | None) -> int:
        """The number of columns that a batch uses, if it can be known without synchronisation, else ``most``."""
        if num_clusters is None or _is_hidden():
            return self.most
        if isinstance(num_clusters, int):
            return min(num_clusters, self.most)
        if num_clusters.device.type != "cpu" or not num_clusters.numel():
            return self.most
        return min(max(int(num_clusters.max()), 1), self.most)

    def __repr__(self) -> str:
        if self._part is None:
            return str(self.most)
        return f"{Fraction(*self._part)} of the nodes of each graph, at most {self.most}"


def _is_hidden() -> bool:
    """Whether values cannot be read."""
    return is_traced() or is_transformed()

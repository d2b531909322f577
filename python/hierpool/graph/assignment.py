"""Assignments of nodes to a few clusters each, as a sparse matrix in compressed rows."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced, is_transformed
from hierpool.contract import Assigned, Clusters, index_dtype
from hierpool.graph import build, checks, convert, pairs
from hierpool.graph.facts import normally
from hierpool.graph.ragged import RaggedGraph


class Assignment:
    r"""A sparse assignment :math:`S`, ``[N, K]``: for each node of a batch of graphs, no, one or several clusters.

    Row i holds the clusters of node i and the weights :math:`s_{ik}`. A node without clusters is dropped. The clusters
    of each graph follow each other, as its nodes do, so that they are the nodes of the coarsened batch. Construct an
    assignment with the class methods, which check their arguments. Nodes are given in the caller's order, as for all
    node tensors of a :class:`hierpool.RaggedGraph`; clusters are numbered within the graph of the node, from 0.

    Gradients flow to the weights. Construction synchronises a GPU, as the number of clusters depends on values.

    Attributes:
        rowptr: first entry of each node, ``[N + 1]``; nodes are in the order of the graph's matrix. int32 if it holds
            all indices, else int64.
        cluster: cluster of each entry in the batch, ``[M]``, ascending for each node; the dtype of ``rowptr``.
        weight: :math:`s_{ik}` of each entry, floating ``[M]``; ``None`` if all are 1.
        ptr: first node of each graph, int64 ``[B + 1]``.
        cluster_ptr: first cluster of each graph, int64 ``[B + 1]``.
        order: the caller's node of each row, int64 ``[N]``; ``None``: the same. See :class:`hierpool.RaggedGraph`.
        num_nodes: nodes of all graphs, :math:`N`.
        num_clusters: clusters of all graphs, :math:`K`.
        num_graphs: graphs, :math:`B`.
        is_hard: whether no node has more than one cluster.
        is_injective: whether it is also known that no cluster has more than one node.
    """

    def __init__(
        self,
        rowptr: Tensor,
        cluster: Tensor,
        weight: Tensor | None,
        ptr: Tensor,
        cluster_ptr: Tensor,
        order: Tensor | None,
        num_clusters: int,
        is_hard: bool,
        is_injective: bool = False,
    ) -> None:
        """Store the arrays described above without checking them."""
        self.rowptr, self.cluster, self._weight = rowptr, cluster, weight
        self._weight_of_node: Tensor | None = None  # that weight is to be taken of, in the caller's order
        self.ptr, self.cluster_ptr, self.order = ptr, cluster_ptr, order
        self.num_nodes: int = rowptr.numel() - 1
        self.num_clusters = num_clusters
        self.num_graphs: int = ptr.numel() - 1
        self.is_hard, self.is_injective = is_hard, is_injective
        self._transpose: tuple[Tensor, Tensor, Tensor] | None = None
        self._clusters: Clusters | None = None

    @classmethod
    def from_clusters(
        cls,
        cluster: Tensor,
        graph: RaggedGraph | Tensor,
        weight: Tensor | None = None,
        num_clusters: int | Tensor | None = None,
    ) -> Assignment:
        """At most one cluster for each node, as of a clustering or a matching.

        Args:
            cluster: cluster of each node in its graph, int64 or int32 ``[N]``; -1: the node is dropped.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.
            weight: of each node, floating ``[N]``; those of dropped nodes are ignored. ``None``: 1.
            num_clusters: clusters of each graph, an int or ``[B]``; ``None``: one more than the largest in ``cluster``.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the argument.
        """
        rows = pairs.rows_of(graph)
        own = pairs.check_numbers("cluster", cluster, "[N]", rows.num_nodes, rows)
        weight = pairs.check_weights("weight", weight, rows.num_nodes, "cluster", own)
        counts = None if num_clusters is None else pairs.check_counts(num_clusters, rows)
        most = rows.num_nodes + checks.UNSTATED
        found = normally(_backend(own.device).by_clusters, own, rows.ptr, rows.order, counts, most)
        if found is None:
            raise pairs.clusters_error(own, rows, counts)
        if weight is not None:
            weight = weight if rows.order is None else weight[rows.order]
            weight = weight[found.clusters.cluster >= 0] if found.cluster.numel() < weight.numel() else weight
        return cls._of_assigned(found, weight, rows, False)

    @classmethod
    def from_heads(
        cls, head: Tensor, graph: RaggedGraph | Tensor, weight: Tensor | None = None
    ) -> Assignment:
        """Clusters that are named by one of their nodes, as of :func:`hierpool.selection.mis` or ``components``.

        Args:
            head: the node that names the cluster of each node, int64 or int32 ``[N]``: a node of the same graph that
                is its own head. Clusters are in the order of their heads.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.
            weight: of each node, floating ``[N]``; ``None``: 1.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the argument.
        """
        rows = pairs.rows_of(graph)
        return cls._of_heads(pairs.check_heads(head, rows), rows, weight)

    @classmethod
    def from_matching(
        cls, mate: Tensor, graph: RaggedGraph | Tensor, weight: Tensor | None = None
    ) -> Assignment:
        """Pairs of nodes, as of :func:`hierpool.selection.match`; nodes without a mate are clusters of their own.

        Args:
            mate: the other node of the pair of each node, int64 or int32 ``[N]``, of the same graph; -1, or the node
                itself: it has none. Clusters are in the order of the smaller node of each pair.
            graph, weight: see :meth:`from_heads`.

        Raises:
            TypeError, ValueError: see :meth:`from_heads`.
        """
        rows = pairs.rows_of(graph)
        return cls._of_heads(pairs.check_mates(mate, rows), rows, weight, of_pairs=True)

    @classmethod
    def _of_heads(
        cls, head: Tensor, rows: pairs.Rows, weight: Tensor | None, of_pairs: bool = False
    ) -> Assignment:
        weight = pairs.check_weights("weight", weight, rows.num_nodes, "the nodes", head)
        found = normally(_backend(head.device).by_heads, head, rows.ptr, rows.order, of_pairs)
        weight = weight if weight is None or rows.order is None else weight[rows.order]
        return cls._of_assigned(found, weight, rows, False)

    @classmethod
    def _from_heads(cls, head: Tensor, graph: RaggedGraph, of_pairs: bool = False) -> Assignment:
        """:meth:`from_heads`, or :meth:`from_matching`, of a selection of our own, without checks."""
        return cls._of_heads(head, pairs.rows_of(graph), None, of_pairs)

    @classmethod
    def from_kept(
        cls, index: Tensor, graph: RaggedGraph | Tensor, weight: Tensor | None = None
    ) -> Assignment:
        """The nodes that are kept, each a cluster of its own, as of a selection by scores.

        Args:
            index: the kept nodes, int64 or int32 ``[K]``, all different. Those of each graph become its clusters in
                this order.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.
            weight: of each kept node, such as its score, floating ``[K]``; ``None``: 1.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the argument.
        """
        rows = pairs.rows_of(graph)
        node = pairs.check_numbers("index", index, "[K]", None, rows)
        k, n = node.numel(), rows.num_nodes
        weight = pairs.check_weights("weight", weight, k, "index", node)
        found = normally(_backend(node.device).by_kept, node, rows.ptr, rows.order, n)
        if found is None:
            raise pairs.kept_error(node, n)
        assigned, position = found
        if weight is not None:
            weight = weight.index_select(0, position.index_select(0, assigned.cluster))
        return cls._of_assigned(assigned, weight, rows, True)

    @classmethod
    def from_coo(
        cls,
        node: Tensor,
        cluster: Tensor,
        graph: RaggedGraph | Tensor,
        weight: Tensor | None = None,
        num_clusters: int | Tensor | None = None,
    ) -> Assignment:
        """Pairs of nodes and clusters, in any order.

        Args:
            node: node of each pair, int64 or int32 ``[M]``.
            cluster: cluster of each pair in the graph of its node, ``[M]``; no pair may be there twice.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.
            weight: of each pair, floating ``[M]``; ``None``: 1.
            num_clusters: clusters of each graph, an int or ``[B]``; ``None``: one more than the largest in ``cluster``.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the argument.
        """
        rows = pairs.rows_of(graph)
        node = pairs.check_numbers("node", node, "[M]", None, rows)
        own = pairs.check_numbers("cluster", cluster, "[M] like node", node.numel(), rows)
        weight = pairs.check_weights("weight", weight, node.numel(), "node", node)
        node = rows.rank(pairs.check_range("node", node, rows.num_nodes, "nodes"))
        graph_of = rows.graph_of_node[node]
        cluster_ptr, total = pairs.cluster_pointers(own, graph_of, rows, num_clusters)
        return cls._of_pairs(node, own + cluster_ptr[:-1][graph_of], weight, rows, cluster_ptr, total)

    @classmethod
    def from_dense(
        cls,
        s: Tensor,
        graph: RaggedGraph | Tensor,
        m: int | None = None,
        threshold: float | None = None,
        num_clusters: Tensor | None = None,
    ) -> Assignment:
        """The large entries of a dense assignment.

        Args:
            s: floating ``[N, K]``; column k is cluster k of the graph of the node.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.
            m: keep the ``m`` largest entries of each row; of equal ones, those of the first clusters. ``None``: all.
            threshold: keep only entries that are larger. ``None``: only those that are not 0.
            num_clusters: clusters of each graph, ``[B]``, at most K; other columns are ignored. ``None``: K.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the argument.
        """
        rows = pairs.rows_of(graph)
        s = pairs.check_dense(s, rows)
        s = s if rows.order is None else s[rows.order]
        counts = pairs.check_counts(s.size(1) if num_clusters is None else num_clusters, rows, s.size(1))
        node, own = pairs.large_entries(s.detach(), counts[rows.graph_of_node], m, threshold)
        cluster_ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        cluster = own + cluster_ptr[:-1][rows.graph_of_node[node]]
        return cls._of_pairs(node, cluster, s[node, own], rows, cluster_ptr, int(cluster_ptr[-1]))

    @classmethod
    def from_pyg_select(cls, select: Any, graph: RaggedGraph | Tensor) -> Assignment:
        """A ``torch_geometric.nn.pool.select.SelectOutput``, or an object with the same attributes.

        Args:
            select: has ``node_index``, ``cluster_index``, ``num_nodes``, ``num_clusters`` and ``weight``. Clusters are
                numbered over the batch, and must be in the order of their graphs. A cluster without nodes belongs to
                the graph of the cluster before it.
            graph: the batch of graphs, or the first node of each graph, ``[B + 1]``.

        Raises:
            TypeError: ``select`` misses an attribute, or one has the wrong type or dtype.
            ValueError: a shape, device or value is invalid; the message names the attribute.
        """
        rows = pairs.rows_of(graph)
        node, cluster, weight, total = pairs.check_select(select, rows)
        node = rows.rank(node)
        cluster_ptr = pairs.pointers_of_batch(node, cluster, rows, total)
        return cls._of_pairs(node, cluster, weight, rows, cluster_ptr, total)

    @classmethod
    def collate(cls, assignments: Sequence[Assignment]) -> Assignment:
        """The assignments of several batches of graphs as that of their concatenation, in their order.

        Raises:
            TypeError: an element is not an ``Assignment``.
            ValueError: the sequence is empty, or devices or dtypes of weights differ.
        """
        checks.check_elements("assignments", assignments, Assignment)
        if len(assignments) == 1:
            return assignments[0]
        return cls(*normally(convert.concatenate_assignments, assignments))

    @classmethod
    def _of_assigned(
        cls, found: Assigned, weight: Tensor | None, rows: pairs.Rows, is_injective: bool
    ) -> Assignment:
        """At most one cluster for each node, with the weights of the entries."""
        cluster_ptr, rowptr, cluster, clusters, entry = found
        total = clusters.first.numel() - 1
        out = cls(rowptr, cluster, weight, rows.ptr, cluster_ptr, rows.order, total, True, is_injective)
        out._transpose, out._clusters = (clusters.first, clusters.node, entry), clusters
        return out

    @classmethod
    def _of_pairs(
        cls,
        node: Tensor,
        cluster: Tensor,
        weight: Tensor | None,
        rows: pairs.Rows,
        cluster_ptr: Tensor,
        total: int,
    ) -> Assignment:
        """Pairs of rows and clusters of the batch, in any order."""
        keys, by_key = pairs.sorted_pairs(node, cluster, rows, total)
        n, m = rows.num_nodes, keys.numel()
        dtype = index_dtype(max(n, total), m)
        nodes = torch.arange(n + 1, device=keys.device)
        rowptr = torch.searchsorted(keys, nodes * total)
        is_hard = m == 0 or int(rowptr.diff().max()) <= 1
        weight = None if weight is None else weight[by_key]
        cluster = cluster[by_key].to(dtype)
        return cls(rowptr.to(dtype), cluster, weight, rows.ptr, cluster_ptr, rows.order, total, is_hard)

    @property
    def weight(self) -> Tensor | None:
        """Weight of each entry; see the attributes of the class."""
        of_node = self._weight_of_node
        if of_node is not None:
            of_node = of_node if self.order is None else of_node[self.order]
            all_have_one = self.num_entries == self.num_nodes
            # A copy, as a backward may read what it is taken of, and callers may change it in place.
            self._weight = of_node.clone() if all_have_one else of_node.index_select(0, self.row)
            self._weight_of_node = None
        return self._weight

    @weight.setter
    def weight(self, weight: Tensor | None) -> None:
        self._weight, self._weight_of_node = weight, None

    @property
    def device(self) -> torch.device:
        """The device of all its tensors."""
        return self.rowptr.device

    @property
    def num_entries(self) -> int:
        """Pairs of a node and a cluster, :math:`M`."""
        return self.cluster.numel()

    @property
    def batch(self) -> Tensor:
        """Graph of each cluster, int64 ``[K]``."""
        return build.ranges(self.cluster_ptr, self.num_clusters)

    @property
    def row(self) -> Tensor:
        """Node of each entry in the order of the graph's matrix, ``[M]``, the dtype of ``rowptr``."""
        return build.ranges(self.rowptr, self.num_entries)

    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compressed rows of :math:`S^T`: their pointers ``[K + 1]``, nodes, and the entry of S of each; kept."""
        if self._transpose is None:
            if is_traced():  # a traced tensor must not be kept
                return build.transpose_traced(self.rowptr, self.cluster, self.num_clusters)
            transpose = build.transpose(self.rowptr, self.cluster, self.num_clusters)
            if is_transformed():  # which wraps what is made
                return transpose
            self._transpose = transpose
        return self._transpose

    def clusters(self) -> Clusters:
        """The cluster of each node and the nodes of each cluster of a hard assignment; kept."""
        if self._clusters is None:
            of_node = normally(self._of_node)
            clusters = Clusters(of_node, *self.transposed()[:2])
            if is_traced() or is_transformed():
                return clusters
            self._clusters = clusters
        return self._clusters

    def _of_node(self) -> Tensor:
        if self.num_entries == self.num_nodes:
            return self.cluster
        nowhere = torch.full((self.num_nodes,), -1, dtype=self.cluster.dtype, device=self.device)
        return nowhere.index_copy_(0, self.row.to(torch.int64), self.cluster)

    def weight_of_node(self) -> Tensor | None:
        """Weight of each node of a hard assignment in the order of the matrix, ``[N]``; 0 for dropped nodes."""
        if self.weight is None or self.num_entries == self.num_nodes:
            return self.weight
        return self.weight.new_zeros(self.num_nodes).index_copy(0, self.row.to(torch.int64), self.weight)

    def with_weight(self, weight: Tensor | None) -> Assignment:
        """The same pairs with other weights, floating ``[M]`` in the order of ``cluster``; ``None``: 1.

        Raises:
            TypeError: ``weight`` is not a floating tensor.
            ValueError: its shape or device is invalid.
        """
        return self._reweighted(
            pairs.check_weights("weight", weight, self.num_entries, "cluster", self.cluster)
        )

    def _weighted_by_node(self, weight: Tensor) -> Assignment:
        """The same pairs with the weight of each node of a hard assignment, floating ``[N]`` in the caller's order."""
        out = self._reweighted(None)
        out._weight_of_node = weight
        return out

    def _reweighted(self, weight: Tensor | None) -> Assignment:
        sizes = self.num_clusters, self.is_hard, self.is_injective
        out = Assignment(self.rowptr, self.cluster, weight, self.ptr, self.cluster_ptr, self.order, *sizes)
        out._transpose, out._clusters = self._transpose, self._clusters
        return out

    def to(self, device: torch.device | str) -> Assignment:
        """A copy on another device; the assignment itself if it is there."""
        if torch.device(device) == self.device:
            return self
        rowptr, cluster, ptr, cluster_ptr = (
            t.to(device) for t in (self.rowptr, self.cluster, self.ptr, self.cluster_ptr)
        )
        weight = None if self.weight is None else self.weight.to(device)
        order = None if self.order is None else self.order.to(device)
        sizes = self.num_clusters, self.is_hard, self.is_injective
        return Assignment(rowptr, cluster, weight, ptr, cluster_ptr, order, *sizes)

    def to_dense(self) -> Tensor:
        """:math:`S` with a column for each cluster of the batch, ``[N, K]``, in the caller's order of nodes."""
        weight = self.weight
        if weight is None:
            weight = torch.ones(self.num_entries, dtype=torch.float32, device=self.device)
        row = self.row.to(torch.int64)
        row = row if self.order is None else self.order[row]
        empty = weight.new_zeros(self.num_nodes, self.num_clusters)
        return empty.index_put((row, self.cluster.to(torch.int64)), weight)

    def __repr__(self) -> str:
        dtype = "" if self.weight is None else f", dtype={self.weight.dtype}"
        return (
            f"{type(self).__name__}(num_graphs={self.num_graphs}, num_nodes={self.num_nodes}, "
            f"num_clusters={self.num_clusters}, num_entries={self.num_entries}, is_hard={self.is_hard}{dtype})"
        )


torch.serialization.add_safe_globals([Assignment, Clusters])  # for torch.load


def _backend(device: torch.device) -> ModuleType:
    module = backends.module("graph_assign", device.type)
    assert module is not None
    return module

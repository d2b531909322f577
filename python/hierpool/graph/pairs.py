"""Checks and numbers of the pairs of nodes and clusters that an assignment is made of."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hierpool.contract import ranges_of
from hierpool.graph import checks
from hierpool.graph.ragged import RaggedGraph


class Rows:
    """The nodes of a batch of graphs, which are the rows of an assignment."""

    def __init__(self, ptr: Tensor, order: Tensor | None, num_nodes: int) -> None:
        self.ptr, self.order, self.num_nodes = ptr, order, num_nodes
        self.num_graphs: int = ptr.numel() - 1

    @cached_property
    def graph_of_node(self) -> Tensor:
        """Graph of each row, int64 ``[N]``."""
        return ranges_of(self.ptr, self.num_nodes)

    def rank(self, node: Tensor) -> Tensor:
        """The rows of the caller's nodes."""
        if self.order is None:
            return node
        numbers = torch.arange(self.num_nodes, device=node.device)
        return torch.empty_like(self.order).index_copy_(0, self.order, numbers)[node]


def rows_of(graph: Any) -> Rows:
    """The nodes of a graph, or of graphs whose first nodes are given."""
    if isinstance(graph, RaggedGraph):
        return Rows(graph.ptr, graph.order, graph.num_nodes)
    if not isinstance(graph, Tensor):
        raise TypeError(f"graph must be a RaggedGraph or a tensor of pointers, got {type(graph).__name__}")
    ptr = checks.check_ptr(graph, "graph", graph)
    if int(ptr[0]) != 0 or bool((ptr.diff() < 0).any()):
        raise ValueError(f"graph must be pointers that ascend from 0, got {ptr[:8].tolist()}")
    return Rows(ptr, None, int(ptr[-1]))


def check_numbers(name: str, value: Any, shape: str, count: int | None, rows: Rows) -> Tensor:
    """Nodes or clusters as int64."""
    value = checks.check_index(name, value, shape)
    if count is not None and value.numel() != count:
        raise ValueError(f"{name} must have shape {shape} = [{count}], got {tuple(value.shape)}")
    checks.check_device(name, value, "the graph", rows.ptr)
    return value.to(torch.int64)


def check_weights(name: str, value: Any, count: int, beside: str, other: Tensor) -> Tensor | None:
    """Weights in a floating dtype, one for each of ``count`` elements of ``beside``."""
    if value is None:
        return None
    value = checks.strided(name, value)
    if value.shape != (count,):
        raise ValueError(f"{name} must have shape [{count}] like {beside}, got {tuple(value.shape)}")
    checks.check_device(name, value, beside, other)
    return checks.as_floating(name, value)


def check_range(name: str, value: Tensor, count: int, what: str) -> Tensor:
    """``value`` if its elements are from 0 to ``count - 1``."""
    wrong = (value < 0) | (value >= count)
    if value.numel() and bool(wrong.any()):
        at = int(wrong.int().argmax())
        raise ValueError(f"{name}[{at}] is {int(value[at])}, but there are {count} {what}, numbered from 0")
    return value


def check_counts(num_clusters: Any, rows: Rows, most: int | None = None) -> Tensor:
    """The number of clusters of each graph, int64 ``[B]``."""
    b = rows.num_graphs
    if isinstance(num_clusters, Tensor):
        counts = checks.check_index("num_clusters", num_clusters, f"[B] = [{b}]").to(torch.int64)
        if counts.numel() != b:
            raise ValueError(f"num_clusters must have shape [B] = [{b}], got {tuple(counts.shape)}")
        checks.check_device("num_clusters", counts, "the graph", rows.ptr)
        if b and (int(counts.min()) < 0 or (most is not None and int(counts.max()) > most)):
            limit = "not be negative" if most is None else f"lie between 0 and K = {most}"
            raise ValueError(f"num_clusters must {limit}, got {counts[:8].tolist()}")
        return counts
    count = checks.check_size("num_clusters", num_clusters)
    if most is not None and count > most:
        raise ValueError(f"num_clusters must lie between 0 and K = {most}, got {count}")
    return torch.full((b,), count, dtype=torch.int64, device=rows.ptr.device)


def cluster_pointers(
    own: Tensor, graph_of: Tensor, rows: Rows, num_clusters: Any, name: str = "cluster"
) -> tuple[Tensor, int]:
    """First cluster of each graph, ``[B + 1]``, and their number, for clusters ``own`` in graphs ``graph_of``."""
    if num_clusters is not None:
        counts = check_counts(num_clusters, rows)
    else:
        counts = _counted(own, graph_of, rows)
    if own.numel() and bool(((own < 0) | (own >= counts[graph_of])).any()):
        raise _error(own, graph_of, counts, 0, name)
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    total = int(ptr[-1])
    if num_clusters is None and total > rows.num_nodes + checks.UNSTATED:
        raise _excess(total, rows, name)
    return ptr, total


def _counted(own: Tensor, graph_of: Tensor, rows: Rows) -> Tensor:
    """One more than the largest cluster in each graph, ``[B]``."""
    return own.new_zeros(rows.num_graphs).scatter_reduce_(0, graph_of, own + 1, "amax")


def _error(own: Tensor, graph_of: Tensor, counts: Tensor, least: int, name: str = "cluster") -> ValueError:
    """The exception for a cluster below ``least`` or, of ``counts``, one too many."""
    wrong = (own < least) | (own >= counts[graph_of])
    at = int(wrong.int().argmax())
    graph = int(graph_of[at])
    return ValueError(
        f"{name} has {int(own[at])} in graph {graph}, which has {int(counts[graph])} clusters, numbered from 0"
        + ("; -1 drops a node" if least < 0 else "")
    )


def _excess(total: int, rows: Rows, name: str = "cluster") -> ValueError:
    return ValueError(
        f"{name} numbers {total} clusters for {rows.num_nodes} nodes; number those of each graph from 0, or give"
        " num_clusters"
    )


def clusters_error(cluster: Tensor, rows: Rows, counts: Tensor | None) -> ValueError:
    """The exception for bad values of the cluster of each of the caller's nodes."""
    own = cluster if rows.order is None else cluster[rows.order]
    counts = _counted(own, rows.graph_of_node, rows) if counts is None else counts
    if bool(((own < -1) | (own >= counts[rows.graph_of_node])).any()):
        return _error(own, rows.graph_of_node, counts, -1)
    return _excess(int(counts.sum()), rows)


def check_heads(value: Any, rows: Rows) -> Tensor:
    """The head of each node, int64 ``[N]``."""
    head = check_numbers("head", value, "[N]", rows.num_nodes, rows)
    _check_same_graph("head", check_range("head", head, rows.num_nodes, "nodes"), rows)
    wrong = head[head] != head
    if bool(wrong.any()):
        at = int(wrong.int().argmax())
        node = int(head[at])
        raise ValueError(
            f"head must have nodes that are their own heads, but head[{at}] is {node} and head[{node}] is"
            f" {int(head[node])}"
        )
    return head


def check_mates(value: Any, rows: Rows) -> Tensor:
    """The other node of the pair of each node, or -1, int64 ``[N]``."""
    mate = check_numbers("mate", value, "[N]", rows.num_nodes, rows)
    node = torch.arange(rows.num_nodes, device=mate.device)
    other = check_range("mate", torch.where(mate == -1, node, mate), rows.num_nodes, "nodes")
    _check_same_graph("mate", other, rows)
    wrong = other[other] != node
    if bool(wrong.any()):
        at = int(wrong.int().argmax())
        node_of = int(mate[at])
        raise ValueError(
            f"mate must have each pair twice, but mate[{at}] is {node_of} and mate[{node_of}] is {int(mate[node_of])}"
        )
    return mate


def _check_same_graph(name: str, other: Tensor, rows: Rows) -> None:
    """``other``: a node of the graph of each of the caller's nodes."""
    of_node = rows.graph_of_node
    if rows.order is not None:
        of_node = torch.empty_like(of_node).index_copy_(0, rows.order, of_node)
    wrong = of_node[other] != of_node
    if bool(wrong.any()):
        at = int(wrong.int().argmax())
        raise ValueError(
            f"{name} must be a node of the same graph, but {name}[{at}] is {int(other[at])}, of another"
        )


def sorted_pairs(node: Tensor, cluster: Tensor, rows: Rows, total: int) -> tuple[Tensor, Tensor]:
    """The numbers ``node * total + cluster`` of pairs, ascending, and the pair of each."""
    keys, by_key = torch.sort(node * total + cluster, stable=True)
    same = keys.diff() == 0
    if bool(same.any()):
        row = node[by_key[int(same.int().argmax())]]
        given = int(row if rows.order is None else rows.order[row])
        raise ValueError(f"node and cluster must be different pairs, got one of node {given} twice")
    return keys, by_key


def kept_error(index: Tensor, num_nodes: int) -> ValueError:
    """The exception for bad numbers of kept nodes."""
    try:
        check_range("index", index, num_nodes, "nodes")
    except ValueError as error:
        return error
    return ValueError(
        f"index must have different nodes, got {index.numel()}, of which {index.unique().numel()} differ"
    )


def check_dense(s: Any, rows: Rows, name: str = "s") -> Tensor:
    """A dense assignment ``[N, K]``, or its logits."""
    s = checks.strided(name, s)
    if s.dtype not in checks.FLOATS:
        raise TypeError(f"{name} must have a floating dtype, got {s.dtype}")
    if s.dim() != 2 or s.size(0) != rows.num_nodes:
        raise ValueError(f"{name} must have shape [N, K] = [{rows.num_nodes}, K], got {tuple(s.shape)}")
    checks.check_device(name, s, "the graph", rows.ptr)
    return s


def large_entries(s: Tensor, counts: Tensor, m: int | None, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Rows and columns of the entries to keep, of which row i has the first ``counts[i]``."""
    k = s.size(1)
    kept = (s != 0) if threshold is None else (s > threshold)
    kept = kept & (torch.arange(k, device=s.device) < counts[:, None])
    if m is not None and checks.check_size("m", m) < k:
        kept = largest_of_rows(s, kept, m)
    node, own = kept.nonzero(as_tuple=True)
    return node, own


def largest_of_rows(values: Tensor, allowed: Tensor, m: int) -> Tensor:
    """The ``m`` largest of the allowed elements of each row, bool; of equal ones the first. NaN is as large as inf."""
    if m == 0:
        return torch.zeros_like(allowed)
    values = values.nan_to_num(torch.inf, torch.inf, -torch.inf).masked_fill(~allowed, -torch.inf)
    least = values.topk(m, dim=1).values[:, -1:]
    more, equal = (values > least) & allowed, (values == least) & allowed
    return more | (equal & (equal.cumsum(1) <= m - more.sum(1, keepdim=True)))


def check_select(select: Any, rows: Rows) -> tuple[Tensor, Tensor, Tensor | None, int]:
    """Nodes, clusters of the batch, weights and the number of clusters of PyG's ``SelectOutput``."""
    for name in ("node_index", "cluster_index", "num_nodes", "num_clusters"):
        if not hasattr(select, name):
            raise TypeError(f"select must have {name}, as PyG's SelectOutput, got {type(select).__name__}")
    if select.num_nodes != rows.num_nodes:
        raise ValueError(
            f"num_nodes of select must be {rows.num_nodes}, those of the graph, got {select.num_nodes}"
        )
    node = check_numbers("node_index", select.node_index, "[M]", None, rows)
    m, total = node.numel(), checks.check_size("num_clusters", select.num_clusters)
    cluster = check_numbers("cluster_index", select.cluster_index, "[M] like node_index", m, rows)
    weight = check_weights("weight", getattr(select, "weight", None), m, "node_index", node)
    check_range("node_index", node, rows.num_nodes, "nodes")
    return node, check_range("cluster_index", cluster, total, "clusters"), weight, total


def pointers_of_batch(node: Tensor, cluster: Tensor, rows: Rows, total: int) -> Tensor:
    """First cluster of each graph, ``[B + 1]``, for clusters that are numbered over the batch."""
    graph_of = rows.graph_of_node[node]
    last = graph_of.new_full((total,), -1).scatter_reduce_(0, cluster, graph_of, "amax")
    first = graph_of.new_full((total,), rows.num_graphs).scatter_reduce_(0, cluster, graph_of, "amin")
    if bool(((first < last) & (last >= 0)).any()):
        raise ValueError("cluster_index has a cluster with nodes of several graphs")
    graph = last.cummax(0)[0].clamp(min=0) if total else last
    if bool((last[last >= 0].diff() < 0).any()):
        raise ValueError("cluster_index must have the clusters in the order of their graphs")
    return torch.searchsorted(graph, torch.arange(rows.num_graphs + 1, device=graph.device))

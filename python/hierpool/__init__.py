"""Fused graph pooling for PyTorch: DiffPool and other soft poolers."""

from hierpool._version import __version__
from hierpool.backends import explain
from hierpool.functional import dense_diff_pool, dense_mincut_pool, diff_pool, mincut_pool
from hierpool.graph import Assignment, RaggedGraph
from hierpool.nn.dmon_pooling import DMoNPooling
from hierpool.ops.asymmetric_norm import asymmetric_norm
from hierpool.ops.edge_distances import edge_distances
from hierpool.ops.kron import kron
from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import soft_pool
from hierpool.ops.sparse_pool import PooledGraph, sparse_lift, sparse_pool
from hierpool.ops.sparse_soft_pool import sparse_soft_pool
from hierpool.ops.spmm import spmm
from hierpool.ops.top_m_softmax import top_m_softmax
from hierpool.ops.total_variation import total_variation
from hierpool.ops.walk_cut import walk_cut
from hierpool.record import SoftPoolRecord, SparsePoolRecord
from hierpool.selection import heavy_edge_clusters, multilevel_clusters

__all__ = [
    "Assignment",
    "DMoNPooling",
    "PooledGraph",
    "RaggedGraph",
    "SoftPoolRecord",
    "SparsePoolRecord",
    "__version__",
    "asymmetric_norm",
    "dense_diff_pool",
    "dense_mincut_pool",
    "diff_pool",
    "edge_distances",
    "explain",
    "heavy_edge_clusters",
    "kron",
    "link_bce",
    "mincut_pool",
    "multilevel_clusters",
    "soft_pool",
    "sparse_lift",
    "sparse_pool",
    "sparse_soft_pool",
    "spmm",
    "top_m_softmax",
    "total_variation",
    "walk_cut",
]

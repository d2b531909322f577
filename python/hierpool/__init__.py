"""Fused graph pooling for PyTorch: DiffPool and the soft-clustering poolers around it."""

from hierpool._version import __version__
from hierpool.backends import explain
from hierpool.coarsen import heavy_edge_clusters
from hierpool.functional import diff_pool, mincut_pool
from hierpool.graph import RaggedGraph
from hierpool.integrations.pyg import dense_diff_pool, dense_mincut_pool
from hierpool.nn.dmon_pooling import DMoNPooling
from hierpool.ops import (
    asymmetric_norm,
    edge_distances,
    link_bce,
    soft_pool,
    spmm,
    total_variation,
    walk_cut,
)
from hierpool.record import SoftPoolRecord

__all__ = [
    "DMoNPooling",
    "RaggedGraph",
    "SoftPoolRecord",
    "__version__",
    "asymmetric_norm",
    "dense_diff_pool",
    "dense_mincut_pool",
    "diff_pool",
    "edge_distances",
    "explain",
    "heavy_edge_clusters",
    "link_bce",
    "mincut_pool",
    "soft_pool",
    "spmm",
    "total_variation",
    "walk_cut",
]

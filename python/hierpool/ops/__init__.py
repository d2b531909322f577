"""Operators: schema, shape function, fake kernel, autograd and public function, one file each."""

from hierpool.ops.asymmetric_norm import asymmetric_norm
from hierpool.ops.edge_distances import edge_distances
from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import soft_pool
from hierpool.ops.spmm import spmm
from hierpool.ops.total_variation import TotalVariation, total_variation
from hierpool.ops.walk_cut import walk_cut

__all__ = [
    "TotalVariation",
    "asymmetric_norm",
    "edge_distances",
    "link_bce",
    "soft_pool",
    "spmm",
    "total_variation",
    "walk_cut",
]

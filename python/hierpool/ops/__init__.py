"""Operators: schema, shape function, fake kernel, autograd and public function, one file each."""

from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import soft_pool
from hierpool.ops.spmm import spmm
from hierpool.ops.walk_cut import walk_cut

__all__ = ["link_bce", "soft_pool", "spmm", "walk_cut"]

"""Soft pooling from launches."""

from hierpool_kernels.adjacency import Csr, Dense
from hierpool_kernels.soft_pool_bwd import launch_soft_pool_bwd
from hierpool_kernels.soft_pool_fwd import launch_soft_pool_fwd
from hierpool_kernels.soft_pool_types import Outputs, Saved, Upstream, Wanted

__all__ = [
    "Csr",
    "Dense",
    "Outputs",
    "Saved",
    "Upstream",
    "Wanted",
    "launch_soft_pool_bwd",
    "launch_soft_pool_fwd",
]

"""The operators in plain PyTorch: the oracle of every test and the fallback of every machine."""

from hierpool.reference.asymmetric_norm import asymmetric_norm, asymmetric_norm_backward
from hierpool.reference.link_bce import (
    link_bce,
    link_bce_backward,
    link_bce_csr,
    link_bce_csr_backward,
)
from hierpool.reference.soft_pool_csr import soft_pool_csr, soft_pool_csr_backward
from hierpool.reference.soft_pool_dense import soft_pool_dense, soft_pool_dense_backward
from hierpool.reference.spmm import spmm
from hierpool.reference.total_variation import (
    edge_distances,
    edge_distances_backward,
    total_variation,
    total_variation_backward,
    total_variation_csr,
    total_variation_csr_backward,
)

__all__ = [
    "asymmetric_norm",
    "asymmetric_norm_backward",
    "edge_distances",
    "edge_distances_backward",
    "link_bce",
    "link_bce_backward",
    "link_bce_csr",
    "link_bce_csr_backward",
    "soft_pool_csr",
    "soft_pool_csr_backward",
    "soft_pool_dense",
    "soft_pool_dense_backward",
    "spmm",
    "total_variation",
    "total_variation_backward",
    "total_variation_csr",
    "total_variation_csr_backward",
]

"""The operators in plain PyTorch, differentiable any number of times. Tests compare the kernels with them."""

from hierpool.reference.asymmetric_norm import asymmetric_norm
from hierpool.reference.coalesce import coalesce
from hierpool.reference.link_bce import link_bce, link_bce_csr
from hierpool.reference.soft_pool_csr import soft_pool_csr
from hierpool.reference.soft_pool_dense import SumOptions, soft_pool_dense, valid_rows
from hierpool.reference.spmm import spmm
from hierpool.reference.spmm_max import spmm_max
from hierpool.reference.total_variation import edge_distances, total_variation, total_variation_csr
from hierpool.reference.triple_product import triple_product

__all__ = [
    "SumOptions",
    "asymmetric_norm",
    "coalesce",
    "edge_distances",
    "link_bce",
    "link_bce_csr",
    "soft_pool_csr",
    "soft_pool_dense",
    "spmm",
    "spmm_max",
    "total_variation",
    "total_variation_csr",
    "triple_product",
    "valid_rows",
]

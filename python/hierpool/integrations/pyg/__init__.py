"""PyTorch Geometric's dense pooling, with its signatures and values, and in its place if that is wanted."""

from hierpool.integrations.pyg.dense import dense_diff_pool, dense_mincut_pool
from hierpool.integrations.pyg.patching import Patch, patch, unpatch
from hierpool.nn.dmon_pooling import DMoNPooling

__all__ = ["DMoNPooling", "Patch", "dense_diff_pool", "dense_mincut_pool", "patch", "unpatch"]

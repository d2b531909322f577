"""Hierarchical networks of layers of :mod:`hierpool.nn`."""

from hierpool.models.diff_pool_net import DiffPoolNet, DiffPoolNetOutput
from hierpool.models.graph_unet import GraphUNet
from hierpool.models.pool_net import PoolNet, PoolNetOutput

__all__ = ["DiffPoolNet", "DiffPoolNetOutput", "GraphUNet", "PoolNet", "PoolNetOutput"]

"""Hierarchical networks of layers of :mod:`hierpool.nn`."""

from hierpool.models.diff_pool_net import DiffPoolNet, DiffPoolNetOutput

__all__ = ["DiffPoolNet", "DiffPoolNetOutput"]

"""One graph in the memory of several processes, on the process groups of ``torch.distributed``."""

from hierpool.distributed.graph import ShardedGraph
from hierpool.distributed.ranks import sum_gradients

__all__ = ["ShardedGraph", "sum_gradients"]

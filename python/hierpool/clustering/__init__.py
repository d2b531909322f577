"""Soft clustering of one large graph by a graph network that is trained on a pooling loss."""

from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.features import NodeInputs, node_inputs
from hierpool.clustering.loop import Clustering, cluster
from hierpool.clustering.memory import MemoryEstimate, peak_memory_bytes, plan
from hierpool.clustering.model import AssignmentNet

__all__ = [
    "AssignmentNet",
    "ClusterConfig",
    "Clustering",
    "MemoryEstimate",
    "NodeInputs",
    "cluster",
    "node_inputs",
    "peak_memory_bytes",
    "plan",
]

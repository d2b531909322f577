"""Soft clustering of one large graph with a graph network that is trained on a pooling loss."""

from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.features import NodeInputs, node_inputs
from hierpool.clustering.loop import Clustering, cluster
from hierpool.clustering.memory import GraphSize, MemoryEstimate, resolve
from hierpool.clustering.model import AssignmentNet
from hierpool.clustering.refinement import refine

__all__ = [
    "AssignmentNet",
    "ClusterConfig",
    "Clustering",
    "GraphSize",
    "MemoryEstimate",
    "NodeInputs",
    "cluster",
    "node_inputs",
    "refine",
    "resolve",
]

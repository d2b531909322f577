"""Batches of graphs as one sparse matrix, and every form they are made from."""

from hierpool.graph.assignment import Assignment
from hierpool.graph.ragged import RaggedGraph

__all__ = ["Assignment", "RaggedGraph"]

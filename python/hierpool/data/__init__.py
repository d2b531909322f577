"""Graphs from files and generators: loading, splitting, padding into batches."""

from hierpool.data.graphs import BatchLoader, DenseBatch, Graph, GraphDataset, collate
from hierpool.data.splits import Split, cross_validation, holdout
from hierpool.data.synthetic import PlantedGraph, rmat, stochastic_block_model
from hierpool.data.tu import load_tu
from hierpool.data.tu_files import DatasetError

__all__ = [
    "BatchLoader",
    "DatasetError",
    "DenseBatch",
    "Graph",
    "GraphDataset",
    "PlantedGraph",
    "Split",
    "collate",
    "cross_validation",
    "holdout",
    "load_tu",
    "rmat",
    "stochastic_block_model",
]

"""Loading, generating, splitting and batching graphs."""

from hierpool.data.edge_lists import EdgeList, read_edge_list
from hierpool.data.files import DatasetError
from hierpool.data.graphs import (
    Batch,
    DenseBatch,
    Graph,
    GraphDataset,
    RaggedBatch,
    collate,
    collate_ragged,
)
from hierpool.data.large_graphs import LargeGraph, load_large, undirected
from hierpool.data.loader import BatchLoader
from hierpool.data.packed import PackedGraphs
from hierpool.data.shards import load_sharded
from hierpool.data.splits import Split, cross_validation, holdout
from hierpool.data.synthetic import PlantedGraph, rmat, stochastic_block_model
from hierpool.data.tu import load_tu

__all__ = [
    "Batch",
    "BatchLoader",
    "DatasetError",
    "DenseBatch",
    "EdgeList",
    "Graph",
    "GraphDataset",
    "LargeGraph",
    "PackedGraphs",
    "PlantedGraph",
    "RaggedBatch",
    "Split",
    "collate",
    "collate_ragged",
    "cross_validation",
    "holdout",
    "load_large",
    "load_sharded",
    "load_tu",
    "read_edge_list",
    "rmat",
    "stochastic_block_model",
    "undirected",
]

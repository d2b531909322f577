"""Graphs of given sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hierpool.data import Graph


def make_graphs(sizes: Sequence[int]) -> list[Graph]:
    """Paths: node i is joined to node i + 1."""
    graphs = []
    for label, n in enumerate(sizes):
        forward = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        edges = torch.cat([forward, forward.flip(0)], 1)
        graphs.append(Graph(torch.full((n, 2), float(label + 1)), edges, label))
    return graphs

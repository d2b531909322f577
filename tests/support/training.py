"""A small dataset that can be learned, and the configuration of a short run on it."""

from __future__ import annotations

from typing import Any

import torch

from hierpool.data import Graph, GraphDataset
from hierpool.training import TrainConfig

SMALL = {
    "hidden_channels": 4,
    "embedding_channels": 4,
    "layers": 2,
    "batch_size": 8,
    "lr": 1e-2,
    "dropout": 0.2,
}


def make_dataset(graphs: int = 30) -> GraphDataset:
    """Rings against paths of 4 to 8 nodes, with the degree as the feature."""
    made = []
    for i in range(graphs):
        n, label = 4 + i % 5, i % 2
        forward = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])[:, : n - label]
        edges = torch.cat([forward, forward.flip(0)], 1)
        degree = torch.bincount(edges[0], minlength=n)
        made.append(Graph(torch.nn.functional.one_hot(degree, 3).float(), edges, label))
    return GraphDataset("RINGS", tuple(made), 2, "degree", "here", "0123")


def make_config(**options: Any) -> TrainConfig:
    return TrainConfig(**(SMALL | {"dataset": "RINGS", "epochs": 4} | options))


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]

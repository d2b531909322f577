"""Cases of clustering a graph that the processes of a group share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool import metrics
from hierpool.clustering import ClusterConfig, GraphSize, cluster, node_inputs, refine, resolve
from hierpool.clustering import refinement as refinement_module
from hierpool.data import stochastic_block_model
from hierpool.distributed import ShardedGraph

NODES, COMMUNITIES = 900, 5


def planted(group: dist.ProcessGroup, *, weighted: bool = False) -> tuple[Any, ShardedGraph, Tensor]:
    graph, labels = stochastic_block_model(NODES, COMMUNITIES, mean_degree=12, mixing=0.15, seed=3)
    if weighted:
        graph = graph.with_value(1 + (graph.row + graph.col) % 3 / 2.0, symmetric=True)
    return graph, ShardedGraph.from_global(graph, src=None, group=group), labels


def training(loss: str, group: dist.ProcessGroup) -> None:
    """Every step, in batches of nodes, and what is found."""
    graph, shared, labels = planted(group, weighted=loss == "mincut")
    x = torch.randn(NODES, 7, generator=torch.Generator().manual_seed(1)) + labels[:, None] % 3
    config = ClusterConfig(k=COMMUNITIES, loss=loss, epochs=3, batch_nodes=400, hidden_channels=8)
    config, _ = resolve(config, GraphSize(NODES, graph.num_edges, False, 7), None)
    options: dict[str, Any] = {"channels": 0, "products": 0, "seed": 0}
    inputs = node_inputs(graph, x, **options)
    own = node_inputs(shared, shared.scatter(x, src=None), **options)
    for got, expected in zip(own, inputs, strict=True):
        torch.testing.assert_close(shared.gather(got), expected, rtol=1e-4, atol=1e-4)
    one, several = cluster(config, graph, inputs), cluster(config, shared, own)
    assert len(one.history) == len(several.history) == 9
    for row, other in zip(one.history, several.history, strict=True):
        for name in set(row) - {"seconds"}:
            assert abs(row[name] - other[name]) < 2e-3 * (1 + abs(row[name])), (name, row, other)
    found, probability = several.net.assign(own)
    expected, _ = one.net.assign(inputs)
    assert (shared.gather(found) == expected).float().mean() > 0.98
    assert probability.shape == found.shape


def random_features(group: dist.ProcessGroup) -> None:
    """The random numbers of one process; the same subspace."""
    graph, shared, labels = planted(group)
    options: dict[str, Any] = {"channels": 12, "products": 12, "seed": 4}
    inputs, own = node_inputs(graph, None, **options), node_inputs(shared, None, **options)
    kernels = [shared.gather(t) for t in own]
    for got, expected in zip(kernels, inputs, strict=True):
        torch.testing.assert_close(got @ got.t(), expected @ expected.t(), rtol=0.02, atol=0.02)
    config = ClusterConfig(k=COMMUNITIES, epochs=30, batch_nodes=900)
    config, _ = resolve(config, GraphSize(NODES, graph.num_edges, False, 0), None)
    clusters, _ = cluster(config, shared, own).net.assign(own)
    assert metrics.normalized_mutual_information(shared.gather(clusters), labels) > 0.9


def quality(group: dist.ProcessGroup) -> None:
    for weighted in (False, True):
        graph, shared, labels = planted(group, weighted=weighted)
        own = shared.scatter(labels, src=None)
        close = torch.testing.assert_close
        close(metrics.modularity(shared, own), metrics.modularity(graph, labels))
        close(metrics.conductance(shared, own), metrics.conductance(graph, labels))
        close(metrics.pooled_weights(shared, own, 6), metrics.pooled_weights(graph, labels, 6))


def refined(group: dist.ProcessGroup) -> None:
    """A graph that fits one process gets its clusters; a larger one gets better ones by moves in all processes."""
    graph, shared, labels = planted(group)
    rough = torch.where(
        torch.rand(NODES, generator=torch.Generator().manual_seed(5)) < 0.4, labels * 2 % 5, labels
    )
    own = shared.scatter(rough, src=None)
    found = refine(shared, own, COMMUNITIES, seed=2)
    assert shared.gather(found).equal(refine(graph, rough, COMMUNITIES, seed=2))
    whole = refinement_module._WHOLE_ENTRIES
    refinement_module._WHOLE_ENTRIES = 0
    try:
        moved = shared.gather(refine(shared, own, COMMUNITIES, seed=2))
    finally:
        refinement_module._WHOLE_ENTRIES = whole
    assert metrics.modularity(graph, moved) > 0.98 * metrics.modularity(graph, labels)
    assert metrics.normalized_mutual_information(moved, labels) > 0.9
    copies: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(copies, moved, group=group)
    assert all(one.equal(moved) for one in copies)


CASES: dict[str, Callable[[dist.ProcessGroup], None]] = {
    **{f"training-{loss}": partial(training, loss) for loss in ("dmon", "mincut", "diffpool")},
    **{one.__name__: one for one in (random_features, quality, refined)},
}

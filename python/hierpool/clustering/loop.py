"""Training of the assignment network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hierpool import soft_pool
from hierpool.clustering.adam import Adam
from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.features import NodeInputs, unit_weights
from hierpool.clustering.model import AssignmentNet
from hierpool.clustering.objective import OBJECTIVES, Objective
from hierpool.clustering.sampling import count_batches, sampled
from hierpool.clustering.shared import Graph, count_nodes
from hierpool.distributed import ShardedGraph, sum_gradients
from hierpool.training.checkpoint import RunFolder

Row = dict[str, float]
_CLIP = 1.0  # maximum norm of the gradient


class Clustering(NamedTuple):
    """A trained network and its history."""

    net: AssignmentNet
    history: list[Row]  # one row per step


def cluster(
    config: ClusterConfig,
    graph: Graph,
    inputs: NodeInputs,
    *,
    fingerprint: str = "",
    folder: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[Row], None] | None = None,
) -> Clustering:
    r"""Train a network that assigns the nodes of a graph to clusters, with a pooling loss only.

    Every step pools the graph, or the subgraph of a batch of nodes, with the assignment of the network, and descends
    the gradient of the loss ``config.loss``. Weights are divided by their mean, so that their unit is of no account. A
    run is repeatable bit for bit on the same machine, also if it is interrupted and resumed.

    Args:
        config: configuration without zeros (:func:`hierpool.clustering.resolve`).
        graph: one undirected graph. If several processes share it, all call the function, with the inputs of their
            nodes; all have the same network, and the first one writes the files.
        inputs: inputs of its nodes.
        fingerprint: hash of the graph and its features, which a checkpoint must have in common with the run.
        folder: folder of ``checkpoint.pt`` and ``log.csv``; ``None`` writes nothing.
        resume: continue from ``folder/checkpoint.pt`` if it exists.
        on_step: called with the row of each step.

    Raises:
        CheckpointError: the checkpoint is corrupt or belongs to another run.
        OSError: the checkpoint or the log could not be written; the previous files are unchanged.
        FloatingPointError: the loss is not finite.
        ValueError: all weights are 0.
    """
    graph = unit_weights(graph)
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    net = AssignmentNet(inputs.features.size(1), config.hidden_channels, config.k)
    net.initialize_head(inputs, generator, graph)
    optimizer = Adam(net.parameters(), lr=config.lr)
    unit = {} if graph.value is None else {"weights": "divided by their mean"}  # those of older runs were not
    is_first = not isinstance(graph, ShardedGraph) or graph.ranks.rank == 0
    files = RunFolder(folder if is_first else None, config.identity() | {"fingerprint": fingerprint} | unit)
    history = _resume(files, net, optimizer, graph) if resume else []
    num_nodes = count_nodes(graph)
    per_epoch = count_batches(num_nodes, config.batch_nodes)
    total = config.epochs * per_epoch
    while len(history) < total:
        epoch, start = divmod(len(history), per_epoch)
        for part, rows in sampled(graph, inputs, config.batch_nodes, config.seed, epoch, start):
            optimizer.lr = 0.5 * config.lr * (1 + math.cos(math.pi * len(history) / total))
            row = {"step": len(history) + 1.0, "epoch": epoch + 1.0}
            history.append(row | _step(net, optimizer, part, rows, config, first=not history))
            due = len(history) % config.checkpoint_every == 0 or len(history) == total
            if due:
                state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
                files.save(state, history)
            if on_step is not None:
                on_step(history[-1])
    return Clustering(net, history)


def _resume(files: RunFolder, net: AssignmentNet, optimizer: Adam, graph: Graph) -> list[Row]:
    """The history of the checkpoint, whose state the network and the optimizer take; empty if there is none."""
    history: list[Row] = []

    def restore(state: dict[str, Any]) -> None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        history.extend(state["history"])

    if not isinstance(graph, ShardedGraph):
        files.resume(restore)
        return history

    def load() -> dict[str, Any]:
        files.resume(restore)  # in the process that has the folder
        return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "history": list(history)}

    state = graph.ranks.agree(load, compared=())[0]
    if graph.ranks.rank:
        restore(state)
    return history


def _step(
    net: AssignmentNet,
    optimizer: Adam,
    graph: Graph,
    inputs: NodeInputs,
    config: ClusterConfig,
    *,
    first: bool,
) -> dict[str, Any]:
    """Take one step of the optimizer and return its time, its losses and the effective number of clusters.

    ``clusters``, :math:`n^2 / |S^T 1|^2`, is K for clusters of equal size and 1 if all nodes are in one cluster.
    """
    started = time.perf_counter()
    objective: Objective = OBJECTIVES[config.loss]
    logits = net(inputs)
    no_features = logits.new_zeros(logits.size(0), 0)
    record = soft_pool(no_features, graph, logits, backend=config.backend, **objective.options)
    fit, regulariser = (term(record) for term in objective.terms)
    loss = fit + config.weight * objective.weight * regulariser
    if not loss.isfinite():
        advice = " before the first step" if first else "; try a smaller learning rate"
        raise FloatingPointError(f"the loss of {config.loss} is {loss.item()}{advice}")
    optimizer.zero_grad()
    loss.backward()
    if isinstance(graph, ShardedGraph):
        sum_gradients(net.parameters(), graph.ranks.group)
    nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
    optimizer.step()
    size = record.size.detach().double()
    clusters = size.sum().square() / size.square().sum().clamp(min=1e-300)
    return {
        "seconds": time.perf_counter() - started,
        "loss": loss.item(),
        objective.names[0]: fit.item(),
        objective.names[1]: regulariser.item(),
        "clusters": clusters.item(),
    }

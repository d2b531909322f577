"""Training the assignment network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.features import NodeInputs
from hierpool.clustering.model import AssignmentNet
from hierpool.clustering.objective import OBJECTIVES, Objective
from hierpool.clustering.sampling import batches, count_batches, induced_subgraph
from hierpool.graph import RaggedGraph
from hierpool.ops import soft_pool
from hierpool.training import checkpoint
from hierpool.training.files import write_csv

Row = dict[str, float]
_CLIP = 1.0  # largest norm of the gradient


class Clustering(NamedTuple):
    """A trained clustering."""

    net: AssignmentNet
    history: list[Row]  # one row per step


def cluster(
    config: ClusterConfig,
    graph: RaggedGraph,
    inputs: NodeInputs,
    *,
    fingerprint: str = "",
    folder: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[Row], None] | None = None,
) -> Clustering:
    r"""Train a network to assign the nodes of a graph to clusters, by a pooling loss alone.

    Every step pools the graph, or the subgraph of a batch of nodes, by the network's assignment and descends the
    gradient of the loss of ``config.loss``. The run is repeatable bit for bit on the same machine, interrupted and
    resumed or not.

    Args:
        config: of the run, without zeros (:func:`hierpool.clustering.plan`).
        graph: one undirected graph.
        inputs: of its nodes.
        fingerprint: of the graph and its features, which a checkpoint must agree on.
        folder: where ``checkpoint.pt`` and ``log.csv`` are written; ``None``: nowhere.
        resume: go on from ``folder/checkpoint.pt`` if it is there.
        on_step: called with each step's row.

    Raises:
        CheckpointError: the checkpoint is corrupt or of another run.
        OSError: the checkpoint or the log could not be written; the previous ones are whole.
        FloatingPointError: the loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    net = AssignmentNet(inputs.near.size(1), config.hidden_channels, config.k)
    net.start_from_seeds(inputs, generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr)
    history: list[Row] = []
    identity = config.identity() | {"fingerprint": fingerprint}
    file = None if folder is None else Path(folder, "checkpoint.pt")
    if resume and file is not None and file.exists():
        state = checkpoint.load(file, identity)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]

    per_epoch = count_batches(graph.num_nodes, config.batch_nodes)
    total = config.epochs * per_epoch
    while len(history) < total:
        epoch, start = divmod(len(history), per_epoch)
        for nodes in batches(graph.num_nodes, config.batch_nodes, config.seed, epoch, start):
            for group in optimizer.param_groups:
                group["lr"] = _rate(config.lr, len(history), total)
            part, rows = graph, inputs
            if per_epoch > 1:
                part, rows = induced_subgraph(graph, nodes), inputs.rows(nodes)
            row = {"step": len(history) + 1.0, "epoch": epoch + 1.0}
            history.append(row | _step(net, optimizer, part, rows, config))
            due = len(history) % config.checkpoint_every == 0 or len(history) == total
            if due and file is not None:
                state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
                checkpoint.save(file, identity, state)
                write_csv(file.with_name("log.csv"), history)
            if on_step is not None:
                on_step(history[-1])
    return Clustering(net, history)


def _rate(highest: float, step: int, total: int) -> float:
    """Learning rate: a cosine from ``highest`` to 0."""
    return highest * 0.5 * (1 + math.cos(math.pi * step / total))


def _step(
    net: AssignmentNet,
    optimizer: torch.optim.Optimizer,
    graph: RaggedGraph,
    inputs: NodeInputs,
    config: ClusterConfig,
) -> dict[str, Any]:
    """One step of the optimizer; its time and losses.

    ``clusters`` is the number of equal ones that would be as unequal as those of the assignment,
    :math:`n^2 / |S^T 1|^2`.
    """
    started = time.perf_counter()
    objective: Objective = OBJECTIVES[config.loss]
    logits = net(inputs)
    nothing = logits.new_zeros(logits.size(0), 0)  # nodes' features are not pooled
    record = soft_pool(nothing, graph, logits, backend=config.backend, **objective.options)
    fit, spread = (term(record) for term in objective.terms)
    loss = fit + config.weight * objective.weight * spread
    if not loss.isfinite():
        raise FloatingPointError(f"the loss is {loss.item()}; a smaller learning rate may help")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
    optimizer.step()
    size = record.size.detach().double()
    clusters = size.sum().square() / size.square().sum().clamp(min=1e-300)
    return {
        "seconds": time.perf_counter() - started,
        "loss": loss.item(),
        objective.names[0]: fit.item(),
        objective.names[1]: spread.item(),
        "clusters": clusters.item(),
    }

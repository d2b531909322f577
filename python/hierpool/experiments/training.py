"""Training of a network under the protocol of an experiment."""

from __future__ import annotations

import copy
import math
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.data import BatchLoader, GraphDataset, Split
from hierpool.experiments.networks import auxiliary_loss
from hierpool.experiments.protocol import Protocol
from hierpool.training.loop import evaluate

Outcome = dict[str, Any]


class TimeLimitError(RuntimeError):
    """A run takes longer than allowed."""


def _loader(
    dataset: GraphDataset, indices: Tensor, protocol: Protocol, dense: bool, seed: int | None = None
) -> BatchLoader:
    return BatchLoader(
        dataset.select(indices),
        protocol.batch_size,
        seed=seed,
        dense=dense,
        max_pairs_per_batch=protocol.max_pairs_per_batch,
    )


def train_epoch(
    net: nn.Module, optimizer: torch.optim.Optimizer, loader: BatchLoader, epoch: int, clip: float
) -> None:
    """Train for one pass over the graphs.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    net.train()
    for batch in loader.epoch(epoch):
        out = net(*batch.inputs)
        loss = F.cross_entropy(out.logits, batch.y)
        further = auxiliary_loss(out)
        if further is not None:
            loss = loss + further
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip)
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite in epoch {epoch}")
        optimizer.step()


def train(
    net: nn.Module,
    dataset: GraphDataset,
    split: Split,
    protocol: Protocol,
    seed: int,
    *,
    dense: bool = False,
    time_limit: float | None = None,
) -> Outcome:
    """Train a network and evaluate it as the protocol says.

    Args:
        net: the network, with initial weights.
        dataset: all graphs.
        split: graphs for training, validation and test.
        protocol: the configuration.
        seed: seed of the order of graphs.
        dense: pad batches.
        time_limit: seconds; ``None``: no limit.

    Returns:
        With ``"fair"`` ``test_accuracy``, and ``validation_accuracy`` and ``validation_loss`` of the epoch that is
        tested, ``best_epoch``; with ``"paper"`` ``validation_curve``, the accuracy after every epoch. Both have
        ``epochs``, ``seconds_per_epoch``, the median of the processor's time for training alone, and ``parameters``.

    Raises:
        TimeLimitError: the limit is exceeded.
        FloatingPointError: a gradient is not finite, or the validation loss of every epoch.
    """
    start = time.perf_counter()
    is_fair = protocol.name == "fair"
    learned = split.train if is_fair else torch.cat([split.train, split.validation]).sort().values
    train_loader = _loader(dataset, learned, protocol, dense, seed)
    validation = _loader(dataset, split.validation if is_fair else split.test, protocol, dense)
    optimizer = torch.optim.Adam(net.parameters(), lr=protocol.lr, fused=True)
    rows: list[tuple[float, float]] = []  # accuracy and loss on the validation graphs
    seconds = []
    best, weights = 0, copy.deepcopy(net.state_dict())
    for epoch in range(1, protocol.epochs + 1):
        before = time.process_time()
        train_epoch(net, optimizer, train_loader, epoch, protocol.clip)
        seconds.append(time.process_time() - before)
        rows.append(evaluate(net, validation))  # type: ignore[arg-type]
        loss = rows[-1][1]
        if is_fair and math.isfinite(loss) and (not best or loss < rows[best - 1][1]):
            best, weights = epoch, copy.deepcopy(net.state_dict())
        elif is_fair and epoch - best >= protocol.patience:
            break
        _check_time(time.perf_counter() - start, time_limit, epoch)
    outcome: Outcome = {
        "epochs": len(rows),
        "seconds_per_epoch": statistics.median(seconds),
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    if not is_fair:
        return outcome | {"validation_curve": [round(accuracy, 6) for accuracy, _ in rows]}
    if not best:
        raise FloatingPointError("the validation loss is not finite in any epoch")
    net.load_state_dict(weights)
    test, _ = evaluate(net, _loader(dataset, split.test, protocol, dense))  # type: ignore[arg-type]
    accuracy, loss = rows[best - 1]
    return outcome | {
        "test_accuracy": test,
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "best_epoch": best,
    }


def _check_time(passed: float, limit: float | None, epoch: int) -> None:
    if limit is not None and passed > limit:
        raise TimeLimitError(f"{epoch} epochs took {passed:.0f} s, more than the limit of {limit:.0f} s")

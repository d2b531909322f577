"""Training one model on one split."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.data import BatchLoader, GraphDataset, Split
from hierpool.models import DiffPoolNet
from hierpool.training import checkpoint
from hierpool.training.config import TrainConfig
from hierpool.training.files import write_csv

Row = dict[str, float]


class FoldResult(NamedTuple):
    """What training on one split came to."""

    history: list[Row]  # one per epoch
    best_epoch: int  # counted from 1
    validation_accuracy: float  # at the best epoch
    test_accuracy: float  # at the best epoch
    test_loss: float
    model: DiffPoolNet  # with the weights of the best epoch


class TrainState:
    """Everything that changes while training, and that a checkpoint holds."""

    def __init__(self, model: DiffPoolNet, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.averaged = copy.deepcopy(model)  # what is evaluated, chosen and returned
        self.optimizer = optimizer
        self.history: list[Row] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.best_weights = state["best_weights"]

    @torch.no_grad()
    def average(self, epochs: int) -> None:
        """Take the newest weights into the exponential average over about so many epochs."""
        newest = 2.0 / (min(len(self.history) + 1, epochs) + 1)
        for kept, new in zip(
            self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            kept.lerp_(new, newest)

    def finish_epoch(self, row: Row) -> None:
        """Record an epoch; keep its weights if no earlier one is better on the validation graphs."""
        self.history.append(row)
        if self.best_epoch == 0 or _merit(row) > _merit(self.history[self.best_epoch - 1]):
            self.best_epoch = len(self.history)
            self.best_weights = copy.deepcopy(self.averaged.state_dict())


def _merit(row: Row) -> tuple[float, float]:
    """Epochs are chosen by validation accuracy, and among equals by validation loss."""
    return row["validation_accuracy"], -row["validation_loss"]


def build_model(config: TrainConfig, dataset: GraphDataset) -> DiffPoolNet:
    """The network of a run, with fresh weights from torch's global generator."""
    return DiffPoolNet(
        dataset.num_features,
        dataset.num_classes,
        max_nodes=dataset.max_nodes,
        ratio=config.ratio,
        levels=config.levels,
        hidden_channels=config.hidden_channels,
        embedding_channels=config.embedding_channels,
        layers=config.layers,
        head_channels=config.head_channels,
        aggregation=config.aggregation,
        readout=config.readout,
        dropout=config.dropout,
        pool=config.pool,
        pool_options={
            "temperature": config.temperature,
            "link_loss": config.link_loss if config.link_weight else None,
            "entropy": config.entropy_weight > 0,
            "convention": config.convention,
            "backend": config.backend,
        },
    )


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam as the run wants it."""
    return torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)


def make_loader(
    config: TrainConfig, dataset: GraphDataset, indices: Tensor, seed: int | None = None
) -> BatchLoader:
    """Batches of the graphs at ``indices`` as the run wants them; in their order without a seed."""
    return BatchLoader(dataset.select(indices), config.batch_size, seed=seed, dense=config.pads)


def train_epoch(
    model: DiffPoolNet, optimizer: torch.optim.Optimizer, loader: BatchLoader, epoch: int, config: TrainConfig
) -> Row:
    """One pass over the training graphs.

    Returns:
        ``seconds`` taken, and the mean over graphs of the total ``loss`` and of its terms ``task_loss``,
        ``link_loss``, ``entropy_loss`` before weighting.
    """
    model.train()
    start = time.perf_counter()
    sums = torch.zeros(4, dtype=torch.float64)
    zero = torch.zeros(())
    for batch in loader.epoch(epoch):
        out = model(*batch.inputs)
        task = F.cross_entropy(out.logits, batch.y)
        link = zero if out.link_loss is None else out.link_loss
        entropy = zero if out.entropy_loss is None else out.entropy_loss
        loss = task + config.link_weight * link + config.entropy_weight * entropy
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        sums += torch.stack([loss, task, link, entropy]).detach().double() * len(batch.y)
    seconds = time.perf_counter() - start
    means = (sums / len(loader.graphs)).tolist()
    names = ("loss", "task_loss", "link_loss", "entropy_loss")
    return {"epoch": epoch, "seconds": seconds} | dict(zip(names, means, strict=True))


@torch.no_grad()
def evaluate(model: DiffPoolNet, loader: BatchLoader) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on the loader's graphs, in evaluation mode."""
    model.eval()
    correct, loss = 0, 0.0
    for batch in loader.epoch(0):
        logits = model(*batch.inputs).logits
        correct += int((logits.argmax(-1) == batch.y).sum())
        loss += float(F.cross_entropy(logits, batch.y, reduction="sum"))
    return correct / len(loader.graphs), loss / len(loader.graphs)


def train_fold(
    config: TrainConfig,
    dataset: GraphDataset,
    split: Split,
    *,
    fold: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
) -> FoldResult:
    """Train on one split; choose the epoch on its validation graphs; test once, at that epoch.

    Evaluated, chosen and returned are weights averaged over the last epochs, which is steadier than one epoch's
    where validation graphs are few. Weights and the order of graphs depend on ``config.seed`` and ``fold`` alone, so
    the run is repeatable bit for bit on the same machine, interrupted and resumed or not.

    Args:
        config: of the run.
        dataset: all graphs.
        split: which of them are for what.
        fold: number of the split.
        folder: where ``checkpoint.pt`` and ``log.csv`` are written after every epoch; ``None``: nowhere.
        resume: go on from ``folder/checkpoint.pt`` if it is there.
        on_epoch: called with each epoch's row.

    Raises:
        CheckpointError: the checkpoint is corrupt or of another run.
        OSError: the checkpoint or the log could not be written; the previous ones are whole.
    """
    seed = config.seed * 1009 + fold
    torch.manual_seed(seed)
    model = build_model(config, dataset)
    optimizer = make_optimizer(config, model)
    state = TrainState(model, optimizer)
    identity = config.identity() | {"fold": fold, "fingerprint": dataset.fingerprint}
    file = None if folder is None else Path(folder, "checkpoint.pt")
    if resume and file is not None and file.exists():
        # Before there were ragged batches, every run was dense.
        state.load_state_dict(checkpoint.load(file, identity, {"dense": True}))
    train = make_loader(config, dataset, split.train, seed)
    validation = make_loader(config, dataset, split.validation)
    for epoch in range(len(state.history) + 1, config.epochs + 1):
        row = train_epoch(model, optimizer, train, epoch, config)
        state.average(config.average)
        row["validation_accuracy"], row["validation_loss"] = evaluate(state.averaged, validation)
        state.finish_epoch(row)
        if file is not None:
            checkpoint.save(file, identity, state.state_dict())
            write_csv(file.with_name("log.csv"), state.history)
        if on_epoch is not None:
            on_epoch(row)
    return _test(state, make_loader(config, dataset, split.test))


def _test(state: TrainState, loader: BatchLoader) -> FoldResult:
    model = state.averaged
    model.load_state_dict(state.best_weights)
    accuracy, loss = evaluate(model, loader)
    best = state.history[state.best_epoch - 1]
    return FoldResult(state.history, state.best_epoch, best["validation_accuracy"], accuracy, loss, model)

"""Training of one model on one split."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.data import Batch, BatchLoader, GraphDataset, Split, cross_validation, holdout
from hierpool.distributed.ranks import Ranks
from hierpool.models import DiffPoolNet, DiffPoolNetOutput, PoolNet, PoolNetOutput
from hierpool.nn import POOLERS, HardPooling, Precoarsening
from hierpool.training.checkpoint import CheckpointError, RunFolder
from hierpool.training.config import DTYPES, TrainConfig
from hierpool.training.parallel import Processes

Row = dict[str, float]
OnStep = Callable[[int, int, int], None]
# Arguments of the network that have the names of options.
_OPTIONS = (
    "ratio", "levels", "hidden_channels", "layers", "head_channels", "aggregation", "readout", "dropout",
)  # fmt: skip
Net = DiffPoolNet | PoolNet


class FoldResult(NamedTuple):
    """Result of training on one split."""

    history: list[Row]  # one per epoch
    best_epoch: int  # counted from 1
    validation_accuracy: float  # at the best epoch
    test_accuracy: float  # at the best epoch
    test_loss: float
    model: Net  # with the weights of the best epoch


class TrainState:
    """Everything that training changes, which is what a checkpoint holds."""

    _MODULES = ("model", "averaged", "optimizer")
    _VALUES = ("history", "best_epoch", "best_weights")

    def __init__(self, model: Net, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.averaged = copy.deepcopy(model)  # evaluated and returned
        self.optimizer = optimizer
        self.history: list[Row] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name).state_dict() for name in self._MODULES}
        return state | {name: getattr(self, name) for name in self._VALUES} | {"rng": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in self._VALUES:
            setattr(self, name, state[name])
        torch.set_rng_state(state["rng"])

    @torch.no_grad()
    def average(self, epochs: int) -> None:
        """Update the exponential moving average of the weights, whose window is ``epochs``."""
        weight = 2.0 / (min(len(self.history) + 1, epochs) + 1)
        average, newest = self.averaged.state_dict(), self.model.state_dict()
        for name, tensor in average.items():
            tensor.lerp_(newest[name], weight)

    def add_epoch(self, row: Row) -> None:
        """Record an epoch; save its weights if it is the best one on the validation graphs."""
        self.history.append(row)
        if self.best_epoch == 0 or _validation_key(row) > _validation_key(self.history[self.best_epoch - 1]):
            self.best_epoch = len(self.history)
            self.best_weights = copy.deepcopy(self.averaged.state_dict())


def _validation_key(row: Row) -> tuple[float, float]:
    """Key by which epochs are compared: validation accuracy, then validation loss."""
    return row["validation_accuracy"], -row["validation_loss"]


def make_splits(config: TrainConfig, dataset: GraphDataset) -> list[Split]:
    """The splits of a run: those of a cross-validation, or one."""
    if config.folds:
        return cross_validation(dataset.labels, config.folds, config.seed)
    return [holdout(dataset.labels, config.seed)]


def fold_seed(config: TrainConfig, fold: int) -> int:
    """The seed of the weights and of the order of graphs."""
    return config.seed * 1009 + fold


def build_model(config: TrainConfig, dataset: GraphDataset) -> Net:
    """The network of a run, with initial weights from torch's global generator."""
    options = {name: getattr(config, name) for name in _OPTIONS} | {"max_nodes": dataset.max_nodes}
    sizes = dataset.num_features, dataset.num_classes
    if config.pooler != "diff":
        of_pooler = {"ratio_of": config.ratio_of} if config.pooler in POOLERS else {}
        return PoolNet(*sizes, config.pooler, **options, pool_options={"backend": config.backend} | of_pooler)
    return DiffPoolNet(
        *sizes,
        ratio_of=config.clusters_of,
        embedding_channels=config.embedding_channels,
        pool=config.pool,
        **options,
        pool_options={
            "temperature": config.temperature,
            "link_loss": config.link_loss if config.link_weight else None,
            "entropy": config.entropy_weight > 0,
            "convention": config.convention,
            "backend": config.backend,
        },
    )


def weighted_losses(
    out: DiffPoolNetOutput | PoolNetOutput, config: TrainConfig
) -> dict[str, tuple[Tensor, float]]:
    """The auxiliary losses of a network, each 0-d, and their weights."""
    zero = torch.zeros(())
    if isinstance(out, PoolNetOutput):
        return {"pool_loss": (zero if out.loss is None else out.loss, 1.0)}
    link = zero if out.link_loss is None else out.link_loss
    entropy = zero if out.entropy_loss is None else out.entropy_loss
    return {"link_loss": (link, config.link_weight), "entropy_loss": (entropy, config.entropy_weight)}


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a run, Adam."""
    return torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)


def make_loader(
    config: TrainConfig, dataset: GraphDataset, indices: Tensor, seed: int | None = None
) -> BatchLoader:
    """Batches of the graphs at ``indices``, shuffled if ``seed`` is given."""
    return BatchLoader(
        dataset.select(indices),
        config.batch_size,
        seed=seed,
        dense=config.dense_batches,
        by_size=config.batches == "by-size",
        max_nodes_per_batch=config.max_nodes_per_batch or None,
        max_pairs_per_batch=config.max_pairs_per_batch or None,
    )


def train_step(
    model: Net,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainConfig,
    processes: Processes | None = None,
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """Train on one batch, with activations in the dtype of the configuration.

    Several processes train on the sum of their losses, each times ``weight``, and get the sums of all of them.

    The pooling operator takes its sums in float32 for either dtype, so the losses are in float32.

    Returns:
        The total ``loss`` and its unweighted terms, ``task_loss`` and those of the pooler, each 0-d.

    Raises:
        FloatingPointError: the gradient is not finite.
    """
    dtype = DTYPES[config.dtype]
    with torch.autocast(batch.y.device.type, dtype, enabled=dtype is not torch.float32):
        out = model(*batch.inputs)
    task = F.cross_entropy(out.logits.float(), batch.y)
    terms = weighted_losses(out, config)
    loss = task
    for term, factor in terms.values():
        loss = loss + factor * term
    optimizer.zero_grad(set_to_none=True)
    (loss if weight == 1 else loss * weight).backward()
    if processes is not None:
        processes.sum_gradients(model)
    # Of the optimizer: to walk through the modules takes longer than to clip.
    norm = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.clip)
    if not norm.isfinite():  # clipping would make every weight NaN
        what = "gradient is not finite" if loss.isfinite() else f"loss is {loss.item()}"
        raise FloatingPointError(f"the {what}; try a smaller learning rate")
    optimizer.step()
    found = {"loss": loss, "task_loss": task} | {name: term for name, (term, _) in terms.items()}
    means = {name: term.detach() if weight == 1 else term.detach() * weight for name, term in found.items()}
    return means if processes is None else processes.totals(means)


def train_epoch(
    model: Net,
    optimizer: torch.optim.Optimizer,
    loader: BatchLoader,
    epoch: int,
    config: TrainConfig,
    on_step: OnStep | None = None,
    processes: Processes | None = None,
) -> Row:
    """Train for one pass over the training graphs, and call ``on_step`` after each step.

    Returns:
        The ``epoch``, its time in ``seconds``, and means over graphs of what :func:`train_step` returns.

    Raises:
        FloatingPointError: the gradient of a step is not finite.
    """
    model.train()
    start = time.perf_counter()
    sums: dict[str, Tensor] = {}
    steps = len(loader.batches(epoch))
    processes = Processes() if processes is None else processes
    for done, share in enumerate(processes.shares(loader, epoch), 1):
        processes.begin(model, share)
        found = train_step(model, optimizer, share.batch, config, processes, share.own / share.whole)
        for name, term in found.items():
            sums[name] = sums.get(name, 0) + term.double() * share.whole
        if on_step is not None:
            on_step(epoch, done, steps)
    seconds = time.perf_counter() - start
    means = {name: float(total) / len(loader.graphs) for name, total in sums.items()}
    return {"epoch": epoch, "seconds": seconds} | means


@torch.no_grad()
def evaluate(model: Net, loader: BatchLoader, processes: Processes | None = None) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on the graphs of the loader, in evaluation mode."""
    model.eval()
    correct, loss = 0.0, 0.0
    processes = Processes() if processes is None else processes
    for batch, own, _ in processes.shares(loader, 0):
        if own:
            logits = model(*batch.inputs).logits
            correct += int((logits.argmax(-1) == batch.y).sum())
            loss += float(F.cross_entropy(logits, batch.y, reduction="sum"))
    correct, loss = processes.total([correct, loss])
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
    on_step: OnStep | None = None,
    ranks: Ranks | None = None,
) -> FoldResult:
    """Train on one split, choose the epoch on its validation graphs, and test once, at that epoch.

    Weights are averaged over epochs before they are evaluated, which is more stable than one epoch's weights if there
    are few validation graphs. Weights and the order of graphs depend on ``config.seed`` and ``fold`` only, so a run is
    repeatable bit for bit on the same machine, also if it is interrupted and resumed.

    Args:
        config: configuration of the run.
        dataset: all graphs.
        split: graphs for training, validation and test.
        fold: number of the split.
        folder: folder of ``checkpoint.pt`` and ``log.csv``, written after every epoch; ``None`` writes nothing.
        resume: continue from ``folder/checkpoint.pt`` if it exists.
        on_epoch: called with the row of each epoch.
        on_step: called after each step with the epoch, counted from 1, its steps so far, and all of its steps.
        ranks: the processes that train together, each on its share of the graphs of every batch; all call the function
            with the same arguments, and the first writes the files. Steps are those of one process but for rounding
            if the losses are means over graphs, as those of all poolers and of DiffPool with
            ``convention="paper"``. Other conventions of DiffPool take one norm over the graphs of a process.

    Raises:
        CheckpointError: the checkpoint is corrupt, belongs to another run, or has more epochs than ``config``.
        FloatingPointError: the gradient of a step is not finite.
        OSError: the checkpoint or the log could not be written; the previous files are unchanged.
    """
    seed = fold_seed(config, fold)
    torch.manual_seed(seed)
    model = build_model(config, dataset)
    if config.precoarsen:
        pooler = model.pools[0]
        assert isinstance(pooler, HardPooling)
        dataset = Precoarsening(pooler, config.levels)(dataset)
    optimizer = make_optimizer(config, model)
    state = TrainState(model, optimizer)
    processes = Processes(ranks)
    processes.prepare(model)
    files = RunFolder(
        folder if processes.is_first else None,
        config.identity() | {"fold": fold, "fingerprint": dataset.fingerprint},
    )
    if resume:
        processes.restore(state, lambda: files.resume(state.load_state_dict))
        if len(state.history) > config.epochs:
            raise CheckpointError(
                f"epochs must be at least {len(state.history)}, as many as the checkpoint of fold {fold} has, "
                f"got {config.epochs}"
            )
    train = make_loader(config, dataset, split.train, seed)
    validation = make_loader(config, dataset, split.validation)
    for epoch in range(len(state.history) + 1, config.epochs + 1):
        row = train_epoch(model, optimizer, train, epoch, config, on_step, processes)
        state.average(config.average)
        row["validation_accuracy"], row["validation_loss"] = evaluate(state.averaged, validation, processes)
        state.add_epoch(row)
        files.save(state.state_dict(), state.history)
        if on_epoch is not None:
            on_epoch(row)
    return _test(state, make_loader(config, dataset, split.test), processes)


def _test(state: TrainState, loader: BatchLoader, processes: Processes) -> FoldResult:
    model = state.averaged
    model.load_state_dict(state.best_weights)
    accuracy, loss = evaluate(model, loader, processes)
    best = state.history[state.best_epoch - 1]
    return FoldResult(state.history, state.best_epoch, best["validation_accuracy"], accuracy, loss, model)

"""``python -m hierpool demo``: a DiffPool network on MUTAG, with this package's operator and with PyG's."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import GraphDataset, Split, collate, load_tu
from hierpool.integrations.pyg import dense_diff_pool
from hierpool.models import DiffPoolNet
from hierpool.nn import DiffPool
from hierpool.train import (
    accuracy_text,
    add_threads,
    describe,
    make_splits,
    pool_name,
    progress_text,
    set_threads,
    summarise,
)
from hierpool.training import FoldResult, TrainConfig, build_model, train_fold
from hierpool.training.files import write_json
from hierpool.training.loop import make_loader, make_optimizer, train_epoch

# Chosen by validation accuracy. Sums over neighbours, as in the paper's own code, tell atoms by their valence, which
# means do not; a full weight of the entropy soon leaves one or two clusters in use.
CONFIG = TrainConfig(
    dataset="MUTAG",
    epochs=40,
    folds=10,
    lr=3e-3,
    weight_decay=1e-3,
    dropout=0.5,
    hidden_channels=32,
    embedding_channels=32,
    aggregation="sum",
    entropy_weight=0.1,
)
PoolInputs = tuple[Tensor, Tensor, Tensor, Tensor]


class PairedTimes(NamedTuple):
    """Times of two things that ran in turn, so that a busy machine disturbed both alike."""

    ours_ms: float  # median
    theirs_ms: float  # median
    ratio: float  # median of theirs / ours over the pairs
    low: float  # first quartile of the ratios
    high: float  # third quartile

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> PairedTimes:
        """Summary of pairs ``(ours_ms, theirs_ms)``."""
        low, ratio, high = statistics.quantiles((theirs / ours for ours, theirs in pairs), n=4)
        ours_ms, theirs_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
        return cls(ours_ms, theirs_ms, ratio, low, high)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), help="folder for results (default: %(default)s)"
    )
    parser.add_argument(
        "--folds", type=int, default=CONFIG.folds, help="of the cross-validation (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=CONFIG.epochs, help="per fold (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=CONFIG.seed, help="default: %(default)s")
    parser.add_argument(
        "--data-root", type=Path, help="folder that holds tu/MUTAG/raw (default: the installed copy)"
    )
    add_threads(parser, 1)


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    start = time.perf_counter()
    set_threads(args.threads)
    out: Path = args.out
    ours = replace(CONFIG, epochs=args.epochs, folds=args.folds, seed=args.seed)
    theirs = replace(ours, pool="pyg")
    dataset = load_tu(ours.dataset, args.data_root)
    splits = make_splits(ours, dataset)
    print(describe(dataset))
    print(
        f"{len(splits)} folds of {ours.epochs} epochs; the epoch is chosen on a validation fold, the test fold is "
        f"used once; {torch.get_num_threads()} thread(s).\n"
    )
    runs = {config.pool: (config, _cross_validate(config, dataset, splits)) for config in (ours, theirs)}
    epochs = time_epochs(ours, theirs, dataset, splits[0])
    times = time_pooling(*pooling_inputs(runs["hierpool"][1][0].model, dataset, splits[0], ours.batch_size))
    print("\n" + report(dataset, runs, epochs, times))
    write_json(
        out / "metrics.json",
        {name: summarise(config, dataset, results) for name, (config, results) in runs.items()}
        | {"epoch": epochs._asdict(), "pooling_operator": times._asdict()},
    )
    _draw(out, dataset, splits[0], runs)
    print(f"numbers:  {out / 'metrics.json'}")
    print(f"all of it took {time.perf_counter() - start:.0f} s")
    return 0


def _cross_validate(config: TrainConfig, dataset: GraphDataset, splits: list[Split]) -> list[FoldResult]:
    """Train on every split, with a progress bar."""
    print(f"pooling with {pool_name(config)}")
    results: list[FoldResult] = []
    with require("tqdm", "train").tqdm(total=len(splits) * config.epochs, unit="epoch") as bar:
        for fold, split in enumerate(splits):
            bar.set_description(f"fold {fold + 1}/{len(splits)}")

            def on_epoch(row: dict[str, float]) -> None:
                bar.set_postfix_str(progress_text(row), refresh=False)
                bar.update()

            results.append(train_fold(config, dataset, split, fold=fold, on_epoch=on_epoch))
    print(f"test accuracy {accuracy_text(results)}\n")
    return results


@torch.no_grad()
def pooling_inputs(
    model: DiffPoolNet, dataset: GraphDataset, split: Split, batch_size: int
) -> tuple[list[PoolInputs], list[PoolInputs]]:
    """What the network hands to its first pooling, batch by batch, as two equal lists of ``(x, adj, s, mask)``."""
    lists: tuple[list[PoolInputs], list[PoolInputs]] = ([], [])
    assign = cast(DiffPool, model.pools[0]).assignment
    model.eval()
    for indices in split.train.split(batch_size):
        batch = collate(dataset.select(indices))
        z = model.embeddings[0](batch.x, batch.adj, batch.mask)
        s = assign(batch.x, batch.adj, batch.mask)
        for inputs in lists:
            inputs.append((z.clone().requires_grad_(), batch.adj, s.clone().requires_grad_(), batch.mask))
    return lists


def time_pooling(ours: list[PoolInputs], theirs: list[PoolInputs], *, rounds: int = 60) -> PairedTimes:
    """Time forward and backward of both operators in turn.

    Args:
        ours: batches for :func:`hierpool.dense_diff_pool`.
        theirs: the same for PyTorch Geometric's function.
        rounds: how often each batch is pooled.
    """
    peer = require("torch_geometric.nn", "train").dense_diff_pool
    for inputs in zip(ours, theirs, strict=True):  # the first calls load code and find memory
        _milliseconds(dense_diff_pool, inputs[0])
        _milliseconds(peer, inputs[1])
    pairs = []
    for number in range(rounds):
        for mine, other in zip(ours, theirs, strict=True):
            if number % 2:
                second = _milliseconds(peer, other)
                pairs.append((_milliseconds(dense_diff_pool, mine), second))
            else:
                pairs.append((_milliseconds(dense_diff_pool, mine), _milliseconds(peer, other)))
    return PairedTimes.of(pairs)


def time_epochs(
    ours: TrainConfig, theirs: TrainConfig, dataset: GraphDataset, split: Split, *, rounds: int = 12
) -> PairedTimes:
    """Time epochs of two runs in turn, each training a network of its own.

    Args:
        ours, theirs: the runs.
        dataset, split: what they train on.
        rounds: epochs of each, after one that is not counted.
    """
    runs = []
    for config in (ours, theirs):
        torch.manual_seed(config.seed)
        model = build_model(config, dataset)
        loader = make_loader(config, dataset, split.train, config.seed)
        runs.append((model, make_optimizer(config, model), loader, config))
    pairs = []
    for epoch in range(rounds + 1):
        seconds = [
            train_epoch(model, optimizer, loader, epoch, config)["seconds"]
            for model, optimizer, loader, config in runs
        ]
        pairs.append((1e3 * seconds[0], 1e3 * seconds[1]))
    return PairedTimes.of(pairs[1:])


def _milliseconds(pool: Callable[..., tuple[Tensor, ...]], inputs: PoolInputs) -> float:
    """One forward and backward with gradients to features and logits."""
    x, adj, s, mask = inputs
    x.grad = s.grad = None
    start = time.perf_counter()
    pooled, adj_pooled, link, entropy = pool(x, adj, s, mask)
    (pooled.sum() + adj_pooled.sum() + link + entropy).backward()
    return 1e3 * (time.perf_counter() - start)


def report(
    dataset: GraphDataset,
    runs: dict[str, tuple[TrainConfig, list[FoldResult]]],
    epochs: PairedTimes,
    times: PairedTimes,
) -> str:
    """The comparison as a table."""
    names = {"hierpool": "hierpool", "pyg": "PyTorch Geometric"}
    lines = [f"{'same model, same seed':<24}{'test accuracy':<30}time per epoch"]
    for (pool, (_, results)), epoch_ms in zip(runs.items(), epochs, strict=False):
        lines.append(f"{names[pool]:<24}{accuracy_text(results):<30}{epoch_ms:.1f} ms")
    lines.append(f"{'always majority class':<24}{dataset.majority_rate:.1%}")
    lines.append(
        f"\nthe pooling operator alone, forward and backward on the training batches: {times.ours_ms:.2f} ms, "
        f"PyTorch Geometric's {times.theirs_ms:.2f} ms;\n{times.ratio:.1f} times faster (median of pairs; the middle "
        f"half lies between {times.low:.1f} and {times.high:.1f})\n"
    )
    return "\n".join(lines)


def _draw(
    out: Path, dataset: GraphDataset, split: Split, runs: dict[str, tuple[TrainConfig, list[FoldResult]]]
) -> None:
    from hierpool import plots

    plots.draw_curves(
        out / "curves.png", {pool: [r.history for r in results] for pool, (_, results) in runs.items()}
    )
    model = runs["hierpool"][1][0].model
    graphs = dataset.select(split.test[:6])
    plots.draw_clusters(out / "clusters.png", model, graphs, dataset=dataset.name, title="Learned clusters")
    print(f"pictures: {out / 'clusters.png'}, {out / 'curves.png'}")

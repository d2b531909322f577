"""``python -m hierpool demo``: train on MUTAG with hierpool's pooling operator and with PyG's, and compare."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from hierpool import dense_diff_pool
from hierpool._extras import require
from hierpool.cli import options
from hierpool.data import GraphDataset, Split, collate, load_tu
from hierpool.models import DiffPoolNet
from hierpool.nn import DiffPool
from hierpool.training import FoldResult, TrainConfig, build_model, make_splits, plots, train_fold
from hierpool.training.files import write_json
from hierpool.training.loop import make_loader, make_optimizer, train_epoch
from hierpool.training.report import (
    accuracy_text,
    dataset_text,
    pooling_text,
    progress_text,
    training_metrics,
)

# Chosen by validation accuracy. Sums over neighbours, as in the code of the paper, distinguish atoms by their valence;
# means do not. With a larger weight of the entropy, only one or two clusters are used after a few epochs.
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
    """Times of hierpool and PyTorch Geometric, measured alternately, so that other processes disturb both alike."""

    ours_ms: float  # median
    theirs_ms: float  # median
    ratio: float  # median of theirs / ours over pairs
    low: float  # first quartile of the ratios
    high: float  # third quartile

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> PairedTimes:
        """Summarise pairs ``(ours_ms, theirs_ms)``."""
        low, ratio, high = statistics.quantiles((theirs / ours for ours, theirs in pairs), n=4)
        ours_ms, theirs_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
        return cls(ours_ms, theirs_ms, ratio, low, high)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name, text in (
        ("folds", "folds of the cross-validation"),
        ("epochs", "epochs per fold"),
        ("seed", "seed"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=getattr(CONFIG, name), help=f"{text} (default: %(default)s)"
        )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--data-root", type=Path, help="folder that holds tu/MUTAG/raw (default: the installed copy)"
    )
    options.add_threads(parser, 1)


def run(args: argparse.Namespace) -> None:
    """Train both networks, time both operators, and write metrics and plots."""
    options.set_threads(args.threads)
    options.check_out(args.out)
    for package in ("tqdm", "matplotlib", "torch_geometric"):
        require(package, "train")
    with options.alone_in(args.out):
        _run(args, args.out)


def _run(args: argparse.Namespace, out: Path) -> None:
    start = time.perf_counter()
    ours = replace(CONFIG, epochs=args.epochs, folds=args.folds, seed=args.seed)
    theirs = replace(ours, pool="pyg")
    dataset = load_tu(ours.dataset, args.data_root)
    splits = make_splits(ours, dataset)
    print(dataset_text(dataset))
    print(
        f"{len(splits)} folds of {ours.epochs} epochs; the epoch is chosen on a validation fold, the test fold is "
        f"used once; {torch.get_num_threads()} thread(s).\n"
    )
    runs = {config.pool: _cross_validate(config, dataset, splits) for config in (ours, theirs)}
    epochs = time_epochs(ours, theirs, dataset, splits[0])
    model = cast(DiffPoolNet, runs["hierpool"][0].model)
    times = time_pooling(*pooling_inputs(model, dataset, splits[0], ours.batch_size))
    print("\n" + report(dataset, runs, epochs, times))
    write_json(
        out / "metrics.json",
        {config.pool: training_metrics(config, dataset, runs[config.pool]) for config in (ours, theirs)}
        | {"epoch": epochs._asdict(), "pooling_operator": times._asdict()},
    )
    pictures = plots.draw_run(out, dataset, splits[0], runs, title="Learned clusters")
    print(f"pictures: {', '.join(map(str, pictures))}")
    print(f"numbers:  {out / 'metrics.json'}")
    print(f"total time {time.perf_counter() - start:.0f} s")


def _cross_validate(config: TrainConfig, dataset: GraphDataset, splits: list[Split]) -> list[FoldResult]:
    """Train on every split, with a progress bar."""
    print(f"pooling with {pooling_text(config)}")
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
    """The arguments ``(x, adj, s, mask)`` of the first pooling for every training batch, as two equal lists."""
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
    """Time forward and backward of both operators alternately.

    Args:
        ours: arguments of :func:`hierpool.dense_diff_pool`, per batch.
        theirs: equal arguments of PyTorch Geometric's function.
        rounds: number of calls per batch.
    """
    pools = (dense_diff_pool, require("torch_geometric.nn", "train").dense_diff_pool)
    pairs = []
    for number in range(rounds + 1):
        for inputs in zip(ours, theirs, strict=True):
            ms = [0.0, 0.0]
            for which in (number % 2, 1 - number % 2):  # neither operator is always the first
                ms[which] = _milliseconds(pools[which], inputs[which])
            pairs.append((ms[0], ms[1]))
    return PairedTimes.of(pairs[len(ours) :])  # the first round loads code and allocates memory


def time_epochs(
    ours: TrainConfig, theirs: TrainConfig, dataset: GraphDataset, split: Split, *, rounds: int = 12
) -> PairedTimes:
    """Time the epochs of two runs alternately; each trains its own network.

    Args:
        ours, theirs: configurations of the runs.
        dataset, split: training graphs.
        rounds: number of epochs, after one that is not counted.
    """
    runs = []
    for config in (ours, theirs):
        torch.manual_seed(config.seed)
        model = build_model(config, dataset)
        loader = make_loader(config, dataset, split.train, config.seed)
        runs.append(partial(train_epoch, model, make_optimizer(config, model), loader, config=config))
    pairs = [
        (1e3 * runs[0](epoch)["seconds"], 1e3 * runs[1](epoch)["seconds"]) for epoch in range(rounds + 1)
    ]
    return PairedTimes.of(pairs[1:])


def _milliseconds(pool: Callable[..., tuple[Tensor, ...]], inputs: PoolInputs) -> float:
    """Time one forward and backward with gradients of features and logits."""
    x, adj, s, mask = inputs
    x.grad = s.grad = None
    start = time.perf_counter()
    pooled, adj_pooled, link, entropy = pool(x, adj, s, mask)
    (pooled.sum() + adj_pooled.sum() + link + entropy).backward()
    return 1e3 * (time.perf_counter() - start)


def report(
    dataset: GraphDataset, runs: dict[str, list[FoldResult]], epochs: PairedTimes, times: PairedTimes
) -> str:
    """The comparison as a table."""
    names = {"hierpool": "hierpool", "pyg": "PyTorch Geometric"}
    lines = [f"{'same layers, same seed':<24}{'test accuracy':<30}time per epoch"]
    for (pool, results), epoch_ms in zip(runs.items(), epochs, strict=False):
        lines.append(f"{names[pool]:<24}{accuracy_text(results):<30}{epoch_ms:.1f} ms")
    lines.append(f"{'always majority class':<24}{dataset.majority_rate:.1%}")
    lines.append(
        f"\nthe pooling operator alone, forward and backward on the training batches: {times.ours_ms:.2f} ms, "
        f"PyTorch Geometric's {times.theirs_ms:.2f} ms;\n{times.ratio:.1f} times faster (median of pairs; the middle "
        f"half lies between {times.low:.1f} and {times.high:.1f})\n"
    )
    return "\n".join(lines)

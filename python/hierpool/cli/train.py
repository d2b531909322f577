"""``python -m hierpool train``: train a network with hierarchical pooling on a TU dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from hierpool.cli import options
from hierpool.cli.progress import EpochBar
from hierpool.data import GraphDataset, Split, load_tu
from hierpool.distributed.ranks import Ranks
from hierpool.training import FoldResult, TrainConfig, html, html_report, make_splits, plots, train_fold
from hierpool.training.files import write_json
from hierpool.training.memory import estimate, limit_text, memory_metrics
from hierpool.training.report import (
    accuracy_text,
    dataset_text,
    pooling_text,
    progress_text,
    training_metrics,
)
from hierpool.training.tensorboard import TensorBoardLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_config(parser, TrainConfig)
    options.add_run(
        parser,
        "folder that holds tu/NAME/raw (default: HIERPOOL_DATA, then the installed copy of MUTAG, then the network)",
    )
    options.add_memory_limit(parser, "stop at the start if training would take more memory")


def run(args: argparse.Namespace) -> None:
    """Train on every split and write checkpoints, logs, metrics and plots.

    Raises:
        ValueError, OSError, ImportError, RuntimeError: an option, file, package or backend is invalid; the message says
            which.
    """
    config = options.make_config(TrainConfig, args)
    options.set_threads(args.threads)
    options.check_run(args)
    options.check_memory_limit(args.memory_limit)
    with options.processes(args) as ranks:
        _run(args, config, ranks)


def _run(args: argparse.Namespace, config: TrainConfig, ranks: Ranks | None) -> None:
    """Train in one process, or in one of several that share the graphs of every batch."""
    out: Path = args.out
    is_first = ranks is None or ranks.rank == 0
    dataset = _load(args, config) if ranks is None else ranks.in_turn(lambda: _load(args, config))
    say = print if is_first else options.silent
    say(dataset_text(dataset))
    say(f"pooling with {pooling_text(config)}; everything is written to {out}")
    splits = make_splits(config, dataset)
    memory = estimate(config, dataset, splits)
    memory.check(args.memory_limit)
    say(f"memory: about {memory} at the peak, {limit_text(args.memory_limit)}")
    if is_first:
        options.start_anew(args)
    results = [
        _train(config, dataset, split, fold, len(splits), out, args.resume, ranks)
        for fold, split in enumerate(splits)
    ]
    if not is_first:
        return
    metrics = training_metrics(config, dataset, results) | memory_metrics(memory.total)
    if ranks is not None:
        metrics["processes"] = ranks.size
    write_json(out / "metrics.json", metrics)
    print(
        f"test accuracy {accuracy_text(results)}, always predicting the majority class {dataset.majority_rate:.1%}; "
        f"{metrics['seconds_per_epoch']:.3f} s per epoch"
    )
    if not args.no_pictures:
        for picture in plots.draw_run(out, dataset, splits[0], {config.pool: results}):
            print(f"picture: {picture}")
        if html.is_possible():
            facts = [
                dataset_text(dataset),
                f"Pooling with {pooling_text(config)}.",
                f"Test accuracy {accuracy_text(results)}; always predicting the majority class "
                f"{dataset.majority_rate:.1%}.",
            ]
            path = html_report.report(
                out / "report.html", config, dataset, splits, results, facts, args.command_line
            )
            print(f"report: {path}")
        else:
            print(html.NOT_WRITTEN)
    print(f"metrics: {out / 'metrics.json'}")


def _load(args: argparse.Namespace, config: TrainConfig) -> GraphDataset:
    return load_tu(config.dataset, args.data_root)


def _train(
    config: TrainConfig,
    dataset: GraphDataset,
    split: Split,
    fold: int,
    folds: int,
    out: Path,
    resume: bool,
    ranks: Ranks | None,
) -> FoldResult:
    """Train on one split, with a progress bar in the first process."""
    folder = out / f"fold-{fold:02d}" if folds > 1 else out
    if ranks is not None and ranks.rank:
        return train_fold(config, dataset, split, fold=fold, folder=folder, resume=resume, ranks=ranks)
    label = f"fold {fold + 1}/{folds}" if folds > 1 else config.dataset
    log = TensorBoardLog(folder)
    with EpochBar(config.epochs, label) as bar:

        def on_epoch(row: dict[str, float]) -> None:
            bar.epoch(int(row["epoch"]), progress_text(row))
            log.add(row)

        result = train_fold(
            config,
            dataset,
            split,
            fold=fold,
            folder=folder,
            resume=resume,
            on_epoch=on_epoch,
            on_step=bar.step,
            ranks=ranks,
        )
        bar.finish(f"epoch {result.best_epoch} chosen, test accuracy {result.test_accuracy:.1%}")
    log.close()
    return result

"""``python -m hierpool train``: train a DiffPool network on a TU dataset."""

from __future__ import annotations

import argparse
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hierpool import __version__, backends
from hierpool._extras import require
from hierpool.data import GraphDataset, Split, cross_validation, holdout, load_tu
from hierpool.training import CheckpointError, FoldResult, TrainConfig, train_fold
from hierpool.training.files import write_json
from hierpool.training.records import Records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    TrainConfig.add_arguments(parser)
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for checkpoints, logs, metrics and pictures"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder that holds tu/NAME/raw (default: HIERPOOL_DATA, then the copy of MUTAG that is installed, then "
        "the network)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the folder")
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew in a folder that holds checkpoints"
    )
    add_threads(parser, None)
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")


def add_threads(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Add the option that limits torch's threads."""
    meaning = "torch decides" if default is None else "%(default)s"
    parser.add_argument(
        "--threads",
        type=int,
        default=default,
        help=f"CPU threads; small graphs gain nothing from many (default: {meaning})",
    )


def set_threads(threads: int | None) -> None:
    """Apply the option."""
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status.

    Raises:
        ValueError, OSError, ImportError: bad options, data, checkpoints, disks; the message says what and where.
    """
    run(args)
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say, write everything, and return what was written to ``metrics.json``."""
    config = TrainConfig.from_arguments(args)
    set_threads(args.threads)
    out: Path = args.out
    _check_out(out, args.resume, args.overwrite)
    dataset = load_tu(config.dataset, args.data_root)
    print(describe(dataset))
    print(f"pooling with {pool_name(config)}; everything is written to {out}")
    splits = make_splits(config, dataset)
    results = [
        _train(config, dataset, split, fold, len(splits), out, args.resume)
        for fold, split in enumerate(splits)
    ]
    metrics = summarise(config, dataset, results)
    write_json(out / "metrics.json", metrics)
    print(
        f"test accuracy {accuracy_text(results)}, always answering the majority class {dataset.majority_rate:.1%}; "
        f"{metrics['seconds_per_epoch']:.3f} s per epoch"
    )
    if not args.no_pictures:
        draw(out, config, dataset, splits[0], results)
    print(f"metrics: {out / 'metrics.json'}")
    return metrics


def make_splits(config: TrainConfig, dataset: GraphDataset) -> list[Split]:
    """The splits of a run: those of a cross-validation, or one."""
    if config.folds:
        return cross_validation(dataset.labels, config.folds, config.seed)
    return [holdout(dataset.labels, config.seed)]


def describe(dataset: GraphDataset) -> str:
    """The dataset in a line."""
    return (
        f"{dataset.name}: {len(dataset.graphs)} graphs of at most {dataset.max_nodes} nodes, "
        f"{dataset.num_classes} classes, {dataset.num_features} node features ({dataset.features}), "
        f"from {dataset.source}"
    )


def pool_name(config: TrainConfig) -> str:
    """Which operator pools, by which backend, and how the first level is stored."""
    if config.pool != "hierpool":
        return "PyTorch Geometric's dense_diff_pool (dense first level)"
    op, form = ("soft_pool_dense", "dense") if config.pads else ("soft_pool_csr", "sparse")
    backend = backends.select(op, "cpu", config.backend).name
    return f"hierpool's operator ({backend} backend, {form} first level)"


def accuracy_text(results: list[FoldResult]) -> str:
    """Mean and standard deviation over folds, in percent."""
    values = [result.test_accuracy for result in results]
    if len(values) == 1:
        return f"{values[0]:.1%}"
    return f"{statistics.mean(values):.1%} +- {statistics.stdev(values):.1%} over {len(values)} folds"


def summarise(config: TrainConfig, dataset: GraphDataset, results: list[FoldResult]) -> dict[str, Any]:
    """What ``metrics.json`` holds."""
    accuracies = [result.test_accuracy for result in results]
    return {
        "config": asdict(config),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
            "graphs": len(dataset.graphs),
            "majority_rate": dataset.majority_rate,
        },
        "test_accuracy_mean": statistics.mean(accuracies),
        "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "seconds_per_epoch": seconds_per_epoch(results),
        "folds": [
            {
                "best_epoch": result.best_epoch,
                "validation_accuracy": result.validation_accuracy,
                "test_accuracy": result.test_accuracy,
                "test_loss": result.test_loss,
            }
            for result in results
        ],
        "versions": {
            "hierpool": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
    }


def seconds_per_epoch(results: list[FoldResult]) -> float:
    """Median time of a pass over the training graphs."""
    return statistics.median(row["seconds"] for result in results for row in result.history)


def draw(
    out: Path, config: TrainConfig, dataset: GraphDataset, split: Split, results: list[FoldResult]
) -> list[Path]:
    """Write the pictures: curves, and clusters on the first graphs that the first fold was tested on."""
    from hierpool import plots

    curves, clusters = out / "curves.png", out / "clusters.png"
    plots.draw_curves(curves, {config.pool: [result.history for result in results]})
    written = [curves]
    if config.pool == "hierpool":
        plots.draw_clusters(clusters, results[0].model, dataset.select(split.test[:6]), dataset=dataset.name)
        written.append(clusters)
    for path in written:
        print(f"picture: {path}")
    return written


def _check_out(out: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to mix two runs in one folder unasked."""
    if not (resume or overwrite) and next(out.glob("**/checkpoint.pt"), None) is not None:
        raise CheckpointError(
            f"{out} already holds checkpoints; pass --resume to go on, or --overwrite to start anew"
        )


def _train(
    config: TrainConfig, dataset: GraphDataset, split: Split, fold: int, folds: int, out: Path, resume: bool
) -> FoldResult:
    """One fold, with a progress bar."""
    tqdm = require("tqdm", "train").tqdm
    folder = out / f"fold-{fold:02d}" if folds > 1 else out
    label = f"fold {fold + 1}/{folds}" if folds > 1 else config.dataset
    records = Records(folder)
    with tqdm(total=config.epochs, desc=label, unit="epoch") as bar:

        def on_epoch(row: dict[str, float]) -> None:
            bar.update(int(row["epoch"]) - bar.n)
            bar.set_postfix_str(progress_text(row))
            records.add(row)

        result = train_fold(
            config, dataset, split, fold=fold, folder=folder, resume=resume, on_epoch=on_epoch
        )
        bar.update(config.epochs - bar.n)
        bar.set_postfix_str(f"epoch {result.best_epoch} chosen, test accuracy {result.test_accuracy:.1%}")
    records.close()
    return result


def progress_text(row: dict[str, float]) -> str:
    """Loss terms and validation accuracy of an epoch."""
    return (
        f"task {row['task_loss']:.3f}, link {row['link_loss']:.4f}, entropy {row['entropy_loss']:.3f}, "
        f"validation accuracy {row['validation_accuracy']:.1%}"
    )

"""Text and metrics that describe a training run."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

import hierpool
from hierpool.data import GraphDataset
from hierpool.nn import HARD_POOLERS, POOLERS
from hierpool.training.config import TrainConfig
from hierpool.training.loop import FoldResult, Row


def dataset_text(dataset: GraphDataset) -> str:
    """One line about the dataset."""
    return (
        f"{dataset.name}: {len(dataset.graphs)} graphs of at most {dataset.max_nodes} nodes, "
        f"{dataset.num_classes} classes, {dataset.num_features} node features ({dataset.features}), "
        f"from {dataset.source}"
    )


def pooling_text(config: TrainConfig) -> str:
    """The pooling operator, its backend, the form of the first level, the dtype unless it is float32, and clusters.

    Raises:
        RuntimeError: the backend of the configuration cannot run; the message is the reason.
    """
    nodes = {
        "graph": "of the nodes of each graph",
        "largest": "of the nodes of the largest graph, for all graphs",
    }
    if config.pooler in HARD_POOLERS:
        return f"{HARD_POOLERS[config.pooler].__name__} ({config.backend} backend, sparse at all levels)"
    clusters = f"clusters: {config.ratio:g} {nodes[config.clusters_of]}"
    if config.pool != "hierpool":
        return f"PyTorch Geometric's dense_diff_pool (dense first level; {clusters})"
    one = torch.ones(1, 1, 1)
    hierpool.soft_pool(one, one, one, backend=config.backend)  # a backend that cannot run raises here
    backend = config.backend
    if backend == "auto":
        verdicts = hierpool.explain(("cpu",))
        backend = next(v.backend for v in verdicts if v.runs and v.op == "soft_pool")
    form = "dense" if config.dense_batches else "sparse"
    dtype = "" if config.dtype == "float32" else f", {config.dtype}"
    operator = "hierpool's operator" if config.pooler == "diff" else POOLERS[config.pooler].__name__
    return f"{operator} ({backend} backend, {form} first level{dtype}; {clusters})"


def progress_text(row: Row) -> str:
    """Loss terms and validation accuracy of an epoch."""
    digits = {"link_loss": 4}
    terms = [name for name in row if name.endswith("_loss") and not name.startswith("validation")]
    said = [f"{name.removesuffix('_loss')} {row[name]:.{digits.get(name, 3)}f}" for name in terms]
    return f"{', '.join(said)}, validation accuracy {row['validation_accuracy']:.1%}"


def accuracy_text(results: Sequence[FoldResult]) -> str:
    """Mean and standard deviation of the test accuracy over folds, in percent."""
    accuracies = [result.test_accuracy for result in results]
    if len(accuracies) == 1:
        return f"{accuracies[0]:.1%}"
    mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
    return f"{mean:.1%} +- {deviation:.1%} over {len(accuracies)} folds"


def training_metrics(
    config: TrainConfig, dataset: GraphDataset, results: Sequence[FoldResult]
) -> dict[str, Any]:
    """The contents of ``metrics.json``."""
    accuracies = [result.test_accuracy for result in results]
    fold_fields = ("best_epoch", "validation_accuracy", "test_accuracy", "test_loss")
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
        # median time of a pass over the training graphs
        "seconds_per_epoch": statistics.median(
            row["seconds"] for result in results for row in result.history
        ),
        "folds": [{name: getattr(result, name) for name in fold_fields} for result in results],
        "versions": versions(),
    }


def versions() -> dict[str, Any]:
    """The versions of the software, and the number of threads."""
    return {
        "hierpool": hierpool.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }

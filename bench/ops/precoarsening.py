"""Epochs of training on graphs that were pooled once, beside pooling every batch anew.

Both sides train the network of `train --pooler ndp` on the same graphs. Beside the whole epochs stand loading and
pooling alone, which is all that pooling once can save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.harness.timing import Effort, Side, compare, timed
from bench.harness.workload import CPU
from hierpool.data import BatchLoader, DatasetError, GraphDataset, load_tu
from hierpool.nn import NDPPool, Precoarsening
from hierpool.training import TrainConfig, build_model
from hierpool.training.loop import make_loader, make_optimizer, train_epoch

DATA_SETS = ("ENZYMES", "PROTEINS", "DD")
LEVELS = 2
GRAPHS = 320  # of a data set: ten batches
TITLE = "Pooled once"
GOAL = 5.0  # times as fast
PARTS = {"epoch": "whole epoch", "pooling": "loading and pooling"}


def _epoch(config: TrainConfig, dataset: GraphDataset, loader: BatchLoader) -> partial[Any]:
    torch.manual_seed(config.seed)
    model = build_model(config, dataset)
    return partial(train_epoch, model, make_optimizer(config, model), loader, 1, config)


def _load_and_pool(loader: BatchLoader, anew: Precoarsening | None) -> None:
    for batch in loader.epoch(1):
        if anew is not None:
            anew(batch.graph)


def rows(names: list[str], root: Path | None, effort: Effort) -> Iterator[dict[str, Any]]:
    """For each data set a row of whole epochs and one of loading and pooling alone; the peer pools anew."""
    once = Precoarsening(NDPPool(), LEVELS)
    for name in names:
        about = {"kind": "precoarsening", "data_set": name}
        try:
            dataset = load_tu(name, root)
        except DatasetError as error:
            yield about | {"status": "missing", "title": TITLE, "graph": name, "reason": str(error)}
            continue
        config = TrainConfig(dataset=name, pooler="ndp", levels=LEVELS)
        chosen = torch.arange(min(GRAPHS, len(dataset.graphs)))
        sides: dict[str, list[partial[Any]]] = {part: [] for part in PARTS}
        for pooled, anew in ((once(dataset), None), (dataset, once)):
            loader = make_loader(config, pooled, chosen, config.seed)
            sides["epoch"].append(_epoch(config, pooled, loader))
            sides["pooling"].append(partial(_load_and_pool, loader, anew))
        for part, (ours, peer) in sides.items():
            found = compare(Side([timed(ours)], CPU), Side([timed(peer)], CPU), effort)
            yield (
                about
                | {"status": "measured", "title": TITLE, "part": part, "graphs": len(chosen)}
                | asdict(found)
            )

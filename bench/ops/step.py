"""Whole training steps, loading to optimiser: our network, sparse and dense, against the same one of PyG's layers.

Every side trains a network of its own on the same graphs in the same order: it makes a batch,
runs forward, backward, gradient clipping and Adam. Steps alternate in one process; a ratio is the median over pairs of
steps on the same graphs (how much padding there is to save varies from batch to batch), and beside it that of all time.
PyG loads in two ways, by padding every batch (``to_dense_batch``, ``to_dense_adj``) and from graphs that are padded
beforehand (``DenseDataLoader``); the faster of the two is the one to compare with.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.harness import machine, results
from bench.harness.timing import Comparison, alternate
from bench.harness.workload import CPU
from hierpool.data import Graph, GraphDataset, collate, collate_ragged, load_tu
from hierpool.models import DiffPoolNet
from hierpool.training import TrainConfig, build_model

RESULTS = results.RESULTS / "step"
PARTS = ("load", "forward", "backward", "update")
PYG = ("pyg", "pyg-preloaded")
SIDES = {
    "pyg": "PyG dense, padded batch by batch",
    "pyg-preloaded": "PyG dense, padded beforehand",
    "hierpool-dense": "hierpool --dense",
    "hierpool": "hierpool",
}
REPORTED_STEPS = 100  # fewer are a quick look
TOLERANCE = 1e-3  # of logits in float32 after six normalised layers; float64 agrees to 1e-9

Batch = tuple[tuple[Any, ...], Tensor]  # what the network takes, and labels


class Side:
    """One network in training.

    Args:
        model: called with a batch's inputs; returns logits, link loss and entropy loss first.
        batches: endless.
    """

    def __init__(self, model: nn.Module, batches: Iterator[Batch], config: TrainConfig) -> None:
        self.model, self.batches, self.clip = model, batches, config.clip
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.parts: dict[str, list[float]] = defaultdict(list)  # ms

    def step(self) -> float:
        """One training step; the seconds it took."""
        marks = [time.perf_counter()]
        inputs, y = next(self.batches)
        marks.append(time.perf_counter())
        logits, link, entropy = self.model(*inputs)[:3]
        loss = F.cross_entropy(logits, y) + link + entropy
        marks.append(time.perf_counter())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        marks.append(time.perf_counter())
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            self.parts[name].append(1e3 * (end - start))
        return marks[-1] - marks[0]


def orders(graphs: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Full batches of shuffled graph numbers, epoch after epoch, the same for every side."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(graphs, generator=generator)
        yield from (part.tolist() for part in order.split(batch_size) if len(part) == batch_size)


def load_ours(graphs: list[Graph], numbers: Iterator[list[int]], *, dense: bool) -> Iterator[Batch]:
    """Batches as `hierpool.data.BatchLoader` makes them."""
    join: Callable[[list[Graph]], Any] = collate if dense else collate_ragged
    for chosen in numbers:
        batch = join([graphs[i] for i in chosen])
        yield batch.inputs, batch.y


def load_pyg(graphs: list[Graph], numbers: Iterator[list[int]], *, beforehand: bool) -> Iterator[Batch]:
    """Batches of PyG's loaders, in this process, as ours."""
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader, DenseDataLoader
    from torch_geometric.transforms import ToDense
    from torch_geometric.utils import to_dense_adj, to_dense_batch

    data = [Data(x=g.x, edge_index=g.edge_index, y=torch.tensor([g.y])) for g in graphs]
    if beforehand:
        pad = ToDense(max(g.x.size(0) for g in graphs))
        for batch in DenseDataLoader([pad(item) for item in data], batch_sampler=numbers):
            yield (batch.x, batch.adj, batch.mask), batch.y.flatten()
    for batch in DataLoader(data, batch_sampler=numbers):
        x, mask = to_dense_batch(batch.x, batch.batch)
        yield (x, to_dense_adj(batch.edge_index, batch.batch), mask), batch.y


def pyg_net(config: TrainConfig, dataset: GraphDataset, ours: DiffPoolNet) -> nn.Module:
    """PyG's network with the parameters of ours."""
    from bench.ops._pyg_net import PygDiffPoolNet, share_weights

    sizes = config.hidden_channels, config.layers, config.head_channels
    model = PygDiffPoolNet(dataset.num_features, dataset.num_classes, ours.clusters, *sizes)
    share_weights(model, ours)
    return model


def make_side(name: str, config: TrainConfig, dataset: GraphDataset) -> Side:
    """A side of `SIDES`, with the weights of the configuration's seed."""
    torch.manual_seed(config.seed)
    model: nn.Module = build_model(config, dataset)
    numbers = orders(len(dataset.graphs), config.batch_size, config.seed)
    graphs = list(dataset.graphs)
    if name in PYG:
        model = pyg_net(config, dataset, model)  # type: ignore[arg-type]  # build_model's
        return Side(model, load_pyg(graphs, numbers, beforehand=name == "pyg-preloaded"), config)
    return Side(model, load_ours(graphs, numbers, dense=name == "hierpool-dense"), config)


def verify(config: TrainConfig, dataset: GraphDataset) -> float:
    """The largest difference between the networks' logits and losses on graphs of one size, where nothing is padded.

    Raises:
        RuntimeError: it is beyond `TOLERANCE`; nothing should be timed.
    """
    sizes = [g.x.size(0) for g in dataset.graphs]
    usual = max(set(sizes), key=sizes.count)
    graphs = [g for g in dataset.graphs if g.x.size(0) == usual][: config.batch_size]
    torch.manual_seed(config.seed)
    ours = build_model(config, dataset)
    dense = collate(graphs)
    outs = [ours(*batch.inputs)[:3] for batch in (collate_ragged(graphs), dense)]
    theirs = pyg_net(config, dataset, ours)(*dense.inputs)
    worst = max(float((a - b).detach().abs().max()) for out in outs for a, b in zip(out, theirs, strict=True))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"the networks differ by {worst:.1e} on the same graphs: nothing is timed")
    return worst


def compare(side: str, peer: str, config: TrainConfig, dataset: GraphDataset, steps: int) -> dict:
    """The row of a side: timed step by step in turn with the peer, after a tenth as many steps that are not counted."""
    theirs, ours = (make_side(name, config, dataset) for name in (peer, side))
    alternate(theirs.step, ours.step, max(3, steps // 10))
    ours.parts.clear()
    samples = alternate(theirs.step, ours.step, steps)
    found = asdict(Comparison.of(samples))
    return {
        "status": "measured", "side": side, "title": SIDES[side], "ms": found.pop("candidate_ms"), **found,
        "overall": sum(other for other, _ in samples) / sum(mine for _, mine in samples),  # of all time
        "parts_ms": {name: median(values) for name, values in ours.parts.items()},
    }  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", default="ENZYMES", help="TU data set (default: %(default)s)")
    parser.add_argument("--data-root", type=Path, help="folder with tu/<NAME>/raw (default: HIERPOOL_DATA)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument(
        "--steps", type=int, default=150, help="of each side in a pair (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and the order of graphs")


def run(args: argparse.Namespace) -> results.Results:
    """Verify and time, into a new result folder."""
    if args.steps < 10:
        raise ValueError(f"--steps must be at least 10, got {args.steps}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    metadata = machine.describe(CPU)
    config = TrainConfig(dataset=args.dataset, seed=args.seed)
    dataset = load_tu(args.dataset, args.data_root)
    error = verify(config, dataset)
    ways = compare(PYG[1], PYG[0], config, dataset, args.steps)
    peer = PYG[1] if ways["speedup"]["p50"] > 1 else PYG[0]
    metadata |= {"config": asdict(config), "steps": args.steps, "peer": peer, "difference": error}
    folder = results.create_folder(RESULTS, metadata | {"quick": args.steps < REPORTED_STEPS})
    for side in SIDES:
        results.append_row(folder, compare(side, peer, config, dataset, args.steps))
    return results.read(folder)


def is_whole(run: results.Results) -> bool:
    """Whether a run has a row for every side."""
    return [row["side"] for row in run.rows] == list(SIDES)

"""Whole training steps, loading to optimiser: our network, sparse and dense, against the same one of PyG's layers.

Every side trains a network of its own on the same graphs in the same order: it makes a batch,
runs forward, backward, gradient clipping and Adam. Steps alternate in one process; a ratio is the median over pairs of
steps on the same graphs (how much padding there is to save varies from batch to batch), and beside it that of all time.
PyG loads in two ways, by padding every batch (``to_dense_batch``, ``to_dense_adj``) and from graphs that are padded
beforehand (``DenseDataLoader``); the faster of the two is the one to compare with.

PyG's network has one number of clusters for all graphs, a part of the nodes of the largest one. Ours has by default a
part of the nodes of each graph; a side with PyG's number tells what comes from the kernels and what from the numbers.

What a padded batch needs grows with the square of the largest graph. A side that does not fit into memory is not run,
and where PyG fits in no way, ours is timed alone.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.harness import machine, results
from bench.harness.memory import peak_of_tensors
from bench.harness.timing import Comparison, Percentiles, alternate
from bench.harness.workload import CPU
from hierpool.data import Graph, GraphDataset, collate, collate_ragged, load_tu
from hierpool.models import DiffPoolNet
from hierpool.training import TrainConfig, build_model
from hierpool.training.memory import Network, count_of, step_bytes

RESULTS = results.RESULTS / "step"
PARTS = ("load", "forward", "backward", "update")
PYG = ("pyg", "pyg-preloaded")
SIDES = {
    "pyg": "PyG dense, padded batch by batch",
    "pyg-preloaded": "PyG dense, padded beforehand",
    "hierpool-largest": "hierpool, one number of clusters for all graphs",
    "hierpool-dense": "hierpool --dense, clusters in proportion to each graph",
    "hierpool": "hierpool, clusters in proportion to each graph",
}
ONE_NUMBER = (*PYG, "hierpool-largest")  # of clusters for all graphs
PADDED = (*PYG, "hierpool-dense")
TOO_LARGE = "does not fit"  # the status of a side that memory is too small for
REPORTED_STEPS = 100  # fewer are a quick look
LEAST_STEPS = 10
FIRST_STEPS = 3  # not counted; they tell how long a step takes
FREE = 0.9  # of the available memory; the rest is for what an estimate does not count
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
        loss = loss_of(self.model, inputs, y)
        marks.append(time.perf_counter())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.clip)
        self.optimizer.step()
        marks.append(time.perf_counter())
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            self.parts[name].append(1e3 * (end - start))
        return marks[-1] - marks[0]


def loss_of(model: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
    """The loss of a batch."""
    logits, link, entropy = model(*inputs)[:3]
    return F.cross_entropy(logits, y) + link + entropy


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


def make_model(name: str, config: TrainConfig, dataset: GraphDataset) -> nn.Module:
    """The network of a side of `SIDES`, with the weights of the configuration's seed."""
    torch.manual_seed(config.seed)
    config = replace(config, ratio_of="largest" if name in ONE_NUMBER else "graph")
    model = build_model(config, dataset)
    return pyg_net(config, dataset, model) if name in PYG else model


def make_side(name: str, config: TrainConfig, dataset: GraphDataset) -> Side:
    """A side of `SIDES`, ready to train."""
    graphs, numbers = list(dataset.graphs), orders(len(dataset.graphs), config.batch_size, config.seed)
    if name in PYG:
        batches = load_pyg(graphs, numbers, beforehand=name == "pyg-preloaded")
    else:
        batches = load_ours(graphs, numbers, dense=name == "hierpool-dense")
    return Side(make_model(name, config, dataset), batches, config)


def needed_bytes(name: str, config: TrainConfig, dataset: GraphDataset) -> int:
    """An estimate of the memory that a side of `PADDED` needs.

    Of PyG's it counts the tensors that are alive at once in the forward and backward of a batch with the largest graph,
    by running them on the meta device; the weights with both averages of Adam; and of graphs that are padded
    beforehand, all of them. Our operators keep less in C++ than their composites, which run on the meta device: of ours
    it is the estimate of `hierpool.training`.
    """
    graphs, nodes, features = len(dataset.graphs), dataset.max_nodes, dataset.num_features
    size = min(config.batch_size, graphs)
    model = make_model(name, config, dataset).to("meta")
    if name not in PYG:
        network = Network.of(replace(config, dense=True), dataset)
        return step_bytes([nodes] * size, network, [count_of(pool, config) for pool in model.pools])

    def step() -> None:
        x, adj = torch.zeros(size, nodes, features), torch.zeros(size, nodes, nodes)
        mask, y = torch.ones(size, nodes, dtype=torch.bool), torch.zeros(size, dtype=torch.long)
        loss_of(model, (x, adj, mask), y).backward()

    with torch.device("meta"):
        found = peak_of_tensors(step)
    found += 3 * sum(p.nbytes for p in model.parameters())
    return found + (graphs * nodes * (4 * nodes + 4 * features + 1) if name == "pyg-preloaded" else 0)


def verify(config: TrainConfig, dataset: GraphDataset) -> float:
    """The largest difference between the networks' logits and losses on graphs of one size, where nothing is padded.

    All have one number of clusters for all graphs, as PyG's has.

    Raises:
        RuntimeError: it is beyond `TOLERANCE`; nothing should be timed.
    """
    sizes = [g.x.size(0) for g in dataset.graphs]
    usual = max(set(sizes), key=sizes.count)
    graphs = [g for g in dataset.graphs if g.x.size(0) == usual][: config.batch_size]
    ours = make_model("hierpool-largest", config, dataset)
    dense = collate(graphs)
    outs = [ours(*batch.inputs)[:3] for batch in (collate_ragged(graphs), dense)]
    theirs = pyg_net(config, dataset, ours)(*dense.inputs)  # type: ignore[arg-type]  # make_model's
    worst = max(float((a - b).detach().abs().max()) for out in outs for a, b in zip(out, theirs, strict=True))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"the networks differ by {worst:.1e} on the same graphs: nothing is timed")
    return worst


def sample(sides: list[Side], steps: int, budget_s: float) -> list[tuple[float, ...]]:
    """Seconds of ``steps`` of each side in turn, or of as many as there is time for, but at least `LEAST_STEPS`.

    A tenth as many before them are not counted.
    """
    calls = [side.step for side in sides]
    round_s = median(sum(times) for times in alternate(calls, FIRST_STEPS))
    steps = max(LEAST_STEPS, min(steps, int(budget_s / round_s)))
    alternate(calls, steps // 10 - FIRST_STEPS)
    for side in sides:
        side.parts.clear()
    return alternate(calls, steps)


def measure(
    name: str, peer: str | None, config: TrainConfig, dataset: GraphDataset, steps: int, budget_s: float
) -> dict:
    """The row of a side, timed in turn with the peer, or alone without one."""
    sides = [make_side(one, config, dataset) for one in (peer, name) if one is not None]
    samples = sample(sides, steps, budget_s)
    row = {"status": "measured", "side": name, "title": SIDES[name], "steps": len(samples)}
    if peer is None:
        row["ms"] = asdict(Percentiles.of([1e3 * mine for (mine,) in samples]))
    else:
        found = asdict(Comparison.of(samples))
        row |= {"ms": found.pop("candidate_ms"), **found}
        row["overall"] = sum(other for other, _ in samples) / sum(mine for _, mine in samples)  # of all time
    return row | {"parts_ms": {part: median(values) for part, values in sides[-1].parts.items()}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", default="ENZYMES", help="TU data set (default: %(default)s)")
    parser.add_argument("--data-root", type=Path, help="folder with tu/<NAME>/raw (default: HIERPOOL_DATA)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument(
        "--steps", type=int, default=150, help="of each side in a pair (default: %(default)s)"
    )
    parser.add_argument(
        "--budget-s", type=float, default=120.0,
        help="seconds for a side and its peer; slow ones take fewer steps, which the row says (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights and the order of graphs")


def run(args: argparse.Namespace) -> results.Results:
    """Estimate, verify and time, into a new result folder."""
    if args.steps < LEAST_STEPS:
        raise ValueError(f"--steps must be at least {LEAST_STEPS}, got {args.steps}")
    if not args.budget_s > 0:
        raise ValueError(f"--budget-s must be positive, got {args.budget_s:g}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    metadata = machine.describe(CPU)
    config = TrainConfig(dataset=args.dataset, seed=args.seed)
    dataset = load_tu(args.dataset, args.data_root)
    available = machine.available_bytes()
    needed = {name: needed_bytes(name, config, dataset) for name in PADDED}
    fits = [name for name in SIDES if needed.get(name, 0) <= FREE * available]
    error = verify(config, dataset)
    how = config, dataset, args.steps, args.budget_s
    peers = [name for name in PYG if name in fits]
    peer = peers[0] if peers else None
    if len(peers) == 2 and measure(PYG[1], PYG[0], *how)["speedup"]["p50"] > 1:
        peer = PYG[1]
    metadata |= {
        "config": asdict(config), "steps": args.steps, "budget_s": args.budget_s, "peer": peer, "difference": error,
        "available_bytes": available, "needed_bytes": needed, "quick": args.steps < REPORTED_STEPS,
    }  # fmt: skip
    folder = results.create_folder(RESULTS, metadata)
    for name in SIDES:
        if name in fits:
            row = measure(name, peer, *how)
        else:
            row = {"status": TOO_LARGE, "side": name, "title": SIDES[name], "needs_gib": needed[name] / 2**30}
        results.append_row(folder, row)
    return results.read(folder)


def is_whole(run: results.Results) -> bool:
    """Whether a run came to its last side."""
    return bool(run.rows) and run.rows[-1]["side"] == list(SIDES)[-1]


def newest(parent: Path = RESULTS) -> tuple[results.Results, ...]:
    """The newest whole run on each data set, in the order of their names."""
    found: dict[str, results.Results] = {}
    for run in results.reported(parent, whole=is_whole):
        found.setdefault(run.metadata["config"]["dataset"], run)
    return tuple(found[name] for name in sorted(found))

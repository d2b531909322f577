"""Cluster the nodes of Cora, CiteSeer and PubMed by graph networks that are trained on a pooling loss alone.

    python examples/clustering.py                        # all three, five methods, ten seeds: some hours
    python examples/clustering.py Cora --methods mincut dmon --seeds 3
    python examples/clustering.py --report               # table and plot of the recorded runs

Labels are not used in training, nor to choose an epoch. The most probable cluster of every node after the last epoch is
compared with the labels by normalised mutual information (NMI). Networks and training are those of the code of each
method, except for the differences that METHODS and the networks name, and the features of a node are divided by their
sum. Everything runs on the sparse graph and needs O(N K) memory in addition to features and hidden layers. Every run is
recorded in the output folder, and recorded runs are not repeated.

Needs ``pip install 'hierpool[train]'``. The datasets are downloaded unless ``--root`` holds ``planetoid/Cora/raw``
and so on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import clustering_networks as networks
import torch
from clustering_networks import Inputs
from clustering_report import DATASETS, read_rows, write_report
from options import positive
from torch import Tensor, nn
from tqdm import tqdm

from hierpool.data import DatasetError, LargeGraph, load_large
from hierpool.metrics import modularity, normalized_mutual_information


@dataclass(frozen=True)
class Method:
    """A network and its training.

    Attributes:
        build: makes the network from the number of features and the number of clusters.
        lr: learning rate of Adam.
        epochs: number of steps, each on the whole graph.
        k: number of clusters; ``None`` takes the number of classes.
    """

    build: Callable[[int, int], nn.Module]
    lr: float
    epochs: int
    k: int | None = None


# Comments name the values of the method's own code. The losses converge with these values, too.
METHODS = {
    "mincut": Method(networks.mincut, lr=1e-3, epochs=1500),  # 5e-4, 10,000
    "dmon": Method(networks.DMoN, lr=1e-3, epochs=1000, k=16),
    "just-balance": Method(networks.JustBalance, lr=5e-4, epochs=400),  # 1e-4, 2000
    "hosc": Method(
        networks.hosc, lr=1e-3, epochs=1500
    ),  # its code has no clustering; the values are those of MinCut
    "tvgnn": Method(networks.TVGNN, lr=1e-3, epochs=500),
}
# For a graph on which ten runs of the full network take hours.
SMALLER = {("tvgnn", "PubMed"): Method(partial(networks.TVGNN, hidden=(128, 128)), lr=1e-3, epochs=250)}


def cluster(
    method: Method, data: Inputs, k: int, seed: int, *, epochs: int, on_epoch: Callable[[float], None]
) -> tuple[Tensor, float]:
    """Train a network on the graph and return the cluster of each node, int64 ``[N]``, and the last loss."""
    torch.manual_seed(seed)
    net = method.build(data.x.channels, k)
    optimizer = torch.optim.Adam(net.parameters(), lr=method.lr)
    loss = torch.zeros(())
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = torch.stack(list(net(data).loss.values())).sum()
        loss.backward()
        optimizer.step()
        on_epoch(float(loss.detach()))
    net.eval()
    with torch.no_grad():
        return net(data).so.s.argmax(-1), float(loss)


def run(
    name: str, data: LargeGraph, seeds: range, epochs: int | None, folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a method on a dataset, one per seed, without those that are recorded already."""
    method = SMALLER.get((name, data.name), METHODS[name])
    assert data.x is not None
    assert data.labels is not None
    epochs = epochs or method.epochs
    k = method.k or int(data.labels.max()) + 1
    key = {"dataset": data.name, "method": name, "k": k, "epochs": epochs}
    recorded = {row["seed"] for row in read_rows(folder) if row.items() >= key.items()}
    inputs = Inputs.of(data.x, data.graph)
    for seed in seeds:
        if seed in recorded:
            continue
        started = time.perf_counter()
        with tqdm(total=epochs, desc=f"{data.name} {name} seed {seed}", unit="epoch", leave=False) as bar:

            def on_epoch(loss: float) -> None:
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                bar.update()

            clusters, loss = cluster(method, inputs, k, seed, epochs=epochs, on_epoch=on_epoch)
        yield key | {
            "seed": seed,
            "nmi": normalized_mutual_information(clusters, data.labels),
            "modularity": modularity(data.graph, clusters),
            "clusters": clusters.unique().numel(),
            "loss": loss,
            "seconds": time.perf_counter() - started,
        }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "datasets", nargs="*", metavar="DATASET", help=f"{', '.join(DATASETS)} (default: all)"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="methods (default: all)"
    )
    parser.add_argument(
        "--seeds", type=positive, default=10, help="number of runs of each method (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, help="epochs of every method (default: those in METHODS)")
    parser.add_argument("--root", type=Path, help="data root (default: HIERPOOL_DATA, then the network)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("clustering-out"),
        help="folder of the records (default: %(default)s)",
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch decides)")
    parser.add_argument("--report", action="store_true", help="report the recorded runs only")
    args = parser.parse_args(arguments)
    for name in args.datasets:
        if name not in DATASETS:
            parser.error(f"argument DATASET: invalid choice: {name!r} (choose from {', '.join(DATASETS)})")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.report:
        args.out.mkdir(parents=True, exist_ok=True)
        for dataset in args.datasets or DATASETS:
            try:
                data = load_large(dataset, args.root)
            except (DatasetError, OSError) as error:
                raise SystemExit(str(error)) from error
            print(
                f"{dataset}: {data.graph.num_nodes} nodes, {data.graph.num_edges // 2} edges, from {data.source}"
            )
            for name in args.methods:
                for row in run(name, data, range(args.seeds), args.epochs, args.out):
                    with open(args.out / f"{dataset}-{name}.jsonl", "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(
                        f"  {name:<13} seed {row['seed']}: NMI {row['nmi']:.3f}, modularity {row['modularity']:.3f}, "
                        f"{row['clusters']} of {row['k']} clusters, {row['seconds']:.0f} s"
                    )
    print(write_report(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())

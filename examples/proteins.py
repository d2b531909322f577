"""Graph classification on PROTEINS with the networks of PyTorch Geometric's examples: DiffPool, MinCut or DMoN.

    python examples/proteins.py diffpool             # PyTorch Geometric alone
    python examples/proteins.py diffpool --patch     # the same program with hierpool's pooling
    python examples/proteins.py diffpool --sparse    # the same network from edge_index, without padding
    python examples/proteins.py --compare            # losses and times of all networks, three ways

Needs ``pip install 'hierpool[train]'``. The dataset is downloaded unless ``--root`` holds ``PROTEINS/raw``.
PyTorch Geometric writes a folder ``processed`` next to ``raw``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import proteins_pyg
import proteins_sparse
import torch
import torch.nn.functional as F
from options import positive
from proteins_compare import Variant, compare
from torch import Tensor, nn
from torch_geometric import transforms
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader, DenseDataLoader
from tqdm import tqdm

from hierpool.integrations.pyg import patch

NETWORKS = {
    "diffpool": (proteins_pyg.DiffPoolNet, proteins_sparse.SparseDiffPoolNet),
    "mincut": (proteins_pyg.MinCutNet, proteins_sparse.SparseMinCutNet),
    "dmon": (proteins_pyg.DMoNNet, proteins_sparse.SparseDMoNNet),
}
LEARNING_RATES = {
    "diffpool": {"lr": 1e-3},
    "mincut": {"lr": 5e-4, "weight_decay": 1e-4},
    "dmon": {"lr": 1e-3},
}
BATCH = 20


class Task:
    """A network, its data and its loss.

    Args:
        name: ``"diffpool"``, ``"mincut"`` or ``"dmon"``.
        dataset: PROTEINS or a similar dataset.
        sparse: use the network on ``edge_index`` and sparse batches.
        seed: seed of the split, the order of graphs and the weights.
    """

    def __init__(self, name: str, dataset: Any, *, sparse: bool, seed: int) -> None:
        self.name = name
        sizes = [data.num_nodes for data in dataset]
        if name == "diffpool":
            dataset = [data for data in dataset if data.num_nodes <= proteins_pyg.MAX_NODES]
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
        graphs = [dataset[i] for i in order]
        if name == "diffpool" and not sparse:
            torch.sparse.check_sparse_tensor_invariants.disable()  # otherwise ToDense warns
            graphs = [transforms.ToDense(proteins_pyg.MAX_NODES)(data.clone()) for data in graphs]
        self.loader = DenseDataLoader if name == "diffpool" and not sparse else DataLoader
        part = -(-len(graphs) // 10)
        self.test, self.validation, self.train = graphs[:part], graphs[part : 2 * part], graphs[2 * part :]
        options = () if name == "diffpool" else (sum(sizes) // len(sizes),)
        classes = 1 + max(int(data.y) for data in graphs)
        torch.manual_seed(seed)
        self.net: nn.Module = NETWORKS[name][sparse](graphs[0].x.size(-1), classes, *options)
        self.optimizer = torch.optim.Adam(self.net.parameters(), **LEARNING_RATES[name])

    def batches(self, graphs: list[Any], generator: torch.Generator | None = None) -> Any:
        """A loader of batches, shuffled if ``generator`` is given."""
        return self.loader(graphs, BATCH, shuffle=generator is not None, generator=generator)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss to minimise, without auxiliary losses for DiffPool as in its example, and the class scores."""
        scores, losses = self.net(batch)
        loss = F.nll_loss(scores, batch.y.flatten())
        return loss if self.name == "diffpool" else loss + torch.stack(list(losses.values())).sum(), scores

    def step(self, batch: Any) -> Tensor:
        """Take one training step and return the loss before it."""
        self.optimizer.zero_grad()
        loss, _ = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def accuracy(self, graphs: list[Any]) -> float:
        self.net.eval()
        right = sum(int((self.loss(b)[1].argmax(1) == b.y.flatten()).sum()) for b in self.batches(graphs))
        self.net.train()
        return right / len(graphs)


def train(task: Task, epochs: int, seed: int) -> None:
    """Train and print a line per epoch, with the test accuracy at the best epoch on the validation graphs."""
    order = torch.Generator().manual_seed(seed)
    best = test = 0.0
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        losses = [
            task.step(batch)
            for batch in tqdm(
                task.batches(task.train, order), desc=f"epoch {epoch}", unit="batch", leave=False
            )
        ]
        seconds = time.perf_counter() - started
        validation = task.accuracy(task.validation)
        if validation >= best:
            best, test = validation, task.accuracy(task.test)
        print(
            f"epoch {epoch:3}: loss {float(torch.stack(losses).mean()):.4f}, validation {validation:.3f}, "
            f"test {test:.3f}, {seconds:.2f} s"
        )


def load(root: Path | None) -> Any:
    """Load PROTEINS from a folder, or download it."""
    folder = root or Path(os.environ.get("HIERPOOL_CACHE") or Path.home() / ".cache" / "hierpool") / "pyg"
    if root is not None and not (root / "PROTEINS").is_dir():
        raise SystemExit(f"--root {root} has no folder PROTEINS; without --root the dataset is downloaded")
    return TUDataset(str(folder), "PROTEINS")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "network", nargs="?", choices=NETWORKS, help="network; optional with --compare, which then takes all"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--patch", action="store_true", help="replace PyG's pooling by hierpool's")
    how.add_argument("--sparse", action="store_true", help="use the network on edge_index")
    how.add_argument("--compare", action="store_true", help="compare losses and times of the three ways")
    parser.add_argument("--epochs", type=positive, default=20, help="training epochs (default: %(default)s)")
    parser.add_argument(
        "--steps", type=positive, default=45, help="steps of --compare (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="data root (default: the network)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch decides)")
    args = parser.parse_args(arguments)
    if args.network is None and not args.compare:
        parser.error(f"name a network ({', '.join(NETWORKS)}), or --compare")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    dataset = load(args.root)
    if args.compare:
        names = [args.network] if args.network else list(NETWORKS)
        processor = torch.backends.cpu.get_cpu_capability()
        threads = torch.get_num_threads()
        print(f"torch {torch.__version__}, {processor}, {threads} thread(s), batches of {BATCH} graphs")
        for name in names:
            variants = [
                Variant(label, lambda s=sparse, n=name: Task(n, dataset, sparse=s, seed=args.seed), patched)
                for label, sparse, patched in (
                    ("PyG", False, False),
                    ("patched", False, True),
                    ("sparse", True, False),
                )
            ]
            print(compare(name, variants, args.steps), flush=True)
        return 0
    context: AbstractContextManager[Any] = patch() if args.patch else nullcontext()
    with context:
        train(Task(args.network, dataset, sparse=args.sparse, seed=args.seed), args.epochs, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

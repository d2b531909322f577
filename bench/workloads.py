"""Padded batches with a dense adjacency: real ones, synthetic ones and one large graph, all seeded, in float32.

Adjacency and sizes are the data; features and assignment logits are drawn from a normal distribution, as they would
come out of a network's embedding and assignment layers.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


class WorkloadUnavailable(RuntimeError):
    """The data of a workload is not on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Batch:
    """Inputs of one pooling step and the upstream gradients of its four outputs.

    ``x [B, N, F]``, ``adj [B, N, N]``, ``logits [B, N, K]``, ``mask [B, N]`` bool or None when no row is padding;
    ``sizes`` real nodes of each graph; ``entries`` non-zeros of ``adj``; ``grads`` of pooled x, pooled adj, link loss
    and entropy loss.
    """

    x: Tensor
    adj: Tensor
    logits: Tensor
    mask: Tensor | None
    sizes: tuple[int, ...]
    entries: int
    symmetric: bool
    grads: tuple[Tensor, Tensor, Tensor, Tensor]

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors whose gradients are part of the work."""
        return self.x, self.logits

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return "x", "logits"

    @property
    def clusters(self) -> int:
        return self.logits.size(-1)

    @property
    def parameters(self) -> int:
        """Elements of layers that are part of the work: none."""
        return 0

    @property
    def padded_entries(self) -> int:
        """B N N: what PyG divides the link loss by."""
        return self.adj.numel()

    @property
    def adjacency_bytes(self) -> int:
        """Of the real part of A."""
        return self.adj.element_size() * sum(n * n for n in self.sizes)

    def double(self) -> Batch:
        """The same batch in float64, with its own leaves."""
        x, logits = (t.detach().double().requires_grad_() for t in self.leaves)
        g_x, g_adj, g_link, g_entropy = (g.double() for g in self.grads)
        grads = (g_x, g_adj, g_link, g_entropy)
        return replace(self, x=x, adj=self.adj.double(), logits=logits, grads=grads)

    def describe(self) -> dict[str, int | bool]:
        """Sizes that identify the work, for the result rows."""
        b, n, f = self.x.shape
        return {
            "graphs": b, "padded_nodes": n, "features": f, "clusters": self.clusters,
            "nodes": sum(self.sizes), "entries": self.entries, "symmetric": self.symmetric,
        }  # fmt: skip


def draw(
    nodes: tuple[int, ...], graphs: int, largest: int, features: int, clusters: int, seed: int,
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """Features ``[*nodes, F]``, logits ``[*nodes, K]``, and upstream gradients of the four outputs.

    The gradients undo the losses' division by ``B N N`` and ``B N``, so that each of the four outputs moves the
    gradients visibly.
    """
    gen, of = generator(seed, device), {"device": device, "dtype": dtype}

    def normal(*shape: int) -> Tensor:
        return torch.empty(shape, **of) if gen is None else torch.randn(shape, generator=gen, **of)

    x, logits = normal(*nodes, features), normal(*nodes, clusters)
    grads = (
        normal(graphs, clusters, features),
        normal(graphs, clusters, clusters),
        torch.tensor(float(graphs * largest * largest), **of),
        torch.tensor(float(graphs * largest), **of),
    )
    return x, logits, grads


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator | None:
    """A generator of random numbers on ``device``; none for "meta", which has shapes alone."""
    kind = torch.device(device)
    return None if kind.type == "meta" else torch.Generator(kind).manual_seed(seed)


def make_batch(
    adj: Tensor, sizes: tuple[int, ...], features: int, clusters: int, symmetric: bool, seed: int
) -> Batch:
    """Complete an adjacency ``[B, N, N]`` with features, logits, mask and upstream gradients."""
    b, n, _ = adj.shape
    mask = torch.arange(n) < torch.tensor(sizes).unsqueeze(1)  # [B, N]
    x, logits, grads = draw((b, n), b, n, features, clusters, seed)
    x = x * mask.unsqueeze(-1)
    padded = min(sizes) < n
    return Batch(
        x.requires_grad_(), adj, logits.requires_grad_(), mask if padded else None,
        sizes, int(adj.count_nonzero()), symmetric, grads,
    )  # fmt: skip


# ---- graphs in TU text format --------------------------------------------------------------------------------------


def read_tu(raw: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read ``<name>_A.txt`` and ``<name>_graph_indicator.txt`` of a TU data set.

    Returns nodes per graph ``[G]`` and the directed edges ``[E, 2]`` as node numbers from 0, without self-loops and
    duplicates, sorted by row. Raises `WorkloadUnavailable` for a missing file, ValueError for one that does not parse.
    """
    import numpy as np

    columns = []
    for suffix in ("graph_indicator", "A"):
        path = raw / f"{name}_{suffix}.txt"
        if not path.is_file():
            raise WorkloadUnavailable(f"{name}: no file {path.name} in the data folder")
        try:
            columns.append(np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2) - 1)
        except ValueError as error:
            raise ValueError(f"{path} is not in TU format: {error}") from error
    graph, edges = columns[0][:, 0], columns[1]
    if columns[0].shape[1] != 1 or edges.shape[1] != 2 or (np.diff(graph) < 0).any():
        raise ValueError(f"{raw}: {name} needs a sorted graph indicator and two columns in {name}_A.txt")
    if edges.min() < 0 or edges.max() >= len(graph) or (graph[edges[:, 0]] != graph[edges[:, 1]]).any():
        raise ValueError(f"{raw}: {name}_A.txt names a node out of range or an edge between two graphs")
    return np.bincount(graph), np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)


def tu_batch(raw: Path, name: str, count: int, seed: int) -> Batch:
    """A random batch of ``count`` graphs, padded to its largest graph N, with K = N/4 and F = 64."""
    import numpy as np

    sizes, edges = read_tu(raw, name)
    if len(sizes) < count:
        raise ValueError(f"{raw}: {name} has {len(sizes)} graphs, the workload needs {count}")
    picked = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))[:count].numpy()
    start = np.concatenate(([0], np.cumsum(sizes)))
    n = int(sizes[picked].max())
    adj = torch.zeros(count, n, n)
    for i, g in enumerate(picked):
        lo, hi = np.searchsorted(edges[:, 0], (start[g], start[g + 1]))
        local = torch.from_numpy(edges[lo:hi] - start[g])
        adj[i, local[:, 0], local[:, 1]] = 1.0
    symmetric = torch.equal(adj, adj.mT)
    return make_batch(adj, tuple(int(v) for v in sizes[picked]), 64, max(1, n // 4), symmetric, seed)


def mutag(count: int) -> Callable[[int, Path | None], Batch]:
    """MUTAG from the grakel wheel, found without importing grakel."""

    def build(seed: int, data_root: Path | None) -> Batch:
        spec = importlib.util.find_spec("grakel")
        if spec is None or not spec.submodule_search_locations:
            raise WorkloadUnavailable("MUTAG comes with grakel: pip install 'hierpool[bench]'")
        raw = Path(spec.submodule_search_locations[0]) / "tests" / "data" / "MUTAG"
        return tu_batch(raw, "MUTAG", count, seed)

    return build


def from_data_root(name: str, count: int) -> Callable[[int, Path | None], Batch]:
    """A batch of a TU data set kept under ``<data root>/tu/<name>/raw``."""

    def build(seed: int, data_root: Path | None) -> Batch:
        if data_root is None:
            raise WorkloadUnavailable(
                f"{name}: give --data-root or set HIERPOOL_DATA (a folder with tu/{name}/raw)"
            )
        return tu_batch(data_root / "tu" / name / "raw", name, count, seed)

    return build


# ---- synthetic -----------------------------------------------------------------------------------------------------

# Log-normal quantiles with these parameters give 20 sizes from 127 to 629 that add up to 6118 nodes, and 2.505 edges
# a node about 30650 entries: the totals of a batch of 20 protein graphs of the D&D data set.
DND_MU, DND_SIGMA, DND_EDGES_PER_NODE = 5.646, 0.40716, 2.505


def dnd_like(seed: int, data_root: Path | None) -> Batch:
    """20 undirected random graphs with the sizes (log-normal, heavy tail) and the mean degree (5) of D&D."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)]
    sizes = tuple(round(math.exp(DND_MU + DND_SIGMA * z)) for z in quantiles)
    gen = torch.Generator().manual_seed(seed)
    n = max(sizes)
    adj = torch.zeros(len(sizes), n, n)
    for i, size in enumerate(sizes):
        row, col = torch.triu_indices(size, size, offset=1)
        edge = torch.randperm(row.numel(), generator=gen)[: round(DND_EDGES_PER_NODE * size)]
        adj[i, row[edge], col[edge]] = 1.0
    return make_batch(adj + adj.mT, sizes, 64, n // 4, True, seed)


def one_graph(
    nodes: int, clusters: int, features: int, *, density: float = 1.0, symmetric: bool = True
) -> Callable[[int, Path | None], Batch]:
    """One graph in dense storage: uniform weights, a share ``density`` of them non-zero."""

    def build(seed: int, data_root: Path | None) -> Batch:
        gen = torch.Generator().manual_seed(seed)
        adj = torch.rand(nodes, nodes, generator=gen)
        if density < 1.0:
            adj *= torch.rand(nodes, nodes, generator=gen) < density
        if symmetric:
            adj = adj.triu() + adj.triu(1).T
        return make_batch(adj.unsqueeze(0), (nodes,), features, clusters, symmetric, seed)

    return build

"""Large random graphs for tests and benchmarks: planted communities and skewed degrees.

The graphs are undirected (both directions are stored) and have no weights, self-loops or duplicates. Their number of
edges is exact, and the same seed gives the same graph. The peak memory is about 80 bytes per undirected edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool.distributed import ShardedGraph
from hierpool.distributed.partition import chunk_offsets, to_owners
from hierpool.distributed.ranks import Ranks
from hierpool.graph import RaggedGraph

_CHUNK = 1 << 16  # draws at a time, which fit into a cache
_MIN_DRAWS = 256  # draws in a round, so that the last missing pairs of a dense graph are found
_MAX_ROUNDS = 100
Draw = Callable[[int], tuple[Tensor, Tensor]]


class PlantedGraph(NamedTuple):
    """A graph and the community of each node."""

    graph: RaggedGraph
    labels: Tensor  # [N] int64


class PlantedShard(NamedTuple):
    """A graph that several processes share, and the community of each node of this process."""

    graph: ShardedGraph
    labels: Tensor  # [n] int64


def stochastic_block_model(
    num_nodes: int,
    communities: int,
    *,
    mean_degree: float,
    mixing: float,
    seed: int = 0,
    shuffle: bool = True,
) -> PlantedGraph:
    r"""Draw a planted partition: communities of equal size, and a given share of the edges between them.

    The graph has :math:`m = N \cdot` ``mean_degree`` :math:`/ 2` undirected edges, each a different pair of nodes.
    ``mixing`` :math:`\cdot m` of them join nodes in different communities, the others nodes in the same community.

    Args:
        num_nodes: number of nodes, N.
        communities: number of communities; their sizes differ by at most one.
        mean_degree: mean number of neighbours of a node.
        mixing: share of the edges that join different communities, 0 to 1.
        seed: seed of the draws.
        shuffle: number the nodes at random instead of community by community.

    Returns:
        The graph and the community of every node.

    Raises:
        ValueError: an argument is out of range, or there are fewer pairs of nodes than edges.

    Source: Condon and Karp, "Algorithms for graph partitioning on the planted partition model", Random Structures &
    Algorithms 18, 2001.
    """
    generator = torch.Generator().manual_seed(seed)
    keys = _planted_keys(num_nodes, communities, mean_degree, mixing, generator, _Draws())
    ends, order = _renumbered(keys, num_nodes, generator if shuffle else None)
    label = torch.arange(num_nodes) * communities // num_nodes
    if order is not None:
        label = torch.empty_like(label).index_copy(0, order, label)
    return PlantedGraph(_graph(ends, num_nodes), label)


def sharded_block_model(
    num_nodes: int,
    communities: int,
    *,
    mean_degree: float,
    mixing: float,
    seed: int = 0,
    shuffle: bool = True,
    group: dist.ProcessGroup | None = None,
) -> PlantedShard:
    """The graph of :func:`stochastic_block_model` in the memory of several processes; called by all of a group.

    No process has the whole graph: all draw the same edges, each keeps a part of them, and sends it to the owners of
    its rows, which are ranges of equal length. The processes also hold the new numbers of all nodes until then.

    Args:
        num_nodes, communities, mean_degree, mixing, seed, shuffle: see :func:`stochastic_block_model`.
        group: process group; ``None``: all processes.

    Raises:
        ValueError: in all processes; see :func:`stochastic_block_model`.
    """
    ranks = Ranks(group)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> dict[str, object]:
        _check_planted(num_nodes, communities, mean_degree, mixing)
        return {"the drawn graph": (num_nodes, communities, mean_degree, mixing, seed, shuffle)}

    ranks.agree(draw)
    keys = _planted_keys(
        num_nodes, communities, mean_degree, mixing, generator, _SharedDraws(ranks, num_nodes)
    )
    ends, order = _renumbered(keys, num_nodes, generator if shuffle else None)
    del keys
    low, high = chunk_offsets(num_nodes, ranks.size)[ranks.rank :][:2].tolist()
    old = torch.arange(low, high)
    if order is not None:
        own = ((order >= low) & (order < high)).nonzero().flatten()
        old = torch.empty_like(own).index_copy_(0, order[own] - low, own)
        del order
    ends = torch.cat([ends, ends.flip(0)], 1)
    ends, _ = to_owners(ranks, ends, None, num_nodes)
    graph = ShardedGraph.from_edge_index(ends, high - low, symmetric=True, group=group)
    return PlantedShard(graph, old * communities // num_nodes)


def _planted_keys(
    num_nodes: int,
    communities: int,
    mean_degree: float,
    mixing: float,
    generator: torch.Generator,
    draws: _Draws,
) -> Tensor:
    """The keys of the edges of a planted partition whose nodes are numbered community by community."""
    edges = _check_planted(num_nodes, communities, mean_degree, mixing)
    between = round(edges * mixing)
    first = -(-torch.arange(communities + 1) * num_nodes // communities)  # node i is in community i C // N
    size = first.diff()

    def draw_inside(count: int) -> tuple[Tensor, Tensor]:
        i = torch.randint(num_nodes, (count,), generator=generator)
        community = i * communities // num_nodes
        # The remainders of 62-bit numbers differ in frequency by less than N / 2^62.
        j = first[community] + torch.randint(1 << 62, (count,), generator=generator) % size[community]
        return i, j

    def draw_between(count: int) -> tuple[Tensor, Tensor]:
        i, j = torch.randint(num_nodes, (2, count), generator=generator)
        different = i * communities // num_nodes != j * communities // num_nodes
        return i[different], j[different]

    return torch.cat(
        [
            _distinct(draw_inside, edges - between, num_nodes, generator, draws),
            _distinct(draw_between, between, num_nodes, generator, draws),
        ]
    )


def rmat(
    scale: int,
    *,
    mean_degree: float,
    probabilities: tuple[float, float, float, float] = (0.57, 0.19, 0.19, 0.05),
    seed: int = 0,
    shuffle: bool = True,
) -> RaggedGraph:
    r"""Draw an R-MAT graph: :math:`2^{scale}` nodes, and degrees as skewed as those of social networks.

    An edge is a cell of the adjacency matrix, found by choosing one of four quarters ``scale`` times. The number of
    edges, :math:`2^{scale} \cdot` ``mean_degree`` :math:`/ 2`, is exact: self-loops and repeated pairs are drawn again.
    Many nodes have no edge.

    Args:
        scale: binary logarithm of the number of nodes.
        mean_degree: mean number of neighbours of a node.
        probabilities: probabilities of the upper left, upper right, lower left and lower right quarter; they sum
            to 1. The default is that of the Graph 500 benchmark.
        seed: seed of the draws.
        shuffle: number the nodes at random; otherwise the first nodes have the most edges.

    Raises:
        ValueError: an argument is out of range, or too few different edges were found.

    Source: Chakrabarti, Zhan, Faloutsos, "R-MAT: a recursive model for graph mining", SDM 2004.
    """
    if not 0 <= scale <= 31:
        raise ValueError(f"scale must lie between 0 and 31, got {scale}")
    if min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-9:
        raise ValueError(f"probabilities must not be negative and sum to 1, got {probabilities}")
    nodes = 1 << scale
    edges = _count_edges(nodes, mean_degree)
    _check_pairs("in the graph", edges, nodes * (nodes - 1) // 2)
    generator = torch.Generator().manual_seed(seed)
    upper_left, upper_right, lower_left, _ = probabilities
    upper = upper_left + upper_right

    def draw(count: int) -> tuple[Tensor, Tensor]:
        i, j = torch.zeros(2, count, dtype=torch.int64)
        for _ in range(scale):
            u = torch.rand(count, generator=generator)
            lower = u >= upper
            right = ((u >= upper_left) & ~lower) | (u >= upper + lower_left)
            i.mul_(2).add_(lower)
            j.mul_(2).add_(right)
        return i, j

    keys = _distinct(draw, edges, nodes, generator, _Draws())
    return _graph(_renumbered(keys, nodes, generator if shuffle else None)[0], nodes)


def _check_planted(num_nodes: int, communities: int, mean_degree: float, mixing: float) -> int:
    """The number of edges; raises ``ValueError`` if no such graph exists."""
    if not 1 <= num_nodes < 1 << 31:
        raise ValueError(f"num_nodes must lie between 1 and 2^31 - 1, got {num_nodes}")
    if not 1 <= communities <= num_nodes:
        raise ValueError(f"communities must lie between 1 and num_nodes = {num_nodes}, got {communities}")
    if not 0 <= mixing <= 1:
        raise ValueError(f"mixing must lie between 0 and 1, got {mixing}")
    edges = _count_edges(num_nodes, mean_degree)
    smaller, larger = divmod(num_nodes, communities)  # ``larger`` communities have ``smaller + 1`` nodes
    inside = communities * (smaller * (smaller - 1) // 2) + larger * smaller
    between = round(edges * mixing)
    _check_pairs("inside communities", edges - between, inside)
    _check_pairs("between communities", between, num_nodes * (num_nodes - 1) // 2 - inside)
    return edges


def _count_edges(num_nodes: int, mean_degree: float) -> int:
    if not 0 <= mean_degree < float("inf"):
        raise ValueError(f"mean_degree must be finite and not negative, got {mean_degree}")
    return round(num_nodes * mean_degree / 2)


def _check_pairs(where: str, edges: int, pairs: int) -> None:
    if edges > pairs:
        raise ValueError(
            f"mean_degree asks for {edges} edges {where}, but there are only {pairs} pairs of nodes"
        )


class _Draws:
    """Which of the drawn edges a process keeps, and how many all processes have: here, one keeps all."""

    def kept(self, keys: Tensor) -> Tensor:
        """The edges of this process."""
        return keys

    def count(self, keys: Tensor) -> int:
        """The number of edges of all processes."""
        return keys.numel()

    def all(self, keys: Tensor) -> Tensor:
        """The edges of all processes, ascending; few."""
        return keys


class _SharedDraws(_Draws):
    """All processes draw the same edges, and each keeps those whose sum of ends has its remainder."""

    def __init__(self, ranks: Ranks, num_nodes: int) -> None:
        self.ranks, self.num_nodes = ranks, num_nodes

    def kept(self, keys: Tensor) -> Tensor:
        owner = (keys // self.num_nodes + keys % self.num_nodes) % self.ranks.size
        return keys[owner == self.ranks.rank]

    def count(self, keys: Tensor) -> int:
        return int(self.ranks.total(torch.tensor([keys.numel()])))

    def all(self, keys: Tensor) -> Tensor:
        counts = [int(count) for count in self.ranks.objects(keys.numel())]
        return self.ranks.gather(keys, counts).sort().values


def _distinct(draw: Draw, count: int, num_nodes: int, generator: torch.Generator, draws: _Draws) -> Tensor:
    """Draw ``count`` different undirected edges without self-loops; their keys ``smaller * N + larger``."""
    found: list[Tensor] = []  # each ascending
    missing = count
    for _ in range(_MAX_ROUNDS):
        if missing == 0:
            return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
        wanted = max(missing, _MIN_DRAWS)
        new = torch.cat(
            [
                draws.kept(_keys(*draw(min(_CHUNK, wanted - start)), num_nodes=num_nodes))
                for start in range(0, wanted, _CHUNK)
            ]
        ).unique()
        for old in found:
            position = torch.searchsorted(old, new).clamp(max=old.numel() - 1)
            new = new[old[position] != new]
        number = draws.count(new)
        if number > missing:  # in a round of few
            every = draws.all(new)
            chosen = every[torch.randperm(number, generator=generator)[:missing]]
            new, number = new[torch.isin(new, chosen)], missing
        if new.numel():
            found.append(new)
        missing -= number
    raise ValueError(f"mean_degree asks for {count} different edges, but only {count - missing} were found")


def _keys(i: Tensor, j: Tensor, *, num_nodes: int) -> Tensor:
    return (torch.minimum(i, j) * num_nodes + torch.maximum(i, j))[i != j]


def _renumbered(
    keys: Tensor, num_nodes: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    """The ends of edges, int32 ``[2, E]``; a generator renumbers the nodes, and their new numbers are returned."""
    order = None if generator is None else torch.randperm(num_nodes, generator=generator)
    ends = torch.empty(2, keys.numel(), dtype=torch.int32)
    for side, old in enumerate((keys // num_nodes, keys % num_nodes)):
        ends[side] = old if order is None else order[old]
    return ends, order


def _graph(ends: Tensor, num_nodes: int) -> RaggedGraph:
    both = torch.cat([ends, ends.flip(0)], 1)
    return RaggedGraph.from_edge_index(both, num_nodes, symmetric=True)

"""The hierarchical graph classifier of the DiffPool paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.nn.diff_pool import DiffPool, PoolFunction
from hierpool.nn.masking import select_valid
from hierpool.nn.readout import READOUTS, readout
from hierpool.nn.sage import SAGEStack, embed
from hierpool.nn.soft_pooling import cluster_count
from hierpool.nn.src import PoolingOutput


class DiffPoolNetOutput(NamedTuple):
    """What :class:`DiffPoolNet` returns."""

    logits: Tensor  # [B, classes]
    link_loss: Tensor | None  # 0-d, the sum over levels
    entropy_loss: Tensor | None  # 0-d, the sum over levels
    levels: tuple[PoolingOutput, ...]  # one per pooling


class Assignment(nn.Module):
    """The network that assigns nodes to clusters: a GraphSAGE stack and a linear map of its concatenation."""

    def __init__(self, stack: SAGEStack, k: int) -> None:
        super().__init__()
        self.stack = stack
        self.linear = nn.Linear(stack.out_channels, k)

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Logits ``[B, N, K]`` of ``x [B, N, F]``, ``adj [B, N, N]``, ``mask [B, N]``; ``[N, K]`` of a ragged batch."""
        return self.linear(self.stack(x, adj, mask))


class DiffPoolNet(nn.Module):
    r"""Graph classifier with learned hierarchical pooling.

    Level by level, :math:`Z = \mathrm{embed}(X, A)` and :math:`L = \mathrm{assign}(X, A)` come from two separate
    GraphSAGE stacks, :class:`hierpool.nn.DiffPool` turns :math:`(Z, A, L)` into the next, smaller :math:`(X, A)`,
    and a last embedding follows the last pooling. A readout of every level's :math:`Z` is concatenated and
    classified by a perceptron with one hidden layer. Where the two stacks of a level see the same features, they share
    the product with the adjacency.

    The first level takes a padded batch with dense adjacency, or a ragged batch with a sparse one; the levels after it
    are dense and small. Both ways are the same function of the same parameters, up to rounding. Padding is read
    nowhere: a graph's result depends neither on how far its batch is padded nor, in evaluation, on the other graphs in
    it, nor on the order of its nodes, unless a quirk below is switched on.

    Args:
        in_channels: features of a node.
        num_classes: classes.
        max_nodes: nodes of the largest graph; needed with ``ratio``.
        k: clusters of each level (a number for a single level). Give this or ``ratio``.
        ratio: clusters of each level as a part of the level before it, starting at ``max_nodes``.
        levels: how many times to pool, with ``ratio``.
        hidden_channels: width of the stacks' inner layers.
        embedding_channels: width of the embedding stacks' last layer.
        layers: layers of every stack.
        head_channels: width of the classifier's hidden layer.
        readout: ``"max"``, ``"mean"`` or ``"sum"`` over valid nodes.
        dropout: probability of dropping a feature before the classifier's last layer.
        aggregation: of the GraphSAGE layers, ``"mean"`` or ``"sum"``.
        root: whether a layer adds a node's own features.
        normalize: whether a layer scales its rows to length 1.
        norm: ``"batch"``, or ``None``, or ``"slot"``, the original code's (see
            :class:`hierpool.nn.SlotBatchNorm`).
        readout_padding: the original code's maximum over padding rows as well, whose features are 0.
        pool_options: further arguments of :class:`hierpool.nn.DiffPool` (``temperature``, ``link_loss``,
            ``entropy``, ``convention``, ``symmetric``, ``backend``).
        pool: see :class:`hierpool.nn.DiffPool`.

    The original code is ``aggregation="sum", root=False, norm="slot", readout_padding=True``; the last two are about
    padding and need a padded batch.

    Raises:
        ValueError: an argument out of its range.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        max_nodes: int | None = None,
        k: int | Sequence[int] | None = None,
        ratio: float | None = None,
        levels: int = 1,
        hidden_channels: int = 64,
        embedding_channels: int = 64,
        layers: int = 3,
        head_channels: int = 50,
        readout: str = "max",
        dropout: float = 0.0,
        aggregation: str = "mean",
        root: bool = True,
        normalize: bool = True,
        norm: str | None = "batch",
        readout_padding: bool = False,
        pool: str | PoolFunction = "hierpool",
        pool_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"readout must be one of {READOUTS}, got {readout!r}")
        self.readout = readout
        self.readout_padding = readout_padding
        self.clusters = _clusters(k, ratio, max_nodes, levels)

        def stack(fan_in: int, fan_out: int) -> SAGEStack:
            return SAGEStack(
                fan_in,
                hidden_channels,
                fan_out,
                layers=layers,
                aggregation=aggregation,
                root=root,
                normalize=normalize,
                norm=norm,
            )

        first = stack(in_channels, embedding_channels)
        width = first.out_channels
        self.embeddings = nn.ModuleList([first])
        self.pools = nn.ModuleList()
        for level, clusters in enumerate(self.clusters):
            seen = width if level else in_channels
            assignment = Assignment(stack(seen, clusters), clusters)
            self.pools.append(
                DiffPool(seen, clusters, assignment=assignment, pool=pool, **(pool_options or {}))
            )
            self.embeddings.append(stack(width, embedding_channels))
        self.head = nn.Sequential(
            nn.Linear(width * len(self.embeddings), head_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(head_channels, num_classes),
        )

    def forward(
        self, x: Any, adj: Tensor | RaggedGraph | None = None, mask: Tensor | None = None
    ) -> DiffPoolNetOutput:
        """Classify a batch of graphs, padded or ragged.

        Args:
            x: node features ``[B, N, in_channels]``, or ``[N, in_channels]`` with a ragged graph; or, alone, a
                ``Data`` or ``Batch`` of PyTorch Geometric (anything with ``x`` and ``edge_index``, and if there are
                any, ``edge_weight``, and ``batch`` or ``ptr``).
            adj: adjacency ``[B, N, N]``, any dtype, or a ragged graph.
            mask: valid nodes ``[B, N]`` (non-zero is valid); ``None``: all are. Padding may hold anything.

        Returns:
            Class logits, the losses summed over levels, and what each level's pooling returned.

        Raises:
            TypeError: ``x`` alone is no batch of PyTorch Geometric.
            ValueError: shapes that disagree, or a ragged batch where padding has a part.
        """
        if adj is None:
            adj, x = RaggedGraph.from_pyg(x), x.x
        x, adj, valid = select_valid(x, adj, mask)
        summaries: list[Tensor] = []
        levels: list[PoolingOutput] = []
        for embedding, pool in zip(self.embeddings, self.pools, strict=False):
            assignment = cast(Assignment, cast(DiffPool, pool).assignment)
            z, seen = embed((cast(SAGEStack, embedding), assignment.stack), x, adj, valid)
            summaries.append(self._summary(z, adj, valid))
            level: PoolingOutput = pool(z, adj, mask=valid, logits=assignment.linear(seen))
            levels.append(level)
            x, adj, valid = level.x, level.adj, None
        (z,) = embed((cast(SAGEStack, self.embeddings[-1]),), x, adj, None)
        summaries.append(self._summary(z, adj, None))
        return DiffPoolNetOutput(
            self.head(torch.cat(summaries, -1)),
            _total([level.loss.get("link_loss") for level in levels]),
            _total([level.loss.get("entropy_loss") for level in levels]),
            tuple(levels),
        )

    def _summary(self, z: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None) -> Tensor:
        if not isinstance(adj, RaggedGraph):
            return readout(z, None if self.readout_padding else valid, self.readout)
        if self.readout_padding:
            raise ValueError("readout_padding=True reads padding, which a ragged batch does not have")
        return readout(z, None, self.readout, graph=adj)


def _clusters(
    k: int | Sequence[int] | None, ratio: float | None, max_nodes: int | None, levels: int
) -> tuple[int, ...]:
    """Clusters of each level."""
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    if k is not None and ratio is None:
        counts = (k,) if isinstance(k, int) else tuple(k)
        if not counts:
            raise ValueError("k must name at least one level, got an empty sequence")
        return tuple(cluster_count(count, None, None) for count in counts)
    if k is not None:
        raise ValueError(f"give exactly one of k and ratio, but k is {k} and ratio is {ratio}")
    counts = ()
    size = max_nodes
    for _ in range(levels):
        size = cluster_count(None, ratio, size)
        counts += (size,)
    return counts


def _total(terms: list[Tensor | None]) -> Tensor | None:
    """The sum of what was computed; None if nothing was."""
    some = [term for term in terms if term is not None]
    return torch.stack(some).sum() if some else None

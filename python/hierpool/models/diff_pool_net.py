"""The hierarchical graph classifier of the DiffPool paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_sizes
from hierpool.nn.clusters import ClusterCount
from hierpool.nn.diff_pool import DiffPool, PoolFunction
from hierpool.nn.masking import select_valid
from hierpool.nn.mlp import channels_of
from hierpool.nn.outputs import PoolingOutput
from hierpool.nn.readout import READOUTS, readout
from hierpool.nn.sage import SAGEStack
from hierpool.selection._shared import check_count, check_probability


class DiffPoolNetOutput(NamedTuple):
    """Output of :class:`DiffPoolNet`."""

    logits: Tensor  # [B, classes]
    link_loss: Tensor | None  # 0-d, sum over levels
    entropy_loss: Tensor | None  # 0-d, sum over levels
    levels: tuple[PoolingOutput, ...]  # output of every pooling layer


torch.serialization.add_safe_globals([DiffPoolNetOutput])  # for torch.load


class Assignment(nn.Module):
    """The network that assigns nodes to clusters: a GraphSAGE stack and a linear layer."""

    def __init__(self, stack: SAGEStack, k: int) -> None:
        super().__init__()
        self.stack = stack
        self.linear = nn.Linear(stack.out_channels, k)

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Logits ``[B, N, K]`` of ``x [B, N, F]``, ``adj [B, N, N]``, ``mask [B, N]``; ``[N, K]`` of a ragged batch."""
        return self.linear(self.stack(x, adj, mask))

    def logits(self, hidden: Tensor, columns: int) -> Tensor:
        """The first ``columns`` of the logits, from the output of the stack."""
        return F.linear(hidden, self.linear.weight[:columns], self.linear.bias[:columns])


class DiffPoolNet(nn.Module):
    r"""Graph classifier with learned hierarchical pooling.

    At every level, two GraphSAGE stacks compute :math:`Z = \mathrm{embed}(X, A)` and :math:`L = \mathrm{assign}(X, A)`,
    and :class:`hierpool.nn.DiffPool` computes the next, smaller :math:`(X, A)` from :math:`(Z, A, L)`. A last embedding
    follows the last pooling. Readouts of :math:`Z` of all levels are concatenated and classified by a perceptron with
    one hidden layer.

    The first level takes a padded batch with dense adjacency, or a ragged batch with sparse adjacency; both give the
    same results up to rounding. Later levels are dense and small. The result of a graph does not depend on the padding,
    on the order of its nodes or, in evaluation mode, on other graphs of the batch, unless ``norm="slot"`` or
    ``readout_padding=True``.

    Args:
        in_channels: number of node features.
        num_classes: number of classes.
        max_nodes: number of nodes of the largest graph; required with ``ratio``.
        k: number of clusters of each level, or an int for a single level. Give this or ``ratio``.
        ratio: clusters of each level as a fraction of the nodes of the level before it, of each graph: the nodes of the
            graph, then its clusters.
        ratio_of: ``"graph"``, or ``"largest"``: all graphs have the number of clusters of a graph with ``max_nodes``
            nodes, as in the original code. See :class:`hierpool.nn.SoftPooling`.
        levels: number of poolings, with ``ratio``.
        hidden_channels: width of the inner layers of the stacks.
        embedding_channels: width of the last layer of the embedding stacks, and of the assignment stacks where graphs
            have numbers of clusters of their own; otherwise that of assignment stacks is the number of clusters.
        layers: number of layers of every stack.
        head_channels: width of the hidden layer of the classifier.
        readout: ``"max"``, ``"mean"`` or ``"sum"`` over valid nodes.
        dropout: dropout probability before the last layer of the classifier.
        aggregation: aggregation of the GraphSAGE layers, ``"mean"`` or ``"sum"``.
        root: add the node's own features in every GraphSAGE layer.
        normalize: scale the rows of every GraphSAGE layer to length 1.
        norm: ``"batch"``, ``None``, or ``"slot"`` as in the original code (:class:`hierpool.nn.SlotBatchNorm`).
        readout_padding: include padding rows, which are 0, in the readout, as in the original code.
        pool: see :class:`hierpool.nn.DiffPool`.
        pool_options: other arguments of :class:`hierpool.nn.DiffPool` (``temperature``, ``link_loss``,
            ``entropy``, ``convention``, ``symmetric``, ``backend``).

    The original code has ``aggregation="sum", root=False, norm="slot", readout_padding=True``. The last two need a
    padded batch.

    Raises:
        ValueError: an argument is out of range.

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
        ratio_of: str = "graph",
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
        embedding_channels, head_channels, num_classes = check_sizes(
            embedding_channels=embedding_channels, head_channels=head_channels, num_classes=num_classes
        )
        self.readout = readout
        self.readout_padding = readout_padding
        counts = _cluster_counts(k, ratio, max_nodes, ratio_of, levels)

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
        clusters: list[int] = []
        for level, count in enumerate(counts):
            channels = width if level else in_channels
            number = ClusterCount(**{"k": None} | count)
            clusters.append(number.most)
            # Features in proportion to the largest graph would be work in proportion to it for all graphs.
            features = embedding_channels if number.is_relative else number.most
            assignment = Assignment(stack(channels, features), number.most)
            self.pools.append(
                DiffPool(channels, assignment=assignment, pool=pool, **count, **(pool_options or {}))
            )
            self.embeddings.append(stack(width, embedding_channels))
        self.clusters = tuple(clusters)
        self.head = nn.Sequential(
            nn.Linear(width * len(self.embeddings), head_channels),
            nn.ReLU(),
            nn.Dropout(check_probability("dropout", dropout)),
            nn.Linear(head_channels, num_classes),
        )

    def forward(
        self, x: Any, adj: Tensor | RaggedGraph | None = None, mask: Tensor | None = None
    ) -> DiffPoolNetOutput:
        """Classify a batch of graphs, padded or ragged.

        Args:
            x: node features ``[B, N, in_channels]``, or ``[N, in_channels]`` with a ragged graph. Without ``adj``, a
                ``Data`` or ``Batch`` of PyTorch Geometric, or another object with ``x``, ``edge_index`` and optionally
                ``edge_weight``, ``batch`` or ``ptr``.
            adj: adjacency ``[B, N, N]`` of any dtype, or a ragged graph.
            mask: valid nodes ``[B, N]``; non-zero is valid, ``None`` means that all are. Padding may hold any values.

        Returns:
            Class logits, losses summed over levels, and the output of every pooling layer.

        Raises:
            TypeError: ``adj`` is not given and ``x`` is not a batch of PyTorch Geometric.
            ValueError: shapes do not match, or an option that reads padding is used with a ragged batch.
        """
        if adj is None:
            adj, x = RaggedGraph.from_pyg(x), x.x
        x, adj, valid = select_valid(x, adj, mask)
        summaries: list[Tensor] = []
        levels: list[PoolingOutput] = []
        for embedding, module in zip(self.embeddings, self.pools, strict=False):
            pool = cast(DiffPool, module)
            assignment = cast(Assignment, pool.assignment)
            z = cast(SAGEStack, embedding).embed(x, adj, valid)
            hidden = assignment.stack.embed(x, adj, valid)
            summaries.append(self._summary(z, adj, valid))
            num_clusters = pool.clusters.of(x, adj, valid)
            logits = assignment.logits(hidden, pool.clusters.columns(num_clusters))
            level: PoolingOutput = pool(z, adj, mask=valid, logits=logits, num_clusters=num_clusters)
            levels.append(level)
            x, adj, valid = level.x, level.adj, level.so.existing
        z = cast(SAGEStack, self.embeddings[-1]).embed(x, adj, valid)
        summaries.append(self._summary(z, adj, valid))
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


def _cluster_counts(
    k: int | Sequence[int] | None, ratio: float | None, max_nodes: int | None, ratio_of: str, levels: int
) -> list[dict[str, Any]]:
    """The arguments of each level that say how many clusters it has."""
    levels = check_count("levels", levels)
    if k is not None and ratio is None:
        counts = channels_of("k", k)
        if not counts:
            raise ValueError("k must name at least one level, got an empty sequence")
        return [{"k": count} for count in counts]
    if k is not None:
        raise ValueError(f"give exactly one of k and ratio, but k is {k} and ratio is {ratio}")
    found: list[dict[str, Any]] = []
    for _ in range(levels):
        found.append({"ratio": ratio, "max_nodes": max_nodes, "ratio_of": ratio_of})
        max_nodes = ClusterCount(None, **found[-1]).most
    return found


def _total(terms: list[Tensor | None]) -> Tensor | None:
    """The sum of the terms that are not None, or None."""
    computed = [term for term in terms if term is not None]
    return torch.stack(computed).sum() if computed else None

"""One hierarchical graph classifier for every pooler."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_sizes
from hierpool.graph.convert import features_of_pyg
from hierpool.graph.levels import Level, collate_levels
from hierpool.nn.hard_pooling import HARD_POOLERS, HardPooling, HardPoolingOutput
from hierpool.nn.masking import select_valid
from hierpool.nn.outputs import PoolingOutput
from hierpool.nn.readout import READOUTS, readout
from hierpool.nn.sage import SAGEStack
from hierpool.nn.soft_pooling import POOLERS
from hierpool.selection._shared import check_count, check_probability


class PoolNetOutput(NamedTuple):
    """Output of :class:`PoolNet`."""

    logits: Tensor  # [B, classes]
    loss: Tensor | None  # 0-d, sum of the auxiliary losses of all levels; None if the pooler has none
    levels: tuple[PoolingOutput | HardPoolingOutput, ...]  # output of every pooling layer


torch.serialization.add_safe_globals([PoolNetOutput])  # for torch.load


class PoolNet(nn.Module):
    r"""Graph classifier that alternates message passing and pooling, with any pooler of :mod:`hierpool.nn`.

    Every level is a GraphSAGE stack, whose output is read out and pooled; a last stack follows the last pooling. The
    readouts of all levels are concatenated and classified by a perceptron with one hidden layer. Features of edges are
    pooled with them by poolers that keep or merge nodes, for use of the levels of the output; message passing does not
    read them.

    Args:
        in_channels: number of node features.
        num_classes: number of classes.
        pooler: short name of a pooler, see :func:`hierpool.nn.get_pooler`.
        levels: number of poolings.
        ratio: part of the nodes of a graph that a level keeps, where the pooler has a choice; others, such as
            ``"graclus"``, keep what they keep.
        max_nodes: number of nodes of the largest graph; required by poolers that learn clusters.
        hidden_channels: width of all stacks.
        layers: number of layers of every stack.
        head_channels: width of the hidden layer of the classifier.
        readout: ``"max"``, ``"mean"`` or ``"sum"`` over nodes.
        dropout: dropout probability before the last layer of the classifier.
        aggregation: aggregation of the GraphSAGE layers, ``"mean"`` or ``"sum"``.
        pool_options: further options of the pooler.

    Raises:
        ValueError: an argument is out of range, or ``max_nodes`` is missing.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        pooler: str,
        *,
        levels: int = 1,
        ratio: float = 0.5,
        max_nodes: int | None = None,
        hidden_channels: int = 64,
        layers: int = 2,
        head_channels: int = 50,
        readout: str = "sum",
        dropout: float = 0.0,
        aggregation: str = "mean",
        pool_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pooler not in POOLERS and pooler not in HARD_POOLERS:
            names = ", ".join(map(repr, sorted({*POOLERS, *HARD_POOLERS})))
            raise ValueError(f"pooler must be one of {names}, got {pooler!r}")
        levels = check_count("levels", levels)
        sizes = {
            "hidden_channels": hidden_channels,
            "head_channels": head_channels,
            "num_classes": num_classes,
        }
        hidden_channels, head_channels, num_classes = check_sizes(**sizes)
        if readout not in READOUTS:
            raise ValueError(f"readout must be one of {READOUTS}, got {readout!r}")
        self.readout = readout
        stacks: list[SAGEStack] = []
        pools: list[nn.Module] = []
        for _ in range(levels + 1):
            channels = stacks[-1].out_channels if stacks else in_channels
            stacks.append(
                SAGEStack(channels, hidden_channels, hidden_channels, layers=layers, aggregation=aggregation)
            )
        width = stacks[0].out_channels
        for _ in range(levels):
            pool = _pool(pooler, width, ratio, max_nodes, pool_options or {})
            max_nodes = None if isinstance(pool, HardPooling) else pool.k
            pools.append(pool)
        self.stacks, self.pools = nn.ModuleList(stacks), nn.ModuleList(pools)
        self.head = nn.Sequential(
            nn.Linear(width * (levels + 1), head_channels),
            nn.ReLU(),
            nn.Dropout(check_probability("dropout", dropout)),
            nn.Linear(head_channels, num_classes),
        )

    def forward(
        self,
        x: Any,
        adj: Tensor | RaggedGraph | None = None,
        mask: Tensor | None = None,
        levels: Sequence[Level] | None = None,
    ) -> PoolNetOutput:
        """Classify a batch of graphs.

        Args:
            x, adj, mask: see :meth:`hierpool.models.DiffPoolNet.forward`. Poolers that keep or merge nodes convert a
                padded batch to a ragged one.
            levels: what :class:`hierpool.nn.Precoarsening` made of the batch, for a pooler without parameters; a batch
                of PyTorch Geometric may have it as ``levels``. ``None``: every level pools anew.

        Raises:
            TypeError: ``adj`` is not given and ``x`` is not a batch of PyTorch Geometric.
            ValueError: shapes do not match.
        """
        if adj is None:
            found = getattr(x, "levels", None)
            levels = collate_levels(found) if levels is None and isinstance(found, list) else levels or found
            pools = getattr(self.pools[0], "pools_edge_attr", False)
            adj, x = RaggedGraph.from_pyg(x, edge_attr=features_of_pyg(x) if pools else None), x.x
        if levels is not None and len(levels) < len(self.pools):
            raise ValueError(f"levels must be those of {len(self.pools)} poolings, got {len(levels)}")
        if levels is not None and not isinstance(self.pools[0], HardPooling):
            raise ValueError("levels must be None with a pooler that learns clusters")
        x, adj, valid = select_valid(x, adj, mask)
        if isinstance(adj, Tensor) and isinstance(self.pools[0], HardPooling):
            valid = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
            x, adj, valid = x[valid], RaggedGraph.from_dense(adj, valid), None
        summaries: list[Tensor] = []
        outputs: list[PoolingOutput | HardPoolingOutput] = []
        for number, (stack, pool) in enumerate(zip(self.stacks, self.pools, strict=False)):
            z = stack(x, adj, valid)
            summaries.append(self._summary(z, adj, valid))
            given: dict[str, Any] = {} if isinstance(pool, HardPooling) else {"mask": valid}
            out = pool(z, adj, **(given if levels is None else {"level": levels[number]}))
            outputs.append(out)
            x = out.x
            adj, valid = (
                (out.graph, None) if isinstance(out, HardPoolingOutput) else (out.adj, out.so.existing)
            )
        summaries.append(self._summary(self.stacks[-1](x, adj, valid), adj, valid))
        losses = [term for out in outputs for term in out.loss.values()]
        return PoolNetOutput(
            self.head(torch.cat(summaries, -1)), torch.stack(losses).sum() if losses else None, tuple(outputs)
        )

    def _summary(self, z: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None) -> Tensor:
        if isinstance(adj, RaggedGraph):
            return readout(z, None, self.readout, graph=adj)
        return readout(z, valid, self.readout)


def _pool(name: str, channels: int, ratio: float, max_nodes: int | None, options: dict[str, Any]) -> Any:
    """A pooling layer, with the ratio if the pooler has one."""
    pooler: Any = (HARD_POOLERS | POOLERS)[name]
    known: dict[str, Any] = {"in_channels": channels}
    if name in POOLERS:
        if max_nodes is None:
            raise ValueError(f"max_nodes must be given with pooler={name!r}, got None")
        known |= {"ratio": ratio, "max_nodes": max_nodes}
    else:
        known["ratio"] = ratio
        known = {key: value for key, value in known.items() if key in inspect.signature(pooler).parameters}
    return pooler(**(known | options))

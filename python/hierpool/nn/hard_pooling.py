"""The base class of poolers that keep or merge nodes: inputs, selection, contraction, lifting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hierpool._extras import require
from hierpool._tracing import untraced
from hierpool.contract import Links, Loops
from hierpool.distributed import ShardedGraph
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.levels import Level
from hierpool.nn.inputs import Structure, batch_of
from hierpool.ops._checks import FLOATS, check_tensor
from hierpool.ops._contraction import How, Selection, selected
from hierpool.ops.sparse_pool import (
    ATTR_REDUCTIONS,
    REDUCTIONS,
    PooledGraph,
    normalised,
    pooled_rows,
    sparse_lift,
    sparse_pool,
)
from hierpool.reference.scored_pool import Selected as ByScores

HARD_POOLERS: dict[str, type[HardPooling]] = {}
"""Poolers by name."""


class Selected(NamedTuple):
    """What :meth:`HardPooling.select` returns.

    Attributes:
        assignment: at most one supernode for each node.
        score: what was selected by, of each node ``[N]`` or of each entry of the graph ``[E]``; ``None``: nothing.
        loss: auxiliary losses by name.
        of_graph: another graph to pool, and by what.
    """

    assignment: Assignment
    score: Tensor | None = None
    loss: dict[str, Tensor] | None = None
    of_graph: tuple[RaggedGraph, Assignment] | None = None


@dataclass
class HardPoolingOutput:
    """The coarsened graphs. Unpacks to ``x, edge_index, edge_weight, batch, mask, so, loss`` as :class:`PoolingOutput`.

    Attributes:
        x: features of the supernodes, ``[K, F]``.
        graph: the coarsened batch, for the next layer.
        so: the assignment of nodes to supernodes.
        score: what was selected by: of each node ``[N]`` or of each entry ``[E]``; ``None`` if nothing was scored.
        loss: auxiliary losses by name.
    """

    x: Tensor
    graph: RaggedGraph
    so: Assignment
    _known: Tensor | None = None  # the score, until it is asked for
    loss: dict[str, Tensor] = field(default_factory=dict)
    _score: Tensor | None = field(default=None, init=False)

    @property
    def score(self) -> Tensor | None:
        """What was selected by; see the attributes of the class."""
        known, self._known = self._known, None
        if known is not None:
            # A copy, as the backward reads the scores, and callers may change results in place.
            with torch.inference_mode(False), torch.set_grad_enabled(known.requires_grad):
                self._score = known.clone()
        return self._score

    @property
    def edge_index(self) -> Tensor:
        """Ends of the entries of the coarsened graphs, int64 ``[2, E']``."""
        return self.graph.to_edge_index()[0]

    @property
    def edge_weight(self) -> Tensor | None:
        """Weights of the entries of the coarsened graphs, ``[E']``; ``None`` if all are 1."""
        return self.graph.value

    @property
    def edge_attr(self) -> Tensor | None:
        """Features of the entries of the coarsened graphs, ``[E', R]``, if those that were pooled have them."""
        return self.graph.edge_attr

    @property
    def batch(self) -> Tensor:
        """Graph of each supernode, int64 ``[K]``."""
        return self.graph.batch

    @property
    def mask(self) -> None:
        """``None``: every supernode exists."""
        return None

    @property
    def has_loss(self) -> bool:
        """Whether there are auxiliary losses."""
        return bool(self.loss)

    def __iter__(self) -> Iterator[Any]:
        yield from (self.x, self.edge_index, self.edge_weight, self.batch, self.mask, self.so, self.loss)

    def as_data(self) -> Any:
        """The coarsened graphs as a ``Data`` of PyTorch Geometric.

        Raises:
            ImportError: PyTorch Geometric is not installed.
        """
        data = require("torch_geometric.data", "pyg").Data
        edges = {"edge_index": self.edge_index, "edge_weight": self.edge_weight, "edge_attr": self.edge_attr}
        return data(x=self.x, **edges, batch=self.batch)

    def __repr__(self) -> str:
        said = f"x={list(self.x.shape)}, graph={self.graph}, so={self.so}, loss={list(self.loss)}"
        return f"{type(self).__name__}({said})"


torch.serialization.add_safe_globals([HardPoolingOutput])  # for torch.load


class HardPooling(nn.Module):
    r"""A pooling layer in which every node belongs to one supernode, or to none.

    .. math::
        x'_k = \mathrm{reduce}_{i:\, c_i = k}\, s_i x_i, \qquad a'_{kl} = \sum_{i, j:\, c_i = k,\, c_j = l} a_{ij}

    A subclass defines :meth:`select`, which returns the supernode :math:`c_i` and the weight :math:`s_i` of each node;
    :func:`hierpool.sparse_pool` does the rest, unless it overrides :meth:`pool`. :func:`hierpool.nn.get_pooler` finds
    ``class MyPool(HardPooling, name="my")`` by the name ``"my"``. Features of edges are pooled with them, unless the
    class sets ``pools_edge_attr = False``: then it takes no graph with features.

    Args:
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``: how the features of a supernode are made.
        attr_reduce: these or ``"mul"``: how the features of edges that become one are made.
        remove_self_loops: drop the edges within a supernode; otherwise they become a self-loop.
        degree_norm, edge_weight_norm: normalise the weights of the coarsened graph; see :func:`hierpool.sparse_pool`.
        lift: how :meth:`lift` unpools: ``"transpose"``, ``"inverse"`` or ``"gather"``; see
            :func:`hierpool.sparse_lift`.
        backend: see :func:`hierpool.sparse_pool`.

    Raises:
        ValueError: an argument is out of range.

    Source of the scheme: Grattarola et al., TNNLS 2022 (arXiv:2110.05292).
    """

    pools_edge_attr: ClassVar[bool] = True

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            HARD_POOLERS[name] = cls

    def __init__(
        self,
        *,
        reduce: str = "sum",
        attr_reduce: str = "sum",
        remove_self_loops: bool = True,
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        lift: str = "transpose",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduce!r}")
        if attr_reduce not in ATTR_REDUCTIONS[:-1]:
            names = ", ".join(map(repr, ATTR_REDUCTIONS[:-1]))
            raise ValueError(f"attr_reduce must be one of {names}, got {attr_reduce!r}")
        if lift not in ("transpose", "inverse", "gather"):
            raise ValueError(f"lift must be 'transpose', 'inverse' or 'gather', got {lift!r}")
        self.in_channels: int | None = None  # number of features that the parameters need
        self.reduce: Any = reduce
        self.attr_reduce: Any = attr_reduce
        self.remove_self_loops = remove_self_loops
        self.degree_norm, self.edge_weight_norm = degree_norm, edge_weight_norm
        self.lift_how: Any = lift
        self.backend = backend

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The supernode of each node.

        Args:
            x: ``[N, F]``, in the caller's order of nodes.
            graph: the batch of graphs.
        """
        raise NotImplementedError

    def pool(self, x: Tensor, graph: RaggedGraph, selected: Selected) -> tuple[Tensor, RaggedGraph]:
        """Features of the supernodes and the coarsened graph.

        Args:
            x, graph: the arguments of :meth:`select`.
            selected: what it returned, or an assignment that was given to :meth:`forward`.
        """
        pooled = self._pooled_graph(x, graph, selected.assignment)
        assert pooled.x is not None
        return pooled.x, pooled.graph

    def forward(
        self,
        x: Any,
        adj: Any = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        so: Assignment | None = None,
        lifting: bool = False,
        level: Level | None = None,
    ) -> Any:
        """Pool a batch of graphs, or with ``lifting`` map features of supernodes to nodes.

        Args:
            x: node features ``[N, F]``; without ``adj``, a ``Data`` or ``Batch`` of PyTorch Geometric.
            adj: a :class:`hierpool.RaggedGraph`, ``edge_index [2, E]``, a sparse matrix, or a ``Data`` or ``Batch``.
            edge_weight, batch, ptr, batch_size, edge_attr: with ``edge_index``, see
                :meth:`hierpool.RaggedGraph.from_edge_index`.
            so: pool by this assignment; with ``lifting`` that of the layer that pooled.
            lifting: return :meth:`lift` of ``x`` and ``so``.
            level: what :class:`hierpool.nn.Precoarsening` made of these graphs; only ``x`` is pooled, and ``adj`` is
                not read.

        Returns:
            :class:`HardPoolingOutput`; with ``lifting`` a tensor.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it.
        """
        if so is not None and not isinstance(so, Assignment):
            raise TypeError(f"so must be an Assignment, got {type(so).__name__}")
        if lifting:
            if so is None:
                raise ValueError("so must be the assignment of the pooling layer with lifting=True, got None")
            return self.lift(x, so)
        if level is not None:
            return self._of_level(x, level)
        structure = Structure(edge_weight, None, batch, ptr, batch_size, edge_attr)
        return self._selected(x, adj, structure) if so is None else self._pooled(x, adj, structure, so)

    def _of_level(self, x: Tensor, level: Level) -> HardPoolingOutput:
        if next(self.parameters(), None) is not None:
            raise ValueError("level must be None for a pooler with parameters, got one")
        assignment, graph = level
        check_tensor("x", x, FLOATS)
        if x.dim() != 2 or x.size(0) != assignment.num_nodes:
            raise ValueError(f"x must have shape [{assignment.num_nodes}, F], got {list(x.shape)}")
        x = x if assignment.order is None else x[assignment.order]
        return HardPoolingOutput(pooled_rows(x, assignment, self.reduce, self.backend), graph, assignment)

    # A traced graph has an entry for each of several equal edges, with which scores and selections would differ.
    @untraced
    def _selected(self, x: Any, adj: Any, structure: Structure) -> HardPoolingOutput:
        return self._pooled(x, adj, structure, None)

    def _pooled(self, x: Any, adj: Any, structure: Structure, so: Assignment | None) -> HardPoolingOutput:
        known: dict[str, Any] = {"symmetric": None, "transposed": False, "features": self.pools_edge_attr}
        x, graph, _ = batch_of(x, adj, structure, **known)
        if isinstance(graph, ShardedGraph):
            raise TypeError("adj must not be a ShardedGraph, which soft poolers take")
        if not isinstance(graph, RaggedGraph):
            raise ValueError(
                f"adj must be a RaggedGraph, edge_index or a sparse matrix, got a dense {list(graph.shape)};"
                " RaggedGraph.from_dense converts it"
            )
        if graph.edge_attr is not None and not self.pools_edge_attr:
            raise ValueError(
                f"{type(self).__name__} does not pool features of edges; leave out edge_attr, as"
                " RaggedGraph.with_edge_attr(None) does"
            )
        if so is None:
            selected, features, coarse = self._select_and_pool(self._checked(x, graph), graph)
        else:
            selected = Selected(so)
            features, coarse = self.pool(x, graph, selected)
        return HardPoolingOutput(features, coarse, selected.assignment, selected.score, selected.loss or {})

    def _select_and_pool(self, x: Tensor, graph: RaggedGraph) -> tuple[Selected, Tensor, RaggedGraph]:
        """:meth:`select`, and :meth:`pool` of what it returned."""
        selected = self.select(x, graph)
        return selected, *self.pool(x, graph, selected)

    def _pooled_graph(self, x: Tensor | None, graph: RaggedGraph, assignment: Assignment) -> PooledGraph:
        return sparse_pool(
            x,
            graph,
            assignment,
            reduce=self.reduce,
            attr_reduce=self.attr_reduce,
            loops="drop" if self.remove_self_loops else "keep",
            weights="keep" if assignment.is_injective else "sum",
            degree_norm=self.degree_norm,
            edge_weight_norm=self.edge_weight_norm,
            backend=self.backend,
        )

    def _selected_graph(
        self, graph: RaggedGraph, links: Links, select: Selection, is_injective: bool
    ) -> tuple[ByScores, Assignment, RaggedGraph]:
        """What is selected, the clusters without weights, and what :meth:`_pooled_graph` makes of them."""
        loops = Loops.DROP if self.remove_self_loops else Loops.KEEP
        how = How("sum", self.attr_reduce, loops, is_injective, self.backend)
        found, assignment, coarse = selected(graph, links, how, select, is_injective)
        return found, assignment, normalised(coarse, self.degree_norm, self.edge_weight_norm)

    def _checked(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        if x.dim() != 2 or x.size(0) != graph.num_nodes or self.in_channels not in (None, x.size(-1)):
            features = "F" if self.in_channels is None else self.in_channels
            raise ValueError(f"x must have shape [{graph.num_nodes}, {features}], got {list(x.shape)}")
        return x

    def lift(self, x: Tensor, so: Assignment) -> Tensor:
        """Map features of supernodes, ``[K, F]``, to the nodes, ``[N, F]``."""
        return sparse_lift(x, so, mode=self.lift_how, backend=self.backend)

    def extra_repr(self) -> str:
        return f"reduce={self.reduce!r}, remove_self_loops={self.remove_self_loops}, backend={self.backend!r}"


def kept_rows(x: Tensor, assignment: Assignment) -> Tensor:
    """The rows of the nodes of an assignment without merged nodes, times their weights, ``[K, F]``."""
    node = assignment.clusters().node.long()
    rows = x.index_select(0, node if assignment.order is None else assignment.order[node])
    if assignment.weight is None:
        return rows
    weight = assignment.weight.index_select(0, assignment.transposed()[2])
    return rows * weight.to(rows.dtype)[:, None]

"""The base class of soft poolers: inputs, soft pooling, post-processing, lifting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hierpool.connect import check_drop, postprocess_adj, sparse_pooled
from hierpool.graph import RaggedGraph
from hierpool.nn.clusters import ClusterCount
from hierpool.nn.inputs import Adjacency, Inputs, Logits, Structure, batch_of
from hierpool.nn.mlp import MLP, Activation, channels_of, is_plain
from hierpool.nn.outputs import PoolingOutput, SelectOutput, lift
from hierpool.ops._checks import (
    FLOATS,
    check_tensor,
    cluster_counts,
)
from hierpool.ops._shared import as_one_batch
from hierpool.ops.linear_maps import check_features
from hierpool.ops.soft_pool import soft_pool
from hierpool.record import SoftPoolRecord

POOLERS: dict[str, type[SoftPooling]] = {}
"""Poolers by name."""


class FusedOutput(NamedTuple):
    """What :meth:`SoftPooling.fused` returns."""

    s: Tensor  # [B, N, K], or [N, K] in the order of the matrix of a ragged graph
    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], post-processed
    loss: dict[str, Tensor]


class SoftPooling(nn.Module):
    r"""A pooling layer with a soft assignment of nodes to :math:`K` clusters and auxiliary losses.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad L = \mathrm{assignment}(X, A), \quad
        X' = S^T X, \quad A' = S^T A S

    One pass over the nodes and edges computes :math:`X'`, :math:`A'` and the sums needed by the losses, in
    :math:`O(N K)` additional memory. A subclass defines ``needs``, the sums it needs, and :meth:`losses`.
    :func:`hierpool.nn.get_pooler` finds ``class MyPool(SoftPooling, name="my")`` by the name ``"my"``.

    Args:
        in_channels: number of input features of the assignment, or a list: the inputs of each layer of a perceptron.
        k: number of clusters of every graph. Give this or ``ratio``.
        ratio: number of clusters of a graph divided by the number of its nodes; the product is rounded up and is at
            least 1. Columns of the results that are no cluster of a graph are 0, and there are no more columns than
            the largest graph of the batch needs, unless a compiler or a GPU would have to wait for their number.
        max_nodes: number of nodes of the largest graph; needed with ``ratio``.
        ratio_of: ``"graph"``, or ``"largest"``: the number of clusters of every graph is ``ratio`` times
            ``max_nodes``, rounded down and at least 1, as in the original code of DiffPool.
        assignment: module called as ``assignment(x, adj, mask)`` that returns logits ``[B, N, K]``, or ``[N, K]`` for a
            ragged batch, for example a graph network. ``None``: a perceptron on the features, which is a linear map if
            ``in_channels`` is a number.
        act: activation of the perceptron, such as ``"relu"``; ``None``: no activation.
        dropout: probability of dropout between the layers of the perceptron.
        temperature: :math:`T`, positive.
        remove_self_loops: set the diagonal of :math:`A'` to 0, after the losses.
        degree_norm: then replace :math:`A'` by :math:`D^{-1/2} A' D^{-1/2}`.
        edge_weight_norm: then divide the weights of each graph by the largest.
        adj_transpose: use the transpose for sparse input: an edge from source to target in ``edge_index`` becomes an
            entry of row ``target`` of :math:`A`, so that :math:`A' X'` of a dense layer passes messages along the
            edges. Dense adjacency is used as it is. Undirected graphs are not affected.
        lift: how :meth:`lift` unpools: ``"transpose"``, :math:`S X'`, or ``"inverse"``, :math:`(S^+)^T X'`.
        sparse_output: return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries with at most this absolute value, which synchronises with the
            device; ``None``: return all :math:`B K^2` entries.
        symmetric: whether every adjacency equals its transpose; not checked. ``None``: it is determined exactly.
        backend: see :func:`hierpool.soft_pool`.

    Raises:
        ValueError: an argument is out of range.

    Source of the scheme: Grattarola et al., TNNLS 2022 (arXiv:2110.05292).
    """

    needs: Mapping[str, Any] = MappingProxyType({"link_loss": None, "entropy": False, "gram": True})
    """Options of :func:`hierpool.soft_pool` for the sums that the losses need."""

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            POOLERS[name] = cls

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        ratio: float | None = None,
        max_nodes: int | None = None,
        ratio_of: str = "graph",
        assignment: nn.Module | None = None,
        act: Activation = None,
        dropout: float = 0.0,
        temperature: float = 1.0,
        remove_self_loops: bool = False,
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        adj_transpose: bool = False,
        lift: str = "transpose",
        sparse_output: bool = False,
        drop: float | None = None,
        symmetric: bool | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.clusters = ClusterCount(k, ratio, max_nodes, ratio_of)
        self.k = self.clusters.most
        given: Any = temperature
        if not isinstance(given, Tensor | Real):
            raise TypeError(f"temperature must be a number, got {type(temperature).__name__}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if lift not in ("transpose", "inverse"):
            raise ValueError(f"lift must be 'transpose' or 'inverse', got {lift!r}")
        check_drop(drop, sparse_output)
        channels = channels_of("in_channels", in_channels)
        self.assignment = MLP([*channels, self.k], act, dropout) if assignment is None else assignment
        self.temperature = temperature
        self.postprocessing = {
            "remove_self_loops": remove_self_loops,
            "degree_norm": degree_norm,
            "edge_weight_norm": edge_weight_norm,
            "transposed": adj_transpose,
        }
        self.adj_transpose = adj_transpose
        self.lift_how = lift
        self.sparse_output = sparse_output
        self.drop = drop
        self.symmetric = symmetric
        self.backend = backend

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """The auxiliary losses by name, each 0-d. The default is no loss.

        Args:
            record: the result of :func:`hierpool.soft_pool`; ``record.adj`` is not post-processed.
            adj: the adjacency of the input, ``[B, N, N]``, or a ragged or sharded graph.
            mask: valid nodes of a padded batch, bool ``[B, N]``.
        """
        return {}

    def fused(self, inputs: Inputs) -> FusedOutput | None:
        """Pool with an operator that also computes the losses.

        Returns:
            The results, or ``None`` to use :func:`hierpool.soft_pool` and :meth:`losses`, which is the default.
        """
        return None

    @classmethod
    def tgp_defaults(cls, batched: bool) -> dict[str, Any]:
        """Options whose defaults in torch-geometric-pool differ from those of the class."""
        return {}

    def reset_parameters(self) -> None:
        """Draw new weights for the assignment."""
        for module in self.assignment.modules():
            if module is not self.assignment or isinstance(module, (nn.Linear, MLP)):
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()

    def forward(
        self,
        x: Any,
        adj: Any = None,
        edge_weight: Tensor | None = None,
        so: SelectOutput | None = None,
        mask: Tensor | None = None,
        batch: Tensor | None = None,
        batch_pooled: Tensor | None = None,
        lifting: bool = False,
        *,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        assign_x: Tensor | None = None,
        logits: Tensor | None = None,
        num_clusters: Tensor | int | None = None,
    ) -> Any:
        """Pool a batch of graphs.

        In a padded batch, an argument with one graph, or without the dimension of graphs, is shared by all graphs.
        It is not copied.

        Args:
            x: node features, ``[B, N, F]`` for a padded batch, ``[N, F]`` for a ragged batch; or a ``Data`` or
                ``Batch`` of PyTorch Geometric, without ``adj``.
            adj: dense ``[B, N, N]``, ``[B, R, N, N]`` for several edge types, or ``[N, N]``;
                ``edge_index``, int64 ``[2, E]``; a sparse matrix of ``torch.sparse``; a :class:`hierpool.RaggedGraph`;
                a :class:`hierpool.distributed.ShardedGraph`, with the rows of the nodes of the process in ``x``;
                a ``Data`` or ``Batch`` of PyTorch Geometric.
            edge_weight: weights of ``edge_index``, ``[E]``; ``None``: 1.
            so: a fixed assignment; with ``lifting``, the assignment of the pooling layer.
            mask: valid nodes of a padded batch ``[B, N]``, non-zero means valid; ``None``: all are valid.
            batch: graph of each node ``[N]`` with ``edge_index``, sorted or not; ``None``: one graph.
            batch_pooled: ignored; accepted for compatibility with torch-geometric-pool.
            lifting: call :meth:`lift` instead.
            ptr: first node of each graph ``[B + 1]``, instead of ``batch``.
            batch_size: number of graphs, needed under ``torch.compile`` with ``batch``.
            assign_x: input features of the assignment; ``None``: ``x``.
            logits: the result of the assignment, if it is already known; it may have only the columns that the batch
                uses.
            num_clusters: number of clusters of each graph, ``[B]`` or an int, at most ``k``; ``None``: by ``k`` or
                ``ratio``, or that of ``so``.

        Returns:
            :class:`PoolingOutput`; with ``lifting`` a tensor.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it.
        """
        if lifting:
            if so is None:
                raise ValueError("so must be the assignment of the pooling layer with lifting=True, got None")
            return self.lift(x, so)
        structure = Structure(edge_weight, mask, batch, ptr, batch_size)
        x, adj, mask = batch_of(x, adj, structure, symmetric=self.symmetric, transposed=self.adj_transpose)
        if num_clusters is None:
            num_clusters = self.clusters.of(x, adj, mask) if so is None else so.num_clusters
        columns = self.clusters.columns(num_clusters)
        s = self._assignment(x, adj, mask, so, assign_x, logits, columns)
        if isinstance(s, Tensor):
            if isinstance(adj, Tensor):
                x, adj, s, mask = as_one_batch(x, adj, s, mask)
            if so is not None and self.clusters.is_relative:
                columns = s.size(-1)
            if s.shape != (*x.shape[:-1], columns):
                raise ValueError(
                    f"assignment must return {[*x.shape[:-1], self.k]} (nodes, clusters), "
                    f"but returned {list(s.shape)}"
                )
        if isinstance(num_clusters, int) and num_clusters == columns:
            num_clusters = None
        return self.pooled(Inputs(x, adj, s, mask, num_clusters), given=so is not None)

    def lift(self, x: Tensor, so: SelectOutput) -> Tensor:
        r"""Map features of clusters to the nodes, by :math:`S X'` or :math:`(S^+)^T X'`.

        Args:
            x: :math:`X'`, ``[B, K, F]``, or ``[B K, F]`` for a sparse output without ``drop``.
            so: the assignment in the output of :meth:`forward`.
        """
        return lift(x, so, self.lift_how)

    def _assignment(
        self,
        x: Tensor,
        adj: Adjacency,
        mask: Tensor | None,
        so: SelectOutput | None,
        assign_x: Tensor | None,
        logits: Tensor | None,
        columns: int,
    ) -> Logits:
        """The first ``columns`` of the logits, the maps that compute them, or the assignment of ``so``."""
        given = {"so": so, "assign_x": assign_x, "logits": logits}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(
                f"at most one of so, assign_x and logits must be given, got {' and '.join(named)}"
            )
        for name, value in ("assign_x", assign_x), ("logits", logits):
            if value is not None:
                check_tensor(name, value, FLOATS)
        if so is not None:
            logits = (so.s.to_dense() if so.is_sparse else so.s).to(x.dtype)
        elif logits is None:
            network = self.assignment
            maps = network.as_maps() if isinstance(network, MLP) and is_plain(network, MLP) else None
            if maps is not None and assign_x is None:
                check_features(x, maps)
                if columns < self.k:
                    weight, bias = maps[-1]
                    maps[-1] = weight[:columns], bias[:columns]
                return maps
            own = x if assign_x is None else assign_x
            if assign_x is not None and isinstance(adj, Tensor):
                own, _, _, mask = as_one_batch(own, None, None, mask)
            # NaN in padding would reach the gradients of weights; a perceptron does not read padding.
            if mask is not None and not isinstance(self.assignment, MLP):
                own = torch.where(mask[..., None], own, 0)
            logits = self.assignment(own, adj, mask)
        assert logits is not None
        return logits[..., :columns] if so is None and columns < self.k == logits.size(-1) else logits

    def is_fusible(
        self, owner: type[SoftPooling], inputs: Inputs, *, any_postprocessing: bool = False
    ) -> bool:
        """Whether an operator with the losses and the post-processing of the class ``owner`` can replace both steps."""
        x, adj = inputs.x, inputs.adj
        return (
            type(self).losses is owner.losses
            and x.dtype in (torch.float32, torch.float64)  # losses of 16-bit floats are float32
            and (isinstance(adj, RaggedGraph) or (isinstance(adj, Tensor) and adj.dim() == 3))
            and (any_postprocessing or self.postprocessing == _FUSED_POSTPROCESSING)
        )

    def arguments(self, inputs: Inputs) -> dict[str, Any]:
        """Arguments of :func:`hierpool.soft_pool` besides ``needs``."""
        return {
            **inputs._asdict(),
            "temperature": self.temperature,
            "symmetric": self.symmetric if isinstance(inputs.adj, Tensor) else None,
            "backend": self.backend,
        }

    def pooled(self, inputs: Inputs, *, given: bool) -> PoolingOutput:
        """Pool with :meth:`fused`, or with :func:`hierpool.soft_pool` and :meth:`losses`."""
        graph, mask = inputs.graph, inputs.mask
        fused = None if given else self.fused(inputs)
        if fused is not None:
            assignment = fused.s if graph is None else graph.in_callers_order(fused.s)
            counts = cluster_counts(inputs.num_clusters, fused.x.size(0), fused.x)
            so = SelectOutput(assignment, graph, mask, None, counts)
            adj = fused.adj.to(inputs.x.dtype)
            return self.connected(fused.x, adj, so, fused.loss, lambda: self._record(inputs))
        record = self._record(inputs, given=given)
        loss = self.losses(record, inputs.adj, mask)
        so = SelectOutput(record.s, graph, mask, record.size.detach() > 0, record.num_clusters)
        return self.connected(record.x, self.postprocessed(record.adj.to(record.x.dtype)), so, loss, record)

    def _record(self, inputs: Inputs, *, given: bool = False) -> SoftPoolRecord:
        arguments = {**self.arguments(inputs), "s": inputs.logits, **self.needs}
        if given:
            arguments |= {"assignment": "given", "temperature": 1.0}
        return soft_pool(**arguments)

    def postprocessed(self, adj: Tensor) -> Tensor:
        """The pooled adjacency after post-processing."""
        return postprocess_adj(adj, **self.postprocessing)

    def connected(
        self,
        x: Tensor,
        adj: Tensor,
        so: SelectOutput,
        loss: dict[str, Tensor],
        record: SoftPoolRecord | Callable[[], SoftPoolRecord] | None,
    ) -> PoolingOutput:
        """The output, dense or sparse, from the post-processed adjacency."""
        if not self.sparse_output:
            return PoolingOutput(x, adj, None, None, so, loss, adj, record)
        if adj.dim() != 3:
            raise ValueError(f"adj must have one edge type with sparse_output=True, got {adj.size(1)}")
        mask = so.out_mask
        assert mask is not None
        sparse = sparse_pooled(x, adj, mask, self.drop, so.num_clusters)
        return PoolingOutput(
            sparse.x, sparse.edge_index, sparse.edge_weight, sparse.batch, so, loss, adj, record
        )

    def extra_repr(self) -> str:
        return f"k={self.clusters}, temperature={self.temperature}, backend={self.backend!r}"


_FUSED_POSTPROCESSING = {
    "remove_self_loops": True,
    "degree_norm": True,
    "edge_weight_norm": False,
    "transposed": False,
}


def weighted(loss: Tensor, coefficient: float) -> Tensor:
    """``loss`` times ``coefficient``."""
    # A compiler would compile once more to compare with 1.
    return loss if not torch.compiler.is_compiling() and coefficient == 1 else loss * coefficient


def normalised(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` with the defaults of a pooler that normalises the pooled adjacency."""
    return {"remove_self_loops": True, "degree_norm": True, **options}


def edge_types(adj: Tensor | RaggedGraph) -> Sequence[Tensor | RaggedGraph]:
    """The adjacency of each edge type."""
    if isinstance(adj, Tensor) and adj.dim() == 4:
        return adj.unbind(1)
    return (adj,)


def total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of 0-d tensors."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()

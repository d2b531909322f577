"""The forward pass of torch-geometric-pool's dense poolers with one call of the operator.

This module imports torch-geometric-pool. Only :func:`hierpool.integrations.tgp.patch` imports it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from tgp import src
from tgp.connect import DenseConnect
from tgp.reduce import BaseReduce
from tgp.select import MLPSelect
from tgp.utils import ops
from torch import Tensor, nn
from torch_geometric.nn.models import MLP

from hierpool.graph import RaggedGraph
from hierpool.integrations.tgp.losses import TERMS, PooledBatch, Term
from hierpool.ops.soft_pool import soft_pool

Forward = Callable[..., Any]

# Methods that tgp's forward pass calls and ours does not, in batched and in unbatched mode.
_SKIPPED = {
    True: ("reduce", "connect", "compute_loss", "preprocessing", "_ensure_batched_inputs"),
    False: ("reduce", "connect", "compute_sparse_loss"),
}
# Graphs of poolers with `cache_preprocessing`. tgp's own `preprocessing_cache` is dense.
_graphs: WeakKeyDictionary[nn.Module, RaggedGraph] = WeakKeyDictionary()


def replacements() -> list[tuple[type, str, Callable[..., Any]]]:
    """Classes, attributes, and the functions that replace them."""
    _graphs.clear()
    forwards = [(base, "forward", _forward(base, terms)) for base, terms in TERMS.items()]
    return [*forwards, (src.DenseSRCPooling, "clear_cache", _clear_cache(src.DenseSRCPooling.clear_cache))]


def _clear_cache(original: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
    @functools.wraps(original)
    def clear_cache(self: nn.Module) -> None:
        _graphs.pop(self, None)
        original(self)

    return clear_cache


def _forward(base: type, terms: Callable[[Any], list[Term]]) -> Forward:
    original: Forward = base.forward  # type: ignore[attr-defined]
    methods = {name: getattr(base, name) for name in {*_SKIPPED[True], *_SKIPPED[False]}}

    @functools.wraps(original)
    def forward(
        self: Any,
        x: Tensor,
        adj: Any = None,
        edge_weight: Tensor | None = None,
        so: Any = None,
        mask: Tensor | None = None,
        batch: Tensor | None = None,
        batch_pooled: Tensor | None = None,
        lifting: bool = False,
        **kwargs: Any,
    ) -> Any:
        output = None
        if not lifting and _is_ours(self, methods, x, adj):
            output = _pool(self, terms(self), x, adj, edge_weight, mask, batch)
        if output is None:
            return original(self, x, adj, edge_weight, so, mask, batch, batch_pooled, lifting, **kwargs)
        return output

    return forward


def _is_ours(pooler: Any, methods: dict[str, Any], x: Tensor, adj: Any) -> bool:
    """Whether tgp's forward pass would call none of the user's methods, reducers, connectors or hooks."""
    dense = ops.is_dense_adj(adj)
    cached = pooler.cached or pooler._so_cached is not None or pooler._pooled_edge_index is not None
    if adj is None or cached or (dense and not pooler.batched) or (not dense and x.dim() != 2):
        return False
    kind, own = type(pooler), vars(pooler)
    return (
        all(getattr(kind, name) is methods[name] and name not in own for name in _SKIPPED[pooler.batched])
        and _is_plain(pooler.reducer, BaseReduce)
        and _is_plain(pooler.connector, DenseConnect)
    )


def _is_plain(module: Any, kind: type) -> bool:
    """Whether a module is of exactly this class and has no hooks."""
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not any(getattr(module, name) for name in hooks)
    )


# ---- inputs ---------------------------------------------------------------------------------------------------------


class Padding(NamedTuple):
    """The positions of the nodes of a ragged batch in the padded batch."""

    mask: Tensor  # bool [B, N]
    slot: Tensor | None  # int64 [nodes], the row in [B * N]; None: the same row

    @classmethod
    def of(cls, graph: RaggedGraph) -> Padding:
        if graph.num_graphs == 1:
            return cls(torch.ones(1, graph.num_nodes, dtype=torch.bool, device=graph.device), None)
        sizes = graph.ptr.diff()
        rows = int(sizes.max())
        owner = graph.graph_of_node()
        slot = torch.arange(graph.num_nodes, device=graph.device) + (owner * rows - graph.ptr[owner])
        mask = torch.arange(rows, device=graph.device) < sizes[:, None]
        return cls(mask, graph.in_callers_order(slot))

    def pad(self, nodes: Tensor) -> Tensor:
        """``[B, N, ..]``, 0 in padding."""
        if self.slot is None:
            return nodes.unsqueeze(0)
        padded = nodes.new_zeros(self.mask.numel(), nodes.size(1)).index_copy(0, self.slot, nodes)
        return padded.view(*self.mask.shape, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        return padded.flatten(0, 1) if self.slot is None else padded.flatten(0, 1).index_select(0, self.slot)


class Inputs(NamedTuple):
    """The inputs of the operator."""

    x: Tensor  # [nodes, F], or [B, N, F]
    adj: Tensor | RaggedGraph
    mask: Tensor | None  # [B, N] of a dense batch; None: all are valid
    in_mask: Tensor | None  # the mask for tgp's selector
    padding: Padding | None  # for a ragged batch in batched mode


def _inputs(
    pooler: Any, x: Tensor, adj: Any, edge_weight: Tensor | None, mask: Tensor | None, batch: Tensor | None
) -> Inputs:
    caches = pooler.batched and pooler.cache_preprocessing and not ops.is_multi_graph_batch(batch)
    if ops.is_dense_adj(adj) or (caches and pooler.preprocessing_cache is not None):
        x, adj, in_mask = pooler._ensure_batched_inputs(x, adj, edge_weight, batch, mask)
        return Inputs(x, adj if adj.dim() == 3 else adj.unsqueeze(0), mask, in_mask, None)
    graph = _graphs.get(pooler) if caches else None
    if graph is None:
        edges, weight = ops.connectivity_to_edge_index(adj, edge_weight)
        if pooler.batched and pooler.adj_transpose:
            edges = edges.flip(0)
        graph = RaggedGraph.from_edge_index(edges, x.size(0), edge_weight=weight, batch=batch)
        if caches:
            _graphs[pooler] = graph
    if not pooler.batched:
        return Inputs(x, graph, None, None, None)
    padding = Padding.of(graph)
    return Inputs(x, graph, None, padding.mask, padding)


# ---- select, reduce, connect ----------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """An assignment or its logits, for the rows of the operator's input."""

    so: Any  # None: not made yet
    values: Tensor
    kind: Literal["softmax", "given"]


def _select(pooler: Any, inputs: Inputs, batch: Tensor | None) -> Selection | None:
    """The selection, or None if the operator does not support the assignment of the selector."""
    x, padding = inputs.x, inputs.padding
    if _selects_by_mlp(pooler, padding):
        return Selection(None, pooler.selector.mlp(x), "softmax")
    if pooler.batched:
        so = pooler.select(x=x if padding is None else padding.pad(x), mask=inputs.in_mask)
    else:
        so = pooler.select(x=x, batch=batch)
    s, rows = so.s, x.shape[:-1] if padding is None else padding.mask.shape
    if not isinstance(s, Tensor) or s.layout is not torch.strided or s.shape[:-1] != rows:
        return None
    return Selection(so, s if padding is None else padding.unpad(s), "given")


def _selects_by_mlp(pooler: Any, padding: Padding | None) -> bool:
    """Whether the selector is a softmax of an MLP on single rows, so that the operator can compute the softmax."""
    selector = pooler.selector
    if type(pooler).select is not src.SRCPooling.select or "select" in vars(pooler):
        return False
    if not _is_plain(selector, MLPSelect) or selector.batched_representation is not pooler.batched:
        return False
    # With dropout, the random numbers depend on the shape of the batch.
    return padding is None or (
        type(selector.mlp) is MLP and not (selector.mlp.training and any(p > 0 for p in selector.mlp.dropout))
    )


def _pool(
    pooler: Any,
    terms: list[Term],
    x: Tensor,
    adj: Any,
    edge_weight: Tensor | None,
    mask: Tensor | None,
    batch: Tensor | None,
) -> Any:
    """tgp's ``PoolingOutput``, or None if its own forward pass has to run."""
    inputs = _inputs(pooler, x, adj, edge_weight, mask, batch)
    selection = _select(pooler, inputs, batch)
    if selection is None:
        return None
    needs = {term.needs for term in terms if not term.is_off}
    record = soft_pool(
        inputs.x,
        inputs.adj,
        selection.values,
        mask=inputs.mask,
        assignment=selection.kind,
        link_loss="frobenius" if "link" in needs else None,
        entropy="entropy" in needs,
        gram=bool(needs & {"gram", "link"}),
    )
    pooled = PooledBatch(record, inputs.adj, inputs.mask, pooler.batched)
    loss = {term.name: term.of(pooled) for term in terms}
    so = selection.so
    if so is None and pooler.batched:
        s = record.s if inputs.padding is None else inputs.padding.pad(record.s)
        so = pooler.selector._build_output(s, mask=inputs.in_mask)
    elif so is None:
        so = pooler.selector._build_output(record.s, batch=batch)
    pooled_adj = record.adj.to(record.s.dtype)
    x, edges, weight, owner = _connect(pooler, so, record.x, pooled_adj, adj, edge_weight, batch)
    return src.PoolingOutput(x=x, edge_index=edges, edge_weight=weight, batch=owner, so=so, loss=loss)


def _connect(
    pooler: Any,
    so: Any,
    x: Tensor,
    pooled_adj: Tensor,
    adj: Any,
    edge_weight: Tensor | None,
    batch: Tensor | None,
) -> tuple[Tensor, Any, Tensor | None, Tensor | None]:
    """Features, edges, weights and batch of the coarsened graphs, dense or sparse as the pooler requires."""
    connector = pooler.connector
    if pooler.batched:
        pooled_adj = _postprocess(connector, pooled_adj, connector.adj_transpose)
        if not pooler.sparse_output:
            return x, pooled_adj, None, None
        sparse: tuple[Tensor, Tensor, Tensor, Tensor | None]
        sparse = pooler._finalize_sparse_output(x, pooled_adj, batch, None, so)
        return sparse
    owner = pooler.reducer.reduce_batch(so, batch)
    if not connector.sparse_output:
        edges, weight = _postprocess(connector, pooled_adj, False), None
    else:
        edges, weight = _Connected(connector, pooled_adj)(
            edge_index=adj, so=so, edge_weight=edge_weight, batch=batch, batch_pooled=owner
        )
    return x.flatten(0, 1) if pooler.sparse_output else x, edges, weight, owner


def _postprocess(connector: Any, pooled_adj: Tensor, transposed: bool) -> Tensor:
    processed: Tensor = ops.postprocess_adj_pool_dense(
        pooled_adj.clone(),  # tgp changes it in place
        remove_self_loops=connector.remove_self_loops,
        degree_norm=connector.degree_norm,
        adj_transpose=transposed,
        edge_weight_norm=connector.edge_weight_norm,
    )
    return processed


class _Connected(DenseConnect):
    """tgp's connector for a product that is already computed; only the steps after the product run."""

    def __init__(self, like: Any, pooled_adj: Tensor) -> None:
        super().__init__(
            like.remove_self_loops,
            like.degree_norm,
            like.adj_transpose,
            like.edge_weight_norm,
            like.sparse_output,
        )
        self.pooled_adj = pooled_adj

    def _dense_connect_unbatched(self, **given: Any) -> Tensor:
        return self.pooled_adj

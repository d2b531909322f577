"""What all soft poolers share: inputs of every form, one pass of soft pooling, post-processing, lifting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from hierpool.connect import postprocess_adj, sparse_pooled
from hierpool.graph import RaggedGraph
from hierpool.graph.arguments import graph_of
from hierpool.nn.masking import valid_rows
from hierpool.nn.mlp import MLP, Activation
from hierpool.nn.src import PoolingOutput, SelectOutput, lift
from hierpool.ops import soft_pool
from hierpool.record import SoftPoolRecord

Batch = Tensor | RaggedGraph


class SoftPooling(nn.Module):
    r"""A pooling layer that assigns nodes softly to `K` clusters and is trained by losses on the pooled graph.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad L = \mathrm{assignment}(X, A), \quad
        X' = S^T X, \quad A' = S^T A S

    :math:`X', A'` and the sums that the losses follow from come from one pass over the nodes and edges, in memory
    :math:`O(N K)` beside the input. A subclass says which sums it needs, in ``needs``, and what its losses are, in
    :meth:`losses`; that is all of a new pooler.

    Args:
        in_channels: features that the assignment sees, or those of each layer of a perceptron before its last.
        k: number of clusters. Give this or ``ratio``.
        ratio: number of clusters as a part of ``max_nodes``, rounded down, at least 1.
        max_nodes: nodes of the largest graph; needed with ``ratio``.
        assignment: module called as ``assignment(x, adj, mask)`` that returns logits ``[B, N, K]``, or ``[N, K]`` of a
            ragged batch; a network on graphs, for example. ``None``: a perceptron on the features, a linear map if
            ``in_channels`` is a number.
        act: activation of this perceptron, such as ``"relu"``; ``None``: none.
        dropout: probability, between its layers.
        temperature: :math:`T`, positive.
        remove_self_loops: set the diagonal of :math:`A'` to 0, behind the losses.
        degree_norm: then take :math:`D^{-1/2} A' D^{-1/2}`.
        edge_weight_norm: then divide the weights of each graph by the largest.
        adj_transpose: read ``edge_index`` as edges from source to target that row ``target`` of :math:`A` stands for,
            so that :math:`A' X'` of a dense layer passes messages along them; dense adjacency is taken to be like that
            already. It makes no difference to undirected graphs.
        lift: how :meth:`lift` unpools: ``"transpose"``, :math:`S X'`, or ``"inverse"``, :math:`(S^+)^T X'`.
        sparse_output: return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries of absolute value at most this, which waits for the device;
            ``None``: all :math:`B K^2` entries are returned.
        symmetric: promise that every adjacency is symmetric, or that not; ``None``: found out.
        backend: backend of :func:`hierpool.soft_pool`.

    Raises:
        ValueError: an argument out of its range.

    Source of the scheme: Grattarola et al., TNNLS 2022 (arXiv:2110.05292).
    """

    needs: Mapping[str, Any] = MappingProxyType({"link_loss": None, "entropy": False, "gram": True})
    """Options of :func:`hierpool.soft_pool` that make what the losses need."""

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        ratio: float | None = None,
        max_nodes: int | None = None,
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
        self.k = cluster_count(k, ratio, max_nodes)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if lift not in ("transpose", "inverse"):
            raise ValueError(f"lift must be 'transpose' or 'inverse', got {lift!r}")
        if drop is not None and not sparse_output:
            raise ValueError(f"drop has a meaning with sparse_output=True only, got drop={drop}")
        channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
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

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """The auxiliary losses by name, 0-d each; none if a subclass has none.

        Args:
            record: of :func:`hierpool.soft_pool`; ``record.adj`` before post-processing.
            adj: what was pooled, ``[B, N, N]`` or a ragged graph.
            mask: valid nodes of a padded batch, bool ``[B, N]``.
        """
        return {}

    def reset_parameters(self) -> None:
        """Draw the weights of the assignment anew."""
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
    ) -> Any:
        """Pool a batch of graphs.

        Args:
            x: features that are pooled, ``[B, N, F]`` of a padded batch, ``[N, F]`` of a ragged one; or, alone, a
                ``Data`` or ``Batch`` of PyTorch Geometric.
            adj: dense ``[B, N, N]`` or ``[B, R, N, N]`` (several edge types), or ``[N, N]`` of one graph;
                ``edge_index``, int64 ``[2, E]``; a sparse matrix of ``torch.sparse``; a :class:`hierpool.RaggedGraph`;
                a ``Data`` or ``Batch`` of PyTorch Geometric.
            edge_weight: weights of ``edge_index``, ``[E]``; ``None``: 1.
            so: a fixed assignment, in place of the network's; with ``lifting``, the one that pooled.
            mask: valid nodes of a padded batch ``[B, N]`` (non-zero is valid); ``None``: all are.
            batch: graph of each node ``[N]`` with ``edge_index``, sorted or not; ``None``: one graph.
            batch_pooled: not needed, as the clusters of a graph follow each other; taken for the sake of code that
                passes it.
            lifting: unpool instead, see :meth:`lift`.
            ptr: first node of each graph ``[B + 1]``, instead of ``batch``.
            batch_size: number of graphs, needed under ``torch.compile`` with ``batch``.
            assign_x: features that the assignment sees; ``None``: ``x``.
            logits: the assignment's result, from a caller who has it already.

        Returns:
            :class:`PoolingOutput`; with ``lifting`` a tensor.

        Raises:
            TypeError, ValueError: an argument is wrong; the message names it.
        """
        if lifting:
            if so is None:
                raise ValueError("so must be the assignment that pooled with lifting=True, got None")
            return self.lift(x, so)
        x, adj, mask = self._inputs(x, adj, edge_weight, mask, batch, ptr, batch_size)
        s = self._assignment(x, adj, mask, so, assign_x, logits)
        return self._pooled(x, adj, s, mask, given=so is not None)

    def lift(self, x: Tensor, so: SelectOutput) -> Tensor:
        r"""Features of clusters back on the nodes, :math:`S X'`, or with the pseudo-inverse; see ``lift`` above.

        Args:
            x: :math:`X'`, ``[B, K, F]``, or ``[B K, F]`` of a sparse output without ``drop``.
            so: of the output of :meth:`forward`.
        """
        return lift(x, so, self.lift_how)

    def _inputs(
        self,
        x: Any,
        adj: Any,
        edge_weight: Tensor | None,
        mask: Tensor | None,
        batch: Tensor | None,
        ptr: Tensor | None,
        batch_size: int | None,
    ) -> tuple[Tensor, Batch, Tensor | None]:
        """A padded batch ``[B, N, F]``, or a ragged one with its graph."""
        if adj is None:
            if isinstance(x, Tensor):
                raise TypeError("adj must be given, unless x is a Data or Batch of PyTorch Geometric")
            adj, x = x, getattr(x, "x", None)
        if not isinstance(adj, Tensor | RaggedGraph):
            adj = RaggedGraph.from_pyg(adj, symmetric=self.symmetric)
        if isinstance(adj, Tensor) and not _is_sparse(adj):
            for name, value in {"edge_weight": edge_weight, "batch": batch, "ptr": ptr}.items():
                if value is not None:
                    raise ValueError(f"{name} must be None if adj is dense, got {value!r:.40}")
            if adj.dim() == 2:
                adj, x = adj[None], x[None] if x.dim() == 2 else x
                mask = mask[None] if mask is not None and mask.dim() == 1 else mask
            return x, adj, valid_rows(mask, (x.size(0), x.size(1)))
        if mask is not None:
            raise ValueError(
                f"mask must be None with sparse adjacency, which has no padding, got {mask!r:.40}"
            )
        if isinstance(adj, Tensor) and adj.layout is torch.strided and self.adj_transpose:
            adj = adj.flip(0)
        symmetric = (
            None if isinstance(adj, RaggedGraph) or adj.layout is not torch.strided else self.symmetric
        )
        return x, graph_of(x, adj, edge_weight, batch, ptr, batch_size, symmetric), None

    def _assignment(
        self,
        x: Tensor,
        adj: Batch,
        mask: Tensor | None,
        so: SelectOutput | None,
        assign_x: Tensor | None,
        logits: Tensor | None,
    ) -> Tensor:
        """Logits, or the assignment itself of ``so``."""
        given = {"so": so, "assign_x": assign_x, "logits": logits}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are what the assignment comes from; give one of them")
        if so is not None:
            s = so.s.to_dense() if so.is_sparse else so.s
            s = s.to(x.dtype)
            logits = s[None] if s.dim() == 2 and x.dim() == 3 else s
        elif logits is None:
            seen = x if assign_x is None else assign_x
            # NaN in padding would reach the gradients of weights; a perceptron sees to it.
            if mask is not None and not isinstance(self.assignment, MLP):
                seen = torch.where(mask[..., None], seen, 0)
            logits = self.assignment(seen, adj, mask)
        if logits.shape != (*x.shape[:-1], self.k):
            raise ValueError(
                f"assignment must return {[*x.shape[:-1], self.k]} (nodes, clusters), "
                f"but returned {list(logits.shape)}"
            )
        return logits

    def _pooled(self, x: Tensor, adj: Batch, s: Tensor, mask: Tensor | None, *, given: bool) -> PoolingOutput:
        """One pass, and what follows from its record."""
        graph = adj if isinstance(adj, RaggedGraph) else None
        record = soft_pool(
            x,
            adj,
            s,
            mask=mask,
            assignment="given" if given else "softmax",
            temperature=1.0 if given else self.temperature,
            symmetric=self.symmetric if graph is None else None,
            backend=self.backend,
            **self.needs,
        )
        loss = self.losses(record, adj, mask)
        so = SelectOutput(record.s, graph, mask, record.size.detach() > 0)
        return self._connected(record.x, record.adj.to(record.x.dtype), so, loss, record)

    def _connected(
        self,
        x: Tensor,
        adj: Tensor,
        so: SelectOutput,
        loss: dict[str, Tensor],
        record: SoftPoolRecord | None,
    ) -> PoolingOutput:
        """The pooled adjacency as it was asked for."""
        adj = postprocess_adj(adj, **self.postprocessing)
        if not self.sparse_output:
            return PoolingOutput(x, adj, None, None, so, loss, adj, record)
        if adj.dim() != 3:
            raise ValueError(f"adj must have one edge type with sparse_output=True, got {adj.size(1)}")
        mask = so.out_mask
        assert mask is not None
        sparse = sparse_pooled(x, adj, mask, self.drop)
        return PoolingOutput(
            sparse.x, sparse.edge_index, sparse.edge_weight, sparse.batch, so, loss, adj, record
        )

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}, backend={self.backend!r}"


def _is_sparse(adj: Tensor) -> bool:
    """Whether a tensor is ``edge_index`` or a sparse matrix."""
    return adj.layout is not torch.strided or (
        adj.dim() == 2 and adj.size(0) == 2 and adj.dtype in (torch.int64, torch.int32)
    )


def weighted(loss: Tensor, coefficient: float) -> Tensor:
    """Their product."""
    return loss if coefficient == 1 else loss * coefficient


def normalised(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a pooler whose paper normalises the pooled adjacency."""
    return {"remove_self_loops": True, "degree_norm": True, **options}


def edge_types(adj: Batch) -> Sequence[Batch]:
    """The adjacency of each edge type."""
    if isinstance(adj, Tensor) and adj.dim() == 4:
        return adj.unbind(1)
    return (adj,)


def total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of 0-d tensors."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()


def cluster_count(k: int | None, ratio: float | None, max_nodes: int | None) -> int:
    """Number of clusters from ``k``, or from ``ratio`` of ``max_nodes``.

    Raises:
        ValueError: both or neither given, or out of range.
    """
    if (k is None) == (ratio is None):
        raise ValueError(f"give exactly one of k and ratio, but k is {k} and ratio is {ratio}")
    if k is not None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return k
    assert ratio is not None
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be in (0, 1], got {ratio}")
    if max_nodes is None or max_nodes < 1:
        raise ValueError(f"max_nodes must be at least 1 with ratio, got {max_nodes}")
    return max(1, int(max_nodes * ratio))

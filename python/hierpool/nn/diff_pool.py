"""DiffPool as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor, nn

from hierpool import losses
from hierpool._extras import require
from hierpool.graph import RaggedGraph
from hierpool.ops import link_bce, soft_pool
from hierpool.record import SoftPoolRecord

PoolFunction = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


class DiffPoolOutput(NamedTuple):
    """What :class:`DiffPool` returns."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], in the dtype of x
    link_loss: Tensor | None  # 0-d, or None if it was not asked for
    entropy_loss: Tensor | None  # 0-d, or None if it was not asked for
    record: SoftPoolRecord | None  # None if another library's function pooled


class LinearAssignment(nn.Linear):
    """Logits as a linear map of a node's features, whatever its neighbours."""

    def forward(
        self, x: Tensor, adj: Tensor | RaggedGraph | None = None, mask: Tensor | None = None
    ) -> Tensor:
        return super().forward(x)


class DiffPool(nn.Module):
    r"""Differentiable pooling: nodes are softly assigned to `K` clusters that a network chooses.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad L = \mathrm{assignment}(X, A), \quad
        X' = S^T Z, \quad A' = S^T A S

    with the two losses :math:`|A - S S^T|_F` and the entropy of :math:`S` in the normalisation of ``convention``.

    Args:
        in_channels: features that the assignment sees. Only used to make a linear assignment.
        k: number of clusters. Give this or ``ratio``.
        ratio: number of clusters as a part of ``max_nodes``, rounded down, at least 1.
        max_nodes: nodes of the largest graph; needed with ``ratio``.
        assignment: module called as ``assignment(x, adj, mask)`` that returns logits ``[B, N, K]``, or ``[N, K]``
            for a ragged batch. ``None``: a linear map of the features.
        temperature: :math:`T`, positive.
        link_loss: ``"frobenius"``; ``"bce"``, the cross-entropy of the original code (:func:`hierpool.link_bce`), which
            takes time quadratic in the nodes of a graph and is meant for entries in [0, 1]; or ``None`` to skip the
            computation.
        entropy: whether to compute the entropy loss.
        convention: normalisation of the losses: ``"paper"``, ``"pyg"``, ``"tgp"``, ``"tgp_unbatched"``
            or ``"original"``, see :mod:`hierpool.losses`. The cross-entropy is one sum over the batch, which
            ``"paper"``, a mean over graphs, has no divisor for.
        symmetric: promise that every adjacency is symmetric, or that not; ``None``: found out.
        backend: backend of :func:`hierpool.soft_pool`.
        pool: ``"hierpool"``, ``"pyg"`` (PyTorch Geometric's ``dense_diff_pool``), or a function with its signature
            ``(x, adj, s, mask) -> (x, adj, link_loss, entropy_loss)``. The last two serve comparisons: they
            compute the losses in their own way, so ``convention`` must be ``"pyg"``, and take padded batches alone.

    Raises:
        ValueError: an argument out of its range.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """

    def __init__(
        self,
        in_channels: int,
        k: int | None = None,
        *,
        ratio: float | None = None,
        max_nodes: int | None = None,
        assignment: nn.Module | None = None,
        temperature: float = 1.0,
        link_loss: Literal["frobenius", "bce"] | None = "frobenius",
        entropy: bool = True,
        convention: str = "pyg",
        symmetric: bool | None = None,
        backend: str = "auto",
        pool: str | PoolFunction = "hierpool",
    ) -> None:
        super().__init__()
        self.k = cluster_count(k, ratio, max_nodes)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if link_loss not in ("frobenius", "bce", None):
            raise ValueError(f"link_loss must be 'frobenius', 'bce' or None, got {link_loss!r}")
        if convention not in losses.CONVENTIONS:
            known = ", ".join(map(repr, losses.CONVENTIONS))
            raise ValueError(f"convention must be one of {known}, got {convention!r}")
        if link_loss == "bce" and losses.CONVENTIONS[convention].link["reduction"] != "global":
            raise ValueError(
                "convention must be one whose link loss is a sum over the batch with link_loss='bce',"
                f" got {convention!r}"
            )
        if link_loss == "bce" and pool != "hierpool":
            raise ValueError(f"link_loss must be 'frobenius' or None with pool={pool!r}, got 'bce'")
        if pool != "hierpool" and convention != "pyg":
            raise ValueError(f"convention must be 'pyg' with pool={pool!r}, got {convention!r}")
        self.assignment = LinearAssignment(in_channels, self.k) if assignment is None else assignment
        self.temperature = temperature
        self.link_loss = link_loss
        self.entropy = entropy
        self.convention = convention
        self.symmetric = symmetric
        self.backend = backend
        self._foreign = _foreign_pool(pool)

    def forward(
        self,
        x: Tensor,
        adj: Tensor | RaggedGraph,
        mask: Tensor | None = None,
        *,
        assign_x: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> DiffPoolOutput:
        """Pool a batch of graphs.

        Args:
            x: features that are pooled ``[B, N, F]``, or ``[N, F]`` with a ragged graph: the paper's embedding
                :math:`Z`.
            adj: ``[B, N, N]``, or a ragged graph.
            mask: valid nodes ``[B, N]`` (non-zero is valid); ``None``: all are.
            assign_x: features that the assignment sees ``[B, N, in_channels]``; ``None``: ``x``.
            logits: the assignment's result, from a caller who has it already.

        Returns:
            The coarsened batch, dense and all of whose ``K`` rows are valid, and the losses.

        Raises:
            ValueError: shapes that disagree, ``assign_x`` beside ``logits``, or a ragged graph for a ``pool`` that
                takes none.
        """
        if logits is None:
            logits = self.assignment(x if assign_x is None else assign_x, adj, mask)
        elif assign_x is not None:
            raise ValueError("assign_x is what logits are computed from; give one of them")
        if logits.shape != (*x.shape[:-1], self.k):
            raise ValueError(
                f"assignment must return {[*x.shape[:-1], self.k]} (nodes, clusters), "
                f"but returned {list(logits.shape)}"
            )
        if self._foreign is not None:
            if isinstance(adj, RaggedGraph):
                raise ValueError("adj must be dense for another library's pool, got a ragged graph")
            return self._pool_foreign(self._foreign, x, adj, logits, mask)
        record = soft_pool(
            x,
            adj,
            logits,
            mask=mask,
            temperature=self.temperature,
            symmetric=self.symmetric,
            link_loss="frobenius" if self.link_loss == "frobenius" else None,
            entropy=self.entropy,
            backend=self.backend,
        )
        chosen = losses.CONVENTIONS[self.convention]
        return DiffPoolOutput(
            record.x,
            record.adj.to(x.dtype),
            self._link_loss(record, adj, mask),
            losses.entropy_loss(record, **chosen.entropy) if self.entropy else None,
            record,
        )

    def _link_loss(
        self, record: SoftPoolRecord, adj: Tensor | RaggedGraph, mask: Tensor | None
    ) -> Tensor | None:
        if self.link_loss is None:
            return None
        chosen = losses.CONVENTIONS[self.convention].link
        if self.link_loss == "frobenius":
            return losses.link_pred_loss(record, **chosen)
        return link_bce(
            record.s,
            adj,
            mask=mask,
            normalize=chosen["normalize"],
            symmetric=self.symmetric,
            backend=self.backend,
        )

    def _pool_foreign(
        self, pool: PoolFunction, x: Tensor, adj: Tensor, logits: Tensor, mask: Tensor | None
    ) -> DiffPoolOutput:
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        pooled, adj_pooled, link, entropy = pool(x, adj, scaled, mask)
        return DiffPoolOutput(
            pooled, adj_pooled, link if self.link_loss else None, entropy if self.entropy else None, None
        )

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}, backend={self.backend!r}"


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


def _foreign_pool(pool: str | PoolFunction) -> PoolFunction | None:
    """The function that pools instead of :func:`hierpool.soft_pool`, if any."""
    if pool == "hierpool":
        return None
    if pool == "pyg":
        function: PoolFunction = require("torch_geometric.nn", "pyg").dense_diff_pool
        return function
    if callable(pool):
        return pool
    raise ValueError(f"pool must be 'hierpool', 'pyg' or a function, got {pool!r}")

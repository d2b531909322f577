"""The asymmetric Cheeger cut as a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from hierpool import losses
from hierpool.graph import RaggedGraph
from hierpool.nn.inputs import Adjacency, whole
from hierpool.nn.soft_pooling import SoftPooling, edge_types, normalised, total, weighted
from hierpool.ops.asymmetric_norm import asymmetric_norm
from hierpool.ops.total_variation import total_variation
from hierpool.record import SoftPoolRecord


class AsymCheegerCutPool(SoftPooling, name="acc"):
    r"""Asymmetric Cheeger cut pooling. Together with :class:`hierpool.nn.GTVConv` it is TVGNN.

    The losses are ``"total_variation_loss"`` (:func:`~hierpool.losses.totvar_loss`) and ``"balance_loss"``
    (:func:`~hierpool.losses.asym_norm_loss`).

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`. ``remove_self_loops`` and ``degree_norm`` are
            ``True`` by default.
        totvar_coeff, balance_coeff: coefficients of the losses.

    Source: Hansen, Bianchi, ICML 2023 (arXiv:2211.06218).
    """

    needs: Mapping[str, Any] = MappingProxyType({"link_loss": None, "entropy": False, "gram": False})

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        totvar_coeff: float = 1.0,
        balance_coeff: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **normalised(options))
        self.totvar_coeff = totvar_coeff
        self.balance_coeff = balance_coeff

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"total_variation_loss"`` and ``"balance_loss"``."""
        adj = whole(adj, "total variation")
        graph = adj if isinstance(adj, RaggedGraph) else None
        variations = [
            losses.totvar_loss(*total_variation(record.s, a, mask=mask, backend=self.backend))
            for a in edge_types(adj)
        ]
        counts = record.num_clusters
        norm = asymmetric_norm(record.s, graph, mask=mask, num_clusters=counts, backend=self.backend)
        k = record.s.size(-1) if counts is None else counts
        balance = losses.asym_norm_loss(norm, record.num_nodes, k)
        return {
            "total_variation_loss": weighted(total(variations), self.totvar_coeff),
            "balance_loss": weighted(balance, self.balance_coeff),
        }

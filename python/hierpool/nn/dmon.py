"""DMoN pooling as a layer for padded and sparse batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hierpool import losses
from hierpool.nn.inputs import Adjacency, Inputs
from hierpool.nn.soft_pooling import FusedOutput, SoftPooling, normalised, weighted
from hierpool.ops.cut_pool import cut_pool
from hierpool.ops.cut_terms import Kind
from hierpool.record import SoftPoolRecord


class DMoNPool(SoftPooling, name="dmon"):
    r"""DMoN pooling. :class:`hierpool.DMoNPooling` has the interface of PyTorch Geometric instead.

    The losses are ``"spectral_loss"`` (:func:`~hierpool.losses.spectral_loss`), ``"cluster_loss"``
    (:func:`~hierpool.losses.cluster_loss`) and, if its coefficient is not 0, ``"ortho_loss"``
    (:func:`~hierpool.losses.orthogonality_loss`).

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`. ``remove_self_loops`` and ``degree_norm`` are
            ``True`` by default.
        spectral_loss_coeff, cluster_loss_coeff, ortho_loss_coeff: coefficients of the losses.

    Source: Tsitsulin et al., JMLR 24, 2023 (arXiv:2006.16904).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        spectral_loss_coeff: float = 1.0,
        cluster_loss_coeff: float = 1.0,
        ortho_loss_coeff: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **normalised(options))
        self.spectral_loss_coeff = spectral_loss_coeff
        self.cluster_loss_coeff = cluster_loss_coeff
        self.ortho_loss_coeff = ortho_loss_coeff
        self.needs = {**self.needs, "gram": ortho_loss_coeff != 0}

    def fused(self, inputs: Inputs) -> FusedOutput | None:
        """Pool with the operator that computes DMoN's losses, if its post-processing is the requested one."""
        if not self.is_fusible(DMoNPool, inputs):
            return None
        names = ("first", "cluster", "ortho")[: 3 if self.ortho_loss_coeff != 0 else 2]
        fields = cut_pool(Kind.DMON, ("s", "x", "adj", *names), **self.arguments(inputs))
        assignment, pooled, pooled_adj, *found = fields
        return FusedOutput(assignment, pooled, pooled_adj, self._named(*found))

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"spectral_loss"``, ``"cluster_loss"``, and ``"ortho_loss"`` if its coefficient is not 0."""
        found = [losses.spectral_loss(record), losses.cluster_loss(record)]
        if self.ortho_loss_coeff != 0:
            found.append(losses.orthogonality_loss(record))
        return self._named(*found)

    def _named(self, spectral: Tensor, cluster: Tensor, ortho: Tensor | None = None) -> dict[str, Tensor]:
        out = {
            "spectral_loss": weighted(spectral, self.spectral_loss_coeff),
            "cluster_loss": weighted(cluster, self.cluster_loss_coeff),
        }
        if ortho is not None:
            out["ortho_loss"] = weighted(ortho, self.ortho_loss_coeff)
        return out

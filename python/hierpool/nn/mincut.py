"""MinCut pooling as a layer."""

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


class MinCutPool(SoftPooling, name="mincut"):
    r"""MinCut pooling.

    The losses are ``"cut_loss"`` (:func:`~hierpool.losses.mincut_loss`) and ``"ortho_loss"``
    (:func:`~hierpool.losses.orthogonality_loss`).

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`. ``remove_self_loops`` and ``degree_norm`` are
            ``True`` by default.
        cut_loss_coeff, ortho_loss_coeff: coefficients of the losses.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        cut_loss_coeff: float = 1.0,
        ortho_loss_coeff: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **normalised(options))
        self.cut_loss_coeff = cut_loss_coeff
        self.ortho_loss_coeff = ortho_loss_coeff

    def fused(self, inputs: Inputs) -> FusedOutput | None:
        """Pool with the operator that computes MinCut's losses, if its post-processing is the requested one."""
        if not self.is_fusible(MinCutPool, inputs):
            return None
        names = ("s", "x", "adj", "first", "ortho")
        fields = cut_pool(Kind.MINCUT, names, **self.arguments(inputs))
        assignment, pooled, pooled_adj, *found = fields
        return FusedOutput(assignment, pooled, pooled_adj, self._named(*found))

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"cut_loss"`` and ``"ortho_loss"``."""
        return self._named(losses.mincut_loss(record), losses.orthogonality_loss(record))

    def _named(self, cut: Tensor, ortho: Tensor) -> dict[str, Tensor]:
        return {
            "cut_loss": weighted(cut, self.cut_loss_coeff),
            "ortho_loss": weighted(ortho, self.ortho_loss_coeff),
        }

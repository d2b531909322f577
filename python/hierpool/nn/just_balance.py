"""Just Balance pooling as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hierpool import losses
from hierpool.nn.inputs import Adjacency
from hierpool.nn.soft_pooling import SoftPooling, normalised, weighted
from hierpool.record import SoftPoolRecord


class JustBalancePool(SoftPooling, name="jb"):
    r"""Just Balance pooling.

    The loss is ``"balance_loss"`` (:func:`~hierpool.losses.just_balance_loss`). It does not depend on the edges:
    message passing before the pooler makes the features of neighbours similar.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`. ``remove_self_loops`` and ``degree_norm`` are
            ``True`` by default.
        normalize_loss: divide the loss by :math:`\sqrt{n K}`.
        loss_coeff: coefficient of the loss.

    Source: Bianchi, NLDL 2023 (arXiv:2207.08779).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        normalize_loss: bool = True,
        loss_coeff: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **normalised(options))
        self.normalize_loss = normalize_loss
        self.loss_coeff = loss_coeff

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"balance_loss"``."""
        loss = losses.just_balance_loss(record, normalize=self.normalize_loss)
        return {"balance_loss": weighted(loss, self.loss_coeff)}

"""Poolers that ask for few edges between clusters, or for clusters of like size: MinCut, DMoN, HOSC, Just Balance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hierpool import losses
from hierpool.graph import RaggedGraph
from hierpool.nn.soft_pooling import Batch, SoftPooling, edge_types, normalised, total, weighted
from hierpool.ops import walk_cut
from hierpool.record import SoftPoolRecord


class MinCutPool(SoftPooling):
    r"""MinCut pooling, with the losses :func:`~hierpool.losses.mincut_loss`, named ``"cut_loss"``, and
    :func:`~hierpool.losses.orthogonality_loss`, named ``"ortho_loss"``.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`; the pooled adjacency has no diagonal and is
            normalised by degrees unless ``remove_self_loops`` or ``degree_norm`` say otherwise.
        cut_loss_coeff, ortho_loss_coeff: what the losses are multiplied by.

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

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """``"cut_loss"`` and ``"ortho_loss"``."""
        return {
            "cut_loss": weighted(losses.mincut_loss(record), self.cut_loss_coeff),
            "ortho_loss": weighted(losses.orthogonality_loss(record), self.ortho_loss_coeff),
        }


class DMoNPool(SoftPooling):
    r"""DMoN, with the losses :func:`~hierpool.losses.spectral_loss`, :func:`~hierpool.losses.cluster_loss` and, where
    it is asked for, :func:`~hierpool.losses.orthogonality_loss`, named ``"spectral_loss"``, ``"cluster_loss"`` and
    ``"ortho_loss"``.

    :class:`hierpool.DMoNPooling` is the same as PyTorch Geometric has it.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`; the pooled adjacency has no diagonal and is
            normalised by degrees unless ``remove_self_loops`` or ``degree_norm`` say otherwise.
        spectral_loss_coeff, cluster_loss_coeff, ortho_loss_coeff: what the losses are multiplied by; with 0, the
            orthogonality is not computed.

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

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """``"spectral_loss"``, ``"cluster_loss"``, and ``"ortho_loss"`` if it has a coefficient."""
        out = {
            "spectral_loss": weighted(losses.spectral_loss(record), self.spectral_loss_coeff),
            "cluster_loss": weighted(losses.cluster_loss(record), self.cluster_loss_coeff),
        }
        if self.ortho_loss_coeff != 0:
            out["ortho_loss"] = weighted(losses.orthogonality_loss(record), self.ortho_loss_coeff)
        return out


class JustBalancePool(SoftPooling):
    r"""Just Balance: no term for the graph, whose layers before the pooler do the smoothing, with the loss
    :func:`~hierpool.losses.just_balance_loss`, named ``"balance_loss"``.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`; the pooled adjacency has no diagonal and is
            normalised by degrees unless ``remove_self_loops`` or ``degree_norm`` say otherwise.
        normalize_loss: divide by :math:`\sqrt{n K}`.
        loss_coeff: what the loss is multiplied by.

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

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """``"balance_loss"``."""
        loss = losses.just_balance_loss(record, normalize=self.normalize_loss)
        return {"balance_loss": weighted(loss, self.loss_coeff)}


class HOSCPool(SoftPooling):
    r"""Higher-order clustering, with the losses

    .. math:: L_{hosc} = \frac{1 - \alpha}{K} L_{cut}(A) + \frac{\alpha}{K} L_{cut}(A^3)

    named ``"hosc_loss"``, and :math:`\mu` times an orthogonality loss, named ``"ortho_loss"``.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`; the pooled adjacency has no diagonal and is
            normalised by degrees unless ``remove_self_loops`` or ``degree_norm`` say otherwise.
        mu: weight of the orthogonality; with 0 it is not computed.
        alpha: share of walks of three edges, in [0, 1]; what has no share is not computed.
        hosc_ortho: :func:`~hierpool.losses.hosc_orthogonality_loss` in place of
            :func:`~hierpool.losses.orthogonality_loss`.

    Raises:
        ValueError: ``alpha`` outside [0, 1].

    Source: Duval, Malliaros, CIKM 2022 (arXiv:2209.03473).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        mu: float = 0.1,
        alpha: float = 0.5,
        hosc_ortho: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **normalised(options))
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.mu = mu
        self.alpha = alpha
        self.hosc_ortho = hosc_ortho

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """``"hosc_loss"``, and ``"ortho_loss"`` if it has a weight."""
        terms = []
        if self.alpha < 1:
            terms.append((1 - self.alpha) / self.k * losses.mincut_loss(record))
        if self.alpha > 0:
            symmetric = None if isinstance(adj, RaggedGraph) else self.symmetric
            options: dict[str, Any] = {"mask": mask, "symmetric": symmetric, "backend": self.backend}
            cuts = [losses.ho_mincut_loss(*walk_cut(record.s, a, **options)) for a in edge_types(adj)]
            terms.append(self.alpha / self.k * total(cuts))
        out = {"hosc_loss": total(terms)}
        if self.mu != 0:
            chosen = losses.hosc_orthogonality_loss if self.hosc_ortho else losses.orthogonality_loss
            out["ortho_loss"] = self.mu * chosen(record)
        return out

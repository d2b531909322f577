"""Higher-order clustering as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hierpool import losses
from hierpool.losses._tensors import cluster_share, over_graphs
from hierpool.losses.cuts import cut_of_graphs
from hierpool.nn.inputs import Adjacency, whole
from hierpool.nn.soft_pooling import SoftPooling, edge_types, normalised, total
from hierpool.ops.walk_cut import walk_cut
from hierpool.record import SoftPoolRecord
from hierpool.selection._shared import check_probability


class HOSCPool(SoftPooling, name="hosc"):
    r"""Higher-order spectral clustering pooling.

    .. math:: L_{hosc} = \frac{1 - \alpha}{K} L_{cut}(A) + \frac{\alpha}{K} L_{cut}(A^3)

    The losses are ``"hosc_loss"``, :math:`L_{hosc}`, and ``"ortho_loss"``, :math:`\mu` times an orthogonality loss.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`. ``remove_self_loops`` and ``degree_norm`` are
            ``True`` by default.
        mu: :math:`\mu`; with 0 the orthogonality loss is not computed.
        alpha: :math:`\alpha`, in [0, 1]; terms with weight 0 are not computed.
        hosc_ortho: use :func:`~hierpool.losses.hosc_orthogonality_loss` instead of
            :func:`~hierpool.losses.orthogonality_loss`.

    Raises:
        ValueError: ``alpha`` is not in [0, 1].

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
        self.mu = mu
        self.alpha = check_probability("alpha", alpha)
        self.hosc_ortho = hosc_ortho

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"hosc_loss"``, and ``"ortho_loss"`` if its weight is not 0."""
        terms = []
        share = cluster_share(record)
        if self.alpha < 1:
            terms.append((1 - self.alpha) * over_graphs(cut_of_graphs(record) * share, "mean"))
        if self.alpha > 0:
            symmetric = self.symmetric if isinstance(adj, Tensor) else None
            options: dict[str, Any] = {"mask": mask, "symmetric": symmetric, "backend": self.backend}
            walks = [walk_cut(record.s, a, **options) for a in edge_types(whole(adj, "walks of three edges"))]
            cuts = [losses.ho_mincut_loss(cut * share, degree) for cut, degree in walks]
            terms.append(self.alpha * total(cuts).to(record.adj.dtype))
        out = {"hosc_loss": total(terms)}
        if self.mu != 0:
            chosen = losses.hosc_orthogonality_loss if self.hosc_ortho else losses.orthogonality_loss
            out["ortho_loss"] = self.mu * chosen(record)
        return out

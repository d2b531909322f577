"""DiffPool as a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from hierpool import losses
from hierpool._extras import require
from hierpool.graph import RaggedGraph
from hierpool.nn.soft_pooling import Batch, SoftPooling, weighted
from hierpool.nn.src import PoolingOutput, SelectOutput
from hierpool.ops import link_bce
from hierpool.record import SoftPoolRecord

PoolFunction = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


class DiffPool(SoftPooling):
    r"""Differentiable pooling, with the losses :math:`|A - S S^T|_F` and the entropy of :math:`S`.

    The variants of the paper: ``link_loss=None`` is DiffPool-NoLP, and does not compute the loss at all; a fixed
    assignment in ``forward(..., so=SelectOutput.from_clusters(...))`` is DiffPool-DET, with the clusters of
    :func:`hierpool.heavy_edge_clusters` for example.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`.
        link_loss: ``"frobenius"``; ``"bce"``, the cross-entropy of the original code (:func:`hierpool.link_bce`), which
            takes time quadratic in the nodes of a graph and is meant for entries in [0, 1]; or ``None`` to skip the
            computation.
        entropy: whether to compute the entropy loss.
        link_loss_coeff, ent_loss_coeff: what they are multiplied by.
        convention: normalisation of the losses: ``"paper"``, ``"pyg"``, ``"tgp"``, ``"tgp_unbatched"``
            or ``"original"``, see :mod:`hierpool.losses`. The cross-entropy is one sum over the batch, which
            ``"paper"``, a mean over graphs, has no divisor for.
        normalize_loss: ``False`` leaves the link loss undivided.
        pool: ``"hierpool"``, ``"pyg"`` (PyTorch Geometric's ``dense_diff_pool``), or a function with its signature
            ``(x, adj, s, mask) -> (x, adj, link_loss, entropy_loss)``. The last two serve comparisons: they
            compute the losses in their own way, so ``convention`` must be ``"pyg"``, and take padded batches alone.

    Losses are named ``"link_loss"`` and ``"entropy_loss"``.

    Raises:
        ValueError: an argument out of its range.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        k: int | None = None,
        *,
        link_loss: Literal["frobenius", "bce"] | None = "frobenius",
        entropy: bool = True,
        link_loss_coeff: float = 1.0,
        ent_loss_coeff: float = 1.0,
        convention: str = "pyg",
        normalize_loss: bool = True,
        pool: str | PoolFunction = "hierpool",
        **options: Any,
    ) -> None:
        super().__init__(in_channels, k, **options)
        _check(link_loss, convention, pool)
        self.link_loss = link_loss
        self.entropy = entropy
        self.link_loss_coeff = link_loss_coeff
        self.ent_loss_coeff = ent_loss_coeff
        self.convention = convention
        self.normalize_loss = normalize_loss
        self.needs = {
            "link_loss": "frobenius" if link_loss == "frobenius" else None,
            "entropy": entropy,
            "gram": link_loss == "frobenius",
        }
        self._foreign = _foreign_pool(pool)

    def losses(self, record: SoftPoolRecord, adj: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """``"link_loss"`` and ``"entropy_loss"``, if they were asked for."""
        chosen = losses.CONVENTIONS[self.convention]
        link = chosen.link if self.normalize_loss else chosen.link | {"normalize": None}
        out: dict[str, Tensor] = {}
        if self.link_loss == "frobenius":
            out["link_loss"] = losses.link_pred_loss(record, **link)
        elif self.link_loss == "bce":
            out["link_loss"] = link_bce(
                record.s,
                adj,
                mask=mask,
                normalize=link["normalize"],
                symmetric=None if isinstance(adj, RaggedGraph) else self.symmetric,
                backend=self.backend,
            )
        if self.entropy:
            out["entropy_loss"] = losses.entropy_loss(record, **chosen.entropy)
        return self._weighted(out)

    def _weighted(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        coefficients = {"link_loss": self.link_loss_coeff, "entropy_loss": self.ent_loss_coeff}
        return {name: weighted(loss, coefficients[name]) for name, loss in found.items()}

    def _pooled(self, x: Tensor, adj: Batch, s: Tensor, mask: Tensor | None, *, given: bool) -> PoolingOutput:
        if self._foreign is None:
            return super()._pooled(x, adj, s, mask, given=given)
        if isinstance(adj, RaggedGraph):
            raise ValueError("adj must be dense for another library's pool, got a ragged graph")
        if given:
            raise ValueError("so must be None for another library's pool, which takes logits")
        logits = s if self.temperature == 1.0 else s / self.temperature
        pooled, adj_pooled, link, entropy = self._foreign(x, adj, logits, mask)
        found = {"link_loss": link} if self.link_loss else {}
        found |= {"entropy_loss": entropy} if self.entropy else {}
        s = logits.softmax(-1)
        so = SelectOutput(s if mask is None else s * mask[..., None], None, mask)
        return self._connected(pooled, adj_pooled, so, self._weighted(found), None)


def _check(link_loss: str | None, convention: str, pool: str | PoolFunction) -> None:
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

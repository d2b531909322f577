"""DiffPool as a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from hierpool import losses
from hierpool._extras import require
from hierpool.nn.inputs import Adjacency, Inputs, whole
from hierpool.nn.outputs import PoolingOutput, SelectOutput
from hierpool.nn.soft_pooling import FusedOutput, SoftPooling, weighted
from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import pool_fields
from hierpool.record import SoftPoolRecord

PoolFunction = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


class DiffPool(SoftPooling, name="diff"):
    r"""Differentiable pooling, with the losses :math:`|A - S S^T|_F` and the entropy of :math:`S`.

    The losses are named ``"link_loss"`` and ``"entropy_loss"``. The paper has two variants. DiffPool-NoLP is
    ``link_loss=None``, which skips the computation of this loss. DiffPool-DET is a fixed assignment,
    ``forward(..., so=SelectOutput.from_clusters(...))``, for example with the clusters of
    :func:`hierpool.heavy_edge_clusters`.

    Args:
        in_channels, k, options: see :class:`hierpool.nn.SoftPooling`.
        link_loss: ``"frobenius"``; ``"bce"``, the cross-entropy of the original code (:func:`hierpool.link_bce`), which
            takes time quadratic in the number of nodes and expects entries in [0, 1]; or ``None`` to skip the
            computation.
        entropy: whether to compute the entropy loss.
        link_loss_coeff, ent_loss_coeff: coefficients of the losses.
        convention: normalisation of the losses: ``"paper"``, ``"pyg"``, ``"tgp"``, ``"tgp_unbatched"``
            or ``"original"``, see :mod:`hierpool.losses`. ``"paper"`` is a mean over graphs and cannot be combined
            with ``link_loss="bce"``, which is one sum over the batch.
        normalize_loss: whether to normalise the link loss.
        pool: ``"hierpool"``, ``"pyg"`` (PyTorch Geometric's ``dense_diff_pool``), or a function with its signature
            ``(x, adj, s, mask) -> (x, adj, link_loss, entropy_loss)``. The last two are for comparisons. They take
            padded batches only and normalise the losses themselves, so ``convention`` must be ``"pyg"``.

    Raises:
        ValueError: an argument is out of range.

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
        if self._foreign is not None and self.clusters.is_relative:
            raise ValueError(
                "ratio_of must be 'largest' unless pool='hierpool', because other functions give all graphs the same"
                " number of clusters"
            )

    @classmethod
    def tgp_defaults(cls, batched: bool) -> dict[str, Any]:
        return {"convention": "tgp" if batched else "tgp_unbatched", "normalize_loss": False}

    def fused(self, inputs: Inputs) -> FusedOutput | None:
        """Pool with the losses of the operator, if they have the requested normalisation."""
        own = self.convention == "pyg" and self.normalize_loss and self.link_loss != "bce"
        if not own or not self.is_fusible(DiffPool, inputs, any_postprocessing=True):
            return None
        names = {"link_norm": "link_loss"} if self.link_loss else {}
        names |= {"total_entropy": "entropy_loss"} if self.entropy else {}
        arguments = {**self.arguments(inputs), "s": inputs.logits, **self.needs}
        assignment, pooled, pooled_adj, *found = pool_fields(
            ("s", "x", "adj", *names), mean=True, **arguments
        )
        pooled_adj = self.postprocessed(pooled_adj)
        loss = self._weighted(dict(zip(names.values(), found, strict=True)))
        return FusedOutput(assignment, pooled, pooled_adj, loss)

    def losses(self, record: SoftPoolRecord, adj: Adjacency, mask: Tensor | None) -> dict[str, Tensor]:
        """``"link_loss"`` and ``"entropy_loss"``, unless they are switched off."""
        chosen = losses.CONVENTIONS[self.convention]
        link = chosen.link if self.normalize_loss else chosen.link | {"normalize": None}
        out: dict[str, Tensor] = {}
        if self.link_loss == "frobenius":
            out["link_loss"] = losses.link_pred_loss(record, **link)
        elif self.link_loss == "bce":
            out["link_loss"] = link_bce(
                record.s,
                whole(adj, "link_loss='bce'"),
                mask=mask,
                normalize=link["normalize"],
                symmetric=self.symmetric if isinstance(adj, Tensor) else None,
                backend=self.backend,
            )
        if self.entropy:
            out["entropy_loss"] = losses.entropy_loss(record, **chosen.entropy)
        return self._weighted(out)

    def _weighted(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        coefficients = {"link_loss": self.link_loss_coeff, "entropy_loss": self.ent_loss_coeff}
        return {name: weighted(loss, coefficients[name]) for name, loss in found.items()}

    def pooled(self, inputs: Inputs, *, given: bool) -> PoolingOutput:
        """See :meth:`SoftPooling.pooled`. With ``pool`` other than ``"hierpool"``, call that function."""
        if self._foreign is None:
            return super().pooled(inputs, given=given)
        if inputs.graph is not None:
            raise ValueError(f"adj must be dense unless pool='hierpool', got a {type(inputs.adj).__name__}")
        if given:
            raise ValueError("so must be None unless pool='hierpool', because the function takes logits")
        if inputs.num_clusters is not None:
            raise ValueError(
                f"num_clusters must be None unless pool='hierpool', got {inputs.num_clusters!r:.40}"
            )
        mask, logits = inputs.mask, inputs.logits
        if self.temperature != 1.0:
            logits = logits / self.temperature
        pooled, adj_pooled, link, entropy = self._foreign(inputs.x, inputs.adj, logits, mask)
        found = {"link_loss": link} if self.link_loss else {}
        found |= {"entropy_loss": entropy} if self.entropy else {}
        s = logits.softmax(-1)
        so = SelectOutput(s if mask is None else s * mask[..., None], None, mask)
        return self.connected(pooled, self.postprocessed(adj_pooled), so, self._weighted(found), None)


def _check(link_loss: str | None, convention: str, pool: str | PoolFunction) -> None:
    if link_loss not in ("frobenius", "bce", None):
        raise ValueError(f"link_loss must be 'frobenius', 'bce' or None, got {link_loss!r}")
    if convention not in losses.CONVENTIONS:
        known = ", ".join(map(repr, losses.CONVENTIONS))
        raise ValueError(f"convention must be one of {known}, got {convention!r}")
    if link_loss == "bce" and losses.CONVENTIONS[convention].link["reduction"] != "global":
        raise ValueError(
            "convention must have a link loss that is a sum over the batch with link_loss='bce',"
            f" got {convention!r}"
        )
    if link_loss == "bce" and pool != "hierpool":
        raise ValueError(f"link_loss must be 'frobenius' or None with pool={pool!r}, got 'bce'")
    if pool != "hierpool" and convention != "pyg":
        raise ValueError(f"convention must be 'pyg' with pool={pool!r}, got {convention!r}")


def _foreign_pool(pool: str | PoolFunction) -> PoolFunction | None:
    """The function to use instead of :func:`hierpool.soft_pool`, or ``None``."""
    if pool == "hierpool":
        return None
    if pool == "pyg":
        function: PoolFunction = require("torch_geometric.nn", "pyg").dense_diff_pool
        return function
    if callable(pool):
        return pool
    raise ValueError(f"pool must be 'hierpool', 'pyg' or a function, got {pool!r}")

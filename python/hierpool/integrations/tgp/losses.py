"""The losses of torch-geometric-pool's dense poolers, computed from the record, with its names and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from tgp import poolers
from torch import Tensor

from hierpool import losses
from hierpool.graph import RaggedGraph
from hierpool.ops.asymmetric_norm import asymmetric_norm
from hierpool.ops.total_variation import total_variation
from hierpool.ops.walk_cut import walk_cut
from hierpool.record import SoftPoolRecord


class PooledBatch(NamedTuple):
    """A pooled batch, from which losses are computed."""

    record: SoftPoolRecord
    adj: Tensor | RaggedGraph
    mask: Tensor | None  # valid nodes of a dense batch; None: all are valid
    batched: bool  # tgp's batched mode, in which sizes include padding


class Term(NamedTuple):
    """One loss of a pooler."""

    name: str
    weight: Any  # a number, or a tensor
    value: Callable[[PooledBatch], Tensor]
    needs: Literal["link", "entropy", "gram"] | None = None  # part of the record

    @property
    def is_off(self) -> bool:
        return isinstance(self.weight, (int, float)) and self.weight == 0

    def of(self, pooled: PooledBatch) -> Tensor:
        """The weighted loss, in float32, or float64 for a float64 assignment."""
        s = pooled.record.s
        dtype = torch.promote_types(s.dtype, torch.float32)
        if self.is_off:
            return s.new_zeros((), dtype=dtype)
        return self.value(pooled).to(dtype) * self.weight


def _diff_pool(pooler: Any) -> list[Term]:
    def link(pooled: PooledBatch) -> Tensor:
        normalize = ("numel" if pooled.batched else "valid") if pooler.normalize_loss else None
        return losses.link_pred_loss(pooled.record, normalize=normalize)

    return [
        Term("link_loss", pooler.link_loss_coeff, link, "link"),
        Term(
            "entropy_loss",
            pooler.ent_loss_coeff,
            lambda pooled: losses.entropy_loss(pooled.record),
            "entropy",
        ),
    ]


def _orthogonality(pooled: PooledBatch) -> Tensor:
    return losses.orthogonality_loss(pooled.record)


def _mincut(pooler: Any) -> list[Term]:
    return [
        Term("cut_loss", pooler.cut_loss_coeff, lambda pooled: losses.mincut_loss(pooled.record)),
        Term("ortho_loss", pooler.ortho_loss_coeff, _orthogonality, "gram"),
    ]


def _dmon(pooler: Any) -> list[Term]:
    return [
        Term("spectral_loss", pooler.spectral_loss_coeff, lambda pooled: losses.spectral_loss(pooled.record)),
        Term("cluster_loss", pooler.cluster_loss_coeff, lambda pooled: losses.cluster_loss(pooled.record)),
        Term("ortho_loss", pooler.ortho_loss_coeff, _orthogonality, "gram"),
    ]


def _just_balance(pooler: Any) -> list[Term]:
    def balance(pooled: PooledBatch) -> Tensor:
        loss = losses.just_balance_loss(pooled.record, normalize=pooler.normalize_loss)
        if torch.isnan(loss):
            raise ValueError("Loss is NaN")
        return loss

    return [Term("balance_loss", pooler.loss_coeff, balance, "gram")]


def _hosc(pooler: Any) -> list[Term]:
    def cuts(pooled: PooledBatch) -> Tensor:
        record, total = pooled.record, pooled.record.adj.new_zeros(())
        if pooler.alpha < 1:
            total = (1 - pooler.alpha) * losses.mincut_loss(record)
        if pooler.alpha > 0:
            walks = walk_cut(record.s, pooled.adj, mask=pooled.mask)
            total = total + pooler.alpha * losses.ho_mincut_loss(*walks).to(total.dtype)
        return total / pooler.k

    def orthogonality(pooled: PooledBatch) -> Tensor:
        chosen = losses.hosc_orthogonality_loss if pooler.hosc_ortho else losses.orthogonality_loss
        return chosen(pooled.record)

    return [Term("hosc_loss", 1, cuts), Term("ortho_loss", pooler.mu, orthogonality, "gram")]


def _asym_cheeger_cut(pooler: Any) -> list[Term]:
    def variation(pooled: PooledBatch) -> Tensor:
        return losses.totvar_loss(*total_variation(pooled.record.s, pooled.adj, mask=pooled.mask))

    def balance(pooled: PooledBatch) -> Tensor:
        record, adj = pooled.record, pooled.adj
        graph = adj if isinstance(adj, RaggedGraph) else None
        norm = asymmetric_norm(record.s, graph, mask=pooled.mask)
        return losses.asym_norm_loss(norm, record.num_nodes, pooler.k)

    return [
        Term("total_variation_loss", pooler.totvar_coeff, variation),
        Term("balance_loss", pooler.balance_coeff, balance),
    ]


TERMS: dict[type, Callable[[Any], list[Term]]] = {
    poolers.DiffPool: _diff_pool,
    poolers.MinCutPooling: _mincut,
    poolers.DMoNPooling: _dmon,
    poolers.AsymCheegerCutPooling: _asym_cheeger_cut,
    poolers.JustBalancePooling: _just_balance,
    poolers.HOSCPooling: _hosc,
}

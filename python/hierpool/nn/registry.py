"""Poolers by their short names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierpool.nn.asym_cheeger_cut import AsymCheegerCutPool
from hierpool.nn.cut_pools import DMoNPool, HOSCPool, JustBalancePool, MinCutPool
from hierpool.nn.diff_pool import DiffPool
from hierpool.nn.soft_pooling import SoftPooling

POOLERS: dict[str, type[SoftPooling]] = {
    "acc": AsymCheegerCutPool,
    "diff": DiffPool,
    "dmon": DMoNPool,
    "hosc": HOSCPool,
    "jb": JustBalancePool,
    "mincut": MinCutPool,
}


def get_pooler(
    name: str,
    *,
    in_channels: int | Sequence[int],
    k: int | None = None,
    batched: bool = True,
    adj_transpose: bool = True,
    lift: str = "precomputed",
    s_inv_op: str = "transpose",
    cache_preprocessing: bool = False,
    **options: Any,
) -> SoftPooling:
    """A pooler by the short name that torch-geometric-pool has for it, with its keywords and its defaults.

    Args:
        name: ``"acc"``, ``"diff"``, ``"dmon"``, ``"hosc"``, ``"jb"`` or ``"mincut"``, in any case; behind it ``"_u"``
            for ``batched=False``.
        in_channels, k: see :class:`hierpool.nn.SoftPooling`.
        batched: which of tgp's ways to follow where they differ: in the normalisation of DiffPool's losses, and in
            ``adj_transpose``, which says nothing with ``batched=False``. Padded and sparse batches are pooled as they
            are either way.
        adj_transpose: see :class:`hierpool.nn.SoftPooling`.
        lift: ``"precomputed"``: as ``s_inv_op`` says; ``"transpose"`` or ``"inverse"``.
        s_inv_op: ``"transpose"`` or ``"inverse"``.
        cache_preprocessing: nothing is converted that could be kept; a :class:`hierpool.RaggedGraph` in place of
            ``edge_index`` saves building it.
        options: of the pooler. ``remove_self_loops`` and ``degree_norm`` are on, as in tgp.

    Raises:
        ValueError: no pooler has this name.
        TypeError: an option that the pooler does not have.
    """
    short = name.lower()
    if short.endswith("_u"):
        short, batched = short.removesuffix("_u"), False
    if short not in POOLERS:
        raise ValueError(f"name must be one of {', '.join(map(repr, POOLERS))}, or with '_u', got {name!r}")
    if lift == "precomputed":
        lift = s_inv_op
    defaults: dict[str, Any] = {"remove_self_loops": True, "degree_norm": True}
    if short == "diff":
        defaults |= {"convention": "tgp" if batched else "tgp_unbatched", "normalize_loss": False}
    return POOLERS[short](
        in_channels, k, adj_transpose=adj_transpose and batched, lift=lift, **{**defaults, **options}
    )

"""Poolers by name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from hierpool.nn.hard_pooling import HARD_POOLERS, HardPooling
from hierpool.nn.soft_pooling import POOLERS, SoftPooling


def get_pooler(
    name: str,
    *,
    in_channels: int | Sequence[int] | None = None,
    k: int | None = None,
    batched: bool = True,
    adj_transpose: bool = True,
    lift: str = "precomputed",
    s_inv_op: str = "transpose",
    cache_preprocessing: bool = False,
    **options: Any,
) -> SoftPooling | HardPooling:
    """Make a pooler by its short name in torch-geometric-pool ("tgp"), with tgp's keywords and defaults.

    Args:
        name: ``"acc"``, ``"diff"``, ``"dmon"``, ``"hosc"``, ``"jb"`` or ``"mincut"``, or of poolers that keep or merge
            nodes ``"asap"``, ``"cluster"``, ``"det"``, ``"ec"``, ``"graclus"``, ``"kmis"``, ``"maxcut"``, ``"ndp"``,
            ``"pan"``, ``"sag"`` or ``"topk"``, in upper or lower case; ``"cluster"`` and ``"det"`` are not in tgp. The
            suffix ``"_u"`` of the first means ``batched=False``.
        in_channels, k: see the class. Poolers without parameters ignore ``in_channels``.
        batched: the mode of tgp whose conventions are used. The modes differ in the normalisation of DiffPool's losses,
            and in ``adj_transpose``, which has no effect with ``batched=False``. Both take padded and sparse batches.
        adj_transpose: see :class:`hierpool.nn.SoftPooling`.
        lift: ``"transpose"``, ``"inverse"``, or ``"precomputed"``, which uses ``s_inv_op``.
        s_inv_op: ``"transpose"`` or ``"inverse"``.
        cache_preprocessing: ignored, as there is no preprocessing to cache. To avoid building the same graph
            repeatedly, pass a :class:`hierpool.RaggedGraph` instead of ``edge_index``.
        options: options of the pooler. ``remove_self_loops`` and ``degree_norm`` are ``True`` by default, as in tgp.

    Raises:
        ValueError: no pooler has this name.
        TypeError: the pooler does not have an option.
    """
    short = name.lower()
    if short.endswith("_u"):
        short, batched = short.removesuffix("_u"), False
    if short in HARD_POOLERS:
        hard = HARD_POOLERS[short]
        known = {"in_channels": in_channels, "k": k, "lift": s_inv_op if lift == "precomputed" else lift}
        wanted = inspect.signature(hard).parameters.get("in_channels")
        if wanted is not None and wanted.default is wanted.empty:
            _given(name, in_channels)
        dropped = {"k"} if k is None else set()
        dropped |= set() if wanted is not None else {"in_channels"}
        own = {key: value for key, value in known.items() if key not in dropped}
        return hard(**{"remove_self_loops": True, **own, **options})
    if short not in POOLERS:
        names = ", ".join(map(repr, sorted({*POOLERS, *HARD_POOLERS})))
        raise ValueError(f"name must be one of {names}, or with '_u', got {name!r}")
    channels = _given(name, in_channels)
    if lift == "precomputed":
        lift = s_inv_op
    pooler = POOLERS[short]
    options = {"remove_self_loops": True, "degree_norm": True, **pooler.tgp_defaults(batched), **options}
    return pooler(channels, k, adj_transpose=adj_transpose and batched, lift=lift, **options)


def _given(name: str, in_channels: int | Sequence[int] | None) -> int | Sequence[int]:
    if in_channels is None:
        raise TypeError(f"in_channels must be given with name={name!r}, got None")
    return in_channels

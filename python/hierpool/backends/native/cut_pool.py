"""MinCut and DMoN pooling by the C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.backends.native._tensors import DTYPES, all_contiguous, as_float, contiguous, in_dtype, rows
from hierpool.backends.native.linear_maps import is_small
from hierpool.contract import Dense, Padded, Ragged, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.cut_pool import Call, Leaves, Saved, Upstream

_SELU = (1.6732632423543772848, 1.0507009873554804934)  # alpha and scale


def takes_maps(x: Tensor, maps: Sequence[Tensor]) -> bool:
    """Whether the C++ kernels take the maps. Without rows they do not."""
    return x.numel() > 0 and is_small(x, maps)


def forward(call: Call) -> tuple[Tensor | None, ...]:
    """See :class:`hierpool.ops.cut_pool.Out`."""
    logits, x, adj, batch, temperature, num_clusters, maps, options = call
    kind, selu, sizes, symmetric, save, _ = options
    counts = contiguous(num_clusters)
    fused_selu = selu and x.dtype in DTYPES
    kernels = torch.ops.hierpool_native
    last = (save, kind, fused_selu, all_contiguous(maps))
    features = x.contiguous() if maps else rows(x)
    logit_rows = None if logits is None else rows(logits)
    if isinstance(adj, Dense):
        assert isinstance(batch, Padded)
        known = -1 if symmetric is None else int(symmetric)
        fields = kernels.cut_pool_dense_forward.default(
            logit_rows,
            features,
            rows(adj.value),
            contiguous(batch.mask),
            counts,
            as_float(temperature),
            known,
            *last,
        )
    else:
        assert isinstance(batch, Ragged)
        value = in_dtype(adj.value, accumulation_dtype(logits, x, adj.value))
        fields = kernels.cut_pool_csr_forward.default(
            logit_rows,
            features,
            value,
            adj.rowptr,
            adj.col,
            batch.ptr,
            counts,
            as_float(temperature),
            symmetric,
            *last,
        )
    s, pooled_x, pooled, *losses, sums = fields
    if selu and not fused_selu:
        pooled_x = F.selu(pooled_x)
    acc, dtype = pooled.dtype, s.dtype
    out_adj = pooled if dtype is acc else pooled.to(dtype)
    loss_dtype = dtype if x.dtype is dtype else torch.promote_types(x.dtype, dtype)
    if loss_dtype is not acc:
        losses = [loss.to(loss_dtype) for loss in losses]
    size = None
    if sizes:  # the sums begin with the vectors of the record
        b, k = pooled.shape[:2]
        size = sums[: 2 * b * k].view(b, 2, k).select(1, 0).clone()
    return pooled_x, out_adj, *losses, s, size, pooled_x.clone() if selu and save else None, sums


def backward(
    call: Call, saved: Saved, upstream: Upstream, needs: Leaves
) -> tuple[Tensor, Tensor, Tensor, Sequence[Tensor]]:
    """Gradients of logits, features, entries and maps."""
    _, x, adj, batch, temperature, num_clusters, maps, (kind, *_) = call
    s, activated, sums = saved
    dx, dadj, *dlosses, ds, dsize = upstream
    if dx is not None and activated is not None and activated.dtype not in DTYPES:
        dx = torch.ops.aten.elu_backward.default(dx.contiguous(), *_SELU, 1, True, activated)
        activated = None
    acc = sums.dtype
    if s.dtype is not acc or x.dtype is not acc:  # the dtypes of results and sums differ
        dadj, dsize, *dlosses = (in_dtype(d, acc) for d in (dadj, dsize, *dlosses))
    grads = (contiguous(ds), contiguous(dx), contiguous(dadj), *dlosses, contiguous(dsize))
    kept = (*grads, s, activated, sums, x.contiguous() if maps else rows(x))
    last = (as_float(temperature), kind, all_contiguous(maps), *needs[:3], any(needs.maps))
    kernels, counts = torch.ops.hierpool_native, contiguous(num_clusters)
    if isinstance(adj, Dense):
        assert isinstance(batch, Padded)
        out: tuple[Tensor, Tensor, Tensor, list[Tensor]] = kernels.cut_pool_dense_backward.default(
            *kept, rows(adj.value), contiguous(batch.mask), counts, *last
        )
        return out
    assert isinstance(batch, Ragged)
    structure = (in_dtype(adj.value, acc), adj.rowptr, adj.col, batch.ptr, counts)
    transpose = (adj.rowptr_t, adj.col_t, in_dtype(adj.value_t, acc))
    dlogits, dfeatures, dvalue, dmaps = kernels.cut_pool_csr_backward.default(
        *kept, *structure, *transpose, *last
    )
    return dlogits, dfeatures, dvalue if adj.value is None else dvalue.to(adj.value.dtype), dmaps

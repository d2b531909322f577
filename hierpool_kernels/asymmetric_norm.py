"""The balance term of the asymmetric Cheeger cut from launches: the norm of each graph, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool_kernels import plan
from hierpool_kernels.asymmetric_norm_kernels import (
    DIGIT,
    DIGITS,
    _asymmetric_norm_bwd_kernel,
    _asymmetric_norm_count_kernel,
    _asymmetric_norm_digit_kernel,
    _asymmetric_norm_finish_kernel,
    _asymmetric_norm_graphs_kernel,
    _asymmetric_norm_sums_kernel,
)
from hierpool_kernels.batch import Batch, accumulation_dtype, language_type, readable
from hierpool_kernels.launch import launch
from hierpool_kernels.plan import cdiv
from hierpool_kernels.target import Target


def launch_asymmetric_norm_fwd(
    s: Tensor, batch: Batch, target: Target
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norm ``[B]``; q, the row that has it and the derivative with respect to it, ``[B, K]``.

    One launch where a program has all rows of a graph, else two for every four bits of an entry and two more; and
    torch's sum over columns.
    """
    s = readable(s)
    b, k, acc = batch.b, s.size(-1), accumulation_dtype(s)
    norms, slope = s.new_empty(b, k, dtype=acc), s.new_empty(b, k, dtype=acc)
    quantile, row = s.new_empty(b, k), s.new_empty(b, k, dtype=torch.int64)
    outputs = (norms, quantile, row, slope)
    cut = plan.asymmetric_norm(b, batch.n, k, batch.ptr is not None, target)
    if cut.step:
        _by_digits(s, batch, cut, outputs)
    else:
        launch(
            _asymmetric_norm_graphs_kernel, (b, cdiv(k, cut.bk)),
            s, batch.graph_stride(s), s.stride(-2), *outputs, batch.ptr, batch.sizes, batch.mask, batch.n, k,
            BN=cut.bn, BK=cut.bk, ONE_TILE=cut.one_tile, ACC=language_type(acc), num_warps=cut.warps,
        )  # fmt: skip
    return norms.sum(1), quantile, row, slope


def _by_digits(s: Tensor, batch: Batch, cut: plan.Quantiles, outputs: tuple[Tensor, ...]) -> None:
    b, k, slots, step = batch.b, s.size(-1), batch.slots(cut.step), cut.step
    bits, where = 8 * s.element_size(), (batch.ptr, batch.sizes, batch.n)
    prefix = s.new_empty(b, k, dtype=torch.int64 if bits == 64 else torch.int32)
    rank, count = s.new_empty(b, k, dtype=torch.int32), s.new_empty(slots, DIGITS.value, k, dtype=torch.int32)
    of_slots = (s, batch.graph_stride(s), s.stride(-2))
    tiles = {"STEP": step, "BN": cut.bn, "BK": cut.bk, "num_warps": cut.warps}
    for shift in range(bits - DIGIT.value, -1, -DIGIT.value):
        lowest = -(1 << (bits - 1)) if shift == bits - DIGIT.value else None
        launch(
            _asymmetric_norm_count_kernel, (slots, cdiv(k, cut.bk)),
            *of_slots, None if lowest else prefix, count, shift, *batch.rows, k, **tiles,
        )  # fmt: skip
        launch(
            _asymmetric_norm_digit_kernel, (b, cdiv(k, cut.bc)),
            count, prefix, rank, shift, *where, k, STEP=step, BS=cut.bs, BK=cut.bc, LOWEST=lowest, num_warps=4,
        )  # fmt: skip
    parts, rows = s.new_empty(slots, 2, k, dtype=torch.float64), s.new_empty(slots, k, dtype=torch.int32)
    launch(
        _asymmetric_norm_sums_kernel, (slots, cdiv(k, cut.bk)),
        *of_slots, prefix, parts, rows, *batch.rows, k, **tiles, ACC=language_type(outputs[0].dtype),
    )  # fmt: skip
    launch(
        _asymmetric_norm_finish_kernel, (b, cdiv(k, cut.bc)),
        parts, rows, prefix, *outputs, *where, k, STEP=step, BS=cut.bs, BK=cut.bc, num_warps=4,
    )  # fmt: skip


def launch_asymmetric_norm_bwd(
    dnorm: Tensor, s: Tensor, quantile: Tensor, row: Tensor, slope: Tensor, batch: Batch, target: Target
) -> Tensor:
    """The gradient to S, from one launch."""
    s = readable(s)
    k, (bn, bk) = s.size(-1), plan.asymmetric_norm_backward(s.size(-1), target)
    out = batch.nodes(s, k)
    saved = (quantile.contiguous(), row.contiguous(), slope.contiguous())
    launch(
        _asymmetric_norm_bwd_kernel, (batch.slots(bn), cdiv(k, bk)),
        dnorm.contiguous(), s, batch.graph_stride(s), s.stride(-2), *saved, out, batch.graph_stride(out),
        *batch.rows, k, BN=bn, BK=bk, ACC=language_type(slope.dtype), num_warps=4,
    )  # fmt: skip
    return out

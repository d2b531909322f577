"""The values of entries that several entries of another matrix are merged into, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Reduce, accumulation_dtype, ranges_of


def coalesce(
    value: Tensor,
    slot: Tensor,
    rowptr: Tensor,
    col: Tensor,
    reduce: Reduce,
    loops: bool = False,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """The values of the merged entries, differentiable any number of times by autograd.

    Args:
        value: of the entries, ``[E]``, or several of each, ``[E, R]``.
        slot: the merged entry of each entry, ``[E]``; -1: none.
        rowptr: first of the merged entries of each row, ``[K + 1]``.
        col: column of each merged entry, ``[E']``.
        reduce: what is taken of several values; of equal extremes the first counts.
        loops: whether K more elements, of the self-loops of the rows, follow the merged entries.
        symmetric: whether the matrix of ``value`` equals its transpose: the merged matrix does so bit for bit.

    Returns:
        ``[E']`` or ``[E' + K]``, or with R columns, and int64 of the same shape: the number of the entries of each, or,
        for extremes, the entry that counts; ``E`` where there is none, whose value is 0.
    """
    entries = col.numel() + (rowptr.numel() - 1 if loops else 0)
    index = torch.where(slot < 0, entries, slot).to(torch.int64)  # others are collected behind the last
    terms = value.to(accumulation_dtype(value))
    if reduce in (Reduce.MAX, Reduce.MIN):
        out, source = _extremes(terms, index, entries + 1, reduce)
        return out[:entries].to(value.dtype), source[:entries]
    count = index.new_zeros(entries + 1).index_add(0, index, torch.ones_like(index))
    if terms.dim() > 1:
        count = count[:, None].repeat(1, terms.size(1))
    if reduce == Reduce.MUL:
        out = torch.where(count > 0, _products(terms, index, count), 0)
    else:
        out = terms.new_zeros(count.shape).index_add(0, index, terms)
        out = out / count.clamp(min=1) if reduce == Reduce.MEAN else out
    out, count = out[:entries], count[:entries]
    return (mirrored(out, rowptr, col) if symmetric else out).to(value.dtype), count


def _of_each(index: Tensor, terms: Tensor) -> Tensor:
    """The index of every element of the terms."""
    return index if terms.dim() == 1 else index[:, None].expand(terms.shape)


def _products(terms: Tensor, index: Tensor, count: Tensor) -> Tensor:
    """The products of the terms with each index; those of the last, and of none, are undefined."""
    if torch.compiler.is_exporting():  # the number of steps would depend on values
        return terms.new_ones(count.shape).scatter_reduce(0, _of_each(index, terms), terms, "prod")
    # The derivatives of scatter_reduce are 0 in forward mode, and there is no second one beside two zeros.
    sizes = torch.bincount(index, minlength=count.size(0))
    end = sizes.cumsum(0)
    order, place = index.argsort(stable=True), torch.arange(index.numel(), device=index.device)
    end_of_each, last = end[index[order]], index.numel() - 1
    out, step = terms.index_select(0, order), 1
    most = int(sizes[:-1].max()) if sizes.numel() > 1 else 0
    while step < most:  # each product is that of the next `step` terms with the same index
        joins = _of_each(place + step < end_of_each, terms)
        other = out.index_select(0, (place + step).clamp(max=last))
        out, step = out * torch.where(joins, other, 1), 2 * step
    return torch.cat([out, out.new_ones(1, *out.shape[1:])]).index_select(0, end - sizes)


def _extremes(terms: Tensor, index: Tensor, entries: int, reduce: Reduce) -> tuple[Tensor, Tensor]:
    """The largest or smallest of the terms with each index, and its number; one more than the last if there is none."""
    known, columns = terms.detach(), terms.shape[1:]
    which, of_each = "amax" if reduce == Reduce.MAX else "amin", _of_each(index, terms)
    best = known.new_zeros(entries, *columns).scatter_reduce(0, of_each, known, which, include_self=False)
    number = torch.arange(index.numel(), device=index.device)
    number = _of_each(number, terms).masked_fill((known != best[index]) & ~known.isnan(), index.numel())
    empty = number.new_full((entries, *columns), index.numel())
    first = empty.scatter_reduce(0, of_each, number, "amin")
    return torch.cat([terms, terms.new_zeros(1, *columns)]).gather(0, first), first


def mirrored(value: Tensor, rowptr: Tensor, col: Tensor) -> Tensor:
    """``value`` of a symmetric matrix, of which those left of the diagonal are exactly those right of it.

    Sums in another order may be rounded to another number. The gradient is that of ``value``. Elements behind those of
    the matrix stay.
    """
    row, k = ranges_of(rowptr, col.numel()).to(torch.int64), rowptr.numel() - 1
    source = torch.argsort(col.to(torch.int64) * k + row)
    own = torch.arange(value.size(0), device=col.device)
    source = torch.cat([torch.minimum(source, own[: col.numel()]), own[col.numel() :]])
    return value.detach()[source] + (value - value.detach()).nan_to_num(0, 0, 0)

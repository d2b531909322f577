"""The last step of MinCut and DMoN pooling by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.fallback.cut_terms import Kind, Sums

Saved = tuple[Tensor, ...]


def _contiguous(sums: Sums, kind: Kind) -> Sums:
    adj, gram, vectors, scalars = sums
    vectors = None if kind is Kind.MINCUT or vectors is None else vectors.contiguous()
    return Sums(adj.contiguous(), gram.contiguous(), vectors, scalars.contiguous())


def forward(sums: Sums, kind: Kind) -> tuple[Tensor, tuple[Tensor, ...], Saved]:
    """See :func:`hierpool.ops.fallback.cut_terms.forward`."""
    out, *losses, saved = torch.ops.hierpool_native.cut_terms.default(*_contiguous(sums, kind), kind.value)
    return out, tuple(losses), (saved,)


def backward(
    dout: Tensor | None, dlosses: tuple[Tensor | None, ...], sums: Sums, out: Tensor, saved: Saved, kind: Kind
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """See :func:`hierpool.ops.fallback.cut_terms.backward`."""
    dout = None if dout is None else dout.to(out.dtype).contiguous()
    dlosses = tuple(None if d is None else d.to(out.dtype) for d in dlosses)
    dadj, dgram, dvectors, dscalars = torch.ops.hierpool_native.cut_terms_backward.default(
        dout, *dlosses, *_contiguous(sums, kind), out, *saved, kind.value
    )
    return dadj, dgram, None if kind is Kind.MINCUT else dvectors, dscalars

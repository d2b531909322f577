"""The last step of MinCut and DMoN pooling by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.contract import accumulation_dtype
from hierpool_kernels.core.target import target_of
from hierpool_kernels.cut_terms import Sums, Upstream, launch_cut_terms_bwd, launch_cut_terms_fwd

if TYPE_CHECKING:
    from hierpool.ops.cut_terms import Call, Leaves, Saved
    from hierpool.ops.cut_terms import Upstream as TermsUpstream

_MINCUT, _, _DMON_CROSSED = range(3)  # numbers of hierpool.ops.cut_terms.Kind


def _sums(call: Call) -> Sums:
    adj, gram, vectors, scalars, num_clusters, _ = call
    acc = accumulation_dtype(adj, gram, vectors, scalars)
    adj, gram, vectors, scalars = (t.to(acc).contiguous() for t in (adj, gram, vectors, scalars))
    return Sums(adj, gram, vectors, scalars, None if num_clusters is None else num_clusters.contiguous())


def forward(call: Call) -> tuple[Tensor | tuple[Tensor, ...], ...]:
    """See :class:`hierpool.ops.cut_terms.Out`."""
    sums, kind, dtype = _sums(call), call.options.kind, call.adj.dtype
    *results, parts = launch_cut_terms_fwd(
        sums, kind == _MINCUT, kind == _DMON_CROSSED, target_of(call.adj.device)
    )
    return (*(t.to(dtype) for t in results), parts)


def backward(call: Call, saved: Saved, upstream: TermsUpstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of the sums."""
    sums, mincut = _sums(call), call.options.kind == _MINCUT
    acc = sums.adj.dtype
    grads = Upstream(*(None if t is None else t.to(acc).contiguous() for t in upstream))
    scale, terms = saved.parts
    found = launch_cut_terms_bwd(
        grads, sums, saved.pooled.to(acc), (scale, terms), mincut, target_of(call.adj.device)
    )
    return tuple(None if t is None else t.to(given.dtype) for t, given in zip(found, call[:4], strict=True))

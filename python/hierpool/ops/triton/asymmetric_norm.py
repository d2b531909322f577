"""``hierpool::asymmetric_norm`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.asymmetric_norm import launch_asymmetric_norm_bwd, launch_asymmetric_norm_fwd
from hierpool_kernels.batch import Batch
from hierpool_kernels.target import target_of


def _batch(s: Tensor, ptr: Tensor | None, mask: Tensor | None, num_nodes: Tensor | None) -> Batch:
    if ptr is not None:
        return Batch.ragged(ptr, s.size(0))
    return Batch.padded(s.size(0), s.size(1), mask, num_nodes)


def forward(
    s: Tensor, ptr: Tensor | None, mask: Tensor | None, num_nodes: Tensor | None
) -> tuple[Tensor, ...]:
    """The outputs of the operator."""
    return launch_asymmetric_norm_fwd(s, _batch(s, ptr, mask, num_nodes), target_of(s.device))


def backward(
    dnorm: Tensor,
    s: Tensor,
    quantile: Tensor,
    row: Tensor,
    slope: Tensor,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
) -> Tensor:
    """The gradient to ``s``."""
    batch = _batch(s, ptr, mask, num_nodes)
    return launch_asymmetric_norm_bwd(dnorm, s, quantile, row, slope, batch, target_of(s.device))

"""``hierpool::link_bce`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import accumulated, contiguous, rows

_NORMALIZE = (None, "numel", "valid")


def _arguments(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    eps: float,
    normalize: str | None,
    symmetric: bool,
) -> tuple[object, ...]:
    if rowptr is None:
        assert adj is not None
        adj = rows(adj)
    else:
        adj = accumulated(adj, s)
    structure = map(contiguous, (rowptr, col, ptr, mask, num_nodes))
    return rows(s), adj, *structure, eps, _NORMALIZE.index(normalize), symmetric


def forward(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    eps: float,
    normalize: str | None,
    symmetric: bool,
) -> Tensor:
    """The loss."""
    arguments = _arguments(s, adj, rowptr, col, ptr, mask, num_nodes, eps, normalize, symmetric)
    return torch.ops.hierpool_native.link_bce_forward.default(*arguments)


def backward(
    dloss: Tensor,
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    eps: float,
    normalize: str | None,
    symmetric: bool,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to ``s`` and ``adj``; of size 0 where they are not needed."""
    arguments = _arguments(s, adj, rowptr, col, ptr, mask, num_nodes, eps, normalize, symmetric)
    ds, dadj = torch.ops.hierpool_native.link_bce_backward.default(dloss.contiguous(), *arguments, *needs)
    return ds, dadj if adj is None else dadj.to(adj.dtype)

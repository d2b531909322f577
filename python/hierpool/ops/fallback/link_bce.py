"""``hierpool::link_bce`` by the reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hierpool import reference
from hierpool.ops.fallback import without_autocast


@without_autocast
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
    options: dict[str, Any] = {"eps": eps, "normalize": normalize}
    if rowptr is None:
        assert adj is not None
        return reference.link_bce(s, adj, mask, num_nodes, **options)
    assert col is not None
    assert ptr is not None
    return reference.link_bce_csr(s, rowptr, col, adj, ptr, **options)


@without_autocast
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
    options: dict[str, Any] = {"eps": eps, "normalize": normalize}
    if rowptr is None:
        assert adj is not None
        ds, dadj = reference.link_bce_backward(dloss, s, adj, mask, num_nodes, **options)
    else:
        assert col is not None
        assert ptr is not None
        ds, dadj = reference.link_bce_csr_backward(dloss, s, rowptr, col, adj, ptr, **options)
    return ds if needs[0] else ds.new_empty(0), dadj if needs[1] else dadj.new_empty(0)

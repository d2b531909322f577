"""``hierpool::total_variation`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference


def forward(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The outputs of the operator."""
    if rowptr is None:
        assert adj is not None
        return reference.total_variation(s, adj, mask, num_nodes)
    assert col is not None
    assert ptr is not None
    return reference.total_variation_csr(s, rowptr, col, adj, ptr)


def backward(
    dvariation: Tensor,
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to ``s`` and ``adj``; of size 0 where they are not needed."""
    if rowptr is None:
        assert adj is not None
        ds, dadj = reference.total_variation_backward(dvariation, s, adj, mask, num_nodes)
    else:
        assert col is not None
        assert ptr is not None
        ds, dadj = reference.total_variation_csr_backward(dvariation, s, rowptr, col, adj, ptr)
    return ds if needs[0] else ds.new_empty(0), dadj if needs[1] else dadj.new_empty(0)

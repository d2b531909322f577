"""The backward of soft pooling: K x K blocks from the gradients of the record, then one product for each row."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import contiguous_rows
from hierpool_kernels.soft_pool import Saved, Upstream
from hierpool_kernels.soft_pool_blocks import launch_blocks
from hierpool_kernels.soft_pool_edges_bwd import launch_edges_gradient
from hierpool_kernels.soft_pool_logits_bwd import launch_logits_gradient
from hierpool_kernels.soft_pool_row_products import launch_row_products
from hierpool_kernels.soft_pool_small import launch_small_bwd, small_tiles


def launch_soft_pool_bwd(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None,
    given: bool, symmetric: bool, mean: bool, needs: tuple[bool, bool, bool], target: Target,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to logits, features and entries; of size 0 where they are not needed.

    One launch for small graphs. For others three: blocks, rows of the gradient to the logits, S dx; one more if K is
    more than a tile, one more if A is not symmetric (two if A^T S takes S from S^T), and one more if the row sums of A
    have a gradient. The gradient to A takes two more, and that of small graphs the blocks.
    """
    grads = Upstream(*(None if t is None else t.contiguous() for t in grads))
    x = contiguous_rows(x)
    s, m = saved.s, saved.m
    acc, r = m.dtype, edges.types
    tiles = small_tiles(edges, rows, s, x, target)
    blocks = None
    if needs[2] or tiles is None:
        blocks = launch_blocks(grads, saved, rows, r, symmetric, mean, needs[2], target)
    dedges = (s if edges.values is None else edges.values).new_empty(0)
    if needs[2]:
        assert blocks is not None
        dedges = launch_edges_gradient(grads, s, edges, rows, blocks, acc, target)
    if tiles is not None:
        return *launch_small_bwd(
            grads, saved, x, edges, rows, temperature, given, symmetric, mean, needs[:2], tiles, target
        ), dedges
    assert blocks is not None
    dlogits = s.new_empty(0)
    if needs[0]:
        dlogits = launch_logits_gradient(
            grads, saved, x, edges, rows, blocks, temperature, given, symmetric, target
        )
    dx = x.new_empty(x.shape if needs[1] else 0)
    if grads.x is None:
        dx.zero_()
    elif needs[1]:
        launch_row_products(s, grads.x, dx, rows, False, acc, target)
    return dlogits, dx, dedges

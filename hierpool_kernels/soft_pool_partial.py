"""How the forward of soft pooling divides rows among programs, and its partial sums."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool_kernels.core import plan, plan_walk, tuned
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.row_sums import SUMS
from hierpool_kernels.core.rows import chunk_count
from hierpool_kernels.core.target import Target


class Division(NamedTuple):
    """How A, and rows for the products with S, are divided, and what the partial sums need."""

    walk: plan_walk.WalkTiles
    sparse: plan_walk.SparseTiles | None
    precision: str
    k_tiles: int
    chunk: int  # of the products
    adj_chunk: int  # of S^T M
    cut: plan.ReduceTiles
    tiles: tuple[int, ...]  # of S^T M, S^T S, S^T X and the vectors, in the sums over chunks
    sizes: tuple[int, ...]  # of the first fields of `Partial`
    doubles: tuple[int, ...]  # of the others


@tuned.kept
def divided(
    k: int, f: int, r: int, b: int, n: int, ragged: bool, entries: int, factor: torch.dtype, s: torch.dtype,
    gram: bool, symmetric: bool, target: Target,
) -> Division:  # fmt: skip
    """``entries`` are those of a sparse A, of a ragged batch; ``factor``: the dtype in which A is multiplied by S."""
    sparse, precision = None, "ieee"
    if ragged:
        walk, sparse = plan_walk.sparse_rows(b, n, entries, k, target)
    else:
        precision = plan.product_precision(factor, s, target)
        walk = plan_walk.dense_rows(b, n, r, k, precision, target, factor)
    chunk = plan.products_chunk(b, n, k, min(f, k) or k, ragged, target)
    k_tiles, gram_size = cdiv(k, walk.tiles.bk), k if gram else 0
    adj_chunk = walk.chunk if walk.on_chip else chunk
    chunks, adj_chunks, walks = (chunk_count(b, n, ragged, size) for size in (chunk, adj_chunk, walk.chunk))
    cut = plan.reduce(k * max(r * k, f), target)
    pooled = r * k * k, gram_size * gram_size, k * f, (1 + r) * k
    square = cdiv(k, cut.bq) ** 2
    adj_tiles, _, x_tiles, vector_tiles = (cdiv(size, cut.bq**2) for size in pooled)
    tiles = r * square if symmetric else adj_tiles, gram * square, x_tiles, vector_tiles
    sizes = adj_chunks * pooled[0], chunks * pooled[1], chunks * pooled[2], walks * pooled[3]
    doubles = walks * r * k_tiles * SUMS.value, b * r * SUMS.value, b * tiles[1]
    return Division(walk, sparse, precision, k_tiles, chunk, adj_chunk, cut, tiles, sizes, doubles)


class Partial(NamedTuple):
    """Flat partial sums of chunks, then sums of graphs in float64."""

    adj: Tensor  # [chunks, R, K, K]
    gram: Tensor  # [chunks, K, K]
    x: Tensor  # [chunks, K, F]
    vectors: Tensor  # [chunks of the walk, 1 + R, K]
    sums: Tensor  # [chunks of the walk, R, tiles of K, SUMS]
    graph_sums: Tensor  # [B, R, SUMS]
    squares: Tensor  # [B, tiles of the gram]

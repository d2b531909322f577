"""As :mod:`.plan`, for the walk over A."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hierpool_kernels.core import tuned
from hierpool_kernels.core.plan import (
    HALVES,
    SMALLEST,
    TOLD,
    Tiles,
    chunk_size,
    columns_side,
    interpreted,
    is_fast,
    measured,
    power,
    side,
    warps_of,
)
from hierpool_kernels.core.target import Target


class WalkTiles(NamedTuple):
    """The walk over A: rows of a chunk, tiles, and whether S^T M is computed on the chip."""

    chunk: int
    tiles: Tiles
    on_chip: bool

    def options(self, precision: str, dense: bool, target: Target) -> dict[str, int]:
        """Launch options. Some FMA kernels spill a few registers, for more programs at a time, unless told how many
        they have: where the rows of S are not aligned, where S^T M is left to another kernel, and on Ampere with tiles
        of 32 columns."""
        version = target.architecture.version
        told = self.tiles.bj == SMALLEST or not self.on_chip or (version == 80 and self.tiles.bk == 32)
        more = {}
        if precision == "ieee" and dense and told and version in (80, 90):
            # Three programs of 4 warps, as Triton 3.6 spills with registers for four.
            more = {"maxnreg": 168} if self.tiles.bj == self.tiles.bk == SMALLEST else TOLD
        return self.tiles.options(precision, target) | more


def dense_rows(
    b: int, n: int, r: int, k: int, precision: str, target: Target, a: torch.dtype = torch.float32
) -> WalkTiles:
    """The walk over a dense A, which is multiplied in the dtype ``a``.

    A chunk is a tile of rows, whose partial sums ``[R, K, K]`` are small beside its rows of A: a loop over tiles would
    need registers, and each number of them another variant.
    """
    if interpreted(target):
        return WalkTiles(64, Tiles(32, 256, side(k, 32), 4, 1), k <= 32)
    tiles = measured("dense_rows", target, precision, k) or _walk_tiles(n, k, precision, target, a)
    return WalkTiles(tiles.bn, tiles, k <= min(tiles.bk, 64))


@tuned.kept
def dense_product(k: int, precision: str, target: Target, a: torch.dtype = torch.float32) -> Tiles:
    """Tiles of A S alone; A is multiplied in the dtype ``a``."""
    if interpreted(target):
        return Tiles(32, 256, side(k, 32), 4, 1)
    return measured("dense_product", target, precision, k) or _product_tiles(k, precision, target, a)


def _product_tiles(k: int, precision: str, target: Target, a: torch.dtype) -> Tiles:
    if is_fast(precision):
        bk, bn = columns_side(k, 128), 64 if target.architecture.version >= 90 and k % SMALLEST == 0 else 32
        if precision == "half" and k == SMALLEST:  # a vector for each thread
            bn = 64
        warps = min(warps_of(64, bk), 8)
        if precision == "half" and bk == 32 and target.architecture.version >= 100:
            warps = 8  # several edge types spill
        # So many columns of A that each thread has a vector of 16-bit elements in the tiles of A and S.
        few = bn == 32 or bk == SMALLEST or (bk == 32 and warps == 8)
        bj = 64 if few and (precision == "half" or a in HALVES) else 32
        return Tiles(bn, bj, bk, warps, 3)
    bk = columns_side(k, 64)
    bj, warps = 32 if k % SMALLEST == 0 else 16, 8 if bk == 64 else 4
    return Tiles(32, max(bj, 8 * warps) if a in HALVES else bj, bk, warps, 2)


def _walk_tiles(n: int, k: int, precision: str, target: Target, a: torch.dtype) -> Tiles:
    """As `_product_tiles`, but for what spills on Blackwell: FMA of wide tiles, and TF32 where a matrix A has so many
    elements that its stride needs 64 bits."""
    tiles = _product_tiles(k, precision, target, a)
    if target.architecture.version < 100:
        return tiles
    if precision == "ieee" and tiles.bk == 64:
        return tiles._replace(warps=4)
    if precision == "tf32" and tiles.bn == 64 and n * n >= 1 << 31:
        return tiles._replace(bn=128)
    return tiles


class SparseTiles(NamedTuple):
    """The walk over a sparse A: rows and columns of a tile, entries taken of a row, neighbors in flight, warps."""

    bn: int
    bk: int
    longest: int
    ahead: int
    warps: int


@tuned.kept
def sparse(entries: int, k: int, target: Target) -> SparseTiles:
    """Rows longer than ``longest`` are split into parts of that many entries."""
    if interpreted(target):
        return SparseTiles(32, side(k, 32), max(64, power(entries // 64)), 64, 4)
    parts = 64 * target.architecture.processors
    longest = min(max(power(entries // parts), 256), 512)  # a tile waits for its longest row
    bk = side(k, 64 if k % SMALLEST == 0 or k <= 64 else 32)
    if k % SMALLEST == 0:
        return SparseTiles(32, bk, longest, 2, 4)
    # Elements of rows that are not aligned are loaded one by one, which needs registers.
    return SparseTiles(max(512 // bk, 16), bk, longest, 64 // bk, 8 if bk == 64 else 4)


def sparse_rows(b: int, n: int, entries: int, k: int, target: Target) -> tuple[WalkTiles, SparseTiles]:
    """The walk over a sparse A in soft pooling."""
    walk = sparse(entries, k, target)
    on_chip = k <= walk.bk
    # S^T M takes registers, too, with Triton 3.6 more than there are.
    warps = 8 if walk.bk == 64 and target.architecture.version == 90 else walk.warps
    tiles = Tiles(walk.bn, 1, walk.bk, warps, 2)
    if interpreted(target):
        return WalkTiles(64, tiles, on_chip), walk
    return WalkTiles(chunk_size(n, 8 * target.architecture.processors, 64, 4096), tiles, on_chip), walk

"""As :mod:`.plan`, for the cross-entropy link loss, the total variation and the balance term."""

from __future__ import annotations

from typing import NamedTuple

from hierpool_kernels.core.plan import (
    SMALLEST,
    TOLD,
    Tiles,
    cdiv,
    chunk_size,
    interpreted,
    power,
    registers,
    rows_at_once,
    side,
)
from hierpool_kernels.core.plan_walk import SparseTiles, sparse
from hierpool_kernels.core.target import Target


class LinkTiles(NamedTuple):
    """The cross-entropy: tiles of the loss, of the gradient to S, and of the gradient to a dense A.

    ``bk`` counts inner columns of p in ``sums`` and ``edges``, and columns of the gradient in ``rows``. With
    ``one_tile`` the inner columns are all of K. ``splits`` programs share the columns of a row of tiles of the loss.
    """

    sums: Tiles
    rows: Tiles
    edges: Tiles
    one_tile: bool
    splits: int

    def rows_options(self, precision: str, dense: bool, target: Target) -> dict[str, int]:
        """Launch options of the gradient to S; see :meth:`WalkTiles.options`."""
        told = precision == "ieee" and dense and self.rows.bk == 64 and target.architecture.version == 80
        return self.rows.options(precision, target) | (TOLD if told else {})


def link_bce(rows: int, n: int, k: int, precision: str, dense: bool, target: Target) -> LinkTiles:
    """Tiles for ``rows`` rows in all, at most ``n`` of them in a graph; ``precision`` is that of p = S S^T.

    A tile of S is kept for the second product (``one_tile``) only where that neither spills nor prevents pipelining.
    """
    if interpreted(target):
        tiles = Tiles(64, 128, side(k, 32), 4, 1)
        return LinkTiles(tiles, tiles, tiles, k <= 32, 2)
    one_tile = dense and 16 < k <= 32 and precision != "tf32x3"
    # A vector of 16-bit elements for each thread.
    half = precision == "half" and target.architecture.family == "cuda"
    warps = 4 if half and k <= 32 else 8
    inner = side(k, 64 if half else 32)
    sums = Tiles(32, 64, inner, warps, 2)
    programs = cdiv(4 * target.architecture.processors, max(cdiv(rows, sums.bn), 1))
    return LinkTiles(
        sums,
        Tiles(32, 64 if half else 32, side(k, 64), warps, 2),
        Tiles(64, 32, inner, warps, 2),
        one_tile,
        max(min(programs, cdiv(n, sums.bj)), 1),
    )


def entry_chunks(entries: int, k: int, target: Target) -> tuple[int, int, int]:
    """Entries of a chunk of a sum over entries; entries and columns at a time."""
    if interpreted(target):
        return 64, 64, side(k, 32)
    bk = side(k, 64)
    return chunk_size(entries, 16 * target.architecture.processors, 128, 4096), rows_at_once(bk), bk


def signed_sums(entries: int, k: int, target: Target) -> SparseTiles:
    """The walk over a sparse A that also keeps the row's own features, which need registers."""
    walk = sparse(entries, k, target)
    if interpreted(target):
        return walk
    return walk._replace(ahead=max(walk.ahead // 2, 1), warps=2 if walk.bk == SMALLEST else walk.warps)


class PairTiles(NamedTuple):
    """Tiles of a kernel that compares all pairs of rows: rows, other rows, columns at a time; warps."""

    bn: int
    bj: int
    bk: int
    warps: int

    def options(self, target: Target) -> dict[str, int]:
        """Launch options."""
        return {"num_warps": self.warps, **registers(self.warps, target)}


class VariationTiles(NamedTuple):
    """The total variation over a dense A: tiles of distances, and of signs."""

    sums: PairTiles
    signs: PairTiles


def variation(k: int, size: int, target: Target) -> VariationTiles:
    """Tiles for S and A, the smaller of whose floats has ``size`` bytes.

    A thread holds all differences of a loop iteration in registers: so few that tiles are small. Warps are so few that
    each thread has a vector of 16 x 16 elements, but for sums over columns that are not aligned: S is not read in
    vectors there.
    """
    if interpreted(target):
        tiles = PairTiles(32, 64, side(k, 32), 4)
        return VariationTiles(tiles, tiles)
    warps = size // 2
    sums = PairTiles(32, 32, min(power(k), 8), 4) if k % SMALLEST else PairTiles(16, 16, 16, warps)
    return VariationTiles(sums, PairTiles(16, 16, side(k, 16 if size == 2 else 32), warps))


class QuantileTiles(NamedTuple):
    """Quantiles of columns: rows and columns of a tile of S, and rows of a chunk.

    ``chunk`` is 0 where one program has all rows of a graph; with ``one_tile`` they fit into a tile. Otherwise sums
    over chunks take ``bs`` chunks and ``bc`` columns at a time.
    """

    bn: int
    bk: int
    chunk: int
    one_tile: bool
    bs: int
    bc: int
    warps: int


def quantile(b: int, n: int, k: int, ragged: bool, target: Target) -> QuantileTiles:
    """Tiles for ``b`` graphs of ``n`` rows each, or of ``n`` rows in all if ``ragged``.

    Only the device knows the sizes of ragged graphs, so that their mean decides. A program whose graph is larger than
    its tile reads the rest of the graph again for every bit.
    """
    rows = cdiv(n, max(b, 1)) if ragged else n
    in_interpreter = interpreted(target)
    # Elements of rows that are not aligned are loaded one by one, which needs registers.
    bk = min(power(k), 32 if in_interpreter else 8 if ragged and k % SMALLEST else 16)
    largest = 64 if in_interpreter else 512 if ragged else 1024
    if rows <= largest // 2 or n <= largest:
        # Ragged graphs of up to twice the mean size fit.
        bn = min(power(2 * rows if ragged else rows), power(n), largest)
        # A program that may read rows again has registers for half as many rows.
        warps = min(max(bn * bk // (512 if ragged else 1024), 4), 16)
        return QuantileTiles(bn, bk, 0, n <= bn, 0, 0, warps if bn * bk > 256 else 1)
    if in_interpreter:
        return QuantileTiles(32, bk, 64, False, 16, 16, 4)
    bn = (2048 if k % SMALLEST == 0 else 1024) // bk
    programs = max(4 * target.architecture.processors // cdiv(k, bk), 1)
    # Counters have 8 bits, and each tile adds at most 1.
    chunk = chunk_size(n if ragged else b * n, programs, bn, min(power(n), 128 * bn))
    return QuantileTiles(bn, bk, chunk, False, 32, min(power(k), 4), 4)


def quantile_backward(k: int, target: Target) -> tuple[int, int]:
    """Rows and columns of a tile of the gradient to S."""
    bk = min(power(k), 64)
    return (32 if interpreted(target) else 2048 // bk), bk

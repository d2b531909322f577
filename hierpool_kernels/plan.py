"""How a launch is cut into programs: pure functions of shapes, dtypes and the target.

Tiles are limited by registers (128 to 255 for each thread of a program) and by shared memory, which
``python -m hierpool_kernels.aot`` reads off the compiled kernels. On a GPU the values have not been tuned yet. In the
interpreter, where a pass through a loop costs the same whatever the size of a tile, they are chosen so that small
graphs reach every path.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from hierpool_kernels import tuned
from hierpool_kernels.target import Target

HALVES = (torch.bfloat16, torch.float16)
_SMALLEST = 16  # side of a tile that tensor cores take


def cdiv(a: int, b: int) -> int:
    """The number of pieces of ``b`` that cover ``a``."""
    return -(-a // b)


def power(n: int) -> int:
    """The least power of two that is at least ``n``, and 1."""
    return 1 << max(n - 1, 0).bit_length()


def side(n: int, largest: int) -> int:
    """The side of a tile that covers ``n``, or ``largest``."""
    return min(max(power(n), _SMALLEST), largest)


def precision(left: torch.dtype, right: torch.dtype, target: Target) -> str:
    """How a product of two tiles is taken: "half" on 16-bit floats as they are, else in the type of the sum.

    Of a 16-bit and a float32 matrix, the first is exact in TF32, and three TF32 products lose nothing of the second.
    """
    family = target.architecture.family
    if family == "interpreter":  # its products of bfloat16 are wrong
        return "ieee"
    if left is right and left in HALVES:
        return "half"
    if family == "hip" or (left is torch.float32 and right is torch.float32):
        return "ieee" if family == "hip" else target.fp32
    return "tf32" if target.fp32 == "tf32" else "tf32x3"


def gradient_precision(s: torch.dtype, target: Target) -> str:
    """How float32 products are taken whose sum is rounded to the type of the logits."""
    if target.architecture.family != "cuda" or s is torch.float32:
        return precision(torch.float32, torch.float32, target)
    return "tf32" if s is torch.bfloat16 or target.fp32 == "tf32" else "tf32x3"


def _interpreted(target: Target) -> bool:
    return target.architecture.family == "interpreter"


def _fast(how: str) -> bool:
    """FMA instructions and threefold products leave fewer registers than one product on tensor cores."""
    return how in ("half", "tf32")


def _columns(n: int, largest: int) -> int:
    """The side of a tile of columns; many of rows that are not aligned are read one by one, which takes registers."""
    return side(n, largest if n % _SMALLEST == 0 or n <= largest // 2 else largest // 2)


def _warps(rows: int, columns: int) -> int:
    """So many that a thread has 16 elements of a sum, which leaves registers for all that is beside it."""
    return min(max(rows * columns // 512, 4), 16)


class Tiles(NamedTuple):
    """Of a kernel that multiplies tiles: rows, inner columns (or rows), columns; warps and stages of its pipeline."""

    bn: int
    bj: int
    bk: int
    warps: int
    stages: int

    def options(self, how: str, target: Target) -> dict[str, int]:
        """Of the launch of a kernel that takes products as ``how`` says."""
        more = {} if how == "ieee" else registers(self.warps, target)
        return {"num_warps": self.warps, "num_stages": self.stages, **more}


def registers(warps: int, target: Target) -> dict[str, int]:
    """The option that gives a thread all registers there are for it.

    Left to itself, the assembler rather spills a few than have fewer programs on a multiprocessor; of FMA instructions
    it then takes more than it has.
    """
    return {"maxnreg": min(255, (1 << 16) // (32 * warps))} if target.architecture.family == "cuda" else {}


_WIDEST = 256  # of the widths that tables tell apart


def _measured(kernel: str, target: Target, how: str, *widths: int) -> Tiles | None:
    """Tiles of the table of the architecture, which speaks of widths whose rows are aligned: others cost registers."""
    if any(width == 0 or width % _SMALLEST for width in widths):
        return None
    found = tuned.measured(kernel, target, how, *(side(width, _WIDEST) for width in widths))
    return None if found is None else Tiles(*found)


class Assign(NamedTuple):
    """Of the softmax."""

    bn: int
    bk: int
    one_tile: bool
    warps: int


def assign(k: int, target: Target) -> Assign:
    """A row is kept on the chip up to 1024 columns."""
    largest = 32 if _interpreted(target) else 1024
    bk = min(power(k), largest)
    # Rows that are not aligned are read one by one, which takes registers.
    elements = 4096 if k % _SMALLEST == 0 else 2048
    bn = 32 if _interpreted(target) else max(elements // bk, 4)
    return Assign(min(bn, 128), bk, k <= bk, 4 if bk <= 512 else 8)


class Rows(NamedTuple):
    """Of the walk over A: rows of a slot, tiles, and whether S^T M is taken on the chip."""

    step: int
    tiles: Tiles
    on_chip: bool


def _step(rows: int, programs: int, smallest: int, largest: int) -> int:
    """Rows of a slot, so that there are about as many slots as wanted programs."""
    return min(max(power(cdiv(rows, programs)), smallest), max(largest, smallest))


def dense_rows(b: int, n: int, r: int, k: int, how: str, target: Target) -> Rows:
    """Of a dense A: enough slots for the device, of which each adds ``[R, K, K]`` partial sums."""
    if _interpreted(target):
        return Rows(64, Tiles(32, 256, side(k, 32), 4, 1), k <= 32)
    tiles = _measured("dense_rows", target, how, k) or _product_tiles(k, how, target)
    programs = 4 * target.architecture.processors // r
    return Rows(_step(b * n, max(programs, 1), tiles.bn, power(n)), tiles, k <= min(tiles.bk, 64))


def dense_product(k: int, how: str, target: Target) -> Tiles:
    """Of A S alone."""
    if _interpreted(target):
        return Tiles(32, 256, side(k, 32), 4, 1)
    return _measured("dense_product", target, how, k) or _product_tiles(k, how, target)


def _product_tiles(k: int, how: str, target: Target) -> Tiles:
    if _fast(how):
        bk, bn = _columns(k, 128), 64 if target.architecture.version >= 90 and k % _SMALLEST == 0 else 32
        return Tiles(bn, 32, bk, min(_warps(64, bk), 8), 3)
    return Tiles(32, 32 if k % _SMALLEST == 0 and k > _SMALLEST else 16, _columns(k, 64), 4, 2)


class Sparse(NamedTuple):
    """Of the walk over a sparse A: rows and columns of a tile, entries of a row taken by it, neighbours in flight."""

    bn: int
    bk: int
    longest: int
    ahead: int
    warps: int


def sparse(entries: int, k: int, target: Target) -> Sparse:
    """Rows longer than ``longest`` are cut, into parts of that many entries."""
    if _interpreted(target):
        return Sparse(32, side(k, 32), max(64, power(entries // 64)), 64, 4)
    parts = 64 * target.architecture.processors
    longest = min(max(power(entries // parts), 256), 4096)
    bk = side(k, 64 if k % _SMALLEST == 0 or k <= 64 else 32)
    if k % _SMALLEST == 0:
        return Sparse(32, bk, longest, 2, 4)
    # Rows that are not aligned are read one by one, which takes registers.
    return Sparse(max(512 // bk, 16), bk, longest, 64 // bk, 8 if bk == 64 else 4)


def sparse_rows(b: int, n: int, entries: int, k: int, target: Target) -> tuple[Rows, Sparse]:
    """Of a sparse A in soft pooling."""
    walk = sparse(entries, k, target)
    on_chip = k <= walk.bk
    tiles = Tiles(walk.bn, 1, walk.bk, walk.warps, 2)
    if _interpreted(target):
        return Rows(64, tiles, on_chip), walk
    return Rows(_step(n, 8 * target.architecture.processors, 64, 4096), tiles, on_chip), walk


def products_step(b: int, n: int, k: int, columns: int, ragged: bool, target: Target) -> int:
    """Rows of a slot of the products, one number for all of them, of which the narrowest has ``columns``.

    Enough programs for the device, unless the partial sums would be more than half of what they are sums of. ``n`` is
    the rows of a padded graph, or of a whole ragged batch.
    """
    if _interpreted(target):
        return 64
    outputs = cdiv(k, 64) * cdiv(columns, 128)
    programs = max(4 * target.architecture.processors // outputs, 1)
    smallest = max(128, 2 * power(k))
    return _step(n if ragged else b * n, programs, smallest, 1 << 14 if ragged else power(n))


def products(k: int, columns: int, how: str, target: Target) -> Tiles:
    """Tiles of S^T Y; the inner sum is over rows."""
    if _interpreted(target):
        return Tiles(64, side(columns, 32), side(k, 32), 4, 1)
    bk, bc = side(k, 64), _columns(columns, 128 if _fast(how) else 64)
    bn = 32 if _fast(how) or bk > 32 else 16
    tiles = Tiles(bn, bc, bk, min(_warps(bk, bc), 8), 3 if _fast(how) else 2)
    return _measured("products", target, how, k, columns) or tiles


class Finish(NamedTuple):
    """Of sums over slots: how many slots at a time, elements of a program, graphs of the scalars at a time."""

    bs: int
    bq: int
    bb: int


def finish(elements: int, target: Target) -> Finish:
    """Many slots of few elements, as of one large graph, want small programs."""
    if _interpreted(target):
        return Finish(16, 1024, 16)
    return Finish(16, 128 if elements <= 1 << 15 else 512, 256)


def blocks(k: int, target: Target) -> int:
    """Side of a tile of the blocks of the backward."""
    return side(k, 32)


def rows_backward(k: int, how: str, target: Target) -> tuple[Tiles, bool]:
    """Tiles of the gradient to the logits (``bj`` inner columns), and whether one holds a whole row."""
    if _interpreted(target):
        return Tiles(32, 64, side(k, 32), 4, 1), k <= 32
    bk = _columns(k, 128 if _fast(how) or (k <= 128 and k % _SMALLEST == 0) else 64)
    # Hopper's products of a group of warps have 64 rows.
    bn = 64 if _fast(how) and (bk <= 64 or target.architecture.version == 90) else 32
    tiles = Tiles(bn, 32 if _fast(how) else 16, bk, _warps(bn, bk), 2)
    tiles = _measured("rows_backward", target, how, k) or tiles
    return tiles, k <= tiles.bk


def row_products(columns: int, how: str, target: Target) -> Tiles:
    """Tiles of S times a block (``bk`` inner columns of S, ``bj`` of the product)."""
    if _interpreted(target):
        return Tiles(32, side(columns, 32), 32, 4, 1)
    bn, bc = (64, _columns(columns, 128)) if _fast(how) else (32, _columns(columns, 64))
    tiles = Tiles(bn, bc, 32, min(_warps(bn, bc), 8), 2)
    return _measured("row_products", target, how, columns) or tiles


def dense_edges(how: str, target: Target) -> Tiles:
    """Tiles of the gradient to a dense A (``bj`` columns of it, ``bk`` inner ones)."""
    if _interpreted(target):
        return Tiles(256, 256, 32, 4, 1)
    return _measured("dense_edges", target, how) or Tiles(64, 64, 32, 8, 2)


def entries(k: int, target: Target) -> tuple[int, int]:
    """Entries of a program of a product at stored entries, and columns at a time."""
    return (1 << 14, 32) if _interpreted(target) else (32, side(k, 64))


class Link(NamedTuple):
    """Of the cross-entropy: tiles of the loss, of the gradient to S and of that to a dense A.

    ``bk`` is inner columns of p in ``sums`` and ``edges``, columns of the gradient in ``rows``, whose inner columns
    are those of ``sums``: all of them with ``one_tile``. ``splits`` programs share the columns of a row of tiles of the
    loss.
    """

    sums: Tiles
    rows: Tiles
    edges: Tiles
    one_tile: bool
    splits: int


def link_bce(rows: int, n: int, k: int, how: str, dense: bool, target: Target) -> Link:
    """Of ``rows`` rows in all, at most ``n`` of them in a graph; ``how`` p is taken.

    Logarithms and divisions take as many registers as products, and a tile of S that stays for the next product takes
    more: it does only where that does not spill, and the loop over tiles is pipelined.
    """
    if _interpreted(target):
        tiles = Tiles(64, 128, side(k, 32), 4, 1)
        return Link(tiles, tiles, tiles, k <= 32, 2)
    one_tile = dense and 16 < k <= 32 and how != "tf32x3"
    sums = Tiles(32, 64, side(k, 32), 8, 2)
    wanted = cdiv(4 * target.architecture.processors, max(cdiv(rows, sums.bn), 1))
    return Link(
        sums,
        Tiles(32, 32, side(k, 64), 8, 2),
        Tiles(64, 32, side(k, 32), 8, 2),
        one_tile,
        max(min(wanted, cdiv(n, sums.bj)), 1),
    )


def entry_slots(entries: int, k: int, target: Target) -> tuple[int, int, int]:
    """Entries of a slot of a sum over entries, entries at a time, columns at a time."""
    if _interpreted(target):
        return 64, 64, side(k, 32)
    return _step(entries, 16 * target.architecture.processors, 128, 4096), 32, side(k, 64)


def signed_sums(entries: int, k: int, target: Target) -> Sparse:
    """Of the walk over a sparse A whose rows of S are compared with the one of their own, which takes registers."""
    walk = sparse(entries, k, target)
    return walk if _interpreted(target) else walk._replace(ahead=max(walk.ahead // 2, 1))


class PairTiles(NamedTuple):
    """Of a kernel that compares all rows of two tiles: rows, other rows, columns at a time; warps."""

    bn: int
    bj: int
    bk: int
    warps: int

    def options(self, target: Target) -> dict[str, int]:
        """Of the launch."""
        return {"num_warps": self.warps, **registers(self.warps, target)}


class Variation(NamedTuple):
    """Of the total variation over a dense A: of distances, summed over columns, and of signs, over other rows."""

    sums: PairTiles
    signs: PairTiles


def variation(k: int, target: Target) -> Variation:
    """All differences of a pass are in registers at once."""
    if _interpreted(target):
        tiles = PairTiles(32, 64, side(k, 32), 4)
        return Variation(tiles, tiles)
    return Variation(PairTiles(32, 32, min(power(k), 8), 4), PairTiles(16, 16, side(k, 32), 4))


class Quantiles(NamedTuple):
    """Of the quantiles of columns: rows and columns of a tile of S, and how many rows a slot has.

    ``step`` is 0 where a program has all rows of a graph, with ``one_tile`` no more than those of a tile. Else sums
    over slots are taken ``bs`` slots and ``bc`` columns at a time.
    """

    bn: int
    bk: int
    step: int
    one_tile: bool
    bs: int
    bc: int
    warps: int


def asymmetric_norm(b: int, n: int, k: int, ragged: bool, target: Target) -> Quantiles:
    """Of ``b`` graphs with ``n`` rows, or all of them together if ``ragged``.

    The size of a graph of a ragged batch is known to the device alone: their mean decides, and a program that meets a
    graph larger than its tile reads the rest of it again for every bit.
    """
    rows = cdiv(n, max(b, 1)) if ragged else n
    interpreted = _interpreted(target)
    # Rows that are not aligned are read one by one, which takes registers.
    bk = min(power(k), 32 if interpreted else 8 if ragged and k % _SMALLEST else 16)
    largest = 64 if interpreted else 512 if ragged else 1024
    if rows <= largest // 2 or n <= largest:
        # Of a ragged batch, graphs of up to twice the mean fit.
        bn = min(power(2 * rows if ragged else rows), power(n), largest)
        # A program that may read rows again has registers for half as many.
        return Quantiles(bn, bk, 0, n <= bn, 0, 0, min(max(bn * bk // (512 if ragged else 1024), 4), 16))
    if interpreted:
        return Quantiles(32, bk, 64, False, 16, 16, 4)
    bn = (2048 if k % _SMALLEST == 0 else 1024) // bk
    programs = max(4 * target.architecture.processors // cdiv(k, bk), 1)
    # A counter has 8 bits, of which a tile takes 1.
    step = _step(n if ragged else b * n, programs, bn, min(power(n), 128 * bn))
    return Quantiles(bn, bk, step, False, 32, min(power(k), 4), 4)


def asymmetric_norm_backward(k: int, target: Target) -> tuple[int, int]:
    """Rows and columns of a tile of the gradient."""
    bk = min(power(k), 64)
    return (32 if _interpreted(target) else 2048 // bk), bk

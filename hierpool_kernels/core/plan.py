"""Tile sizes, warps and pipeline stages of every launch: pure functions of shapes, dtypes and the target.

Registers (128 to 255 per thread) and shared memory limit the tiles; ``python -m hierpool_kernels.aot`` reports both for
the compiled kernels. The values for GPUs have not been tuned on a device yet. Those for the interpreter, where a loop
iteration costs the same whatever the size of a tile, are chosen so that small graphs reach every code path.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from hierpool_kernels.core import tuned
from hierpool_kernels.core.target import Target

HALVES = (torch.bfloat16, torch.float16)
SMALLEST = 16  # side of a tile that tensor cores take


def cdiv(a: int, b: int) -> int:
    """``a / b``, rounded up."""
    return -(-a // b)


def power(n: int) -> int:
    """The smallest power of two that is at least ``max(n, 1)``."""
    return 1 << max(n - 1, 0).bit_length()


def side(n: int, largest: int) -> int:
    """The side of a tile that covers ``n`` elements, at most ``largest``."""
    return min(max(power(n), SMALLEST), largest)


def product_precision(left: torch.dtype, right: torch.dtype, target: Target) -> str:
    """The precision of a product of two tiles: "half" multiplies 16-bit floats directly, the others float32.

    A 16-bit matrix is exact in TF32, so that its product with a float32 matrix loses nothing with three TF32 products.
    """
    family = target.architecture.family
    if family == "interpreter":  # it multiplies bfloat16 wrongly
        return "ieee"
    if left is right and left in HALVES:
        return "half"
    if family == "hip" or (left is torch.float32 and right is torch.float32):
        return "ieee" if family == "hip" else target.fp32
    return "tf32" if target.fp32 == "tf32" else "tf32x3"


def gradient_precision(s: torch.dtype, target: Target) -> str:
    """The precision of float32 products whose result is rounded to the dtype of ``s``."""
    if target.architecture.family != "cuda" or s is torch.float32:
        return product_precision(torch.float32, torch.float32, target)
    return "tf32" if s is torch.bfloat16 or target.fp32 == "tf32" else "tf32x3"


def turned(s: torch.dtype, vector: int, precision: str, target: Target) -> bool:
    """True if products take S from S^T: rows of float32 go to TF32 tensor cores with the terms of a sum side by side.

    Where ``vector`` is 1, A is not read in vectors, and S need not be.
    """
    if vector == 1 or s is not torch.float32:
        return False
    return interpreted(target) or (precision == "tf32" and target.architecture.family == "cuda")


def wide_mask(target: Target) -> bool:
    """True if products need a mask of rows as int32.

    For sm_100, Triton takes a factor for exact in TF32 if it comes from 16 bits or less, and multiplies it in TF32 even
    where IEEE is asked for; that a mask of bytes is among what it comes from is enough.
    """
    architecture = target.architecture
    return architecture.family == "cuda" and architecture.version >= 100 and target.fp32 == "ieee"


def interpreted(target: Target) -> bool:
    return target.architecture.family == "interpreter"


def is_fast(precision: str) -> bool:
    """True for one product on tensor cores; FMA and three TF32 products need more registers."""
    return precision in ("half", "tf32")


def columns_side(n: int, largest: int) -> int:
    """The side of a tile of columns; smaller for rows that are not aligned, whose elements are loaded one by one."""
    return side(n, largest if n % SMALLEST == 0 or n <= largest // 2 else largest // 2)


def warps_of(rows: int, columns: int) -> int:
    """Warps that give each thread 16 elements of the accumulator."""
    return min(max(rows * columns // 512, 4), 16)


class Tiles(NamedTuple):
    """Tiles of a matrix product: rows, inner dimension, columns; warps; pipeline stages."""

    bn: int
    bj: int
    bk: int
    warps: int
    stages: int

    def options(self, precision: str, target: Target) -> dict[str, int]:
        """Launch options of a kernel with products of this precision."""
        more = {} if precision == "ieee" else registers(self.warps, target)
        return {"num_warps": self.warps, "num_stages": self.stages, **more}


def registers(warps: int, target: Target) -> dict[str, int]:
    """The option that allows each thread as many registers as the multiprocessor has for it.

    Without it the assembler spills a few registers to raise the occupancy; kernels of FMA instructions spill with it.
    """
    return {"maxnreg": min(255, (1 << 16) // (32 * warps))} if target.architecture.family == "cuda" else {}


TOLD = {"maxnreg": 128}  # two programs of 8 warps at a time
_WIDEST = 256  # wider matrices share one entry of a table


def measured(kernel: str, target: Target, precision: str, *widths: int) -> Tiles | None:
    """Tuned tiles of the architecture; there are none for rows that are not aligned, which need more registers."""
    if any(width == 0 or width % SMALLEST for width in widths):
        return None
    found = tuned.measured(kernel, target, precision, *(side(width, _WIDEST) for width in widths))
    return None if found is None else Tiles(*found)


class SmallTiles(NamedTuple):
    """A graph of a program: rows and columns of A at a time, columns of S and of X, neighbors in flight, warps, and
    whether the assembler is told how many registers there are."""

    bn: int
    bj: int
    bk: int
    bf: int
    ahead: int
    warps: int
    told: bool

    def options(self, target: Target) -> dict[str, int]:
        """Tiles and launch options. There is little to load ahead of the products."""
        tiles = {"BN": self.bn, "BJ": self.bj, "BK": self.bk, "BF": self.bf, "AHEAD": self.ahead}
        more = registers(self.warps, target) if self.told else {}
        return {**tiles, "num_warps": self.warps, "num_stages": 1, **more}


@tuned.kept
def small(n: int, k: int, f: int, s: torch.dtype, target: Target) -> SmallTiles | None:
    """The tiles of a graph of a program, or ``None`` if the graph is too large for one, or the kernels would spill.

    Each thread has a vector of A, S and X.
    """
    if interpreted(target):
        return SmallTiles(16, 16, 16, 16, 16, 4, True) if n <= 16 and k <= 16 and 0 < f <= 16 else None
    if n > 128 or k > 32 or not 0 < f <= 64 or gradient_precision(s, target) == "tf32x3":
        return None
    architecture = target.architecture
    # Elements of rows that are not aligned are loaded one by one, which needs registers. A warp of AMD has 64 lanes.
    warps = 8 if k % SMALLEST and architecture.family == "cuda" else 4
    # FMA of 4 warps spills on Blackwell with all registers, and of 8 warps on Hopper with 16 rows.
    fma = s is torch.float32 and target.fp32 == "ieee"
    bn = 32 if s in HALVES or (fma and warps == 8 and architecture.version == 90) else 16
    return SmallTiles(bn, 64, 32, 64, 2, warps, warps == 8 or not fma or architecture.version < 100)


class SoftmaxTiles(NamedTuple):
    """Rows and columns of a tile of the softmax, whether a tile holds whole rows, and warps."""

    bn: int
    bk: int
    one_tile: bool
    warps: int


def softmax(k: int, target: Target) -> SoftmaxTiles:
    """A tile holds whole rows of up to 1024 columns."""
    largest = 32 if interpreted(target) else 1024
    bk = min(power(k), largest)
    # Elements of rows that are not aligned are loaded one by one, which needs registers.
    elements = 4096 if k % SMALLEST == 0 else 2048
    bn = 32 if interpreted(target) else max(elements // bk, 4)
    return SoftmaxTiles(min(bn, 128), bk, k <= bk, 4 if bk <= 512 else 8)


def chunk_size(rows: int, programs: int, smallest: int, largest: int) -> int:
    """Rows of a chunk that give about ``programs`` chunks."""
    return min(max(power(cdiv(rows, programs)), smallest), max(largest, smallest))


def products_chunk(b: int, n: int, k: int, columns: int, ragged: bool, target: Target) -> int:
    """Rows of a chunk of the products with S; ``columns`` is the width of the narrowest product.

    Gives enough programs for the device, as long as the partial sums are no more than half of the input. ``n`` counts
    the rows of a padded graph, or of a whole ragged batch.
    """
    if interpreted(target):
        return 64
    outputs = cdiv(k, 64) * cdiv(columns, 128)
    programs = max(4 * target.architecture.processors // outputs, 1)
    smallest = max(128, 2 * power(k))
    return chunk_size(n if ragged else b * n, programs, smallest, 1 << 14 if ragged else power(n))


@tuned.kept
def products(k: int, columns: int, precision: str, target: Target) -> Tiles:
    """Tiles of S^T Y; the inner sum is over rows."""
    if interpreted(target):
        return Tiles(64, side(columns, 32), side(k, 32), 4, 1)
    bk, bc = side(k, 64), columns_side(columns, 128 if is_fast(precision) else 64)
    # FMA with tiles of 32 rows and 64 columns spills on Ampere and Blackwell.
    wide = bk > 32 and not (precision == "ieee" and target.architecture.version in (80, 100))
    bn = 32 if is_fast(precision) or wide or k == SMALLEST else 16
    if precision == "half" and bk == SMALLEST:  # a vector for each thread
        bn = 64
    tiles = Tiles(bn, bc, bk, min(warps_of(bk, bc), 8), 3 if is_fast(precision) else 2)
    return measured("products", target, precision, k, columns) or tiles


def graphs(target: Target) -> int:
    """Graphs at a time in a sum over graphs."""
    return 16 if interpreted(target) else 256


def graphs_and_tiles(tiles: int, target: Target) -> tuple[int, int]:
    """Graphs, and of each its tiles, at a time in a sum over both. The number of graphs does not matter: the last batch
    of an epoch, which has fewer, needs no other variant."""
    if interpreted(target):
        return graphs(target), 4
    return (graphs(target), 16) if tiles <= 16 else (16, 256)


class ReduceTiles(NamedTuple):
    """Sums over chunks: chunks at a time, side of a tile of elements; warps."""

    bs: int
    bq: int
    warps: int


def reduce(elements: int, target: Target) -> ReduceTiles:
    """Many chunks of few elements, as one large graph has, need small programs with many loads in flight."""
    if interpreted(target):
        return ReduceTiles(4, 32, 4)
    return ReduceTiles(16, 16, 1) if elements <= 1 << 15 else ReduceTiles(4, 32, 4)


def blocks(k: int, target: Target) -> int:
    """Side of a tile of the K x K blocks of the backward."""
    return side(k, 32)


@tuned.kept
def rows_backward(k: int, precision: str, target: Target) -> tuple[Tiles, bool]:
    """Tiles of the gradient to the logits (``bj`` inner columns), and whether one holds a whole row."""
    if interpreted(target):
        return Tiles(32, 64, side(k, 32), 4, 1), k <= 32
    bk = columns_side(k, 128 if is_fast(precision) or (k <= 128 and k % SMALLEST == 0) else 64)
    # A warp group of Hopper multiplies 64 rows.
    bn = 64 if is_fast(precision) and (bk <= 64 or target.architecture.version == 90) else 32
    # A warp of AMD has 64 lanes; 8 of them have too few registers for each lane. With no more than 8 warps, each thread
    # has a vector of 16-bit elements of a tile of S.
    warps = 4 if target.architecture.family == "hip" and bk == 128 else min(warps_of(bn, bk), 8)
    bj = 16 if precision == "ieee" and bk < 128 else 32
    if is_fast(precision) and (bn, bk) == (32, 128) and target.architecture.family == "cuda":
        bj = 64
    tiles = Tiles(bn, bj, bk, warps, 2)
    tiles = measured("rows_backward", target, precision, k) or tiles
    return tiles, k <= tiles.bk


def rows_backward_options(tiles: Tiles, precision: str, target: Target) -> dict[str, int]:
    """Launch options of these tiles. FMA of wide tiles spills on Ampere unless it may take all registers."""
    told = precision == "ieee" and tiles.bk >= 64 and target.architecture.version == 80
    return tiles.options(precision, target) | (registers(tiles.warps, target) if told else {})


@tuned.kept
def row_products(columns: int, precision: str, target: Target) -> Tiles:
    """Tiles of S times a block (``bk`` inner columns of S, ``bj`` of the product)."""
    if interpreted(target):
        return Tiles(32, side(columns, 32), 32, 4, 1)
    bn, bc = (64, columns_side(columns, 128)) if is_fast(precision) else (32, columns_side(columns, 64))
    tiles = Tiles(bn, bc, 32, min(warps_of(bn, bc), 8), 2)
    return measured("row_products", target, precision, columns) or tiles


def dense_edges(precision: str, target: Target) -> Tiles:
    """Tiles of the gradient to a dense A (``bj`` columns of it, ``bk`` inner ones)."""
    if interpreted(target):
        return Tiles(256, 256, 32, 4, 1)
    # Three TF32 products of rows that are not aligned spill on Ampere with tiles of 64 x 64.
    small = precision == "tf32x3" and target.architecture.version == 80
    return measured("dense_edges", target, precision) or Tiles(
        *((32, 64, 32, 4) if small else (64, 64, 32, 8)), 2
    )


def rows_at_once(bk: int) -> int:
    """Rows of ``bk`` columns that give each thread of 4 warps a vector of 16-bit elements."""
    return max(1024 // bk, 32)


def entries(k: int, target: Target) -> tuple[int, int]:
    """Entries of a program of a sampled product, and columns at a time."""
    return (1 << 14, 32) if interpreted(target) else (rows_at_once(columns_side(k, 64)), columns_side(k, 64))

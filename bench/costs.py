"""What a launch of each kernel must move and compute, as a function of its arguments; `bench.bytes` adds them up.

a tensor is read once, and again by every further pass over it if the L2 cache does not hold it
rows gathered at random cost a reading each, but for the share that the cache holds
a product takes its flops with its tiles filled up
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from hierpool_kernels.launch import Call

# What a product of tiles costs: whose rate, and how many times.
_PRODUCTS = {"half": ("half", 1), "tf32": ("tf32", 1), "tf32x3": ("tf32", 3), "ieee": ("ieee", 1)}


@dataclass(frozen=True)
class Cost:
    """Bytes read from and written to the memory of the device, and flops by the rate at which they are done."""

    read: float
    written: float
    flops: Counter[str] = field(default_factory=Counter)

    @property
    def bytes(self) -> float:
        return self.read + self.written


def size(*tensors: Tensor | None) -> int:
    """Bytes of tensors, where there are any."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def gathered_bytes(t: Tensor, rows: int, l2_bytes: int) -> float:
    """Of ``rows`` rows of ``t`` read in random order: each row once, and again unless the cache happens to hold it."""
    whole = size(t)
    repeated = max(0.0, rows * t.size(-1) * t.element_size() - whole)
    return whole + repeated * max(0.0, 1 - l2_bytes / max(whole, 1))


class Launch:
    """A launch, its arguments by their names as attributes, and what its tensors do not tell: the sizes of graphs."""

    def __init__(self, call: Call, sizes: tuple[int, ...], l2_bytes: int) -> None:
        names = inspect.signature(call.kernel.fn).parameters
        self._arguments = dict(zip(names, call.arguments, strict=False)) | call.options
        self.name, self.grid, self.sizes, self.l2_bytes = call.name, call.grid, sizes, l2_bytes

    def __getattr__(self, name: str) -> Any:
        try:
            return self._arguments[name]
        except KeyError:
            raise AttributeError(f"{self.name} has no argument {name}") from None

    @property
    def programs(self) -> int:
        return math.prod(self.grid)

    @property
    def rows(self) -> int:
        """Nodes of all graphs."""
        return sum(self.sizes)

    def slots(self, step: int) -> int:
        """Slots of ``step`` rows that are not empty."""
        return sum(-(-n // step) for n in self.sizes)

    def again(self, n_bytes: float, passes: int) -> float:
        """Bytes of ``passes`` passes over a tensor of ``n_bytes``."""
        return n_bytes * (passes if n_bytes > self.l2_bytes else 1)

    def gathered(self, t: Tensor, rows: int) -> float:
        return gathered_bytes(t, rows, self.l2_bytes)


def cover(n: int, tile: int) -> int:
    """``n`` columns in whole tiles."""
    return -(-n // tile) * tile


def product(how: str, rows: int, inner: int, columns: int) -> Counter[str]:
    """Flops of a product of matrices."""
    rate, times = _PRODUCTS[how]
    return Counter({rate: 2 * rows * inner * columns * times})


# ---- forward --------------------------------------------------------------------------------------------------------


def _assign(p: Launch) -> Cost:
    passes = 1 if p.ONE_TILE or p.GIVEN else 2
    return Cost(p.again(size(p.logits_ptr), passes), size(p.s_ptr))


def _long_rows(p: Launch) -> Cost:
    """Of graphs without long rows: every program looks for the row of its first entry, and stops."""
    steps = p.N.bit_length()
    return Cost(min(size(p.rowptr), p.programs * steps * 32), 0)  # a load brings 32 bytes


def _compressed(p: Launch, passes: int) -> float:
    return p.again(size(p.rowptr, p.col_ptr, p.value_ptr), passes)


def _sparse_walk(p: Launch, s: Tensor | None) -> tuple[float, Counter[str]]:
    """Bytes and flops of rows of a sparse A times S."""
    entries = p.col_ptr.numel()
    if s is None:
        return _compressed(p, 1), Counter()
    passes = -(-p.K // p.BK)
    return _compressed(p, passes) + p.gathered(s, entries), product("ieee", entries, 1, cover(p.K, p.BK))


def _dense_walk(p: Launch, s: Tensor | None) -> tuple[float, Counter[str]]:
    """Bytes and flops of rows of a dense A times S: S of a graph stays in the cache, or is read by every tile."""
    a = p.a_ptr
    rows = a.numel() // max(p.N, 1)
    if s is None:
        return size(a), Counter()
    passes = -(-p.K // p.BK)
    tiles = 1 if size(s) // len(p.sizes) <= p.l2_bytes else -(-p.N // p.BN)
    read = p.again(size(a), passes) + size(s) * tiles
    return read, product(p.PRECISION, rows, p.N, cover(p.K, p.BK))


def _soft_pool_rows(p: Launch) -> Cost:
    if p.a_ptr is not None:
        read, flops = _dense_walk(p, p.s_ptr)
    else:
        read, flops = _sparse_walk(p, p.s_ptr)
        read += size(p.s_ptr)  # of its own rows, far from where it gathers
    slots = p.slots(p.STEP)
    written = size(p.m_ptr) + slots * (1 + p.R) * p.K * p.part_vectors_ptr.element_size()
    written += slots * p.R * p.grid[1] * 6 * 8
    if p.ON_CHIP:
        written += slots * p.R * p.K * p.K * p.part_adj_ptr.element_size()
        flops = flops + product(p.PRODUCT, p.rows * p.R, cover(p.K, p.BK), cover(p.K, p.BK))
    return Cost(read, written, flops)


def _products(p: Launch) -> Cost:
    _, k_tiles, c_tiles = p.grid
    y = p.rows * p.C * p.y_ptr.element_size()
    if p.y_ptr is p.s_ptr:
        read = p.again(y, max(k_tiles, c_tiles))
    else:
        read = p.again(size(p.s_ptr), c_tiles) + p.again(y, k_tiles)
    written = p.slots(p.STEP) * p.K * p.C * p.part_ptr.element_size()
    return Cost(read, written, product(p.PRECISION, p.rows, cover(p.K, p.BK), cover(p.C, p.BC)))


def _finish(p: Launch) -> Cost:
    """Of a matrix that equals its transpose, only one half is read."""
    acc, gram = p.adj_ptr.element_size(), p.gram_ptr.size(-1)
    rows, products, adj = (p.slots(step) for step in (p.STEP_ROWS, p.STEP_PRODUCTS, p.STEP_ADJ))
    elements = adj * p.R * p.K**2 / (2 if p.SYMMETRIC else 1)
    elements += products * (gram**2 / 2 + p.K * p.F) + rows * (1 + p.R) * p.K
    read = elements * acc + rows * p.R * p.K_TILES * 6 * 8
    written = size(p.adj_ptr, p.gram_ptr, p.x_ptr, p.vectors_ptr, p.sums_ptr, p.gram_squares_ptr)
    return Cost(read, written)


def _scalars(p: Launch) -> Cost:
    written = size(p.scalars_ptr, p.total_entropy_ptr, p.link_norm_ptr)
    return Cost(size(p.sums_ptr, p.gram_squares_ptr, p.largest_ptr), written)


# ---- backward -------------------------------------------------------------------------------------------------------


def _blocks(p: Launch) -> Cost:
    read = size(p.dadj_ptr, p.dgram_ptr, p.gram_ptr, p.dscalars_ptr, p.dtotal_entropy_ptr, p.dlink_norm_ptr)
    return Cost(read, size(p.core_ptr, p.of_m_ptr, p.of_s_ptr, p.weights_ptr))


def _soft_pool_rows_bwd(p: Launch) -> Cost:
    columns, passes = cover(p.K, p.BK), p.grid[1]
    inner = p.K * (p.R * (1 if p.mt_ptr is None else 2) + (p.of_s_ptr is not None))
    flops = product(p.PRECISION, p.rows, inner, columns)
    read = sum(p.again(size(t), passes) for t in (p.s_ptr, p.m_ptr, p.mt_ptr))
    read += size(p.ds_ptr, p.degree_ptr, p.of_m_ptr, p.core_ptr, p.of_s_ptr, p.dvectors_ptr)
    if p.dx_ptr is not None:
        read += p.again(size(p.x_ptr), passes) + size(p.dx_ptr)
        flops = flops + product(p.PRECISION_X, p.rows, p.F, columns)
    return Cost(read, size(p.out_ptr), flops)


def _softmax_bwd(p: Launch) -> Cost:
    """One pass for the sums of rows, one for the result."""
    return Cost(p.again(size(p.s_ptr), 2) + p.again(size(p.ds_ptr), 2), size(p.out_ptr))


def _row_products(p: Launch) -> Cost:
    columns, types = cover(p.C, p.BC), p.grid[2]
    block = len(p.sizes) * types * p.K * p.C * p.block_ptr.element_size()
    read = p.again(size(p.s_ptr), p.grid[1] * types) + block
    written = p.rows * types * p.C * p.out_ptr.element_size()
    return Cost(read, written, product(p.PRECISION, p.rows * types, cover(p.K, p.BK), columns))


def _dense_edges(p: Launch) -> Cost:
    flops = product(p.PRECISION, p.a_ptr.numel() // max(p.N, 1), cover(p.K, p.BK), cover(p.N, p.BJ))
    return Cost(size(p.s_ptr, p.t_ptr, p.a_ptr, p.dvectors_ptr), size(p.out_ptr), flops)


def _sparse_edges(p: Launch) -> Cost:
    entries = p.col_ptr.numel()
    read = _compressed(p, 1) + size(p.t_ptr) + p.gathered(p.s_ptr, entries)
    return Cost(read, size(p.out_ptr), product("ieee", entries, 1, cover(p.K, p.BK)))


# ---- products with A alone ------------------------------------------------------------------------------------------


def _spmm(p: Launch) -> Cost:
    read, flops = _sparse_walk(p, p.x_ptr)
    return Cost(read, size(p.out_ptr, p.degree_ptr), flops)


def _dense_product(p: Launch) -> Cost:
    read, flops = _dense_walk(p, p.s_ptr)
    return Cost(read, size(p.out_ptr, p.degree_ptr), flops)


def _sampled_product(p: Launch) -> Cost:
    entries = p.col_ptr.numel()
    read = size(p.rowptr, p.col_ptr, p.left_ptr) + p.gathered(p.right_ptr, entries)
    return Cost(read, size(p.out_ptr), product("ieee", entries, 1, cover(p.K, p.BK)))


# ---- the total variation --------------------------------------------------------------------------------------------


def _pairs(p: Launch, columns: int) -> Counter[str]:
    """Flops of the differences of all pairs of rows of a graph: a subtraction and a sum are those of a product."""
    return product("ieee", sum(n * n for n in p.sizes), 1, columns)


def _pairs_read(p: Launch) -> float:
    """Bytes of A, and of S, which stays in the cache or is read by every tile of rows."""
    tiles = 1 if size(p.s_ptr) // len(p.sizes) <= p.l2_bytes else -(-p.N // p.BN)
    return size(p.a_ptr) + size(p.s_ptr) * tiles


def _dense_variation(p: Launch) -> Cost:
    """Of a matrix without a tile of zeros."""
    return Cost(_pairs_read(p), size(p.part_ptr), _pairs(p, cover(p.K, p.BK)))


def _sparse_variation(p: Launch) -> Cost:
    entries = p.col_ptr.numel()
    read = _compressed(p, 1) + size(p.s_ptr, p.entry_ptr) + p.gathered(p.s_ptr, entries)
    return Cost(read, size(p.part_ptr), product("ieee", entries, 1, cover(p.K, p.BK)))


def _variation_finish(p: Launch) -> Cost:
    return Cost(size(p.part_ptr, p.ptr), size(p.variation_ptr, p.entries_ptr))


def _dense_signs(p: Launch) -> Cost:
    """A is read by rows and by columns."""
    again = p.again(size(p.a_ptr), 2 * p.grid[1]) - size(p.a_ptr)
    return Cost(_pairs_read(p) + again, size(p.out_ptr), _pairs(p, cover(p.K, p.BK)))


def _dense_distances(p: Launch) -> Cost:
    return Cost(size(p.s_ptr), size(p.out_ptr), _pairs(p, cover(p.K, p.BK)))


def _signed_sums(p: Launch) -> Cost:
    entries, passes = p.col_ptr.numel(), -(-p.K // p.BK)
    matrices = 1 if p.rowptr_t is None else 2
    read = p.again(size(p.rowptr, p.col_ptr, p.value_ptr), passes)
    read += p.again(size(p.rowptr_t, p.col_t_ptr, p.value_t_ptr), passes)
    read += size(p.x_ptr) + p.gathered(p.x_ptr, matrices * entries)
    return Cost(read, size(p.out_ptr), product("ieee", matrices * entries, 1, cover(p.K, p.BK)))


def _edge_distances(p: Launch) -> Cost:
    entries = p.col_ptr.numel()
    read = size(p.rowptr, p.col_ptr, p.x_ptr) + p.gathered(p.x_ptr, entries)
    return Cost(read, size(p.out_ptr), product("ieee", entries, 1, cover(p.K, p.BK)))


# ---- the asymmetric norm --------------------------------------------------------------------------------------------


def _norm_graphs(p: Launch) -> Cost:
    """Of graphs that stay on the chip, or in the cache for a reading by bit."""
    passes = 1 if p.ONE_TILE else 8 * p.s_ptr.element_size() + 2
    results = size(p.norm_ptr, p.quantile_ptr, p.row_ptr, p.slope_ptr)
    return Cost(p.again(size(p.s_ptr), passes) + size(p.ptr, p.mask_ptr), results)


def _norm_count(p: Launch) -> Cost:
    return Cost(size(p.s_ptr, p.prefix_ptr, p.mask_ptr), size(p.count_ptr))


def _norm_digit(p: Launch) -> Cost:
    return Cost(size(p.count_ptr, p.prefix_ptr, p.rank_ptr), size(p.prefix_ptr, p.rank_ptr))


def _norm_sums(p: Launch) -> Cost:
    return Cost(size(p.s_ptr, p.prefix_ptr, p.mask_ptr), size(p.part_ptr, p.part_row_ptr))


def _norm_finish(p: Launch) -> Cost:
    results = size(p.norm_ptr, p.quantile_ptr, p.row_ptr, p.slope_ptr)
    return Cost(size(p.part_ptr, p.part_row_ptr, p.prefix_ptr), results)


def _norm_bwd(p: Launch) -> Cost:
    read = size(p.dnorm_ptr, p.s_ptr, p.quantile_ptr, p.row_ptr, p.slope_ptr, p.mask_ptr)
    return Cost(read, size(p.out_ptr))


COSTS: dict[str, Callable[[Launch], Cost]] = {
    "_assign_kernel": _assign,
    "_long_rows_kernel": _long_rows,
    "_soft_pool_rows_kernel": _soft_pool_rows,
    "_products_kernel": _products,
    "_finish_kernel": _finish,
    "_scalars_kernel": _scalars,
    "_blocks_kernel": _blocks,
    "_soft_pool_rows_bwd_kernel": _soft_pool_rows_bwd,
    "_softmax_bwd_kernel": _softmax_bwd,
    "_row_products_kernel": _row_products,
    "_dense_edges_kernel": _dense_edges,
    "_sparse_edges_kernel": _sparse_edges,
    "_spmm_kernel": _spmm,
    "_dense_product_kernel": _dense_product,
    "_sampled_product_kernel": _sampled_product,
    "_dense_variation_kernel": _dense_variation,
    "_sparse_variation_kernel": _sparse_variation,
    "_variation_finish_kernel": _variation_finish,
    "_dense_signs_kernel": _dense_signs,
    "_dense_distances_kernel": _dense_distances,
    "_signed_sums_kernel": _signed_sums,
    "_edge_distances_kernel": _edge_distances,
    "_asymmetric_norm_graphs_kernel": _norm_graphs,
    "_asymmetric_norm_count_kernel": _norm_count,
    "_asymmetric_norm_digit_kernel": _norm_digit,
    "_asymmetric_norm_sums_kernel": _norm_sums,
    "_asymmetric_norm_finish_kernel": _norm_finish,
    "_asymmetric_norm_bwd_kernel": _norm_bwd,
}

"""The tiles that ``python -m hierpool_kernels.tune`` measures for a question, and which of them it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import NamedTuple

from hierpool_kernels.core import plan, plan_walk, tuned
from hierpool_kernels.core.plan import Tiles
from hierpool_kernels.core.target import Architecture, Target
from hierpool_kernels.core.tuned import Key

B, N = 32, 1024  # of all workloads
NOISE = 0.03  # smaller gains do not count


class Kind(NamedTuple):
    """Tiles of a plan: the side of the inner dimension, the sides that cover the widths of a key, and the kernels whose
    time depends on them."""

    inner: str
    covering: tuple[str, ...]
    kernels: tuple[str, ...]


KINDS = {
    "dense_rows": Kind(
        "bj",
        ("bk",),
        ("_soft_pool_rows_fwd_kernel", "_soft_pool_products_fwd_kernel", "_soft_pool_reduce_fwd_kernel"),
    ),
    "dense_product": Kind("bj", ("bk",), ("_dense_product_kernel",)),
    "products": Kind("bn", ("bk", "bj"), ("_soft_pool_products_fwd_kernel",)),
    "rows_backward": Kind("bj", ("bk",), ("_soft_pool_rows_bwd_kernel", "_soft_pool_softmax_bwd_kernel")),
    "row_products": Kind("bk", ("bj",), ("_soft_pool_row_products_bwd_kernel",)),
    "dense_edges": Kind("bk", (), ("_soft_pool_dense_edges_bwd_kernel",)),
}


@contextmanager
def untuned() -> Iterator[None]:
    """Plans inside the context use no table."""
    with ExitStack() as stack:
        for kernel in KINDS:
            stack.enter_context(tuned.forced(kernel, None))
        yield


def planned(key: Key, architecture: Architecture) -> Tiles:
    """The tiles of the plan itself."""
    kernel, precision, *widths = key
    target = Target(architecture, "ieee")
    with untuned():
        if kernel == "dense_rows":
            return plan_walk.dense_rows(B, N, 1, widths[0], precision, target).tiles
        chosen_in = plan_walk if kernel == "dense_product" else plan
        tiles = getattr(chosen_in, kernel)(*widths, precision, target)
    return tiles[0] if kernel == "rows_backward" else tiles


def _sums(kernel: str, tiles: Tiles) -> int:
    """Elements of the accumulator."""
    return math.prod(tiles[:3]) // getattr(tiles, KINDS[kernel].inner)


def fits(key: Key, tiles: Tiles, architecture: Architecture) -> bool:
    """True if the tiles of all pipeline stages fit into shared memory and the accumulator into registers, and no tile
    is wider than what it covers. Triton may need more; the launch then fails."""
    kernel, precision, *widths = key
    kind, sides = KINDS[kernel], tiles[:3]
    inner = getattr(tiles, kind.inner)
    shared = tiles.stages * inner * (sum(sides) - inner) * (2 if precision == "half" else 4)
    covering = zip(kind.covering, widths, strict=True)
    return (
        tuned.SMALLEST <= min(sides) <= max(sides) <= tuned.LARGEST
        and (kernel != "products" or tiles.bn <= tuned.ROWS_OF_PRODUCTS)
        and all(getattr(tiles, side) <= width for side, width in covering)
        and 4 <= tiles.warps <= 16
        and 4 <= _sums(kernel, tiles) // (32 * tiles.warps) <= 64
        and tiles.stages >= 1
        and shared <= architecture.shared_bytes
    )


def other_sides(key: Key, start: Tiles, architecture: Architecture) -> list[Tiles]:
    """Half, once and twice each side, with warps in proportion to the accumulator."""
    found = []
    for factors in product((1, 2, 4), repeat=3):
        bn, bj, bk = (size * factor // 2 for size, factor in zip(start[:3], factors, strict=True))
        tiles = Tiles(bn, bj, bk, start.warps, start.stages)
        warps = start.warps * _sums(key[0], tiles) // _sums(key[0], start)
        found.append(tiles._replace(warps=min(max(warps, 4), 16)))
    return [tiles for tiles in found if fits(key, tiles, architecture)]


def other_pipelines(key: Key, start: Tiles, architecture: Architecture) -> list[Tiles]:
    """Half, once and twice the warps; one stage less, the same number, one more."""
    warps = (start.warps // 2, start.warps, 2 * start.warps)
    stages = range(start.stages - 1, start.stages + 2)
    found = (start._replace(warps=w, stages=s) for w, s in product(warps, stages))
    return [tiles for tiles in found if fits(key, tiles, architecture)]


def choose(default: Tiles, us: dict[Tiles, float]) -> Tiles:
    """The fastest tiles, if they beat those of the plan by more than the noise; else those of the plan."""
    fastest = min(us, key=lambda tiles: (us[tiles], tiles))
    return fastest if us[fastest] < (1 - NOISE) * us[default] else default

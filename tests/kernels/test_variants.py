"""Every variant that a plan can choose is run and right: the launches of a call say which ones it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import hierpool
from hierpool_kernels.launch import Call, watch
from tests.support import asymmetric, link, variation
from tests.support.cases import Case
from tests.support.running import check, run
from tests.support.sparse import RaggedCase

SEED = 11
f32, bf16 = torch.float32, torch.bfloat16

DENSE = Case("dense", n=70, k=5, f=3, directed=True, valid="num_nodes", b=3)
WIDE = Case("wide", n=70, k=40, f=35, directed=True, valid="holes", b=2)
LONG = Case("long", b=1, n=90, k=5, f=3, density=2.0, directed=True)
CASES = {
    "dense-on-chip": DENSE,
    "dense-tiled": WIDE,
    "dense-types": Case("types", n=20, k=40, f=3, r=2),
    "dense-given": Case("given", n=20, k=40, given=True, valid="mask"),
    "csr-on-chip": RaggedCase(replace(DENSE, density=0.01)),
    "csr-symmetric": RaggedCase(replace(DENSE, density=0.01, directed=False)),
    "csr-tiled": RaggedCase(replace(WIDE, density=0.01)),
    "csr-given": RaggedCase(replace(WIDE, density=0.01, given=True)),
    "csr-long-rows": RaggedCase(LONG),
    "csr-long-rows-tiled-unweighted": RaggedCase(replace(LONG, k=40, weights="ones"), weighted=False),
    "csr-int64": RaggedCase(LONG, index=torch.int64),
}


def option(name: str) -> Callable[[Call], Any]:
    return lambda call: call.options[name]


def argument(position: int) -> Callable[[Call], bool]:
    return lambda call: call.arguments[position] is not None


# Kernel, what distinguishes its variants, and the variants.
VARIANTS: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    ("_assign_kernel", (option("ONE_TILE"), option("GIVEN")),
     {(True, False), (False, False), (False, True)}),
    # dense or sparse, S^T M on the chip, long rows
    ("_soft_pool_rows_kernel", (argument(3), option("ON_CHIP"), argument(11)),
     {(True, True, False), (True, False, False), (False, True, False), (False, False, False),
      (False, True, True), (False, False, True)}),
    # A^T S where A is not symmetric; a whole row in a tile; S given
    ("_soft_pool_rows_bwd_kernel", (argument(12), option("ONE_TILE"), option("GIVEN")),
     {(True, True, False), (True, False, False), (True, False, True), (False, True, False), (False, False, False)}),
    ("_softmax_bwd_kernel", (), {()}),
    ("_spmm_kernel", (argument(3), argument(5)), {(True, False), (True, True), (False, False), (False, True)}),
    ("_dense_product_kernel", (argument(5),), {(True,), (False,)}),
    ("_long_rows_kernel", (argument(2), argument(3)), {(True, True), (True, False), (False, True)}),
    ("_dense_edges_kernel", (), {()}),
    ("_sparse_edges_kernel", (argument(5), option("OF_ROWS")), {(True, True)}),
]  # fmt: skip


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """The launches of forward and backward of all cases, A symmetric or not."""
    with watch() as seen:
        for case in CASES.values():
            run(case.make(SEED, f32), "triton")
    return seen


@pytest.mark.parametrize(("kernel", "traits", "variants"), VARIANTS, ids=[kernel for kernel, *_ in VARIANTS])
def test_variants_are_reached(
    kernel: str, traits: tuple[Callable[[Call], Any], ...], variants: set[tuple[Any, ...]], calls: list[Call]
) -> None:
    reached = {tuple(trait(call) for trait in traits) for call in calls if call.name == kernel}
    assert reached == variants


@pytest.mark.parametrize("dtype", [f32, bf16], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_variants_are_right(case: Case | RaggedCase, dtype: torch.dtype) -> None:
    check(case.make(SEED, dtype), "triton")


# ---- the total variation --------------------------------------------------------------------------------------------

# Kernel, what distinguishes its variants, and the variants.
OF_VARIATION: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    ("_dense_variation_kernel", (argument(8), argument(9)), {(False, False), (True, False), (True, True)}),
    ("_sparse_variation_kernel", (argument(4),), {(True,), (False,)}),
    ("_variation_finish_kernel", (argument(3),), {(True,), (False,)}),
    ("_dense_signs_kernel", (), {()}),
    ("_dense_distances_kernel", (), {()}),
    # values, long rows, the transpose, graphs of their own
    ("_signed_sums_kernel", (argument(2), argument(3), argument(5), argument(12)),
     {(True, False, True, True), (True, False, False, True), (True, True, True, True), (False, True, False, True),
      (True, False, True, False), (True, True, True, False)}),
    ("_edge_distances_kernel", (argument(4),), {(True,), (False,)}),
    ("_long_rows_kernel", (argument(2), option("SIGNS")), {(True, True), (False, True)}),
]  # fmt: skip
PADDED = [Case("all", n=20), DENSE, WIDE]
FEW = replace(DENSE, n=20, density=0.05)  # entries: no row can be long
RAGGED = [FEW, replace(FEW, directed=False), replace(WIDE, density=0.1)]


@pytest.fixture(scope="module")
def calls_of_variation() -> list[Call]:
    """The launches of the total variation of both layouts, and of distances at edges; all right."""
    ones = link.make(replace(LONG, weights="ones"), SEED, f32)
    s, graph = ones.ragged()
    with watch() as seen:
        for case in PADDED:
            variation.check(link.make(case, SEED, f32), "triton")
        for case in (*RAGGED, LONG):
            inputs = link.make(case, SEED, f32)
            variation.check_ragged(inputs, "triton")
            rows, edges = inputs.ragged()
            hierpool.edge_distances(edges, rows.requires_grad_(), backend="triton").sum().backward()
        unweighted = graph.with_value(None)
        hierpool.total_variation(s.requires_grad_(), unweighted, backend="triton").variation.sum().backward()
    return seen


@pytest.mark.parametrize(
    ("kernel", "traits", "variants"), OF_VARIATION, ids=[kernel for kernel, *_ in OF_VARIATION]
)
def test_variants_of_the_variation_are_reached(
    kernel: str,
    traits: tuple[Callable[[Call], Any], ...],
    variants: set[tuple[Any, ...]],
    calls_of_variation: list[Call],
) -> None:
    test_variants_are_reached(kernel, traits, variants, calls_of_variation)


# ---- the asymmetric norm --------------------------------------------------------------------------------------------

# Layout: ptr, sizes, mask; whether all rows of a graph are in a tile; the first digit.
OF_NORM: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    ("_asymmetric_norm_graphs_kernel", (argument(7), argument(8), argument(9), option("ONE_TILE")),
     {(False, False, False, True), (False, True, False, True), (False, True, True, True),
      (True, False, False, False)}),
    ("_asymmetric_norm_count_kernel", (argument(6), argument(7), argument(8), argument(3)),
     {(*layout, later) for layout in ((False, True, False), (False, True, True), (True, False, False))
      for later in (False, True)}),
    ("_asymmetric_norm_digit_kernel", (option("LOWEST"),), {(None,), (-(1 << 31),)}),
    ("_asymmetric_norm_sums_kernel", (), {()}),
    ("_asymmetric_norm_finish_kernel", (), {()}),
    ("_asymmetric_norm_bwd_kernel", (argument(9),), {(True,), (False,)}),
]  # fmt: skip


@pytest.fixture(scope="module")
def calls_of_norm() -> list[Call]:
    """The launches of the asymmetric norm of both layouts, of small graphs and of large ones; all right."""
    small = Case("skewed", b=8, n=80, k=5, valid="num_nodes", sizes=(2, 80, 0, 1, 3, 2, 1, 2))
    cases = [Case("all", n=20), replace(DENSE, n=30), replace(WIDE, n=30), DENSE, WIDE]
    with watch() as seen:
        for inputs in (asymmetric.make(case, SEED, f32) for case in cases):
            asymmetric.check(inputs, "triton")
        for case in (small, replace(DENSE, n=120, sizes=(120, 60, 90))):
            asymmetric.check(asymmetric.make(case, SEED, f32).ragged(), "triton")
    return seen


@pytest.mark.parametrize(("kernel", "traits", "variants"), OF_NORM, ids=[kernel for kernel, *_ in OF_NORM])
def test_variants_of_the_norm_are_reached(
    kernel: str,
    traits: tuple[Callable[[Call], Any], ...],
    variants: set[tuple[Any, ...]],
    calls_of_norm: list[Call],
) -> None:
    test_variants_are_reached(kernel, traits, variants, calls_of_norm)


# ---- what launches are for ------------------------------------------------------------------------------------------


def test_symmetric_needs_one_product() -> None:
    inputs = Case("symmetric", n=20).make(SEED, f32)
    with watch() as seen:
        check(inputs, "triton", symmetric=True)
    assert not [
        call for call in seen if call.name == "_dense_product_kernel" and call.arguments[5] is not None
    ]


def test_whether_a_is_symmetric_is_not_looked_for() -> None:
    inputs = Case("symmetric", n=20).make(SEED, f32)
    for promised in (True, False, None):
        flags = torch.ops.hierpool.soft_pool_dense(
            inputs.s,
            inputs.x,
            inputs.adj,
            None,
            None,
            None,
            False,
            promised,
            True,
            True,
            True,
            False,
            True,
            "triton",
        )[9]
        assert flags.tolist() == [[promised is True]] * 2


def launches(function: Callable[[], Any]) -> list[str]:
    with watch() as seen:
        function()
    return [call.name for call in seen]


def test_number_of_launches() -> None:
    """What the docstrings of the launchers say, of a step with the two losses of DiffPool."""
    inputs = Case("symmetric", n=20).make(SEED, f32)
    leaves = inputs._replace(x=inputs.x.requires_grad_(), s=inputs.s.requires_grad_())
    record: list[Any] = []
    forward = launches(lambda: record.append(leaves.pool("triton", symmetric=True)))
    assert len(forward) == 6
    loss = record[0].link_norm + record[0].total_entropy + record[0].x.sum() + record[0].adj.sum()
    assert launches(loss.backward) == ["_blocks_kernel", "_soft_pool_rows_bwd_kernel", "_row_products_kernel"]


def test_two_runs_give_the_same_bits() -> None:
    for name in ("dense-tiled", "csr-on-chip", "csr-long-rows"):
        inputs = CASES[name].make(SEED, f32)
        record, grads, upstream = run(inputs, "triton")
        again, grads_again, _ = run(inputs, "triton", upstream)
        for one, other in zip((*record, *grads), (*again, *grads_again), strict=True):
            assert torch.equal(one, other)  # type: ignore[arg-type]


def test_pooled_symmetric_graphs_are_symmetric() -> None:
    for case in (Case("dense", n=70, k=40), RaggedCase(Case("csr", n=70, k=40))):
        inputs = case.make(SEED, f32)
        options = {"symmetric": True} if isinstance(case, Case) else {}
        record = inputs.pool("triton", **options)
        assert torch.equal(record.adj, record.adj.mT)
        assert record.gram is not None
        assert torch.equal(record.gram, record.gram.mT)


def test_too_many_pooled_elements_are_refused() -> None:
    one = torch.ones(1, 1, 1)
    s = torch.ones(1, 1, 1).expand(1, 1, 1 << 16)
    with pytest.raises(ValueError, match=r"fewer than 2\^31 pooled elements .* got K = 65536, F = 1, R = 1"):
        hierpool.soft_pool(one, one, s, backend="triton")

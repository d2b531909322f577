"""Every variant that a plan can choose is run and right; the recorded launches show which variants a call used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed")

import hierpool
from hierpool import backends
from hierpool.ops.soft_pool import Out, pooling_call
from hierpool_kernels.core.launch import Call, watch
from tests.support import link, variation
from tests.support.cases import Case
from tests.support.ragged import BothForms, both_forms
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
    "dense-turned-on-chip": replace(DENSE, n=64),
    "dense-turned-tiled": replace(WIDE, n=80),
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
    ("_soft_pool_softmax_fwd_kernel", (option("ONE_TILE"), option("GIVEN")),
     {(True, False), (False, False), (False, True), (True, True)}),
    # dense or sparse, S^T, S^T M on the chip, long rows
    ("_soft_pool_rows_fwd_kernel", (argument(4), argument(3), option("ON_CHIP"), argument(12)),
     {(True, True, True, False), (True, True, False, False), (True, False, True, False), (True, False, False, False),
      (False, False, True, False), (False, False, False, False), (False, False, True, True),
      (False, False, False, True)}),
    # S^T, Y or S itself, what is above the diagonal only
    ("_soft_pool_products_fwd_kernel", (argument(3), argument(4), option("UPPER")),
     {(True, True, False), (True, False, False), (True, False, True),
      (False, True, False), (False, True, True), (False, False, False), (False, False, True)}),
    # A^T S where A is not symmetric; a whole row in a tile; S given
    ("_soft_pool_rows_bwd_kernel", (argument(8), option("ONE_TILE"), option("GIVEN")),
     {(True, True, False), (True, False, False), (True, False, True), (False, True, False), (False, False, False)}),
    ("_soft_pool_softmax_bwd_kernel", (), {()}),
    ("_spmm_kernel", (argument(3), argument(5)), {(True, False), (True, True), (False, False), (False, True)}),
    ("_dense_product_kernel", (argument(5), option("TURNED")), {(True, False), (True, True), (False, False)}),
    ("_long_rows_kernel", (argument(2), argument(3)), {(True, True), (True, False), (False, True)}),
    ("_soft_pool_dense_edges_bwd_kernel", (), {()}),
    ("_soft_pool_sparse_edges_bwd_kernel", (argument(5), option("OF_ROWS")), {(True, True)}),
]  # fmt: skip


def assert_reached(
    launched: list[Call], variants: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]]
) -> None:
    """The launches of each kernel are of these variants, of all of them and of no others."""
    reached = {
        kernel: {tuple(trait(call) for trait in traits) for call in launched if call.name == kernel}
        for kernel, traits, _ in variants
    }
    assert reached == {kernel: expected for kernel, _, expected in variants}


def test_variants_of_soft_pooling() -> None:
    """Forward and backward of all cases, A symmetric or not."""
    with watch() as launched:
        for case in CASES.values():
            check(case.make(SEED, f32), "triton")
    assert_reached(launched, VARIANTS)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_variants_in_bfloat16(case: Case | RaggedCase) -> None:
    check(case.make(SEED, bf16), "triton")


# ---- small graphs ---------------------------------------------------------------------------------------------------

# A dense or sparse, symmetric; S given
OF_SMALL_GRAPHS: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    (f"_soft_pool_small_{way}_kernel", (argument(a), option("SYMMETRIC"), option("GIVEN")),
     set(itertools.product((True, False), repeat=3)))
    for way, a in (("fwd", 6), ("bwd", 17))
]  # fmt: skip


def pooled_small(
    batch: BothForms, sparse: bool, given: bool, symmetric: bool, dtype: torch.dtype, backend: str
) -> list[Tensor]:
    """The record, and gradients of features and logits."""
    logits = torch.randn(
        *batch.mask.shape, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    s = logits.softmax(-1) if given else logits
    leaves = [(t[batch.mask] if sparse else t).to(dtype).requires_grad_() for t in (batch.x, s)]
    options: dict[str, Any] = (
        {"assignment": "given"} if given else {"temperature": torch.tensor(0.7, dtype=dtype)}
    )
    if not sparse:
        options |= {"mask": batch.mask, "symmetric": symmetric}
    adj = batch.graph.to(dtype=dtype) if sparse else batch.adj.to(dtype)
    clusters = torch.tensor([5, 1, 3])
    record = hierpool.soft_pool(leaves[0], adj, leaves[1], num_clusters=clusters, backend=backend, **options)
    results = [t for t in record[:8] if t is not None]
    draw = torch.Generator().manual_seed(2)
    weights = [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(dtype) for t in results]
    return [*results, *torch.autograd.grad(results, leaves, weights)]


def test_variants_of_small_graphs() -> None:
    with watch() as launched:
        for sparse, symmetric, given in itertools.product((True, False), repeat=3):
            batch = both_forms((14, 0, 3), 3, directed=not symmetric, weighted=True)
            results = pooled_small(batch, sparse, given, symmetric, f32, "triton")
            exact = pooled_small(batch, sparse, given, symmetric, torch.float64, "reference")
            torch.testing.assert_close(results, [t.float() for t in exact])
    assert_reached(launched, OF_SMALL_GRAPHS)


def test_small_graphs_with_a_gradient_of_their_weights() -> None:
    inputs = Case("small", n=14, k=5, f=3, directed=True, valid="holes", b=3).make(SEED, f32)
    names = launches(lambda: check(inputs, "triton"))
    assert {"_soft_pool_small_bwd_kernel", "_soft_pool_dense_edges_bwd_kernel"} <= set(names)


# ---- the total variation --------------------------------------------------------------------------------------------

OF_VARIATION: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    ("_total_variation_dense_fwd_kernel", (argument(8), argument(9)), {(False, False), (True, False), (True, True)}),
    ("_total_variation_sparse_fwd_kernel", (argument(4),), {(True,), (False,)}),
    ("_total_variation_reduce_fwd_kernel", (argument(3),), {(True,), (False,)}),
    ("_total_variation_dense_rows_bwd_kernel", (), {()}),
    ("_total_variation_dense_edges_bwd_kernel", (), {()}),
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


def test_variants_of_the_total_variation() -> None:
    """Both layouts, and distances at edges."""
    ones = link.make(replace(LONG, weights="ones"), SEED, f32)
    s, graph = ones.ragged()
    with watch() as launched:
        for case in PADDED:
            variation.check(link.make(case, SEED, f32), "triton")
        for case in (*RAGGED, LONG):
            inputs = link.make(case, SEED, f32)
            variation.check_ragged(inputs, "triton")
            rows, edges = inputs.ragged()
            hierpool.edge_distances(edges, rows.requires_grad_(), backend="triton").sum().backward()
        unweighted = graph.with_value(None)
        hierpool.total_variation(s.requires_grad_(), unweighted, backend="triton").variation.sum().backward()
    assert_reached(launched, OF_VARIATION)


# ---- launches ------------------------------------------------------------------------------------------


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
        call = pooling_call(inputs.x, inputs.adj, inputs.s, symmetric=promised, backend="triton")
        out = backends.module("soft_pool", "cpu", "triton").forward(
            call._replace(options=call.options._replace(save=True))
        )
        assert Out._make(out).is_symmetric.tolist() == [[promised is True]] * 2


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
    assert launches(loss.backward) == [
        "_soft_pool_blocks_bwd_kernel",
        "_soft_pool_rows_bwd_kernel",
        "_soft_pool_row_products_bwd_kernel",
    ]


def test_two_runs_give_the_same_bits() -> None:
    for name in ("dense-tiled", "csr-on-chip", "csr-long-rows"):
        inputs = CASES[name].make(SEED, f32)
        record, grads, upstream = run(inputs, "triton")
        again, grads_again, _ = run(inputs, "triton", upstream)
        for one, other in zip((*record[:8], *grads), (*again[:8], *grads_again), strict=True):
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

"""Soft pooling: values and gradients on the grid against the float64 truth, and options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import SoftPoolRecord
from hierpool.ops.soft_pool import OPERATOR, pooling_call
from tests.support.cases import GRID, LARGE, SMALL, WIDTHS, Case, Inputs, Recipe, find, over
from tests.support.oracle import Fields, rounding
from tests.support.running import INTERPRETED, best, both, check, cover, gradients_of, random_upstream, run
from tests.support.sparse import RAGGED_GRID, RAGGED_SMALL, WIDE, ragged

SEED = 7
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
OPTIONS = ["directed-holes", "three-types", "n513-directed-sparse"]
RAGGED = ragged("directed-holes", "tails-shuffled", "n513-directed-sparse-unweighted")

# ---- values and gradients -------------------------------------------------------------------------------------------


# Widths of vectors and tiles, strides, types of edges and lists of edges have loops of their own.
EVERYWHERE = [
    *WIDTHS,
    *map(find, ("directed-holes", "three-types-holes", "strided", "n513", "n513-directed-sparse")),
    *ragged("directed-holes", "n33-k31-f32", "complete-n182", "n513-directed-sparse-unweighted", "many"),
]


@cover(SEED, *GRID, *RAGGED_GRID, dtypes=[f64, f32], everywhere=EVERYWHERE)
def test_grid(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    check(case.make(SEED, dtype), backend)


@cover(
    SEED, *SMALL, "n17-k17-f15", "n513", *RAGGED_SMALL, *ragged("n513", "complete-n182"), dtypes=[bf16, f16],
    everywhere=[find("directed-holes"), find("n17-k17-f15"), *ragged("directed-holes")],
)  # fmt: skip
def test_low_precision(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    check(case.make(SEED, dtype), backend)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs no C++")
@pytest.mark.parametrize("backend", ["native-amx"], indirect=True)
@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
@over(SEED, "n512-directed", "n513", "n900-holes", "n1100", *ragged("n513", "complete-n182"))
def test_products_on_tiles(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    check(case.make(SEED, dtype), backend)


MIXED = [  # dtypes of logits, X and A
    (f32, f32, bf16), (f32, f32, f16), (bf16, f32, f32), (f32, bf16, f32), (f16, bf16, f32),
    (f64, f32, f32), (f32, f64, f32), (f32, f32, f64), (bf16, f64, f16), (f64, f16, bf16),
]  # fmt: skip


@best
@pytest.mark.parametrize("dtypes", MIXED, ids=str)
@over(SEED, "directed-holes", "three-types", *ragged("directed-holes", "n513-directed-sparse"))
def test_mixed_dtypes(case: Recipe, dtypes: tuple[torch.dtype, ...], backend: str) -> None:
    check(case.make(SEED, *dtypes), backend)


@best
@over(SEED, WIDE)
def test_more_clusters_than_partial_sums_have_room_for(case: Recipe, backend: str) -> None:
    check(case.make(SEED, f32), backend)


INTEGERS = [(torch.bool, f32), (torch.int8, f64), (torch.uint8, bf16), (torch.uint8, f32)]


@cover(SEED, "base", "holes", "three-types", "n513-directed-sparse", dtypes=INTEGERS)
def test_integer_adjacency(case: Case, dtype: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    adj, s = dtype
    weights = "ones" if adj is torch.bool else "integers"
    check(replace(case, weights=weights).make(SEED, s, s, adj), backend)


@best
@pytest.mark.parametrize("field", Fields._fields)
@over(SEED, "three-types", "n513-directed-sparse", *ragged("tails", "n513-directed-sparse-unweighted"))
def test_gradient_of_one_field(case: Recipe, field: str, backend: str) -> None:
    inputs = case.make(SEED, f32)
    record = inputs.pool("reference")
    upstream: list[Tensor | None] = [
        u if f == field else None for f, u in zip(Fields._fields, random_upstream(record, 2), strict=True)
    ]
    check(inputs, backend, upstream)


@best
@pytest.mark.parametrize("group", range(5), ids=["entropy", "cut_degree", "adj_norm", "total_degree", "link"])
@over(SEED, "directed", *ragged("directed"))
def test_gradient_of_one_scalar(case: Recipe, group: int, backend: str) -> None:
    inputs = case.make(SEED)
    scalars = torch.zeros(2, 6, dtype=f64)
    scalars[:, 1 + group] = torch.tensor([0.7, -1.3])
    check(inputs, backend, [None] * 5 + [scalars, None, None])


@both
@over(SEED, "directed", *ragged("directed"))
def test_gradient_of_the_number_of_nodes_is_zero(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED).leaves()
    nodes = inputs.pool(backend).num_nodes.sum()
    grads = torch.autograd.grad(nodes, inputs[:3], allow_unused=True, materialize_grads=True)
    assert all(not grad.any() for grad in grads)


@both
@pytest.mark.parametrize("r", [None, 1, 3])
def test_named_fields_are_the_packed_ones(r: int | None, backend: str) -> None:
    record: SoftPoolRecord = Case("types", b=3, n=6, k=4, f=2, r=r).make(SEED, f32).pool(backend)
    types = () if r is None else (r,)
    channels = r or 1
    shapes = {"s": (3, 6, 4), "x": (3, 4, 2), "adj": (3, *types, 4, 4), "gram": (3, 4, 4), "size": (3, 4)}
    shapes |= {"volume": (3, *types, 4), "total_entropy": (), "link_norm": types}
    for name, shape in shapes.items():
        assert getattr(record, name).shape == shape, name
    assert torch.equal(record.size, record.vectors[:, 0])
    assert torch.equal(record.volume.reshape(3, channels, 4), record.vectors[:, 1:])
    for group, name in enumerate(("cut_degree", "adj_norm", "total_degree", "link")):
        value = getattr(record, name)
        assert value.shape == (3, *types), name
        start = 2 + group * channels
        assert torch.equal(value.reshape(3, channels), record.scalars[:, start : start + channels])
    assert record.num_nodes.tolist() == [6, 6, 6]
    assert torch.equal(record.entropy, record.scalars[:, 1])


@both
@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((bf16, f16, torch.bool), f32),
        ((f32, f32, f32), f32),
        ((f32, f32, f64), f64),
        ((bf16, f64, bf16), f64),
    ],
    ids=str,
)
def test_dtypes_of_the_record(dtypes: tuple[torch.dtype, ...], expected: torch.dtype, backend: str) -> None:
    record = find("ones" if dtypes[2] is torch.bool else "base").make(SEED, *dtypes).pool(backend)
    assert (record.s.dtype, record.x.dtype) == dtypes[:2]
    assert {t.dtype for t in record[2:] if t is not None} == {expected}


# ---- options --------------------------------------------------------------------------------------------------------


def assert_equal(one: SoftPoolRecord, other: SoftPoolRecord, *fields: str) -> None:
    for name in fields:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


KEPT = ("s", "x", "adj", "vectors", "num_nodes", "cut_degree", "adj_sq", "total_degree")


@both
@over(SEED, *OPTIONS, *RAGGED)
def test_what_is_left_out_changes_nothing_else(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED, f32)
    whole, part = inputs.pool(backend), inputs.pool(backend, link_loss=None)
    assert part.gram is None
    assert part.link is part.link_sq is part.link_norm is None
    assert_equal(part, whole, *KEPT, "entropy", "total_entropy")
    with_gram = inputs.pool(backend, link_loss=None, gram=True)
    assert_equal(with_gram, whole, *KEPT, "gram")
    assert with_gram.link_norm is None
    part = inputs.pool(backend, entropy=False)
    assert part.entropy is part.total_entropy is None
    assert_equal(part, whole, *KEPT, "gram", "link_sq", "link_norm")


@both
@pytest.mark.parametrize(
    "options", [{"link_loss": None}, {"link_loss": None, "gram": True}, {"entropy": False}], ids=str
)
@over(SEED, "directed-holes", "three-types", "n513", *RAGGED)
def test_gradients_of_what_is_left(case: Recipe, options: dict[str, Any], backend: str) -> None:
    """The same as with everything computed and no gradient from the fields that were skipped."""
    inputs = case.make(SEED)
    upstream: list[Tensor | None] = list(random_upstream(inputs.pool(backend), SEED))
    scalars = upstream[5]
    assert scalars is not None
    channels = scalars.size(1) // 4
    if "entropy" in options:
        upstream[6] = None
        scalars[:, 1] = 0
    else:
        upstream[7] = None
        scalars[:, 2 + 3 * channels :] = 0
        upstream[3] = upstream[3] if "gram" in options else None
    _, expected, _ = run(inputs, backend, upstream)
    _, got, _ = run(inputs, backend, upstream, **options)
    for name, one, other in zip(got._fields, got, expected, strict=True):
        if backend == "reference":  # autograd adds zeros in another order
            torch.testing.assert_close(one, other)
        else:
            assert torch.equal(one, other), name


@best
@pytest.mark.parametrize("asked", [("x",), ("adj",), ("s",), ("x", "s"), ("adj", "s")], ids="-".join)
@over(SEED, "three-types", "n513-directed-sparse", *ragged("tails-shuffled", "n513-directed-sparse"))
def test_only_the_asked_gradients(case: Recipe, asked: tuple[str, ...], backend: str) -> None:
    inputs = case.make(SEED, f32)
    _, expected, upstream = run(inputs, backend)
    leaves = inputs._replace(**{name: getattr(inputs, name).detach().requires_grad_() for name in asked})
    got = gradients_of(leaves.pool(backend), leaves, upstream)
    for name in asked:
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


@pytest.mark.parametrize("symmetric", [True, False, None])
@cover(
    SEED, "base", "signed", "holes", "three-types-num_nodes", "sparse", "n33-k31-f32", "n513", "n700-num_nodes",
    dtypes=[f64, f32],
)  # fmt: skip
def test_symmetric_given_or_found(
    case: Case, dtype: torch.dtype, symmetric: bool | None, backend: str
) -> None:
    check(case.make(SEED, dtype), backend, symmetric=symmetric)


def outputs(inputs: Inputs, backend: str, **options: Any) -> Any:
    """All outputs of the operator."""
    leaves = inputs.leaves()
    call = pooling_call(
        *leaves[:5], assignment="given" if inputs.given else "softmax", backend=backend, **options
    )  # type: ignore[misc]
    module = OPERATOR.select(call)
    return OPERATOR.composite(call) if module is None else OPERATOR.Out(*module.forward(call))


@cover(
    SEED, *(Case(f"n{n}", b=2, n=n, k=2, f=1, weights="integers") for n in (1, 2, 31, 32, 33, 65, 513, 700)),
    dtypes=[f64, bf16, torch.int8, f32], everywhere=[Case("n65", b=2, n=65, k=2, f=1, weights="integers")],
)  # fmt: skip
def test_one_entry_makes_it_directed(case: Case, dtype: torch.dtype, backend: str) -> None:
    if backend == "triton":
        return  # it multiplies by A and its transpose, and does not find out
    inputs, n = case.make(SEED, f32, adj=dtype), case.n
    assert outputs(inputs, backend).is_symmetric.tolist() == [[True], [True]]
    for i, j in ((0, n - 1), (n - 1, 0), (n // 2, n // 3), (n - 1, n - 2)):
        if i == j or min(i, j) < 0:
            continue
        changed = inputs.adj.clone()
        changed[1, i, j] += 1
        flags = outputs(inputs._replace(adj=changed), backend).is_symmetric
        assert flags.tolist() == [[True], [False]], (i, j)


def test_entries_of_padding_do_not_make_it_directed(native_isa: str) -> None:
    for name in ("holes", "num_nodes", "three-types-holes"):
        case = find(name)
        inputs = case.make(SEED)
        both = inputs.valid[:, None] & inputs.valid[..., None]
        both = both if case.r is None else both[:, None]
        noise = torch.rand(inputs.adj.shape, generator=torch.Generator().manual_seed(SEED)).double()
        flags = outputs(inputs._replace(adj=torch.where(both, inputs.adj, noise)), native_isa).is_symmetric
        expected = torch.where(both, inputs.adj, 0)
        assert flags.flatten().tolist() == (expected == expected.mT).flatten(-2).all(-1).flatten().tolist()


@both
@pytest.mark.parametrize("given", [True, False])
def test_a_given_flag_is_kept(given: bool, backend: str) -> None:
    inputs = find("directed").make(SEED)
    assert outputs(inputs, backend, symmetric=given).is_symmetric.tolist() == [[given]] * 2


@both
@over(SEED, "directed-holes", "n33-k31-f32", *ragged("directed-holes-shuffled"))
def test_temperature(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED)._replace(temperature=0.375)  # exact in float32
    expected = inputs.pool(backend)
    for temperature in (0.375, torch.tensor(0.375, dtype=f32), torch.tensor(0.375, dtype=f64)):
        assert_equal(inputs.pool(backend, temperature=temperature), expected, *KEPT, "gram", "link_norm")
    check(inputs, backend)


@cover(
    SEED, "directed", "directed-holes", "three-types", "n513", *ragged("tails-shuffled", "n513"), dtypes=[f64, f32]
)  # fmt: skip
def test_gradient_of_the_temperature(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED)
    exact, rough = (torch.tensor(0.375, dtype=d, requires_grad=True) for d in (f64, dtype))
    weights = random_upstream(inputs.pool("reference", temperature=0.375), SEED)

    def gradient(record: SoftPoolRecord, temperature: Tensor) -> Tensor:
        weighted = [(v * w).sum().double() for v, w in zip(record[:8], weights, strict=True) if v is not None]
        return torch.autograd.grad(torch.stack(weighted).sum(), temperature)[0]

    # softmax(L / T) by torch, then S given: autograd takes the temperature from there.
    s = torch.where(inputs.valid[..., None], (inputs.s / exact).softmax(-1), 0)
    expected = gradient(inputs._replace(s=s, given=True).pool("reference"), exact)
    x, adj, logits = (t.to(dtype) for t in inputs[:3])
    got = gradient(inputs._replace(x=x, adj=adj, s=logits).pool(backend, temperature=rough), rough)
    assert got.dtype == dtype
    # Terms of both signs cancel in the sum over all logits: 100 of the whole grid's relative rounding.
    torch.testing.assert_close(
        got.double(), expected.double(), rtol=100 * rounding(inputs.terms) * torch.finfo(dtype).eps, atol=0
    )


@over(
    SEED,
    *LARGE,
    *ragged("many", "complete-n182", "n513", "n513-directed-sparse-unweighted", "n700-num_nodes"),
)
def test_threads_change_no_bit(case: Recipe, native_isa: str) -> None:
    inputs = case.make(SEED, bf16 if case.name == "n1100" else f32)
    expected, expected_grads, upstream = run(inputs, native_isa)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        record, grads, _ = run(inputs, native_isa, upstream)
        for one, other in zip((*record[:8], *grads), (*expected[:8], *expected_grads), strict=True):
            assert torch.equal(one, other), threads  # type: ignore[arg-type]

"""Values and gradients on the grid, against the float64 truth, for every backend and instruction set."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hierpool import SoftPoolRecord
from tests.support.cases import GRID, SMALL, Case, Recipe, find, over
from tests.support.oracle import Fields
from tests.support.running import check, random_upstream
from tests.support.sparse import RAGGED_GRID, RAGGED_SMALL, WIDE, ragged

SEED = 7
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@over(SEED, *GRID, *RAGGED_GRID)
def test_grid(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    check(case.make(SEED, dtype), backend)


@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
@over(SEED, *SMALL, "n17-k17-f15", "n513", *RAGGED_SMALL, *ragged("n513", "complete-n182"))
def test_low_precision(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    check(case.make(SEED, dtype), backend)


MIXED = [  # dtypes of logits, X and A
    (f32, f32, bf16), (f32, f32, f16), (bf16, f32, f32), (f32, bf16, f32), (f16, bf16, f32),
    (f64, f32, f32), (f32, f64, f32), (f32, f32, f64), (bf16, f64, f16), (f64, f16, bf16),
]  # fmt: skip


@pytest.mark.parametrize("dtypes", MIXED, ids=str)
@over(
    SEED,
    "directed-holes",
    "three-types",
    "n33-k31-f32",
    "n513-directed-sparse",
    *ragged("directed-holes", "n33-k31-f32", "n513-directed-sparse"),
)
def test_mixed_dtypes(case: Recipe, dtypes: tuple[torch.dtype, ...], backend: str) -> None:
    check(case.make(SEED, *dtypes), backend)


@over(SEED, WIDE)
def test_more_clusters_than_partial_sums_have_room_for(case: Recipe, backend: str) -> None:
    check(case.make(SEED, f32), backend)


@pytest.mark.parametrize("s", [f32, f64, bf16], ids=str)
@pytest.mark.parametrize("adj", [torch.bool, torch.int8, torch.uint8], ids=str)
@over(SEED, "base", "holes", "three-types", "n513-directed-sparse")
def test_integer_adjacency(case: Case, adj: torch.dtype, s: torch.dtype, backend: str) -> None:
    weights = "ones" if adj is torch.bool else "integers"
    check(replace(case, weights=weights).make(SEED, s, s, adj), backend)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@pytest.mark.parametrize("field", Fields._fields)
@over(
    SEED,
    "directed-holes",
    "three-types",
    "n513-directed-sparse",
    *ragged("directed-holes", "tails", "n513-directed-sparse-unweighted"),
)
def test_gradient_of_one_field(case: Recipe, field: str, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    record = inputs.pool("reference")
    upstream: list[Tensor | None] = [
        u if f == field else None for f, u in zip(Fields._fields, random_upstream(record, 2), strict=True)
    ]
    check(inputs, backend, upstream)


@pytest.mark.parametrize(
    "group", range(5), ids=["entropy", "cut_degree", "adj_sq", "total_degree", "link_sq"]
)
@over(SEED, "directed", *ragged("directed"))
def test_gradient_of_one_scalar(case: Recipe, group: int, backend: str) -> None:
    inputs = case.make(SEED)
    scalars = torch.zeros(2, 6, dtype=f64)
    scalars[:, 1 + group] = torch.tensor([0.7, -1.3])
    check(inputs, backend, [None] * 5 + [scalars, None, None])


@over(SEED, "directed", *ragged("directed"))
def test_gradient_of_the_number_of_nodes_is_zero(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED).leaves()
    grads = torch.autograd.grad(inputs.pool(backend).num_nodes.sum(), inputs[:3])
    assert all(not grad.any() for grad in grads)


@pytest.mark.parametrize("r", [None, 1, 3])
def test_named_fields_are_the_packed_ones(r: int | None, backend: str) -> None:
    record: SoftPoolRecord = Case("types", b=3, n=6, k=4, f=2, r=r).make(SEED, f32).pool(backend)
    types = () if r is None else (r,)
    channels = r or 1
    assert record.s.shape == (3, 6, 4)
    assert record.x.shape == (3, 4, 2)
    assert record.adj.shape == (3, *types, 4, 4)
    assert record.gram is not None
    assert record.gram.shape == (3, 4, 4)
    assert record.size.shape == (3, 4)
    assert record.volume.shape == (3, *types, 4)
    assert record.total_entropy.shape == ()
    assert record.link_norm.shape == types
    torch.testing.assert_close(record.size, record.vectors[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(record.volume.reshape(3, channels, 4), record.vectors[:, 1:], rtol=0, atol=0)
    names = ("cut_degree", "adj_sq", "total_degree", "link_sq")
    for group, name in enumerate(names):
        value = getattr(record, name)
        assert value.shape == (3, *types), name
        start = 2 + group * channels
        packed = record.scalars[:, start : start + channels]
        torch.testing.assert_close(value.reshape(3, channels), packed, rtol=0, atol=0)
    assert record.num_nodes.tolist() == [6, 6, 6]
    torch.testing.assert_close(record.entropy, record.scalars[:, 1], rtol=0, atol=0)


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
    assert record.s.dtype == dtypes[0]
    assert record.x.dtype == dtypes[1]
    assert {t.dtype for t in record[2:] if t is not None} == {expected}
